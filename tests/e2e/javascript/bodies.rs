//! Bodies on their way through a handler in JavaScript: streamed unless it reads them, and copied while
//! they stream.

use std::io::{Read, Write};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use e2e::{Attached, Reply, Site, TcpServer, World, pseudo_random_chunks, pseudo_random_sha256, sha256_hex};
use serde_json::json;

use crate::support::{
    LIMITS, answer, assert_answer, assert_line, assert_told, attach, catch_all, curl, handler, of_kind,
    operator,
};

const LARGE: u64 = 32 << 20;

/// A server that sends an event whenever it is told to, and a document by which `events.test` is found.
fn events(world: &World, name: &str) -> (TcpServer, Sender<&'static str>, String) {
    let (send, next) = mpsc::channel::<&'static str>();
    let next = Mutex::new(next);
    let server = TcpServer::start(world, move |mut stream| {
        let mut head = [0; 4096];
        let _ = stream.read(&mut head).unwrap();
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
        stream.write_all(head.as_bytes()).unwrap();
        while let Ok(event) = next.lock().unwrap().recv_timeout(Duration::from_secs(30)) {
            write!(stream, "{:x}\r\n{event}\r\n", event.len()).unwrap();
        }
    });
    let upstream = world.upstream(&[("events.test:80", server.address())]);
    let policy = format!("version = 1\noutbound = \"handlers/{name}.js\"\n{LIMITS}{upstream}");
    (server, send, policy)
}

/// Fails unless each event arrives before the next one is sent.
fn assert_one_by_one(gate: &Attached<'_>, send: Sender<&'static str>) {
    let mut client = gate.job(["curl", "-sSN", "http://events.test/"]).spawn();
    for event in ["data: one\n\n", "data: two\n\n", "data: three\n\n", ""] {
        send.send(event).unwrap();
        client.wait_for_output(event);
    }
    drop(send);
    client.wait().assert_success().assert_stdout("data: one\n\ndata: two\n\ndata: three\n\n");
}

#[test]
fn w05_events_come_through_unread() {
    let world = World::new("events");
    let (_server, send, policy) = events(&world, "passes");
    handler(&world, "passes", "return fetch(request);");
    assert_one_by_one(&attach(&world, &policy), send);
}

#[test]
fn w05_events_come_through_with_a_changed_head() {
    let world = World::new("events-head");
    let (_server, send, policy) = events(&world, "changes");
    handler(
        &world,
        "changes",
        "const response = await fetch(request);\nconst changed = new Response(response.body, response);\n\
         changed.headers.set(\"x-seen\", \"yes\");\nreturn changed;",
    );
    assert_one_by_one(&attach(&world, &policy), send);
}

/// Answers with one copy of the body, and counts the other one after the answer.
const COUNTS: &str = "const response = await fetch(request);\n\
    const [theirs, ours] = response.body.tee();\n\
    ctx.waitUntil(new Response(ours).text().then(async (text) => {\n\
      await env.kv.put(\"length\", String(text.length));\n\
      console.log(\"counted\", { length: text.length, container: ctx.containerId });\n\
    }));\n\
    return new Response(theirs, response);";

#[test]
fn a_copy_of_a_body_is_read_while_it_streams_and_after_the_answer() {
    let world = World::new("tee-events");
    let (_server, send, policy) = events(&world, "counts");
    handler(&world, "counts", COUNTS);
    let mut gate = attach(&world, &policy);
    assert_one_by_one(&gate, send);
    let counted = "data: one\n\ndata: two\n\ndata: three\n\n".len();
    let line = gate.wait_for_log(|line| line["kind"] == "handler");
    assert_line(&line, &json!({"message": "counted", "fields": {"length": counted, "container": "box"}}));
    let exchange = gate.wait_for_log(|line| line["kind"] == "exchange");
    assert_eq!(line["request_id"], exchange["request_id"]);
    let stored = operator(&gate, &["kv", "get", "kv", "length"]);
    assert_eq!(stored.stdout.trim(), counted.to_string());
}

