//! WebSockets whose messages a handler is asked about: what passes, what ends them, and under which policy.

use std::io::{Read, Write};

use e2e::{Attached, TcpServer, World};
use serde_json::{Value, json};

use crate::http2;
use crate::messages::{CONVERSATION, node_client};
use crate::support::{Server, exchange, python, said};

/// Far above what the scripts need on a slow machine in a build without optimisation.
const LIMITS: &str = "[handler_limits]\ncpu_ms = 2000\noperations = 1000000000\n";
const OPEN: &str = "allowed_hosts = [\"echo.test\"]\noutbound = \"judge.rhai\"";
const OUTBOUND: &str = "fn outbound(request, env, ctx) { fetch(request) }\n";

/// A world with a handler that has this inside of `on_message`.
fn world(name: &str, inside: &str) -> World {
    let world = World::new(name);
    world.file("judge.rhai", format!("{OUTBOUND}fn on_message(message, env, ctx) {{ {inside} }}\n"));
    world
}

fn attach<'world>(world: &'world World, server: &Server<'_>) -> Attached<'world> {
    world.gate(&server.policy(&format!("{OPEN}\n{LIMITS}"))).named("judged").attach()
}

/// Waits for the line of a WebSocket that a message has ended.
#[track_caller]
fn ended(gate: &mut Attached<'_>, path: &str, verdict: &str, reason: &str) -> Value {
    let line = exchange(gate, path);
    let has = |name: &str, value: Value| assert_eq!(line.get(name), Some(&value), "{line}");
    has("verdict", json!(verdict));
    has("reason", json!(reason));
    has("complete", json!(false));
    has("handler", json!("judge.rhai"));
    line
}

#[test]
fn every_kind_of_message_passes_a_judge() {
    for url in ["ws://echo.test/judged", "wss://echo.test/judged"] {
        let world = world("ws-judged", "");
        let mut server = Server::start(&world);
        let mut gate = attach(&world, &server);
        let told = said(&world, &gate, &format!("{CONVERSATION}\nsay(converse('{url}'))"));
        // Three fragments have become one frame.
        assert_eq!(
            told,
            json!(["grüße", "00ff88", true, "in three parts", ["one two three"], true, "ponged"])
        );
        let open = server.event("open", "/judged");
        assert_eq!(open["extensions"], json!([]));
        assert!(open["headers"]["sec-websocket-extensions"].is_null(), "{open}");
        assert_eq!(server.event("closed", "/judged")["code"], 1000);
        let line = exchange(&mut gate, "/judged");
        assert_eq!((&line["verdict"], &line["complete"]), (&json!("allowed"), &json!(true)), "{line}");
        assert_eq!(line["messages"], json!({ "judged": 12, "changed": 0, "dropped": 0 }), "{line}");
        assert!(line["request_bytes"].as_u64().unwrap() > 1 << 20, "{line}");
    }
}

#[test]
fn a_judge_is_asked_over_http2_too() {
    let world = world(
        "ws-judged-h2",
        "if message.text == \"refuse\" { return deny(\"not this one\"); }
         if message.direction == \"sent\" && message.text != () { message.text.to_upper() }",
    );
    let mut server = Server::start(&world);
    let mut gate = attach(&world, &server);
    let script = r#"
s = Socket("/h2")
said = [s.status, "sec-websocket-extensions" in s.headers]
s.send(1, b"hello")
said.append(s.receive()[1].decode())
large = bytes(range(256)) * 4096
s.send(2, large)
said.append(s.receive() == (2, large))
s.send(1, b"refuse")
opcode, payload = s.receive()
said.append([opcode, int.from_bytes(payload[:2], "big"), payload[2:].decode()])
s.end()
said.append(s.rest())
print(json.dumps(said))
"#;
    let expected = json!([200, false, "HELLO", true, [8, 1008, "not this one"], ["end", ""]]);
    assert_eq!(http2::said(&world, &gate, script), expected);
    assert_eq!(server.event("closed", "/h2")["code"], 1008);
    let line = ended(&mut gate, "/h2", "refused", "denied_by_handler");
    assert_eq!(line["messages"], json!({ "judged": 5, "changed": 1, "dropped": 0 }), "{line}");
}

#[test]
fn messages_keep_their_order_and_pings_pass_between_fragments() {
    let inside = "if message.direction == \"sent\" && message.text == \"7\" { return false; }
        if message.direction == \"received\" && message.text == \"9\" { return \"nine\"; }";
    let world = world("ws-judged-order", inside);
    let server = Server::start(&world);
    let mut gate = attach(&world, &server);
    let script = r#"
import threading
with ws("wss://echo.test/order") as socket:
    sending = threading.Thread(target=lambda: [socket.send(str(n)) for n in range(1000)])
    sending.start()
    seen = [socket.recv(timeout=60) for _ in range(999)]
    sending.join()
    expected = ["nine" if n == 9 else str(n) for n in range(1000) if n != 7]
    pongs = []
    def parts():
        yield "first "
        pongs.append(socket.ping(b"between").wait(60))
        yield "second"
    socket.send(parts())
    say(seen == expected, pongs, socket.recv(timeout=60))
"#;
    assert_eq!(said(&world, &gate, script), json!([true, [true], "first second"]));
    let line = exchange(&mut gate, "/order");
    assert_eq!(line["messages"], json!({ "judged": 2001, "changed": 1, "dropped": 1 }), "{line}");
}

