//! The control socket: who can reach it, and what it says of itself.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use e2e::{Running, Site, WORKLOAD_USER, World};
use nix::sys::signal::Signal;
use serde_json::json;

use crate::support::{PYTHON, asked, assert_line, control, operator};

#[test]
fn the_socket_is_the_owners_alone() {
    let world = World::new("mode");
    let gate = world.gate("version = 1\n").named("box").attach();
    let socket = gate.control_socket();
    let metadata = fs::metadata(&socket).unwrap();
    assert_eq!((metadata.permissions().mode() & 0o7777, metadata.uid()), (0o600, 0));
    let folder = fs::metadata(socket.parent().unwrap()).unwrap();
    assert_eq!((folder.permissions().mode() & 0o077, folder.uid()), (0, 0));
    let (status, code) = control(&world, &gate, &["http://gate/v1/status"]);
    assert_eq!(code, 200, "{status}");

    // Even where somebody opens the way to it, another user is sent away.
    fs::set_permissions(&socket, fs::Permissions::from_mode(0o666)).unwrap();
    for parent in [socket.parent().unwrap(), socket.parent().unwrap().parent().unwrap()] {
        fs::set_permissions(parent, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let path = socket.display().to_string();
    let line = ["curl", "-sS", "-w", "\n%{http_code}", "--unix-socket", &path, "http://gate/v1/status"];
    let other = world.job(world.gate_namespace(), line).run();
    assert!(other.stdout.ends_with("\n403") && !other.stdout.contains("generation"), "{other:?}");
    let (_, code) = control(&world, &gate, &["http://gate/v1/status"]);
    assert_eq!(code, 200);

    let (outcome, _namespace) = gate.end(Signal::SIGTERM);
    outcome.assert_success();
    assert!(!socket.exists(), "the socket was left behind");
}

/// Tries to speak with a control socket, and tells what came of it.
const KNOCK: &str = r#"
import socket, sys
try:
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(10)
    connection.connect(sys.argv[1])
    connection.sendall(b"GET /v1/status HTTP/1.1\r\nHost: gate\r\nConnection: close\r\n\r\n")
    answer = b""
    while True:
        piece = connection.recv(65536)
        if not piece: break
        answer += piece
    print("answered", answer.split(b"\r\n")[0].decode(), b"generation" in answer)
except OSError as error:
    print("failed", error.errno)
"#;

#[test]
fn e15_another_network_namespace_is_refused_though_the_user_is_the_same() {
    let world = World::new("e15-namespace");
    let gate = world.gate("version = 1\n").named("box").attach();
    let socket = gate.control_socket().display().to_string();
    for namespace in [gate.namespace(), world.origin_namespace()] {
        let outcome = world.root_job(namespace, [PYTHON, "-c", KNOCK, &socket]).run();
        outcome.assert_success().assert_stdout("answered HTTP/1.1 403 Forbidden False\n");
    }
    let outcome = world.root_job(world.gate_namespace(), [PYTHON, "-c", KNOCK, &socket]).run();
    outcome.assert_success().assert_stdout("answered HTTP/1.1 200 OK True\n");
}

#[test]
fn e15_the_sealed_command_sees_no_socket() {
    let world = World::new("e15-run");
    let site = Site::start(&world);
    let socket = world.path("operator/sluicegate/box.sock").display().to_string();
    let folder = world.path("operator/sluicegate").display().to_string();
    let script = format!(
        "{PYTHON} -c \"$0\" \"$1\"; ls -A \"$2\"; echo unmounted\n\
         unshare -Urm sh -c 'umount \"$0\" \"$0\"/*; ls -A \"$0\"' \"$2\" 2>/dev/null; echo done; read -r _"
    );
    let policy = site.policy(&world, "", &[]);
    let mut gate: Running<'_> =
        world.gate(&policy).named("box").job(["sh", "-c", &script, KNOCK, &socket, &folder]).spawn();
    gate.wait_for_output("done\n");
    let seen = gate.stdout();
    assert!(seen.starts_with("failed "), "{seen}");
    assert!(!seen.contains(".sock"), "{seen}");
    // It is there all the while, for whoever started the gate.
    assert!(fs::metadata(&socket).is_ok_and(|metadata| metadata.uid() == WORKLOAD_USER));
    let status = world.operator(["status", "get", "--json"]).run();
    status.assert_success();
    assert_line(&status.json(), &json!({"instance": "box", "container_id": "box"}));
    gate.write("\n");
    gate.wait().assert_success();
}

#[test]
fn e15_a_sealed_command_cannot_use_the_socket_of_another_gate_of_its_user() {
    let world = World::new("e15-other");
    let job = ["sh", "-c", "echo ready; read -r _"];
    // Its runtime folder is not the one that the second gate knows of and hides.
    let elsewhere = world.path("log").display().to_string();
    let mut first =
        world.gate("version = 1\n").named("one").env("XDG_RUNTIME_DIR", &elsewhere).job(job).spawn();
    first.wait_for_output("ready\n");
    let socket = world.path("log/sluicegate/one.sock");
    assert!(socket.exists());
    let knock = [PYTHON, "-c", KNOCK, socket.to_str().unwrap()];
    let sealed = world.gate("version = 1\n").named("two").run(knock);
    sealed.assert_success();
    assert!(!sealed.stdout.contains("200") && !sealed.stdout.contains("True"), "{sealed:?}");
    let outside = world.job(world.gate_namespace(), knock).run();
    outside.assert_success().assert_stdout("answered HTTP/1.1 200 OK True\n");
    first.write("\n");
    first.wait().assert_success();
}

#[test]
fn a_gate_without_control_has_no_socket() {
    let world = World::new("no-control");
    let gate = world.gate("version = 1\n").named("box").flag("--no-control").attach();
    assert!(!gate.control_socket().exists());
    let outcome = gate.operator(["status", "get"]).run();
    assert_eq!(outcome.code(), 69, "{outcome:?}");
}

#[test]
fn one_name_is_one_instance() {
    let world = World::new("names");
    let gate = world.gate("version = 1\n").named("box").attach();
    let outcome = world
        .root_job(
            world.gate_namespace(),
            [
                world.program("sluicegate"),
                "run".to_owned(),
                "--name".to_owned(),
                "box".to_owned(),
                "--log".to_owned(),
                world.path("log/second.jsonl").display().to_string(),
                "--".to_owned(),
                "true".to_owned(),
            ],
        )
        .env("XDG_RUNTIME_DIR", world.path("root"))
        .run();
    assert_eq!(outcome.code(), 75, "{outcome:?}");
    assert!(outcome.stderr.contains("--name"), "{outcome:?}");
    assert_line(&asked(&gate, &["status", "get"]), &json!({"instance": "box"}));
    let pid = asked(&gate, &["status", "get"])["pid"].as_i64().unwrap();

    // Killed, it leaves a socket behind, which is in nobody's way.
    let socket = gate.control_socket();
    let (_, namespace) = gate.end(Signal::SIGKILL);
    assert!(socket.exists());
    let gate = world.gate("version = 1\n").named("box").attach_to(namespace);
    assert_ne!(asked(&gate, &["status", "get"])["pid"].as_i64().unwrap(), pid);
}

#[test]
fn the_socket_describes_itself() {
    let world = World::new("openapi");
    let gate = world.gate("version = 1\n").named("box").attach();
    let (description, code) = control(&world, &gate, &["http://gate/v1/openapi.json"]);
    assert_eq!(code, 200);
    assert!(description["openapi"].as_str().unwrap().starts_with("3."), "{description:#}");
    let paths = description["paths"].as_object().unwrap();
    for path in [
        "/v1/status",
        "/v1/policy",
        "/v1/policy/test",
        "/v1/outbound",
        "/v1/outbound-by-host/{pattern}",
        "/v1/allowed-hosts/{pattern}",
        "/v1/denied-hosts",
        "/v1/approvals/{id}",
        "/v1/events",
        "/v1/ca",
        "/v1/bindings/{name}/{key}",
    ] {
        assert!(paths.contains_key(path), "no {path} in {:?}", paths.keys());
    }
    // What is described is there: every plain GET without a parameter answers.
    for (path, item) in paths {
        if item.get("get").is_none() || path.contains('{') || path == "/v1/events" {
            continue;
        }
        let (body, code) = control(&world, &gate, &[&format!("http://gate{path}")]);
        assert_eq!(code, 200, "{path}: {body}");
    }
}

#[test]
fn what_is_not_asked_properly_is_explained() {
    let world = World::new("problems");
    let gate = world.gate("version = 1\n").named("box").attach();
    let json = ["-H", "content-type: application/json"];
    for (arguments, status) in [
        (&["http://gate/v1/unheard-of"][..], 404),
        (&["http://gate/"], 404),
        (&["-X", "POST", "http://gate/v1/status"], 405),
        (&["-X", "PUT", "-d", "{", "http://gate/v1/policy"], 400),
        (
            &[
                "-X",
                "PUT",
                "-d",
                "{\"file\":\"relative.toml\",\"document\":\"version = 1\"}",
                "http://gate/v1/policy",
            ],
            400,
        ),
        (
            &[
                "-X",
                "PUT",
                "-d",
                "{\"file\":\"/x.toml\",\"document\":\"version = 2\"}",
                "http://gate/v1/policy",
            ],
            422,
        ),
        (&["-X", "POST", "-d", "{\"url\":\"x\"}", "http://gate/v1/policy/test"], 400),
        (&["-H", "Origin: https://evil.test", "http://gate/v1/status"], 403),
        (&["http://gate/v1/bindings/kv/absent"], 404),
        (&["http://gate/v1/bindings/unheard-of/x"], 404),
    ] {
        let (problem, code) = control(&world, &gate, &[&json[..], arguments].concat());
        assert_eq!(code, status, "{arguments:?}: {problem}");
        assert_eq!(problem["status"], status, "{arguments:?}: {problem}");
        assert!(problem["type"].as_str().is_some_and(|kind| kind.starts_with("sluicegate:")), "{problem}");
        assert!(problem["detail"].is_string(), "{problem}");
    }
    let large = world.file("large", vec![b' '; (16 << 20) + 1]).display().to_string();
    let (problem, code) = control(
        &world,
        &gate,
        &["-X", "PUT", "--data-binary", &format!("@{large}"), "http://gate/v1/policy"],
    );
    assert_eq!(code, 413, "{problem}");
    operator(&gate, &["status", "get"]);
}
