//! Bodies on their way through a handler: streamed unless it reads them.

use std::io::{Read, Write};
use std::sync::Mutex;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use e2e::{Reply, Site, TcpServer, World, pseudo_random_chunks, pseudo_random_sha256, sha256_hex};
use serde_json::json;

use crate::support::{answer, assert_answer, assert_line, catch_all, curl, handler};

const LARGE: u64 = 64 << 20;

#[test]
fn a_large_upload_streams_through_a_handler() {
    let world = World::new("upload");
    let site = Site::start(&world);
    handler(&world, "passes", "request.set_header(\"x-seen\", \"yes\");\nfetch(request)");
    let bytes: Vec<u8> = pseudo_random_chunks(LARGE).flatten().collect();
    world.home_file("large", bytes);
    let policy = catch_all(&world, &site, "passes", &["h.test"]);
    for version in ["--http1.1", "--http2"] {
        let outcome = world.run(&policy, curl(&[version, "-X", "POST", "-T", "large", "https://h.test/"]));
        assert_answer(&outcome, "origin: h.test");
        let received = site.tls.requests().pop().unwrap();
        assert_eq!((received.body_length, received.complete), (LARGE, true), "{version}");
        assert_eq!(received.body_sha256, pseudo_random_sha256(LARGE), "{version}");
        assert_eq!(received.header("x-seen"), ["yes"]);
        assert_line(outcome.only_exchange(), &json!({"request_bytes": LARGE, "complete": true}));
        assert_line(outcome.lines("fetch")[0], &json!({"request_bytes": LARGE}));
    }
}

#[test]
fn a_large_download_streams_through_a_handler() {
    let world = World::new("download");
    let site = Site::answering(&world, |_| Reply::pseudo_random(LARGE));
    handler(
        &world,
        "passes",
        "let response = fetch(request);\nresponse.set_header(\"x-seen\", \"yes\");\nresponse",
    );
    let policy = catch_all(&world, &site, "passes", &["h.test"]);
    for version in ["--http1.1", "--http2"] {
        let fetch =
            format!("curl -sS {version} -D head https://h.test/ | sha256sum; grep -ci '^x-seen: yes' head");
        let outcome = world.run(&policy, ["sh", "-c", &fetch]);
        outcome.assert_success().assert_stdout(&format!("{}  -\n1\n", pseudo_random_sha256(LARGE)));
        assert_line(outcome.only_exchange(), &json!({"response_bytes": LARGE, "complete": true}));
        assert_line(outcome.lines("fetch")[0], &json!({"response_bytes": LARGE, "complete": true}));
    }
}

#[test]
fn a_body_that_was_read_is_forwarded_and_can_be_sent_again() {
    let world = World::new("read");
    let site = Site::start(&world);
    handler(
        &world,
        "reads",
        "let order = request.read_json(1000);\nif order.amount > 100 { return deny(\"too much\"); }\n\
         fetch(request);\nfetch(request)",
    );
    handler(&world, "twice", "fetch(request);\nfetch(request)");
    let policy = catch_all(&world, &site, "reads", &["h.test"]);
    let body = r#"{"amount": 100, "to": "é"}"#;
    for version in ["--http1.1", "--http2"] {
        assert_answer(&world.run(&policy, curl(&[version, "-d", body, "https://h.test/"])), "origin: h.test");
    }
    let requests = site.tls.requests();
    assert_eq!(requests.len(), 4);
    for request in requests {
        assert_eq!(request.body_sha256, sha256_hex(body.as_bytes()));
        assert_eq!(request.header("content-type"), ["application/x-www-form-urlencoded"]);
    }
    let refused = world.run(&policy, curl(&["-d", "{\"amount\": 101}", "http://h.test/"]));
    assert_eq!(answer(&refused).1, "403 denied_by_handler");
    let too_long = world.run(&policy, curl(&["-d", &"x".repeat(1_001), "http://h.test/"]));
    assert_eq!(answer(&too_long).1, "502 handler_failed", "{too_long:?}");
    // A streamed body is there once.
    let streamed = catch_all(&world, &site, "twice", &["h.test"]);
    let outcome = world.run(&streamed, curl(&["-d", "once", "http://h.test/"]));
    assert_eq!(answer(&outcome).1, "502 handler_failed", "{outcome:?}");
    assert!(outcome.only_exchange()["detail"].as_str().unwrap().contains("read_body"), "{outcome:#?}");
    assert_answer(&world.run(&streamed, curl(&["https://h.test/"])), "origin: h.test");
}

