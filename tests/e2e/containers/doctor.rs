//! `sluicegate doctor docker:NAME` and `podman:NAME`.

use e2e::World;
use serde_json::Value;

use crate::support::{Docker, IMAGE, Yard, shown};

/// The container that an engine starts with these options, as the doctor sees it: its exit code and its report.
fn examined(yard: &Yard<'_>, engine: &str, name: &str, options: &[&str]) -> (i32, Value) {
    let line = [engine, "run", "-d", "--name", name, "--network", "none"];
    yard.job([&line, options, &[IMAGE, "sleep", "3600"]].concat()).run().assert_success();
    looked_at(yard, &format!("{engine}:{name}"))
}

fn looked_at(yard: &Yard<'_>, target: &str) -> (i32, Value) {
    let outcome = yard.job(["sluicegate", "doctor", target, "--json"]).run();
    (outcome.code(), outcome.json())
}

#[track_caller]
fn assert_states(report: &Value, states: &[(&str, &str)]) {
    let checks = report["checks"].as_array().unwrap();
    for (id, state) in states {
        let check = checks.iter().find(|check| check["id"] == *id).unwrap();
        assert_eq!(check["state"], *state, "{check:#}");
    }
}

#[test]
fn doctor_tells_a_tight_container_from_an_open_one() {
    let world = World::new("docker-doctor");
    let yard = Yard::new(&world);
    let _docker = Docker::start(&yard);
    let own = ["process", "network", "interfaces", "pid_namespace", "mount_namespace", "ipc_namespace"];
    let closed = ["uts_namespace", "sockets", "devices", "kernel_settings", "host_files", "privileged"];
    let usual: Vec<_> = own.into_iter().chain(closed).map(|id| (id, "ok")).collect();

    let (code, report) = examined(&yard, "docker", "usual", &[]);
    assert_eq!((code, &report["ok"]), (0, &Value::Bool(true)), "{report:#}");
    assert_states(&report, &usual);
    assert_states(&report, &[("capabilities", "warning"), ("no_new_privileges", "warning")]);
    // A link of the container's leads to a file of its own, not to the engine's socket outside.
    let socket = shown(&world.path("docker.sock"));
    let link = [
        "docker",
        "exec",
        "usual",
        "busybox",
        "sh",
        "-c",
        "mkdir -p /run; busybox ln -s $0 /run/docker.sock",
    ];
    yard.job([&link[..], &[&socket]].concat()).run().assert_success();
    assert_states(&looked_at(&yard, "docker:usual").1, &[("sockets", "ok")]);

    let tight = ["--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--user", "61010:61010"];
    let (code, report) = examined(&yard, "docker", "tight", &tight);
    assert_eq!(code, 0, "{report:#}");
    assert_states(&report, &usual);
    assert_states(&report, &[("capabilities", "ok"), ("no_new_privileges", "ok"), ("user_namespace", "ok")]);

    let socket = format!("{socket}:/var/run/docker.sock");
    let open = ["--cap-add", "SYS_ADMIN", "--pid", "host", "-v", &socket, "-v", "/:/host:ro"];
    let (code, report) = examined(&yard, "docker", "open", &open);
    assert_eq!((code, &report["ok"]), (1, &Value::Bool(false)), "{report:#}");
    let problems = ["capabilities", "pid_namespace", "sockets", "host_files"].map(|id| (id, "problem"));
    assert_states(&report, &problems);
    assert_states(&report, &[("interfaces", "ok"), ("mount_namespace", "ok")]);

    let outcome = yard.job(["sluicegate", "doctor", "docker:no-such-container"]).run();
    assert_eq!(outcome.code(), 69, "{outcome:?}");
}

#[test]
fn doctor_finds_nothing_in_a_container_of_podmans() {
    let world = World::new("podman-doctor");
    let yard = Yard::new(&world);
    yard.install_podman("runc");
    let (code, report) = examined(&yard, "podman", "usual", &["--security-opt", "no-new-privileges"]);
    assert_eq!((code, &report["ok"]), (0, &Value::Bool(true)), "{report:#}");
    let own = ["process", "network", "interfaces", "pid_namespace", "mount_namespace", "ipc_namespace"];
    let closed = ["uts_namespace", "sockets", "devices", "kernel_settings", "host_files", "privileged"];
    let closed = closed.into_iter().chain(["no_new_privileges"]);
    let expected: Vec<_> = own.into_iter().chain(closed).map(|id| (id, "ok")).collect();
    assert_states(&report, &expected);
}
