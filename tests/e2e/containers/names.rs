//! `sluicegate attach docker:NAME` and `podman:NAME`.

use std::time::Duration;

use e2e::{Running, World, wait_until};
use nix::sys::signal::Signal;

use crate::support::{
    Docker, IMAGE, Yard, assert_complains, assert_judged, shown, two_answers, two_requests,
};

/// A gate for a container that runs, once it serves.
fn attached<'world>(yard: &Yard<'world>, target: &str, options: &[&str]) -> Running<'world> {
    let (policy, ca) = (yard.policy(), shown(&yard.world.path("trust/ca.pem")));
    let line = ["sluicegate", "attach", target, "--policy", &policy, "--ca-file", &ca, "--json"];
    let mut gate = yard.job([&line, options].concat()).spawn();
    gate.wait_for_output("\"ready\"");
    gate
}

/// A container of this engine that waits, with the trust folder of the yard.
fn waiting(yard: &Yard<'_>, engine: &str, name: &str) -> String {
    let trust = format!("{}:/trust:ro", shown(&yard.world.path("trust")));
    let line = [
        engine,
        "run",
        "-d",
        "--name",
        name,
        "--network",
        "none",
        "-v",
        &trust,
        "-e",
        "SSL_CERT_FILE=/trust/ca.pem",
        IMAGE,
        "sleep",
        "3600",
    ];
    let started = yard.job(line).run();
    started.assert_success().stdout.trim().to_owned()
}

/// What handlers are told, `ctx.containerId`.
fn container_id(yard: &Yard<'_>, instance: &str) -> String {
    let status = yard.job(["sluicegate", "status", "get", "--json", "--instance", instance]).run();
    status.assert_success().json()["container_id"].as_str().unwrap().to_owned()
}

#[test]
fn the_commands_of_the_guide_seal_a_docker_container_by_name() {
    let world = World::new("docker-guide");
    let yard = Yard::new(&world);
    let _docker = Docker::start(&yard);
    let outcome = yard.shell(&yard.documented("Docker")).run();
    outcome.assert_success();
    assert!(outcome.stdout.contains("hello from the origin"), "{outcome:?}");
    let id = yard.job(["docker", "inspect", "-f", "{{.Id}}", "jail"]).run().stdout;
    yard.job(["docker", "exec", "jail", "sh", "-c", &two_requests()]).run().assert_stdout(&two_answers());
    assert_eq!(container_id(&yard, "jail"), id.get(..12).unwrap());
    // The gate ends with its container, in order.
    yard.job(["docker", "rm", "-f", "jail"]).run().assert_success();
    yard.wait_for_the_end("jail");
}

#[test]
fn the_commands_of_the_guide_judge_a_docker_container_from_its_first_packet() {
    let world = World::new("docker-first");
    let yard = Yard::new(&world);
    let _docker = Docker::start(&yard);
    let outcome = yard.shell(&yard.documented("Docker, from the first instruction")).run();
    outcome.assert_success();
    assert!(outcome.stdout.contains("hello from the origin"), "{outcome:?}");
    assert_eq!(yard.site.requests().len(), 1);
}

#[test]
fn a_docker_container_is_sealed_by_name_until_its_gate_is_killed() {
    let world = World::new("docker-killed");
    let yard = Yard::new(&world);
    let _docker = Docker::start(&yard);
    let id = waiting(&yard, "docker", "jail");
    let gate = attached(&yard, "docker:jail", &[]);
    let line = yard.job(["docker", "exec", "jail", "sh", "-c", &two_requests()]).run();
    line.assert_stdout(&two_answers());
    assert_judged(&yard, &yard.log_with("jail", 2, |line| line["kind"] == "exchange"));
    gate.signal(Signal::SIGKILL);
    assert!(!gate.wait().status.success());
    let before = world.arrivals();
    let after =
        yard.job(["docker", "exec", "jail", "curl", "-sS", "-m", "5", "https://api.example.com/"]).run();
    assert!(!after.status.success(), "{after:?}");
    assert_eq!(world.arrivals(), before, "nothing leaves without a gate");
    // By id, with the name and the container id given.
    let options = ["--name", "other", "--container-id", "c1"];
    let gate = attached(&yard, &format!("docker:{}", id.get(..20).unwrap()), &options);
    yard.job(["docker", "exec", "jail", "sh", "-c", &two_requests()]).run().assert_stdout(&two_answers());
    assert_eq!(container_id(&yard, "other"), "c1");
    yard.job(["docker", "stop", "-t", "0", "jail"]).run().assert_success();
    gate.wait().assert_success();
    yard.wait_for_the_end("other");
}