#[test]
fn an_answer_that_comes_before_the_body_was_sent_arrives() {
    let world = World::new("early");
    let site = Site::start(&world);
    handler(&world, "answers", "reply(200, \"early\")");
    let text = "outbound_by_host.\"handled.test\" = \"handlers/answers.rhai\"\n[[rules]]\nhost = \"fixed.test\"\n\
                respond = { status = 200, body = \"early\" }";
    let gate = world.gate(&site.policy(&world, text, &[])).attach();
    for host in ["handled.test", "fixed.test"] {
        for version in ["--http1.1", "--http2"] {
            for length in [1, 100_000, 8_000_000] {
                world.home_file("body", "x".repeat(length));
                let url = format!("https://{host}/");
                // Without asking first whether it may send the body.
                let ask = curl(&[version, "-H", "expect:", "--data-binary", "@body", &url]);
                for _ in 0..if length < 1_000_000 { 10 } else { 3 } {
                    // curl may complain that it could not send the rest.
                    let began = Instant::now();
                    let outcome = gate.run(&ask);
                    assert_eq!(outcome.stdout, "early\n200 ", "{outcome:?}");
                    let took = began.elapsed();
                    assert!(took < Duration::from_secs(20), "{version}, {length} bytes: {took:?}");
                }
            }
        }
    }
    site.assert_untouched();
}

/// Begins an upload that does not end, and tells how the stream came to its end.
const ENDLESS_UPLOAD: &str = r#"
const session = require("http2").connect("https://h.test");
const stream = session.request({ ":method": "POST", ":path": "/" });
const told = { body: "" };
stream.on("response", headers => { told.status = headers[":status"]; }).on("data", data => { told.body += data; });
stream.on("error", error => { told.error = String(error); });
stream.on("close", () => { console.log(JSON.stringify({ ...told, code: stream.rstCode })); process.exit(0); });
stream.write("the beginning");
"#;

#[test]
fn an_upload_that_nobody_wants_and_that_does_not_end_is_reset_without_an_error() {
    let world = World::new("endless");
    let site = Site::start(&world);
    handler(&world, "answers", "reply(200, \"early\")");
    let gate = world.gate(&catch_all(&world, &site, "answers", &[])).attach();
    let job = gate.job(["/usr/bin/node", "-e", ENDLESS_UPLOAD]);
    let outcome = job.env("NODE_EXTRA_CA_CERTS", gate.ca_file()).run();
    outcome.assert_success();
    // NO_ERROR: RFC 9113 section 8.1.
    assert_eq!(outcome.json(), json!({"status": 200, "body": "early", "code": 0}));
}

#[test]
fn a_tapped_body_is_in_the_log_and_passes() {
    let world = World::new("tap");
    let site = Site::answering(&world, |_| Reply::text("answer".repeat(20_000)));
    handler(
        &world,
        "taps",
        "request.tap_body(10);\nlet response = fetch(request);\nresponse.tap_body(12);\nresponse",
    );
    let body = "0123456789abcdef".repeat(10_000);
    world.home_file("body", &body);
    let outcome =
        world.run(&catch_all(&world, &site, "taps", &["h.test"]), curl(&["-T", "body", "https://h.test/"]));
    assert_answer(&outcome, &"answer".repeat(20_000));
    assert_eq!(site.tls.only_request().body_sha256, sha256_hex(body.as_bytes()));
    let lines: Vec<_> = outcome.log.iter().map(ToString::to_string).collect();
    let tapped = |field: &str| {
        let found = outcome.log.iter().find_map(|line| line.get(field).map(ToString::to_string));
        found.unwrap_or_else(|| panic!("no {field}: {outcome:#?}"))
    };
    let (request, response) = (tapped("request_tap"), tapped("response_tap"));
    assert!(request.contains("\"0123456789\""), "{request}");
    assert!(response.contains("\"answeranswer\""), "{response}");
    assert!(lines.iter().all(|line| !line.contains("789a") && !line.contains("answeransweranswer")));
}

