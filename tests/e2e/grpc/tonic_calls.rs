//! The same calls by tonic, directly and through the gate, to servers of tonic and of grpcio.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use e2e::World;
use e2e::tonic_client::{Client, every_failure, every_kind};
use serde_json::{Value, json};
use tonic::Request;

use crate::support::{ALLOWED, Server, TARGETS, policy, said};
use crate::tonic_client::Place;
use crate::tonic_server::TonicServer;

/// Without TLS, and with it.
const WAYS: [bool; 2] = [false, true];

#[test]
fn w04_tonic_calls_of_every_kind_are_those_without_the_gate() {
    let world = World::new("w04-tonic-kinds");
    let server = TonicServer::start(&world);
    let mut gate = world.gate(&policy(&world, ALLOWED)).attach();
    for tls in WAYS {
        let [(direct, direct_asked), (through, asked)] = [Place::direct(&world), Place::behind(&gate)]
            .map(|place| (place.call(tls, every_kind), what(&server.take("asked"))));
        assert_eq!(through, direct, "TLS {tls}");
        // The origin sees the same heads, too.
        assert_eq!(asked, direct_asked, "TLS {tls}");
        assert_eq!(asked.len(), 4, "TLS {tls}: {asked:?}");
        let unary = json!([
            ["content-type: application/grpc", "grpc-status: 0", "x-initial-bin: AP8K", "x-initial: one"],
            "hello"
        ]);
        assert_eq!(direct["unary"], unary, "TLS {tls}");
        assert_eq!(direct["collect"][1], "[1000,1024000]", "TLS {tls}");
        assert_eq!(direct["spread"][1], 1000, "TLS {tls}");
        assert_eq!(
            direct["chat"][1],
            json!(["grpc-status: 0", "x-ask-bin: AP8K", "x-trailing: last"]),
            "TLS {tls}"
        );
    }
    for (path, port) in [("Unary", 50051), ("Chat", 443)] {
        let path = format!("/test.Echo/{path}");
        let line = gate.wait_for_log(|line| line["path"] == path.as_str() && line["port"] == port);
        assert_eq!((&line["verdict"], &line["complete"]), (&json!("allowed"), &json!(true)), "{line}");
        assert_eq!(line["upstream_version"], "HTTP/2", "{line}");
    }
}

#[test]
fn w04_tonic_failures_are_those_without_the_gate() {
    let world = World::new("w04-tonic-fail");
    let server = TonicServer::start(&world);
    let gate = world.gate(&policy(&world, ALLOWED)).attach();
    for tls in WAYS {
        let [direct, through] =
            [Place::direct(&world), Place::behind(&gate)].map(|place| place.call(tls, every_failure));
        assert_eq!(through, direct, "TLS {tls}");
        assert_eq!(direct[0][1], "no such thing: 100%", "TLS {tls}");
        assert!(direct[0][2].to_string().contains("x-why: gone"), "TLS {tls}: {direct}");
        assert_eq!(direct[1][0], tonic::Code::Unimplemented.description(), "TLS {tls}");
    }
    assert_eq!(server.take("asked").len(), 8);
}

#[test]
fn w04_tonic_messages_of_eight_mebibytes_arrive_both_ways() {
    let world = World::new("w04-tonic-large");
    let _server = TonicServer::start(&world);
    let gate = world.gate(&policy(&world, ALLOWED)).attach();
    let message: Bytes = e2e::pseudo_random_chunks(8 << 20).flatten().collect::<Vec<u8>>().into();
    for tls in WAYS {
        let sent = message.clone();
        let came = Place::behind(&gate).call(tls, async move |client| {
            client.unary("Unary", Request::new(sent)).await.unwrap().into_inner()
        });
        assert!(came == message, "TLS {tls}: {} bytes", came.len());
    }
}

