//! Every kind of call, and every way in which one ends.

use std::fs;

use e2e::World;
use serde_json::json;

use crate::support::{ALLOWED, Server, TARGETS, client, said};

#[test]
fn w04_every_kind_of_call_is_answered() {
    let world = World::new("w04-kinds");
    let server = Server::start(&world);
    let mut gate = world.gate(&server.policy(ALLOWED)).attach();
    let script = "
asked = (('x-ask', 'one'), ('x-ask-bin', bytes([0, 255, 10])))
answer, call = method('unary_unary', 'Unary').with_call(b'hello', timeout=TIMEOUT, metadata=asked)
unary = [answer.decode(), listed(call.initial_metadata()), listed(call.trailing_metadata()), *status(call)]
collected = json.loads(method('stream_unary', 'Collect')(numbered(1000, 1020), timeout=TIMEOUT))
spread = [message[:4] for message in method('unary_stream', 'Spread')(b'[1000, 1020]', timeout=TIMEOUT)]
chat = method('stream_stream', 'Chat')(numbered(1000, 100), timeout=TIMEOUT)
echoed = sum(1 for _ in chat)
say([unary, collected, spread == [message for message in numbered(1000, 0)], echoed, status(chat), listed(chat.trailing_metadata())])
";
    for target in TARGETS {
        let trailing = json!({ "x-trailing": "last", "x-ask-bin": "00ff0a" });
        let unary = json!(["hello", { "x-initial": "one" }, trailing, "OK", ""]);
        let wanted = json!([unary, [1000, 1_024_000], true, 1000, ["OK", ""], { "x-trailing": "last" }]);
        assert_eq!(said(&world, &gate, target, script), wanted, "{target:?}");
    }
    for path in ["Unary", "Collect", "Spread", "Chat"] {
        for port in [50051, 443] {
            let path = format!("/test.Echo/{path}");
            let line = gate.wait_for_log(|line| line["path"] == path.as_str() && line["port"] == port);
            assert_eq!((&line["verdict"], &line["complete"]), (&json!("allowed"), &json!(true)), "{line}");
            assert_eq!(line["upstream_version"], "HTTP/2", "{line}");
        }
    }
}

#[test]
fn w04_no_message_of_a_stream_waits_for_the_next() {
    let world = World::new("w04-steps");
    let server = Server::start(&world);
    let gate = world.gate(&server.policy(ALLOWED)).attach();
    // Each is sent when the one before has come back.
    let script = "
sending = queue.SimpleQueue()
chat = method('stream_stream', 'Chat')(iter(sending.get, None), timeout=TIMEOUT)
took = []
for message in numbered(1000, 10):
    began = time.monotonic()
    sending.put(message)
    assert next(chat) == message
    took.append(time.monotonic() - began)
sending.put(None)
say([sum(1 for _ in chat), sorted(took)[500] < 0.05])
";
    for target in TARGETS {
        assert_eq!(said(&world, &gate, target, script), json!([0, true]), "{target:?}");
    }
}

#[test]
fn w04_messages_of_eight_mebibytes_arrive_both_ways() {
    let world = World::new("w04-large");
    let server = Server::start(&world);
    let gate = world.gate(&server.policy(ALLOWED)).attach();
    let script = "
import os
message = os.urandom(8 << 20)
plain = method('unary_unary', 'Unary')(message, timeout=TIMEOUT) == message
packed = method('unary_unary', 'Unary')(message, timeout=TIMEOUT, compression=grpc.Compression.Gzip) == message
say([plain, packed])
";
    for target in TARGETS {
        assert_eq!(said(&world, &gate, target, script), json!([true, true]), "{target:?}");
    }
}

#[test]
fn w04_an_error_without_a_message_arrives_with_its_trailers() {
    let world = World::new("w04-fail");
    let server = Server::start(&world);
    let gate = world.gate(&server.policy(ALLOWED)).attach();
    let script = "
say([
    failure(lambda: method('unary_unary', 'Fail')(b'', timeout=TIMEOUT)),
    failure(lambda: method('unary_unary', 'Missing')(b'', timeout=TIMEOUT)),
])
";
    for target in TARGETS {
        let not_found = json!(["NOT_FOUND", "no such thing: 100%", { "x-why": "gone" }]);
        let wanted = json!([not_found, ["UNIMPLEMENTED", "Method not found!", {}]]);
        assert_eq!(said(&world, &gate, target, script), wanted, "{target:?}");
    }
}