#[test]
fn a_response_can_be_rewritten() {
    let world = World::new("rewrite");
    let site = Site::answering(&world, |_| {
        Reply::new(404, "<p>Not found</p>")
            .header("x-internal", "yes")
            .header("set-cookie", "a=1")
            .header("set-cookie", "b=2")
    });
    handler(
        &world,
        "rewrites",
        "let response = fetch(request);\nlet text = response.read_text(1000);\ntext.replace(\"found\", \"here\");\n\
         response.status = 200;\nresponse.remove_header(\"x-internal\");\nresponse.add_header(\"x-more\", \"more\");\n\
         response.set_body(text + \"!\");\nresponse",
    );
    let policy = catch_all(&world, &site, "rewrites", &["h.test"]);
    for version in ["--http1.1", "--http2"] {
        let outcome = world.run(&policy, ["curl", "-sS", "-i", version, "https://h.test/"]);
        outcome.assert_success();
        let (head, body) = outcome.stdout.split_once("\r\n\r\n").unwrap();
        let head = head.to_lowercase();
        assert_eq!(body, "<p>Not here</p>!");
        assert!(head.lines().next().unwrap().contains(" 200"), "{head}");
        assert!(!head.contains("x-internal") && head.contains("x-more: more"), "{head}");
        assert!(head.contains("content-length: 16"), "{head}");
        assert!(head.contains("set-cookie: a=1") && head.contains("set-cookie: b=2"), "{head}");
    }
}

#[test]
fn w05_events_come_through_a_handler_one_by_one() {
    let world = World::new("events");
    let (send, next) = mpsc::channel::<&'static str>();
    let next = Mutex::new(next);
    let server = TcpServer::start(&world, move |mut stream| {
        let mut head = [0; 4096];
        let _ = stream.read(&mut head).unwrap();
        stream
            .write_all(
                b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n",
            )
            .unwrap();
        while let Ok(event) = next.lock().unwrap().recv_timeout(Duration::from_secs(30)) {
            write!(stream, "{:x}\r\n{event}\r\n", event.len()).unwrap();
        }
    });
    handler(
        &world,
        "passes",
        "let response = fetch(request);\nresponse.set_header(\"x-seen\", \"yes\");\nresponse",
    );
    let policy = format!(
        "version = 1\noutbound = \"handlers/passes.rhai\"\n{}",
        world.upstream(&[("events.test:80", server.address())])
    );
    let mut client = world.gate(&policy).job(["curl", "-sSN", "http://events.test/"]).spawn();
    // The next is not sent before the last has arrived.
    for event in ["data: one\n\n", "data: two\n\n", "data: three\n\n", ""] {
        send.send(event).unwrap();
        client.wait_for_output(event);
    }
    drop(send);
    client.wait().assert_success().assert_stdout("data: one\n\ndata: two\n\ndata: three\n\n");
}

#[test]
fn head_and_answers_without_a_body_pass() {
    let world = World::new("head");
    let site = Site::answering(&world, |request| match request.path.as_str() {
        "/none" => Reply::new(204, ""),
        "/same" => Reply::new(304, "").header("etag", "\"1\""),
        _ if request.method == "HEAD" => Reply::new(200, "").header("content-length", "12"),
        _ => Reply::text("twelve bytes"),
    });
    handler(&world, "passes", "fetch(request)");
    handler(
        &world,
        "own",
        "switch request.path { \"/none\" => reply(204), _ => reply(200, \"twelve bytes\") }",
    );
    for name in ["passes", "own"] {
        let policy = catch_all(&world, &site, name, &["h.test"]);
        for version in ["--http1.1", "--http2"] {
            let own =
                ["curl", "-sS", "--max-time", "20", version, "-w", "%{http_code} %header{content-length}"];
            let ask = |arguments: &[&str]| world.run(&policy, [&own[..], arguments].concat());
            let head = ask(&["-I", "-o", "/dev/null", "https://h.test/"]);
            head.assert_success().assert_stdout("200 12");
            ask(&["https://h.test/none"]).assert_success().assert_stdout("204 ");
            if name == "passes" {
                let same = ask(&["https://h.test/same"]);
                same.assert_success();
                assert!(same.stdout.starts_with("304"), "{same:?}");
            }
        }
    }
}

