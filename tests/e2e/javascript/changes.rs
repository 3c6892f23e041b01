//! A file that is written, uploaded or broken while the workload runs.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use e2e::{Attached, Site, World, sha256_hex, wait_until};
use serde_json::{Value, json};

use crate::support::{assert_line, attach, catch_all, handler, operator, script};

const DEADLINE: Duration = Duration::from_secs(30);

/// A connection of the workload's that stays open.
struct Connection(TcpStream);

impl Connection {
    fn open(gate: &Attached<'_>) -> Self {
        let address = SocketAddr::from(([198, 51, 100, 9], 80));
        let stream = gate.namespace().enter(|| TcpStream::connect_timeout(&address, DEADLINE)).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        Self(stream)
    }

    /// Asks for `/answer` of `h.test`; the body.
    #[track_caller]
    fn ask(&mut self) -> String {
        self.0.write_all(b"GET /answer HTTP/1.1\r\nHost: h.test\r\n\r\n").unwrap();
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            self.0.read_exact(&mut byte).expect("the connection is open");
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).unwrap().to_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
        let mut body = vec![0; length.parse().unwrap()];
        self.0.read_exact(&mut body).unwrap();
        String::from_utf8(body).unwrap()
    }

    #[track_caller]
    fn wait_for(&mut self, body: &str) {
        wait_until(body, DEADLINE, || self.ask() == body);
    }
}

/// curl to the control socket, as root beside the gate: the body, and the status.
#[track_caller]
fn upload(world: &World, gate: &Attached<'_>, body: &Value) -> (Value, u16) {
    send(world, gate, "policy", body.to_string().as_bytes())
}

/// Puts bytes over the control socket; the answer, and its status.
fn send(world: &World, gate: &Attached<'_>, route: &str, bytes: &[u8]) -> (Value, u16) {
    let data = format!("@{}", world.file("upload", bytes).display());
    let socket = gate.control_socket().display().to_string();
    let url = format!("http://gate/v1/{route}");
    let line = [
        "curl",
        "-sS",
        "--max-time",
        "50",
        "-w",
        "\n%{http_code}",
        "--unix-socket",
        &socket,
        "-X",
        "PUT",
        "-H",
        "expect:",
        "--data-binary",
        &data,
        &url,
    ];
    let outcome = world.root_job(world.gate_namespace(), line).run();
    outcome.assert_success();
    let (body, status) = outcome.stdout.rsplit_once('\n').unwrap();
    let body = if body.is_empty() { Value::Null } else { serde_json::from_str(body).unwrap() };
    (body, status.parse().unwrap())
}

#[test]
fn h01_a_file_that_is_written_serves_the_next_request_of_an_open_connection() {
    let world = World::new("watch");
    let site = Site::start(&world);
    handler(&world, "file", "    return new Response(\"one\");");
    let mut gate = attach(&world, &catch_all(&world, &site, "file", &["h.test"]));
    let mut connection = Connection::open(&gate);
    assert_eq!(connection.ask(), "one");
    handler(&world, "file", "    return new Response(\"two\");");
    connection.wait_for("two");
    // One that is broken changes nothing, and is told of with its place.
    handler(&world, "file", "    return new Response(\"three\";");
    let line = gate.wait_for_log(|line| line["action"] == "policy_refused");
    assert!(line["detail"].as_str().unwrap().contains("handlers/file.js:3:"), "{line}");
    assert_eq!(connection.ask(), "two");
    handler(&world, "file", "    return new Response(\"four\");");
    connection.wait_for("four");
}

#[test]
fn h07_a_syntax_error_is_shown_with_its_place_and_the_old_policy_stays() {
    let world = World::new("syntax");
    let site = Site::start(&world);
    handler(&world, "good", "    return new Response(\"good\");");
    let gate = attach(&world, &catch_all(&world, &site, "good", &["h.test"]));
    let mut connection = Connection::open(&gate);
    assert_eq!(connection.ask(), "good");
    for (name, text, at) in [
        (
            "parenthesis",
            "export default {\n  async outbound(request) {\n    return fetch(request;\n  },\n};\n",
            "3:",
        ),
        ("word", "export default {\n  asinc outbound(request) {},\n};\n", "2:"),
        ("end", "export default {\n  async outbound(request) {\n", ""),
        ("text", "export default { outbound: () => new Response(\"\n\") };\n", "1:"),
    ] {
        script(&world, name, text);
        let policy =
            world.file(&format!("{name}.toml"), catch_all(&world, &site, name, &[])).display().to_string();
        let refused = gate.operator(["policy", "set", &policy]).run();
        assert_eq!(refused.code(), 78, "{refused:?}");
        assert!(refused.stderr.contains(&format!("{name}.js:{at}")), "{refused:?}");
        // The same by the control socket, from somebody who did not look at it before.
        let body = json!({
            "file": policy,
            "document": std::fs::read_to_string(&policy).unwrap(),
            "scripts": {format!("handlers/{name}.js"): text},
        });
        let (problem, status) = upload(&world, &gate, &body);
        assert!((400..500).contains(&status), "{status} {problem}");
        assert!(problem.to_string().contains(&format!("{name}.js")), "{problem:#}");
        assert_eq!(connection.ask(), "good");
    }
}