#[test]
fn a_client_that_offers_deflate_goes_without() {
    let world = world("ws-judged-node", "if message.text == \"drop\" { return false; }");
    let mut server = Server::start(&world);
    let gate = attach(&world, &server);
    let expected = json!(["chat.v2", "", "text", 1 << 20, "pong p", 4001, "as you wish"]);
    assert_eq!(node_client(&world, &gate, &["drop", "text"]), expected);
    assert_eq!(server.event("closed", "/node")["code"], 4001);
}

#[test]
fn frames_that_break_the_protocol_end_it_and_reach_nobody() {
    let world = world("ws-judged-frames", "");
    let mut server = Server::start(&world);
    let mut gate = attach(&world, &server);
    // Of the client's: unmasked, an extension's bit, no UTF-8, too long by its head, nothing to go on with.
    // Of the server's, by its own hand: no UTF-8, masked, an unknown opcode.
    let script = r#"
said = []
for number, (raw, told) in enumerate([
    ("810161", None), ("c1810000000061", None), ("818100000000ff", None),
    ("82ff000000000010000100000000", None), ("808000000000", None),
    (None, "raw 8101ff"), (None, "raw 818100000000"), (None, "raw 8300"),
]):
    with ws(f"ws://echo.test/broken-{number}") as socket:
        socket.send("before"); socket.recv(timeout=30)
        if raw: socket.socket.sendall(bytes.fromhex(raw))
        else: socket.send(told)
        said.append(end(socket)[0])
say(said)
"#;
    let codes = [1002, 1002, 1007, 1009, 1002, 1007, 1002, 1002];
    assert_eq!(said(&world, &gate, script), json!(codes));
    for (number, code) in codes.into_iter().enumerate() {
        let path = format!("/broken-{number}");
        assert_eq!(server.event("closed", &path)["code"], code, "{path}");
        let line = ended(&mut gate, &path, "refused", "malformed_message");
        let whose = if number < 5 { "of the workload's" } else { "of the upstream's" };
        assert!(line["detail"].as_str().unwrap().contains(whose), "{line}");
    }
}

#[test]
fn what_a_handler_cannot_judge_ends_the_websocket() {
    let inside = "switch message.text {
            \"throw\" => throw \"on purpose\",
            \"loop\" => { loop { } }
            \"number\" => return 5,
            \"fetch\" => { fetch(\"https://nowhere.test/\"); }
            \"ask\" => return ask(\"may it?\"),
            \"denied\" => return deny(\"not this one\")
        }";
    let world = world("ws-judged-faults", inside);
    let mut server = Server::start(&world);
    let mut gate = attach(&world, &server);
    let script = r#"
said = []
for word in ["throw", "loop", "number", "fetch", "ask", "denied"]:
    with ws(f"wss://echo.test/{word}") as socket:
        socket.send(word)
        said.append(end(socket))
with ws("wss://echo.test/after") as socket:
    socket.send("after"); said.append(socket.recv(timeout=30))
say(said)
"#;
    let fault = json!([1011, ""]);
    let told = said(&world, &gate, script);
    assert_eq!(told, json!([fault, fault, fault, told[3], fault, [1008, "not this one"], "after"]));
    // What the lists refuse is refused, and not a fault.
    assert_eq!(told[3][0], 1008, "{told}");
    for (word, verdict, reason, detail) in [
        ("throw", "failed", "handler_failed", "judge.rhai:3"),
        ("loop", "failed", "handler_timeout", "processor time"),
        ("number", "failed", "handler_failed", "on_message returned a number"),
        ("fetch", "refused", "not_in_allowed_hosts", "nowhere.test"),
        ("ask", "failed", "handler_failed", "nobody could be asked"),
        ("denied", "refused", "denied_by_handler", "a message of the workload's: not this one"),
    ] {
        let line = ended(&mut gate, &format!("/{word}"), verdict, reason);
        assert!(line["detail"].as_str().unwrap().contains(detail), "{word}: {line}");
        assert_eq!(line["handler_version"].as_str().unwrap().len(), 12, "{line}");
        let code = server.event("closed", &format!("/{word}"))["code"].clone();
        assert_eq!(code, if verdict == "refused" { 1008 } else { 1011 }, "{word}");
    }
}