/// Calls as gRPC does, and tells status, body and trailers.
const CALL: &str = r#"
const session = require("http2").connect("https://h.test");
const stream = session.request({ ":method": "POST", ":path": "/service/Method", te: "trailers", "content-type": "application/grpc" });
const told = { body: "" };
stream.on("response", headers => { told.status = headers[":status"]; told.type = headers["content-type"]; });
stream.on("data", data => { told.body += data; }).on("trailers", trailers => { told.trailers = { ...trailers }; });
stream.on("error", error => { console.log(String(error)); process.exit(1); });
stream.on("end", () => { console.log(JSON.stringify(told)); session.close(); });
stream.end("question");
"#;

#[test]
fn w04_trailers_come_through_a_handler() {
    let world = World::new("trailers");
    let site = Site::answering(&world, |_| {
        Reply::new(200, "answer").header("content-type", "application/grpc").trailer("grpc-status", "0")
    });
    handler(
        &world,
        "passes",
        "let response = fetch(request);\nresponse.set_header(\"x-seen\", \"yes\");\nresponse",
    );
    let gate = world.gate(&catch_all(&world, &site, "passes", &["h.test"])).attach();
    let outcome = gate.job(["/usr/bin/node", "-e", CALL]).env("NODE_EXTRA_CA_CERTS", gate.ca_file()).run();
    outcome.assert_success();
    assert_line(
        &outcome.json(),
        &json!({"status": 200, "type": "application/grpc", "body": "answer", "trailers": {"grpc-status": "0"}}),
    );
    let received = site.tls.only_request();
    assert_eq!((received.body.as_slice(), received.header("te")), (&b"question"[..], vec!["trailers"]));
}

#[test]
fn w04_trailers_stay_with_bodies_that_a_handler_looked_at() {
    let world = World::new("peeked-trailers");
    let site = Site::answering(&world, |_| Reply::new(200, "answer").trailer("grpc-status", "0"));
    // More than both bodies have, and less.
    for limit in [1000, 2] {
        handler(
            &world,
            "looks",
            &format!(
                "request.peek_body({limit});\nlet response = fetch(request);\nresponse.peek_body({limit});\nresponse"
            ),
        );
        let call = CALL
            .replace("\"application/grpc\" });", "\"application/grpc\" }, { waitForTrailers: true });")
            .replace(
                "const told",
                "stream.on(\"wantTrailers\", () => stream.sendTrailers({ \"x-sum\": \"1\" }));\nconst told",
            );
        let gate = world.gate(&catch_all(&world, &site, "looks", &["h.test"])).attach();
        let outcome =
            gate.job(["/usr/bin/node", "-e", &call]).env("NODE_EXTRA_CA_CERTS", gate.ca_file()).run();
        outcome.assert_success();
        assert_line(
            &outcome.json(),
            &json!({"status": 200, "body": "answer", "trailers": {"grpc-status": "0"}}),
        );
        let received = site.tls.requests().pop().unwrap();
        assert_eq!(received.body, b"question");
        assert_eq!(received.trailers, [("x-sum".to_owned(), "1".to_owned())], "{limit}");
    }
}

#[test]
fn other_methods_and_odd_header_bytes_pass_unchanged() {
    let world = World::new("bytes");
    let site = Site::start(&world);
    handler(
        &world,
        "passes",
        "let seen = request.header(\"x-odd\") ?? \"\";\nrequest.set_header(\"x-copy\", seen);\nfetch(request)",
    );
    let policy = catch_all(&world, &site, "passes", &["h.test"]);
    let outcome = world.run(
        &policy,
        curl(&[
            "-X",
            "PROPFIND",
            "-H",
            "x-odd: caf\u{e9} \u{20ac}",
            "-H",
            "X-Twice: a",
            "-H",
            "X-Twice: b",
            "http://h.test/%7Euser/?a=%2F&b",
        ]),
    );
    assert_answer(&outcome, "origin: h.test");
    let received = site.plain.only_request();
    assert_eq!((received.method.as_str(), received.path.as_str()), ("PROPFIND", "/%7Euser/?a=%2F&b"));
    assert_eq!(received.header("x-twice"), ["a", "b"]);
    assert_eq!(received.header("x-odd"), ["caf\u{e9} \u{20ac}"]);
    assert_eq!(received.header("x-copy"), ["caf\u{e9} \u{20ac}"]);
}