#[test]
fn h04_files_and_components_are_uploaded_over_the_control_socket() {
    let world = World::new("upload");
    let site = Site::start(&world);
    let gate = attach(&world, "version = 1\n");
    let mut connection = Connection::open(&gate);
    assert!(connection.ask().contains("not_named"));

    let document = catch_all(&world, &site, "uploaded", &[]);
    let script = "export default { outbound: () => new Response(\"uploaded\") };";
    let body = json!({
        "file": "/nowhere/policy.toml", "document": document, "scripts": {"handlers/uploaded.js": script},
    });
    let (published, status) = upload(&world, &gate, &body);
    assert_eq!(status, 200, "{published:#}");
    assert_eq!(connection.ask(), "uploaded");

    let component = conformance_component();
    let document = document.replace("uploaded.js", "uploaded.wasm");
    let body = |component: &[u8]| {
        json!({
            "file": "/nowhere/policy.toml", "document": document,
            "components": {"handlers/uploaded.wasm": sha256_hex(component)},
        })
    };
    let half = &component[..component.len() / 2];
    let (refused, status) = upload(&world, &gate, &body(half));
    assert_eq!((status, &refused["missing"][0]), (409, &body(half)["components"]["handlers/uploaded.wasm"]));
    let (refused, status) = send(&world, &gate, &format!("components/{}", sha256_hex(half)), &component);
    assert!(status == 400 && refused.to_string().contains(&sha256_hex(&component)), "{status} {refused:#}");
    for component in [half, &component] {
        let (answer, status) =
            send(&world, &gate, &format!("components/{}", sha256_hex(component)), component);
        assert_eq!(status, 204, "{answer}");
    }
    let (refused, status) = upload(&world, &gate, &body(half));
    assert!(status == 422 && refused.to_string().contains("uploaded.wasm"), "{status} {refused:#}");
    assert_eq!(connection.ask(), "uploaded");
    let (published, status) = upload(&world, &gate, &body(&component));
    assert_eq!(status, 200, "{published:#}");
    assert_eq!(connection.ask(), "answered\n");
}

#[test]
fn p29_an_uploaded_component_serves_after_a_restart() {
    let world = World::new("restart-component");
    let site = Site::start(&world);
    handler(&world, "old", "    return new Response(\"old\");");
    let old = catch_all(&world, &site, "old", &["h.test"]);
    let gate = attach(&world, &old);
    let component = world.file("handlers/new.wasm", conformance_component());
    let new = catch_all(&world, &site, "new", &["h.test"]).replace("new.js", "new.wasm");
    let new = world.file("new.toml", new).display().to_string();
    operator(&gate, &["policy", "set", &new]);
    assert_eq!(Connection::open(&gate).ask(), "answered\n");
    // A policy without it, and back again while its file is away: the gate has it.
    let other = world.file("old.toml", old.clone()).display().to_string();
    operator(&gate, &["policy", "set", &other]);
    assert_eq!(Connection::open(&gate).ask(), "old");
    operator(&gate, &["policy", "set", &new]);
    let (ended, namespace) = gate.end(nix::sys::signal::Signal::SIGKILL);
    assert!(!ended.status.success());
    std::fs::remove_file(component).unwrap();
    let gate = world.gate(&old).named(crate::support::NAME).attach_to(namespace);
    assert_eq!(Connection::open(&gate).ask(), "answered\n");
    operator(&gate, &["policy", "reset"]);
    assert_eq!(Connection::open(&gate).ask(), "old");
}

/// A handler that answers "answered".
fn conformance_component() -> Vec<u8> {
    let built =
        Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("target/guests/conformance-rust.wasm");
    std::fs::read(&built)
        .unwrap_or_else(|error| panic!("{}: {error}: build it with scripts/rust-guests", built.display()))
}

#[test]
fn p29_an_uploaded_file_serves_after_a_restart() {
    let world = World::new("restart");
    let site = Site::start(&world);
    handler(&world, "old", "    return new Response(\"old\");");
    handler(&world, "new", "    return new Response(\"new\");");
    let old = catch_all(&world, &site, "old", &["h.test"]);
    let gate = attach(&world, &old);
    let file = world.file("new.toml", catch_all(&world, &site, "new", &["h.test"])).display().to_string();
    operator(&gate, &["policy", "set", &file]);
    assert_eq!(Connection::open(&gate).ask(), "new");
    let status = operator(&gate, &["status", "get", "--json"]).json();
    assert_line(&status["policy"], &json!({"source": "upload"}));
    let (ended, namespace) = gate.end(nix::sys::signal::Signal::SIGTERM);
    ended.assert_success();
    // An upload is what it was, whatever becomes of the files.
    handler(&world, "new", "    return new Response(\"changed\");");
    let gate = world.gate(&old).named(crate::support::NAME).attach_to(namespace);
    assert_eq!(Connection::open(&gate).ask(), "new");
}