#[test]
fn w04_tonic_deadlines_and_cancellation_reach_the_server() {
    let world = World::new("w04-tonic-cancel");
    let server = TonicServer::start(&world);
    let gate = world.gate(&policy(&world, ALLOWED)).attach();
    for tls in WAYS {
        let late = async |client: &mut Client| {
            let mut request = Request::new(Bytes::new());
            request.set_timeout(Duration::from_millis(1500));
            let status = client.unary("Hang", request).await.unwrap_err();
            status.code()
        };
        let [(direct, direct_asked), (through, asked)] =
            [Place::direct(&world), Place::behind(&gate)].map(|place| {
                let code = place.call(tls, late);
                server.wait_for("ended");
                (code, what(&server.take("asked")))
            });
        assert_eq!((through, asked), (direct, direct_asked.clone()), "TLS {tls}");
        // What tonic calls its own deadline.
        assert_eq!(direct, tonic::Code::Cancelled, "TLS {tls}");
        assert!(direct_asked[0].to_string().contains("grpc-timeout: 1500000u"), "{direct_asked:?}");

        let at = Place::behind(&gate).call(tls, async |client| {
            let mut stream = client.spread("Wait", Bytes::new()).await.unwrap().into_inner();
            assert_eq!(stream.message().await.unwrap().unwrap(), "began");
            let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
            drop(stream);
            // On the same connection, so that it is kept until the stream's reset was sent.
            client.unary("Unary", Request::new(Bytes::new())).await.unwrap();
            at
        });
        let took = server.wait_for("ended")["at"].as_f64().unwrap() - at;
        assert!(took < 10.0, "TLS {tls}: the server was told after {took} s");
        server.take("asked");
    }
}

#[test]
fn w04_tonic_calls_a_server_of_grpcio_as_without_the_gate() {
    let world = World::new("w04-tonic-grpcio");
    let server = Server::start(&world);
    let gate = world.gate(&server.policy(ALLOWED)).attach();
    for tls in WAYS {
        let [direct, through] = [Place::direct(&world), Place::behind(&gate)].map(|place| {
            place.call(tls, async |client| json!([every_kind(client).await, every_failure(client).await]))
        });
        assert_eq!(through, direct, "TLS {tls}");
        let trailing = direct[0]["unary"][0].to_string();
        assert!(trailing.contains("x-trailing: last") && trailing.contains("x-ask-bin: AP8K"), "{trailing}");
        assert_eq!(direct[0]["collect"][1], "[1000, 1024000]", "TLS {tls}");
    }
}

#[test]
fn w04_tonic_answers_a_client_of_grpcio() {
    let world = World::new("w04-grpcio-tonic");
    let server = TonicServer::start(&world);
    let gate = world.gate(&policy(&world, ALLOWED)).attach();
    let script = "
asked = (('x-ask', 'one'), ('x-ask-bin', bytes([0, 255, 10])))
answer, call = method('unary_unary', 'Unary').with_call(b'hello', timeout=TIMEOUT, metadata=asked)
unary = [answer.decode(), listed(call.initial_metadata()), *status(call)]
collected = json.loads(method('stream_unary', 'Collect')(numbered(1000, 1020), timeout=TIMEOUT))
spread = [message[:4] for message in method('unary_stream', 'Spread')(b'[1000, 1020]', timeout=TIMEOUT)]
chat = method('stream_stream', 'Chat')(numbered(1000, 100), timeout=TIMEOUT, metadata=asked)
echoed = sum(1 for _ in chat)
failed = failure(lambda: method('unary_unary', 'Fail')(b'', timeout=TIMEOUT))
late = failure(lambda: list(method('unary_stream', 'Wait')(b'', timeout=1.5)))[0]
say([unary, collected, spread == [message for message in numbered(1000, 0)], echoed, listed(chat.trailing_metadata()), failed, late])
";
    for target in TARGETS {
        let unary = json!(["hello", { "x-initial": "one", "x-initial-bin": "00ff0a" }, "OK", ""]);
        let trailing = json!({ "x-trailing": "last", "x-ask-bin": "00ff0a" });
        let failed = json!(["NOT_FOUND", "no such thing: 100%", { "x-why": "gone" }]);
        let wanted = json!([unary, [1000, 1_024_000], true, 1000, trailing, failed, "DEADLINE_EXCEEDED"]);
        assert_eq!(said(&world, &gate, target, script), wanted, "{target:?}");
        server.wait_for("ended");
    }
}

/// What these events were about.
fn what(events: &[Value]) -> Vec<Value> {
    events.iter().map(|event| event["what"].clone()).collect()
}