#[test]
fn a_large_body_is_copied_without_being_held() {
    let world = World::new("tee-large");
    let site = Site::answering(&world, |_| Reply::pseudo_random(LARGE));
    handler(
        &world,
        "reads",
        "const response = await fetch(request);\nconst [theirs, ours] = response.body.tee();\n\
         ctx.waitUntil((async () => {\n  let length = 0;\n  for await (const chunk of ours) length += chunk.length;\n\
         console.log(\"counted\", { length });\n})());\nreturn new Response(theirs, response);",
    );
    let mut gate = attach(&world, &catch_all(&world, &site, "reads", &["h.test"]));
    let outcome = gate.run(["sh", "-c", "curl -sS https://h.test/ | sha256sum"]);
    outcome.assert_success().assert_stdout(&format!("{}  -\n", pseudo_random_sha256(LARGE)));
    let line = gate.wait_for_log(|line| line["kind"] == "handler");
    assert_line(&line, &json!({"fields": {"length": LARGE}}));
}

#[test]
fn what_is_waited_for_goes_on_after_the_answer() {
    let world = World::new("wait-until");
    let (send, may_answer) = mpsc::channel::<()>();
    let may_answer = Arc::new(Mutex::new(may_answer));
    let site = Site::answering(&world, move |_| {
        // Only once the workload has its answer.
        may_answer.lock().unwrap().recv_timeout(Duration::from_secs(30)).unwrap();
        Reply::text("done")
    });
    handler(
        &world,
        "later",
        "ctx.waitUntil(new Promise((resolve) => setTimeout(resolve, 500)).then(async () => {\n\
         const response = await fetch(\"https://after.test/done\", { method: \"POST\", body: \"afterwards\" });\n\
         console.warn(\"later\", { status: response.status });\n}));\nreturn new Response(\"at once\");",
    );
    let mut gate = attach(&world, &catch_all(&world, &site, "later", &["after.test"]));
    assert_answer(&gate, &["http://h.test/"], "at once");
    send.send(()).unwrap();
    let line = gate.wait_for_log(|line| line["kind"] == "handler");
    assert_line(&line, &json!({"level": "warn", "message": "later", "fields": {"status": 200}}));
    assert_eq!(site.tls.only_request().body, b"afterwards");
    gate.wait_for_log(|line| line["kind"] == "fetch" && line["host"] == "after.test");
}

#[test]
fn what_fails_after_the_answer_is_in_the_log() {
    let world = World::new("wait-fails");
    let site = Site::start(&world);
    handler(
        &world,
        "later",
        "ctx.waitUntil(Promise.reject(new Error(\"too late\")));\nreturn new Response(\"at once\");",
    );
    let mut gate = attach(&world, &catch_all(&world, &site, "later", &[]));
    assert_answer(&gate, &["http://h.test/"], "at once");
    gate.wait_for_log(|line| line.to_string().contains("too late"));
}

#[test]
fn a_large_body_streams_both_ways() {
    let world = World::new("large");
    let site = Site::answering(&world, |request| match request.method.as_str() {
        "GET" => Reply::pseudo_random(LARGE),
        _ => Reply::text("taken"),
    });
    handler(
        &world,
        "passes",
        "const headers = new Headers(request.headers);\nheaders.set(\"x-seen\", \"yes\");\n\
         return fetch(new Request(request, { headers }));",
    );
    let bytes: Vec<u8> = pseudo_random_chunks(LARGE).flatten().collect();
    world.home_file("large", bytes);
    let gate = attach(&world, &catch_all(&world, &site, "passes", &["h.test"]));
    for version in ["--http1.1", "--http2"] {
        assert_answer(&gate, &[version, "-X", "POST", "-T", "large", "https://h.test/"], "taken");
        let received = site.tls.requests().pop().unwrap();
        assert_eq!((received.body_length, received.complete), (LARGE, true), "{version}");
        assert_eq!(received.body_sha256, pseudo_random_sha256(LARGE), "{version}");
        assert_eq!(received.header("x-seen"), ["yes"]);
        let outcome = gate.run(["sh", "-c", &format!("curl -sS {version} https://h.test/ | sha256sum")]);
        outcome.assert_success().assert_stdout(&format!("{}  -\n", pseudo_random_sha256(LARGE)));
    }
}