#[test]
fn w04_deadlines_and_cancellation_reach_the_server() {
    let world = World::new("w04-cancel");
    let mut server = Server::start(&world);
    let gate = world.gate(&server.policy(ALLOWED)).attach();
    // The first call connects, which may take longer than the second one has.
    let late = "
method('unary_unary', 'Unary')(b'warm', timeout=TIMEOUT)
say(failure(lambda: list(method('unary_stream', 'Wait')(b'', timeout=1.5)))[0])
";
    let cancelled = "
call = method('unary_stream', 'Wait')(b'', timeout=TIMEOUT)
first = next(call)
at = time.time()
call.cancel()
say([first.decode(), at, call.code().name])
";
    for (number, target) in TARGETS.into_iter().enumerate() {
        assert_eq!(said(&world, &gate, target, late), json!("DEADLINE_EXCEEDED"), "{target:?}");
        let left = server.wait_for("waits", 2 * number + 1)["left"].as_f64().unwrap();
        // The header is in round numbers, rounded up.
        assert!(left > 0.5 && left < 1.6, "{target:?}: {left}");
        server.wait_for("ended", 2 * number + 1);

        let said = said(&world, &gate, target, cancelled);
        assert_eq!((&said[0], &said[2]), (&json!("began"), &json!("CANCELLED")), "{target:?}");
        let ended = server.wait_for("ended", 2 * number + 2)["at"].as_f64().unwrap();
        let took = ended - said[1].as_f64().unwrap();
        assert!(took < 10.0, "{target:?}: the server was told after {took} s");
    }
}

#[test]
fn w04_a_client_that_does_not_read_is_not_read_for() {
    let world = World::new("w04-slow-reader");
    let server = Server::start(&world);
    let mut gate = world.gate(&server.policy(ALLOWED)).attach();
    let script = "
stream = method('unary_stream', 'Spread')(b'[64, 2097148]', timeout=60)
assert next(stream)[:4] == bytes(4)
say('reads no more')
sys.stdin.readline()
say(sum(1 for _ in stream))
";
    let warm_up = "say(len(method('unary_unary', 'Unary')(b'warm', timeout=TIMEOUT)))";
    for target in TARGETS {
        assert_eq!(said(&world, &gate, target, warm_up), json!(4));
        let before = resident_kib(gate.running().pid());
        let mut reader = client(&world, &gate, target, script).spawn();
        reader.wait_for_output("reads no more");
        // What would be read ahead comes within moments on this link; the most that ever was is looked at.
        let mut peak = 0;
        for _ in 0..100 {
            reader.wait_a_little();
            peak = peak.max(resident_kib(gate.running().pid()));
        }
        reader.write("go on\n");
        let outcome = reader.wait();
        outcome.assert_success().assert_stdout("\"reads no more\"\n63\n");
        let grown = peak.saturating_sub(before);
        assert!(grown < 24 * 1024, "{target:?}: 128 MiB waited and the gate grew by {grown} KiB");
    }
}

#[test]
fn t20_a_host_that_is_not_intercepted_is_called_as_without_the_gate() {
    let world = World::new("t20");
    let server = Server::start(&world);
    let mut gate =
        world.gate(&server.policy("[[rules]]\nhost = \"https://api.test\"\nintercept = false\n")).attach();
    let script = "
answer, call = method('unary_unary', 'Unary').with_call(b'hello', timeout=TIMEOUT, metadata=(('x-ask', 'one'),))
say([answer.decode(), listed(call.initial_metadata()), sum(1 for _ in method('stream_stream', 'Chat')(numbered(100, 1000), timeout=TIMEOUT))])
";
    // It shows its own certificate, which is what this client trusts.
    let job = client(&world, &gate, TARGETS[1], script)
        .env("GRPC_DEFAULT_SSL_ROOTS_FILE_PATH", world.origin_ca_file());
    let outcome = job.run();
    outcome.assert_success();
    assert_eq!(outcome.json(), json!(["hello", { "x-initial": "one" }, 100]));
    let line = gate.wait_for_log(|line| line["kind"] == "flow");
    assert_eq!((&line["verdict"], &line["host"]), (&json!("allowed"), &json!("api.test")), "{line}");
    assert!(gate.log().iter().all(|line| line["kind"] != "exchange"));
}

fn resident_kib(pid: i32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
