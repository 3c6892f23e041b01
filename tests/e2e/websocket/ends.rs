//! How a WebSocket ends that neither side ends: by a newer policy, and by silence.

use e2e::World;
use serde_json::json;

use crate::support::{Server, exchange, python, said};

const OPEN: &str = "allowed_hosts = [\"echo.test\"]";

/// Echoes for each line of its input, and says how the WebSocket was closed.
const STAY: &str = r#"
with ws("wss://echo.test/stay") as socket:
    say("open")
    for line in sys.stdin:
        try:
            socket.send(line)
            say(socket.recv(timeout=30))
        except ConnectionClosed as error:
            say([error.rcvd.code, error.rcvd.reason] if error.rcvd else None)
            break
    else:
        say("still open")
"#;

#[test]
fn h05_a_websocket_ends_with_the_policy_that_allowed_it() {
    for (name, text, is_closed) in [
        ("h05-ws", "", true),
        ("h05-ws-path", "[[rules]]\nhost = \"echo.test\"\npaths = [\"/other\"]", true),
        ("h05-ws-handler", "allowed_hosts = [\"echo.test\"]\noutbound = \"pass.rhai\"", true),
        ("h05-ws-ask", "[[rules]]\nhost = \"echo.test\"\nask = \"may it?\"", true),
        ("h05-ws-respond", "[[rules]]\nhost = \"echo.test\"\nrespond = { status = 204 }", true),
        ("h05-ws-same", "allowed_hosts = [\"echo.test\", \"other.test\"]", false),
    ] {
        let world = World::new(name);
        world.file("pass.rhai", "fn outbound(request, env, ctx) { fetch(request) }");
        let mut server = Server::start(&world);
        let mut gate = world.gate(&server.policy(OPEN)).named("h05").attach();
        let mut client = python(&world, &gate, STAY).spawn();
        client.wait_for_output("open");
        client.write("1\n");
        client.wait_for_output("\"1\\n\"");
        let newer = world.file("newer.toml", server.policy(text)).display().to_string();
        gate.operator(["policy", "set", &newer]).run().assert_success();
        if is_closed {
            // By itself, and seen by both sides.
            let line = exchange(&mut gate, "/stay");
            assert_eq!((&line["verdict"], &line["complete"]), (&json!("allowed"), &json!(false)), "{line}");
            assert!(line["detail"].as_str().unwrap().contains("newer policy"), "{line}");
            assert_eq!(server.event("closed", "/stay")["code"], 1012);
            client.write("2\n");
            client.wait_for_output("[1012, \"\"]");
        } else {
            client.write("2\n");
            client.wait_for_output("\"2\\n\"");
            client.close_stdin();
            client.wait_for_output("still open");
        }
        client.wait().assert_success();
    }
}

#[test]
fn h05_a_websocket_is_kept_where_the_policy_says_so() {
    let world = World::new("h05-ws-keep");
    let mut server = Server::start(&world);
    let mut gate = world.gate(&server.policy(OPEN)).named("h05").attach();
    let mut client = python(&world, &gate, STAY).spawn();
    client.wait_for_output("open");
    let closed = format!("{}flows_on_publish = \"keep\"\n", server.policy(""));
    let closed = world.file("closed.toml", closed).display().to_string();
    gate.operator(["policy", "set", &closed]).run().assert_success();
    client.write("2\n");
    client.wait_for_output("\"2\\n\"");
    client.close_stdin();
    client.wait_for_output("still open");
    client.wait().assert_success();
    assert_eq!(server.event("closed", "/stay")["code"], 1000);
    assert_eq!(exchange(&mut gate, "/stay")["complete"], true);
    // It is the connection that is kept, and not the permission.
    let script =
        "try: ws('wss://echo.test/again')\nexcept InvalidStatus as error: say(error.response.status_code)";
    assert_eq!(said(&world, &gate, script), 403);
}

#[test]
fn n13_a_websocket_that_says_nothing_is_given_up() {
    let world = World::new("n13-ws");
    let mut server = Server::start(&world);
    let document = server.policy(OPEN) + "idle_timeout_ms = 500\n";
    let mut gate = world.gate(&document).attach();
    let script = "with ws('wss://echo.test/silent') as socket: say(end(socket))";
    assert_eq!(said(&world, &gate, script), json!([1001, ""]));
    assert_eq!(server.event("closed", "/silent")["code"], 1001);
    let line = exchange(&mut gate, "/silent");
    assert_eq!((&line["verdict"], &line["complete"]), (&json!("allowed"), &json!(false)), "{line}");
}
