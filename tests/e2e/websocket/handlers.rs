//! WebSockets through handlers: what these see, what they can change, and what they cannot.

use e2e::World;
use serde_json::json;

use crate::support::{Server, exchange, said};

const OPEN: &str = "allowed_hosts = [\"echo.test\"]\noutbound = ";

/// Looks at the request, adds to it, and adds to the response.
const RHAI: &str = r#"
fn outbound(request, env, ctx) {
    if request.header("upgrade") != "websocket" || request.method != "GET" { return reply(400, "no upgrade"); }
    if request.path == "/refused" { return deny("no sockets today"); }
    if request.path == "/answered" { fetch(request); return reply(418, "a teapot"); }
    request.set_header("x-version", request.header("sec-websocket-version"));
    let response = fetch(request);
    if request.path == "/changed" { response.status = 403; return response; }
    if request.path == "/read" {
        try { response.read_text(100); } catch (error) { return reply(500, `${error}`); }
    }
    response.set_header("x-status", `${response.status}`);
    response
}
"#;

const JAVASCRIPT: &str = r#"
export default {
  async outbound(request, env, ctx) {
    const { pathname } = new URL(request.url);
    if (request.headers.get("upgrade") !== "websocket") return new Response("no upgrade", { status: 400 });
    if (pathname === "/refused") return new Response("no sockets today", { status: 403 });
    if (pathname === "/answered") { await fetch(request); return new Response("a teapot", { status: 418 }); }
    const headers = new Headers(request.headers);
    headers.set("x-version", request.headers.get("sec-websocket-version"));
    const response = await fetch(new Request(request, { headers }));
    if (pathname === "/changed") return new Response("changed", { status: 403 });
    if (pathname === "/read") {
      try { await response.text(); } catch (error) { return new Response(String(error), { status: 500 }); }
    }
    response.headers.set("x-status", String(response.status));
    return response;
  },
};
"#;

#[test]
fn a_handler_lets_a_websocket_through_or_answers_something_else() {
    for (file, text) in [("socket.rhai", RHAI), ("socket.js", JAVASCRIPT)] {
        let world = World::new("ws-handler");
        world.file(file, text);
        let mut server = Server::start(&world);
        let mut gate = world.gate(&server.policy(&format!("{OPEN}\"{file}\""))).attach();
        let script = r#"
with ws("wss://echo.test/open") as socket:
    socket.send("hello")
    said = [socket.recv(timeout=20), socket.response.headers["x-status"]]
for path in ["refused", "answered", "changed", "read"]:
    try: ws(f"wss://echo.test/{path}")
    except InvalidStatus as error: said.append([error.response.status_code, error.response.body.decode()])
say(said)
"#;
        let said = said(&world, &gate, script);
        assert_eq!((&said[0], &said[1]), (&json!("hello"), &json!("101")), "{file}");
        let statuses: Vec<_> = (2..6).map(|at| said[at][0].clone()).collect();
        assert_eq!(statuses, [403, 418, 403, 500], "{file}: {said}");
        assert!(said[5][1].as_str().unwrap().contains("the connection was upgraded"), "{file}: {said}");
        assert_eq!(server.event("open", "/open")["headers"]["x-version"], "13");
        // Those that were fetched and not passed on are over at the origin too; 1006 is no Close frame.
        for path in ["/answered", "/changed", "/read"] {
            assert_eq!(server.event("closed", path)["code"], 1006, "{file} {path}");
        }
        assert!(server.events("open", "/refused").is_empty());
        let line = exchange(&mut gate, "/open");
        assert_eq!((&line["status"], &line["complete"]), (&json!(101), &json!(true)), "{line}");
        let fetch = gate.wait_for_log(|line| line["kind"] == "fetch" && line["path"] == "/open");
        assert_eq!((&fetch["status"], &fetch["complete"]), (&json!(101), &json!(true)), "{fetch}");
        assert_eq!(fetch["response_bytes"], line["response_bytes"]);
    }
}

#[test]
fn a_handler_cannot_say_101_by_itself_nor_change_what_is_asked_for() {
    let world = World::new("ws-handler-101");
    world.file(
        "forge.rhai",
        r#"
fn outbound(request, env, ctx) {
    if request.path == "/forged" { return reply(101); }
    if request.path == "/other" { request.set_header("upgrade", "other"); }
    if request.path == "/body" { request.set_body("a body"); }
    let response = fetch(request);
    if request.path == "/filled" { response.set_body("bytes"); }
    response
}
"#,
    );
    let server = Server::start(&world);
    let gate = world.gate(&server.policy(&format!("{OPEN}\"forge.rhai\""))).attach();
    let script = r#"
said = []
for path in ["forged", "other", "body", "filled"]:
    try: ws(f"wss://echo.test/{path}")
    except InvalidStatus as error: said.append(error.response.status_code)
say(said)
"#;
    assert_eq!(said(&world, &gate, script), json!([502, 502, 501, 502]));
    for path in ["/forged", "/other", "/body"] {
        assert!(server.events("open", path).is_empty(), "{path}");
    }
}