#[test]
fn a_container_is_followed_through_its_restarts_until_it_is_removed() {
    let world = World::new("docker-follow");
    let yard = Yard::new(&world);
    let _docker = Docker::start(&yard);
    waiting(&yard, "docker", "jail");
    let gate = attached(&yard, "docker:jail", &["--follow"]);
    let asks = |requests: usize| {
        let ready = || gate.stdout().matches("\"ready\"").count() == requests;
        wait_until("a gate for this run", Duration::from_secs(30), ready);
        let outcome = yard.job(["docker", "exec", "jail", "sh", "-c", &two_requests()]).run();
        outcome.assert_stdout(&two_answers());
        assert_eq!(yard.site.requests().len(), requests);
    };
    asks(1);
    yard.job(["docker", "restart", "-t", "0", "jail"]).run().assert_success();
    asks(2);
    yard.job(["docker", "stop", "-t", "0", "jail"]).run().assert_success();
    yard.job(["docker", "start", "jail"]).run().assert_success();
    asks(3);
    yard.job(["docker", "rm", "-f", "jail"]).run().assert_success();
    gate.wait().assert_success();
    // Told to end, it ends its gate, in order.
    waiting(&yard, "docker", "jail");
    let gate = attached(&yard, "docker:jail", &["--follow"]);
    gate.signal(Signal::SIGTERM);
    gate.wait().assert_success();
    yard.wait_for_the_end("jail");
    let other = yard.job(["sluicegate", "attach", "pid:1", "--follow"]).run();
    assert_complains(&other, 64, &["--follow is for docker:NAME and podman:NAME"]);
}

#[test]
fn what_cannot_be_attached_to_by_name_is_told_with_the_remedy() {
    let world = World::new("docker-errors");
    let yard = Yard::new(&world);
    let attach = |target: &str| yard.job(["sluicegate", "attach", target]);
    let program = world.program("sluicegate");
    let missing = yard.shell(&format!("PATH=/nowhere; exec {program} attach docker:jail")).run();
    assert_complains(&missing, 69, &["cannot ask docker for a container", "hint: ", "pid:N"]);
    let no_daemon = attach("docker:jail").run();
    assert_complains(&no_daemon, 69, &["docker does not find the container \"jail\"", "daemon", "hint: "]);
    for target in ["docker:-v", "docker:", "podman:a/b"] {
        assert_complains(&attach(target).run(), 64, &["is not a container"]);
    }
    let _docker = Docker::start(&yard);
    let unknown = attach("docker:nobody").run();
    assert_complains(&unknown, 69, &["does not find the container \"nobody\"", "o such container"]);
    yard.job(["docker", "create", "--name", "idle", "--network", "none", IMAGE, "sleep", "1"])
        .run()
        .assert_success();
    assert_complains(
        &attach("docker:idle").run(),
        69,
        &["does not run here", "start it first, with --network none"],
    );
    waiting(&yard, "docker", "open");
    let pid = yard.job(["docker", "inspect", "-f", "{{.State.Pid}}", "open"]).run().stdout;
    let inside = ["nsenter", "-n", "-t", pid.trim(), "ip", "link", "add", "out0", "type", "veth"];
    yard.job(inside).run().assert_success();
    assert_complains(
        &attach("docker:open").run(),
        64,
        &["out0", "hint: start the container with --network none"],
    );
    yard.job(["docker", "run", "-d", "--name", "host", "--network", "host", IMAGE, "sleep", "3600"])
        .run()
        .assert_success();
    assert_complains(&attach("docker:host").run(), 64, &["our own network namespace"]);
    yard.site.assert_untouched();
}

#[test]
fn the_commands_of_the_guide_seal_a_podman_container_by_name() {
    let world = World::new("podman-guide");
    let yard = Yard::new(&world);
    yard.install_podman("crun");
    let outcome = yard.shell(&yard.documented("Podman")).run();
    outcome.assert_success();
    assert!(outcome.stdout.contains("hello from the origin"), "{outcome:?}");
    yard.job(["podman", "exec", "jail", "sh", "-c", &two_requests()]).run().assert_stdout(&two_answers());
    yard.job(["podman", "rm", "-f", "-t", "0", "jail"]).run().assert_success();
    yard.wait_for_the_end("jail");
    let unknown = yard.job(["sluicegate", "attach", "podman:jail"]).run();
    assert_complains(&unknown, 69, &["podman does not find the container \"jail\""]);
}

#[test]
fn a_rootless_podman_container_is_sealed_by_its_user() {
    let world = World::new("rootless");
    let yard = Yard::new(&world);
    let policy = yard.policy();
    let requests = two_requests();
    let script = format!(
        "mkdir trust
        podman run -d --name jail --network none -v $PWD/trust:/trust:ro -e SSL_CERT_FILE=/trust/ca.pem \
            {IMAGE} sleep 3600
        sluicegate attach podman:jail --policy {policy} --ca-file trust/ca.pem > gate.out 2>&1 &
        until sluicegate status get --instance jail > status.out 2>&1; do sleep 0.1; done
        podman exec jail sh -c \"{requests}\"
        podman rm -f -t 0 jail
        wait $!
        echo the gate ended with $?"
    );
    let outcome = yard.rootless_podman(&script);
    assert!(outcome.stdout.contains(&two_answers()), "{outcome:?}");
    assert!(outcome.stdout.ends_with("the gate ended with 0\n"), "{outcome:?}");
    assert_eq!(yard.site.requests().len(), 1);
}
