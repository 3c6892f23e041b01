//! A handler that is asked about the messages of a WebSocket: what it sees, says, and fails with.

use e2e::{Attached, World};
use serde_json::json;

use crate::kept::Kept;
use crate::language::Language;
use crate::socket::{Server, exchange, python, said};
use crate::stage::{LIMITS, NAME};

in_every_language! {
    messages_go_on_are_left_out_and_replaced
    a_refused_message_closes_the_websocket_and_says_why
    a_message_that_cannot_be_judged_closes_the_websocket
}

fn attach<'world>(world: &'world World, server: &Server<'_>, language: Language) -> Attached<'world> {
    let handler = language.place_judging(world);
    let text = format!("allowed_hosts = [\"echo.test\"]\noutbound = \"{handler}\"\n{LIMITS}");
    let kept = Kept::lend(world, &format!("{language}-messages").to_lowercase());
    let gate = world.gate(&server.policy(&text)).named(NAME).attach();
    kept.keep();
    gate
}

fn messages_go_on_are_left_out_and_replaced(language: Language) {
    let world = World::new("messages");
    let mut server = Server::start(&world);
    let mut gate = attach(&world, &server, language);
    let script = r#"
with ws("wss://echo.test/messages?room=1", subprotocols=["chat.v2"]) as socket:
    said = []
    socket.send("grüße"); said.append(socket.recv(timeout=60))
    socket.send("drop"); socket.send("change"); said.append(socket.recv(timeout=60))
    socket.send("bytes"); said.append(socket.recv(timeout=60).hex())
    socket.send(b"\x01\x02\x03"); said.append(socket.recv(timeout=60))
    socket.send(b"\x00\xff\x88\x01"); said.append(socket.recv(timeout=60).hex())
    socket.send(["in ", "three ", "parts"]); said.append(socket.recv(timeout=60))
    said.append(socket.ping(b"hello").wait(60))
    socket.send("ping"); said.append(socket.recv(timeout=60))
say(said)
"#;
    let expected = json!([
        "grüße",
        "changed, ünd so on",
        "0001",
        "three bytes",
        "00ff8801",
        "in three parts",
        true,
        "ponged"
    ]);
    assert_eq!(said(&world, &gate, script), expected);
    assert_eq!(server.event("open", "/messages?room=1")["extensions"], json!([]));
    assert_eq!(server.event("closed", "/messages?room=1")["code"], 1000);

    let line = exchange(&mut gate, "/messages");
    assert_eq!((&line["verdict"], &line["complete"]), (&json!("allowed"), &json!(true)), "{line}");
    assert_eq!(line["messages"], json!({ "judged": 15, "changed": 3, "dropped": 1 }), "{line}");
    let counted = gate.operator(["kv", "get", "kv", "messages"]).run();
    assert_eq!(counted.assert_success().stdout.trim(), "15");
    let told: Vec<_> = gate.log().into_iter().filter(|line| line["kind"] == "handler").collect();
    let fields = |direction: &str| {
        json!({
            "direction": direction, "text": "grüße", "url": "https://echo.test/messages?room=1",
            "host": "echo.test", "port": 443, "path": "/messages", "subprotocol": "chat.v2",
        })
    };
    assert_eq!((&told[0]["fields"], &told[1]["fields"]), (&fields("sent"), &fields("received")));
    assert_eq!(told[0]["request_id"], line["request_id"]);
}

fn a_refused_message_closes_the_websocket_and_says_why(language: Language) {
    let world = World::new("messages-refused");
    let mut server = Server::start(&world);
    let mut gate = attach(&world, &server, language);
    let script = "with ws('wss://echo.test/refused') as socket:\n    socket.send('refuse'); say(end(socket))";
    assert_eq!(said(&world, &gate, script), json!([1008, "not this one"]));
    let closed = server.event("closed", "/refused");
    // The reason is for the workload alone.
    assert_eq!((&closed["code"], &closed["reason"]), (&json!(1008), &json!("")));
    assert_eq!(server.events("open", "/refused").len(), 1);
    let line = exchange(&mut gate, "/refused");
    assert_eq!((&line["verdict"], &line["reason"]), (&json!("refused"), &json!("denied_by_handler")));
    assert_eq!((&line["status"], &line["complete"]), (&json!(101), &json!(false)), "{line}");
    assert!(line["detail"].as_str().unwrap().ends_with("not this one"), "{line}");
}

fn a_message_that_cannot_be_judged_closes_the_websocket(language: Language) {
    let world = World::new("messages-failed");
    let mut server = Server::start(&world);
    let mut gate = attach(&world, &server, language);
    for (word, reason) in [("throw", "handler_failed"), ("loop", "handler_timeout")] {
        let script = format!(
            "with ws('wss://echo.test/{word}') as socket:\n    socket.send('{word}'); say(end(socket))"
        );
        let outcome = python(&world, &gate, &script).run();
        outcome.assert_success();
        assert_eq!(outcome.json(), json!([1011, ""]), "{word}");
        let path = format!("/{word}");
        assert_eq!(server.event("closed", &path)["code"], 1011, "{word}");
        let line = exchange(&mut gate, &path);
        assert_eq!((&line["verdict"], &line["reason"]), (&json!("failed"), &json!(reason)), "{line}");
        if word == "throw" {
            assert!(line["detail"].as_str().unwrap().contains("on purpose"), "{line}");
        }
    }
}
