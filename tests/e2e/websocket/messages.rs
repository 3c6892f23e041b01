//! What passes on a WebSocket: messages of every kind and size, pings, and how it is closed.

use e2e::{Attached, World};
use serde_json::{Value, json};

use crate::support::{Server, exchange, said};

const OPEN: &str = "allowed_hosts = [\"echo.test\"]";
const PASS_THROUGH: &str = "fn outbound(request, env, ctx) { fetch(request) }";

/// Text, binary, 1 MiB, fragments of either side, and pings of either side, on one WebSocket.
pub(crate) const CONVERSATION: &str = r#"
def converse(url):
    with ws(url) as socket:
        socket.send("grüße"); said = [socket.recv(timeout=20)]
        socket.send(b"\x00\xff\x88"); said.append(socket.recv(timeout=20).hex())
        large = bytes(range(256)) * 4096
        socket.send(large); said.append(socket.recv(timeout=20) == large)
        socket.send(["in ", "three ", "parts"]); said.append(socket.recv(timeout=20))
        socket.send("fragments"); said.append(list(socket.recv_streaming()))
        said.append(socket.ping(b"hello").wait(20))
        socket.send("ping"); said.append(socket.recv(timeout=20))
    return said
"#;

fn conversation() -> Value {
    json!(["grüße", "00ff88", true, "in three parts", ["one ", "two ", "three", ""], true, "ponged"])
}

#[test]
fn w01_ws_carries_every_kind_of_message() {
    for (name, handler) in [("w01", ""), ("w01-handler", "outbound = \"pass.rhai\"")] {
        let world = World::new(name);
        world.file("pass.rhai", PASS_THROUGH);
        let server = Server::start(&world);
        let mut gate = world.gate(&server.policy(&format!("{OPEN}\n{handler}"))).attach();
        let script = format!("{CONVERSATION}\nsay(converse('ws://echo.test/w01'))");
        assert_eq!(said(&world, &gate, &script), conversation());
        let line = exchange(&mut gate, "/w01");
        assert_eq!((&line["verdict"], &line["status"]), (&json!("allowed"), &json!(101)), "{line}");
        assert_eq!((&line["complete"], &line["method"]), (&json!(true), &json!("GET")), "{line}");
        // Mask and heads besides the payloads; deflate makes next to nothing of the large one.
        assert!(line["request_bytes"].as_u64().unwrap() > 100, "{line}");
        assert!(line["response_bytes"].as_u64().unwrap() > 100, "{line}");
    }
}

#[test]
fn w02_wss_carries_every_kind_of_message() {
    for (name, handler) in [("w02", ""), ("w02-handler", "outbound = \"pass.rhai\"")] {
        let world = World::new(name);
        world.file("pass.rhai", PASS_THROUGH);
        let server = Server::start(&world);
        let mut gate = world.gate(&server.policy(&format!("{OPEN}\n{handler}"))).attach();
        let script = format!("{CONVERSATION}\nsay(converse('wss://echo.test/w02'))");
        assert_eq!(said(&world, &gate, &script), conversation());
        let line = exchange(&mut gate, "/w02");
        assert_eq!((&line["scheme"], &line["complete"]), (&json!("https"), &json!(true)), "{line}");
    }
}

#[test]
fn w03_what_the_two_sides_agree_on_and_close_with_arrives() {
    let handlers = [
        ("w03", "none", ""),
        ("w03-rhai", "pass.rhai", PASS_THROUGH),
        ("w03-js", "pass.js", "export default { outbound: (request) => fetch(request) };"),
    ];
    for (name, file, handler) in handlers {
        let world = World::new(name);
        world.file(file, handler);
        let bound = if handler.is_empty() { String::new() } else { format!("outbound = \"{file}\"") };
        let mut server = Server::start(&world);
        let gate = world.gate(&server.policy(&format!("{OPEN}\n{bound}"))).attach();
        let script = r#"
with ws("wss://echo.test/agreed", subprotocols=["chat.v1", "chat.v2"]) as socket:
    agreed = [socket.subprotocol, [extension.name for extension in socket.protocol.extensions]]
    socket.send("x" * 100_000)
    agreed.append(len(socket.recv(timeout=20)))
    socket.close(4001, "going home")
ends = []
for code in [1000, 4001]:
    with ws(f"wss://echo.test/by-server-{code}") as socket:
        socket.send(f"close {code}")
        ends.append(end(socket))
with ws("ws://echo.test/normal") as socket: pass
say(agreed, ends)
"#;
        let expected = json!([
            ["chat.v2", ["permessage-deflate"], 100_000],
            [[1000, "as you wish"], [4001, "as you wish"]]
        ]);
        assert_eq!(said(&world, &gate, script), expected, "{name}");
        let open = server.event("open", "/agreed");
        assert_eq!(open["extensions"], json!(["permessage-deflate"]));
        assert_eq!(open["headers"]["host"], "echo.test");
        let closed = server.event("closed", "/agreed");
        assert_eq!((&closed["code"], &closed["reason"]), (&json!(4001), &json!("going home")));
        assert_eq!(server.event("closed", "/by-server-4001")["code"], 4001);
        assert_eq!(server.event("closed", "/normal")["code"], 1000);
    }
}

