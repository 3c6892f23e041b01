//! Documents and scripts that are changed as files, while `attach` serves.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;

use e2e::{Attached, Site, World, wait_until};
use serde_json::json;

use crate::support::{DEADLINE, actions, asked, assert_line, handler};

/// A connection of the workload's that stays open.
struct Connection(TcpStream);

impl Connection {
    fn open(gate: &Attached<'_>) -> Self {
        let address = SocketAddr::from(([198, 51, 100, 9], 80));
        let stream = gate.namespace().enter(|| TcpStream::connect_timeout(&address, DEADLINE)).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        Self(stream)
    }

    /// Asks for `/` of `h.test`; returns the status line's code and the body.
    fn ask(&mut self) -> (String, String) {
        self.0.write_all(b"GET / HTTP/1.1\r\nHost: h.test\r\n\r\n").unwrap();
        let mut answer = Vec::new();
        let mut byte = [0];
        while !answer.ends_with(b"\r\n\r\n") {
            self.0.read_exact(&mut byte).unwrap();
            answer.push(byte[0]);
        }
        let head = String::from_utf8(answer).unwrap().to_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
        let mut body = vec![0; length.parse().unwrap()];
        self.0.read_exact(&mut body).unwrap();
        (head.split(' ').nth(1).unwrap().to_owned(), String::from_utf8(body).unwrap())
    }

    #[track_caller]
    fn wait_for(&mut self, body: &str) {
        wait_until(body, DEADLINE, || self.ask() == ("200".to_owned(), body.to_owned()));
    }
}

#[test]
fn h01_a_script_that_is_written_serves_the_next_request_of_an_open_connection() {
    let world = World::new("watch");
    let site = Site::start(&world);
    handler(&world, "file", "reply(200, \"one\")");
    let policy = site.policy(&world, "outbound = \"handlers/file.rhai\"", &["h.test"]);
    let gate = world.gate(&policy).named("box");
    let document = gate.policy_file().unwrap().to_owned();
    let mut gate = gate.attach();
    assert_line(&asked(&gate, &["status", "get"]), &json!({"watching": true}));
    let mut connection = Connection::open(&gate);
    assert_eq!(connection.ask().1, "one");
    handler(&world, "file", "reply(200, \"two\")");
    connection.wait_for("two");

    // One that is broken changes nothing, and is told of with its place.
    handler(&world, "file", "reply(200, \"three\"");
    let line = gate.wait_for_log(|line| {
        // It may have been seen half written before.
        let detail = line["detail"].as_str().unwrap_or_default();
        line["action"] == "policy_refused" && detail.contains("handlers/file.rhai:3:")
    });
    assert_line(&line, &json!({"kind": "control", "actor": "file watch"}));
    assert_eq!(connection.ask(), ("200".to_owned(), "two".to_owned()));
    fs::remove_file(world.path("handlers/file.rhai")).unwrap();
    gate.wait_for_log(|line| {
        line["action"] == "policy_refused" && !line["detail"].as_str().unwrap().contains("file.rhai:3:")
    });
    assert_eq!(connection.ask(), ("200".to_owned(), "two".to_owned()));

    // Put right, it counts; replaced by a rename, it counts as well.
    let new = world.file("handlers/new", "fn outbound(request, env, ctx) { reply(200, \"four\") }");
    fs::rename(new, world.path("handlers/file.rhai")).unwrap();
    connection.wait_for("four");

    // So does the document.
    fs::write(&document, "version = 1\nalowed_hosts = []\n").unwrap();
    gate.wait_for_log(|line| {
        line["action"] == "policy_refused" && line["detail"].as_str().unwrap().contains(".toml:2:1")
    });
    assert_eq!(connection.ask().1, "four");
    fs::write(&document, site.policy(&world, "allowed_hosts = [\"h.test\"]", &["h.test"])).unwrap();
    connection.wait_for("origin: h.test");
    let log = gate.log();
    let published = actions(&log, "policy_published");
    assert_eq!(published.len(), 3, "{published:#?}");
    assert!(published.iter().all(|line| line["actor"] == "file watch"), "{published:#?}");
}

#[test]
fn a_new_script_that_is_mended_is_taken() {
    let world = World::new("mended");
    let site = Site::start(&world);
    handler(&world, "old", "reply(200, \"old\")");
    let policy = site.policy(&world, "outbound = \"handlers/old.rhai\"", &["h.test"]);
    let gate = world.gate(&policy).named("box");
    let document = gate.policy_file().unwrap().to_owned();
    let mut gate = gate.attach();
    let mut connection = Connection::open(&gate);
    assert_eq!(connection.ask().1, "old");
    handler(&world, "new", "reply(200, \"new\"");
    let changed = fs::read_to_string(&document).unwrap().replace("old.rhai", "new.rhai");
    fs::write(&document, changed).unwrap();
    gate.wait_for_log(|line| line["action"] == "policy_refused");
    assert_eq!(connection.ask().1, "old");
    handler(&world, "new", "reply(200, \"new\")");
    connection.wait_for("new");
}

#[test]
fn a_file_that_is_mended_does_not_replace_an_uploaded_policy() {
    let world = World::new("uploaded");
    let site = Site::start(&world);
    handler(&world, "old", "reply(200, \"old\")");
    handler(&world, "uploaded", "reply(200, \"uploaded\")");
    let policy =
        |name: &str| site.policy(&world, &format!("outbound = \"handlers/{name}.rhai\""), &["h.test"]);
    let gate = world.gate(&policy("old")).named("box");
    let document = gate.policy_file().unwrap().to_owned();
    let mut gate = gate.attach();
    let mut connection = Connection::open(&gate);
    handler(&world, "new", "reply(200, \"new\"");
    fs::write(&document, policy("new")).unwrap();
    gate.wait_for_log(|line| line["action"] == "policy_refused");
    let upload = world.file("upload.toml", policy("uploaded"));
    asked(&gate, &["policy", "set", upload.to_str().unwrap()]);
    connection.wait_for("uploaded");
    // Mended, and the document written again: more than the watch needs to see it, twice over.
    handler(&world, "new", "reply(200, \"new\")");
    fs::write(&document, policy("new")).unwrap();
    let until = std::time::Instant::now() + std::time::Duration::from_secs(3);
    while std::time::Instant::now() < until {
        assert_eq!(connection.ask().1, "uploaded");
    }
    asked(&gate, &["policy", "reset"]);
    connection.wait_for("new");
}

#[test]
fn under_run_a_document_that_the_command_could_write_is_not_followed() {
    let world = World::new("unwatched");
    let own = world.home_file("policy.toml", "version = 1\n");
    // Below the temporary folder of all users it could be renamed away.
    let apart = tempfile::Builder::new().prefix("sluicegate-e2e-").tempdir_in("/run").unwrap();
    fs::set_permissions(apart.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let others = apart.path().join("policy.toml");
    fs::write(&others, "version = 1\n").unwrap();
    for (document, watching) in [(own, false), (others, true)] {
        let gate = world.gate("").named("box").flag("--policy").flag(document.to_str().unwrap());
        let mut running = gate.job(["sh", "-c", "echo ready; read -r _"]).spawn();
        running.wait_for_output("ready\n");
        let status = world.operator(["status", "get", "--json"]).run();
        status.assert_success();
        assert_line(&status.json(), &json!({"watching": watching}));
        running.write("\n");
        running.wait().assert_success();
    }
}