#[test]
fn bodies_of_two_megabytes_are_read_and_made() {
    let world = World::new("two-megabytes");
    let site = Site::start(&world);
    handler(
        &world,
        "reads",
        "if (request.method === \"GET\") return new Response(\"0123456789abcdef\".repeat(131072));\n\
         const bytes = await request.clone().arrayBuffer();\nconst digest = await crypto.subtle.digest(\"SHA-256\", bytes);\n\
         const hex = [...new Uint8Array(digest)].map((byte) => byte.toString(16).padStart(2, \"0\")).join(\"\");\n\
         const response = await fetch(request);\n\
         return Response.json([bytes.byteLength, hex, await response.text()]);",
    );
    let text = format!("outbound = \"handlers/reads.js\"\n{LIMITS}body_bytes = 4194304\n");
    let gate = attach(&world, &site.policy(&world, &text, &["h.test"]));
    let large = "0123456789abcdef".repeat(131_072);
    world.home_file("large", &large);
    let seen = crate::support::json(&gate, &["-H", "expect:", "--data-binary", "@large", "https://h.test/"]);
    assert_eq!(seen, json!([large.len(), sha256_hex(large.as_bytes()), "origin: h.test"]));
    assert_eq!(site.tls.only_request().body_sha256, sha256_hex(large.as_bytes()));
    let outcome = gate.run(["sh", "-c", "curl -sS https://h.test/ | sha256sum"]);
    outcome.assert_success().assert_stdout(&format!("{}  -\n", sha256_hex(large.as_bytes())));
}

#[test]
fn a_body_that_is_too_long_to_be_read_fails_and_can_still_be_sent() {
    let world = World::new("too-long");
    let site = Site::start(&world);
    handler(
        &world,
        "reads",
        "if (new URL(request.url).pathname === \"/caught\") {\n\
         try { await request.text(); } catch (error) { return new Response(error.name); }\n}\n\
         return new Response(await request.text());",
    );
    let text = format!("outbound = \"handlers/reads.js\"\n{LIMITS}body_bytes = 1000\n");
    let gate = attach(&world, &site.policy(&world, &text, &["h.test"]));
    let (short, long) = ("x".repeat(1_000), "x".repeat(1_001));
    assert_answer(&gate, &["-d", &short, "https://h.test/"], &short);
    assert_answer(&gate, &["-d", &long, "https://h.test/caught"], "TypeError");
    assert_told(&gate, &["-d", &long, "https://h.test/"], "502 handler_failed");
    let log = crate::support::settled(&gate, 3);
    let detail = of_kind(&log, "exchange").last().unwrap()["detail"].as_str().unwrap().to_owned();
    assert!(detail.contains("1000") && detail.contains("handlers/reads.js:"), "{detail}");
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
        "const response = await fetch(request);\nconst text = (await response.text()).replace(\"found\", \"here\");\n\
         const headers = new Headers(response.headers);\nheaders.delete(\"x-internal\");\n\
         return new Response(`${text}!`, { status: 200, headers });",
    );
    let gate = attach(&world, &catch_all(&world, &site, "rewrites", &["h.test"]));
    for version in ["--http1.1", "--http2"] {
        let outcome = gate.run(["curl", "-sS", "-i", version, "https://h.test/"]);
        outcome.assert_success();
        let (head, body) = outcome.stdout.split_once("\r\n\r\n").unwrap();
        let head = head.to_lowercase();
        assert_eq!(body, "<p>Not here</p>!");
        assert!(head.lines().next().unwrap().contains(" 200"), "{head}");
        assert!(!head.contains("x-internal") && head.contains("content-length: 16"), "{head}");
        assert!(head.contains("set-cookie: a=1") && head.contains("set-cookie: b=2"), "{head}");
    }
}

#[test]
fn odd_header_bytes_and_methods_pass_unchanged() {
    let world = World::new("bytes");
    let site = Site::start(&world);
    handler(
        &world,
        "copies",
        "const headers = new Headers(request.headers);\nheaders.set(\"x-copy\", headers.get(\"x-odd\"));\n\
         return fetch(new Request(request, { headers }));",
    );
    let gate = attach(&world, &catch_all(&world, &site, "copies", &["h.test"]));
    let odd = ["-X", "PROPFIND", "-H", "x-odd: caf\u{e9} \u{20ac}", "http://h.test/%7Euser/?a=%2F&b"];
    let outcome = gate.run(curl(&odd));
    assert_eq!(answer(&outcome), ("origin: h.test", "200 "), "{outcome:?}");
    let received = site.plain.only_request();
    assert_eq!((received.method.as_str(), received.path.as_str()), ("PROPFIND", "/%7Euser/?a=%2F&b"));
    assert_eq!(received.header("x-odd"), ["caf\u{e9} \u{20ac}"]);
    assert_eq!(received.header("x-copy"), ["caf\u{e9} \u{20ac}"]);
}