#[test]
fn body_bytes_bounds_what_comes_and_what_goes_on() {
    let inside =
        "if message.direction == \"sent\" && message.text.starts_with(\"y\") { message.text + message.text }";
    let world = world("ws-judged-bound", inside);
    let mut server = Server::start(&world);
    let document = server.policy(&format!("{OPEN}\n{LIMITS}body_bytes = 1000\n"));
    let mut gate = world.gate(&document).named("judged").attach();
    let script = r#"
said = []
for path, message in [("exactly", "x" * 1000), ("whole", "x" * 1001), ("parts", ["x" * 600, "x" * 401]), ("made", "y" * 501)]:
    with ws(f"wss://echo.test/{path}") as socket:
        try: socket.send(message)
        # It may be told of the end before the last part is sent.
        except ConnectionClosed: pass
        if path == "exactly": said.append(len(socket.recv(timeout=30)))
        else: said.append(end(socket)[0])
say(said)
"#;
    assert_eq!(said(&world, &gate, script), json!([1000, 1009, 1009, 1011]));
    for (path, code) in [("/exactly", 1000), ("/whole", 1009), ("/parts", 1009), ("/made", 1011)] {
        assert_eq!(server.event("closed", path)["code"], code, "{path}");
    }
    for path in ["/whole", "/parts"] {
        let line = ended(&mut gate, path, "refused", "malformed_message");
        assert!(line["detail"].as_str().unwrap().contains("longer than 1000 bytes"), "{line}");
    }
    let line = ended(&mut gate, "/made", "failed", "handler_failed");
    assert!(line["detail"].as_str().unwrap().contains("longer than 1000 bytes"), "{line}");
}

/// Echoes for each line of its input, and says how the WebSocket was closed.
const STAY: &str = r#"
with ws("wss://echo.test/stay") as socket:
    say("open")
    for line in sys.stdin:
        try:
            socket.send(line.strip())
            say(socket.recv(timeout=30))
        except ConnectionClosed as error:
            say([error.rcvd.code, error.rcvd.reason] if error.rcvd else None)
            break
"#;

#[test]
fn the_policy_in_force_has_its_handler_judge() {
    let world = world("ws-judged-policy", "if message.direction == \"sent\" { message.text + env.WORD }");
    let server = Server::start(&world);
    let document = |open: &str, word: &str, more: &str| {
        let text = format!("{open}\n[env]\nWORD = \"{word}\"\n{LIMITS}");
        format!("{}{more}", server.policy(&text))
    };
    let mut gate = world.gate(&document(OPEN, "-one", "")).named("judged").attach();
    let set = |gate: &Attached<'_>, document: &str| {
        let file = world.file("newer.toml", document).display().to_string();
        gate.operator(["policy", "set", &file]).run().assert_success();
    };
    let mut client = python(&world, &gate, STAY).spawn();
    client.wait_for_output("open");
    client.write("a\n");
    client.wait_for_output("\"a-one\"");
    // The same handler with what the newer policy gives it.
    set(&gate, &document(OPEN, "-two", ""));
    client.write("b\n");
    client.wait_for_output("\"b-two\"");
    // Nobody is in charge any more, and the connection is kept: whom the last policy had goes on.
    set(&gate, &document("allowed_hosts = []", "-three", "flows_on_publish = \"keep\"\n"));
    client.write("c\n");
    client.wait_for_output("\"c-two\"");
    // Another handler is in charge, which has let nothing through.
    world.file("judge.rhai", format!("{OUTBOUND}fn on_message(message, env, ctx) {{ false }}\n"));
    set(&gate, &document(OPEN, "-four", ""));
    let line = exchange(&mut gate, "/stay");
    assert_eq!((&line["verdict"], &line["complete"]), (&json!("allowed"), &json!(false)), "{line}");
    assert_eq!(line["messages"], json!({ "judged": 6, "changed": 3, "dropped": 0 }), "{line}");
    client.write("d\n");
    client.wait_for_output("[1012, \"\"]");
    client.wait().assert_success();
}

#[test]
fn what_has_no_messages_is_not_let_through_to_be_judged() {
    let world = world("ws-judged-upgrade", "");
    let server = Server::start(&world);
    let mut gate = attach(&world, &server);
    let line = ["curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", "--http1.1", "-m", "30"];
    let headers = ["-H", "Connection: Upgrade", "-H", "Upgrade: raw", "https://echo.test/raw"];
    gate.run(line.iter().chain(&headers).copied()).assert_success().assert_stdout("501");
    let line = exchange(&mut gate, "/raw");
    assert_eq!((&line["verdict"], &line["reason"]), (&json!("refused"), &json!("upgrade_not_supported")));
    assert!(server.events("open", "/raw").is_empty());
}

#[test]
fn an_upstream_that_agrees_to_an_extension_is_refused() {
    let world = world("ws-judged-extension", "");
    let origin = TcpServer::start(&world, |mut stream| {
        let mut seen = Vec::new();
        while !seen.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            if stream.read(&mut byte).is_ok_and(|length| length == 0) {
                return;
            }
            seen.extend(byte);
        }
        let answer = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
            Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n";
        let _ = stream.write_all(answer.as_bytes());
        let _ = stream.read(&mut [0]);
    });
    let found = world.upstream(&[("raw.test:80", origin.address())]);
    let document = OPEN.replace("echo.test", "raw.test");
    let mut gate = world.gate(&format!("version = 1\n{document}\n{found}")).attach();
    let script = "try: ws('ws://raw.test/deflate')\n\
                  except InvalidStatus as error: say(error.response.status_code)";
    assert_eq!(said(&world, &gate, script), 502);
    let line = exchange(&mut gate, "/deflate");
    assert_eq!(line["reason"], "upgrade_not_acceptable", "{line}");
}