/// What the `ws` package of node is told, which sends these texts first, and after the first that comes back a mebibyte,
/// a ping and what has the server close.
pub(crate) fn node_client(world: &World, gate: &Attached<'_>, texts: &[&str]) -> Value {
    let script = r#"
const WebSocket = require("ws");
const socket = new WebSocket("wss://echo.test/node", ["chat.v2"], { perMessageDeflate: true });
const said = [];
socket.on("open", () => {
  said.push(socket.protocol, socket.extensions);
  for (const text of process.argv.slice(1)) socket.send(text);
});
socket.on("message", (data, isBinary) => {
  said.push(isBinary ? data.length : data.toString());
  if (said.length === 3) socket.send(Buffer.alloc(1 << 20, 7));
  else if (said.length === 4) socket.ping("p");
});
socket.on("pong", (data) => { said.push(`pong ${data}`); socket.send("close 4001"); });
socket.on("close", (code, reason) => { said.push(code, String(reason)); console.log(JSON.stringify(said)); });
"#;
    let modules = world.test_dependency("npm/node_modules");
    let job = world.root_job(gate.namespace(), [&["node", "-e", script], texts].concat());
    let outcome = job.env("NODE_PATH", modules).env("NODE_EXTRA_CA_CERTS", gate.ca_file()).run();
    outcome.assert_success();
    outcome.json()
}

#[test]
fn the_ws_package_of_node_goes_through() {
    let world = World::new("ws-node");
    let mut server = Server::start(&world);
    let gate = world.gate(&server.policy(OPEN)).attach();
    let said = node_client(&world, &gate, &["text"]);
    assert_eq!(said[0], "chat.v2");
    assert!(said[1].as_str().unwrap().starts_with("permessage-deflate"), "{said}");
    assert_eq!(
        said.as_array().unwrap()[2..],
        json!(["text", 1 << 20, "pong p", 4001, "as you wish"]).as_array().unwrap()[..]
    );
    assert_eq!(server.event("closed", "/node")["code"], 4001);
}

#[test]
fn a_rule_judges_a_websocket_like_any_request_and_puts_its_secret_on() {
    let world = World::new("ws-rule");
    let mut server = Server::start(&world);
    let rules = r#"
[secrets.TOKEN]
source = "env://TOKEN"
hosts = ["echo.test"]
[[rules]]
host = "https://echo.test"
methods = ["GET"]
paths = ["/allowed/**"]
set_headers = { authorization = "Bearer ${secret:TOKEN}" }
"#;
    let mut gate = world.gate(&server.policy(rules)).env("TOKEN", "s3cret-of-the-socket").attach();
    let script = r#"
with ws("wss://echo.test/allowed/x") as socket:
    socket.send("hello"); said = [socket.recv(timeout=20)]
try: ws("wss://echo.test/elsewhere")
except InvalidStatus as error: said += [error.response.status_code, error.response.headers["x-sluicegate-reason"]]
say(said)
"#;
    assert_eq!(said(&world, &gate, script), json!(["hello", 403, "no_rule_matches"]));
    assert_eq!(server.event("open", "/allowed/x")["headers"]["authorization"], "Bearer s3cret-of-the-socket");
    let line = exchange(&mut gate, "/allowed/x");
    assert_eq!(line["credentials"], json!(["TOKEN"]), "{line}");
    assert!(server.events("open", "/elsewhere").is_empty());
}

#[test]
fn what_masks_a_secret_in_responses_keeps_websockets_away() {
    let world = World::new("ws-scrub");
    let server = Server::start(&world);
    let rules = r#"
[secrets.TOKEN]
source = "env://TOKEN"
hosts = ["echo.test"]
scrub = true
[[rules]]
host = "https://echo.test"
set_headers = { authorization = "Bearer ${secret:TOKEN}" }
"#;
    let mut gate = world.gate(&server.policy(rules)).env("TOKEN", "s3cret-of-the-socket").attach();
    let script = r#"
try: ws("wss://echo.test/masked")
except InvalidStatus as error: say(error.response.status_code, error.response.headers["x-sluicegate-reason"])
"#;
    assert_eq!(said(&world, &gate, script), json!([501, "upgrade_not_supported"]));
    let line = exchange(&mut gate, "/masked");
    assert!(line["credentials"].is_null() && line["detail"].as_str().unwrap().contains("TOKEN"), "{line}");
    assert!(server.events("open", "/masked").is_empty());
}

#[test]
fn an_answer_that_is_no_101_passes_whole() {
    let world = World::new("ws-403");
    let server = Server::start(&world);
    let mut gate = world.gate(&server.policy(OPEN)).attach();
    let script = r#"
try: ws("wss://echo.test/refuse")
except InvalidStatus as error: say(error.response.status_code, len(error.response.body))
"#;
    assert_eq!(said(&world, &gate, script), json!([403, 160_000]));
    let line = exchange(&mut gate, "/refuse");
    assert_eq!((&line["status"], &line["complete"]), (&json!(403), &json!(true)), "{line}");
}
