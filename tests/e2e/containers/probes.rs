//! The 43 ways out of `probes.py`, from containers with what an engine gives to root, under each way to attach.

use std::time::Duration;

use e2e::{Job, Namespace, Running, World, wait_until};
use serde_json::Value;

use crate::support::{Docker, Yard, shown};

const PROBES: &str = include_str!("probes.py");

/// Tried by every container.
const COUNT: usize = 43;

/// An image that has the machine's own programs, of which Python is one.
const IMAGE: &str = "probes";
const FILL: &str = "
    mkdir -p $1/usr $1/proc $1/sys $1/dev $1/tmp $1/etc
    for name in bin sbin lib lib64; do ln -s usr/$name $1/$name; done
    tar -C $1 -c . | $2 import - probes
";
const PROGRAMS: &str = "/usr:/usr:ro";

pub(crate) fn import(yard: &Yard<'_>, engine: &str) {
    let script = format!("set -eu; set -- {} {engine}; {FILL}", shown(&yard.world.path("root/probes")));
    yard.shell(&script).run().assert_success();
}

/// The probes as the standard input of this command: which came by outside, and what the container was told.
pub(crate) fn tried(yard: &Yard<'_>, probing: Job<'_>) -> (Vec<String>, Value) {
    let watcher = yard.world.file("watcher.py", include_str!("watcher.py"));
    let mut watcher = yard.job(["/usr/bin/python3", &shown(&watcher)]).spawn();
    watcher.wait_for_output("watching");
    let outcome = probing.stdin(PROBES).run();
    let found = outcome.assert_success().json();
    assert_eq!(found.as_object().unwrap().len(), COUNT, "{found:#}");
    watcher.close_stdin();
    let seen = watcher.wait();
    let last = seen.assert_success().stdout.lines().last().unwrap();
    (serde_json::from_str(last).unwrap(), found)
}

#[track_caller]
pub(crate) fn assert_sealed(yard: &Yard<'_>, way: &str, probing: Job<'_>) {
    let (out, found) = tried(yard, probing);
    eprintln!("{way}: {} of {COUNT} out", out.len());
    assert!(out.is_empty(), "{way}: {out:?} of {found:#}");
    assert!(yard.site.requests().is_empty());
}

/// A gate for this target, once it serves.
fn attached<'world>(yard: &Yard<'world>, target: &str) -> Running<'world> {
    let mut gate = yard.job(["sluicegate", "attach", target, "--policy", &yard.policy(), "--json"]).spawn();
    gate.wait_for_output("\"ready\"");
    gate
}

pub(crate) fn waits(yard: &Yard<'_>, engine: &str, name: &str, options: &[&str]) {
    let line = [engine, "run", "-d", "--name", name, "-v", PROGRAMS];
    yard.job([&line, options, &[IMAGE, "sleep", "3600"]].concat()).run().assert_success();
}

pub(crate) fn inside<'world>(yard: &Yard<'world>, engine: &str, name: &str) -> Job<'world> {
    yard.job([engine, "exec", "-i", name, "python3", "-"])
}

#[test]
fn probes_get_out_of_a_container_that_nothing_seals() {
    let world = World::new("probes-open");
    let yard = Yard::new(&world);
    let _docker = Docker::start_with_networks(&yard);
    import(&yard, "docker");
    let line = ["docker", "run", "-i", "--rm", "-v", PROGRAMS, IMAGE, "python3", "-"];
    let (out, found) = tried(&yard, yard.job(line));
    eprintln!("without a gate: {} of {COUNT} out: {out:?}", out.len());
    // Docker gives no IPv6, and there is no listener of a gate.
    assert!(out.len() >= 34, "{out:?} of {found:#}");
}

#[test]
fn no_probe_gets_out_of_a_docker_container() {
    let world = World::new("probes-docker");
    let yard = Yard::new(&world);
    let _docker = Docker::start_with_networks(&yard);
    import(&yard, "docker");

    waits(&yard, "docker", "jail", &["--network", "none"]);
    let gate = attached(&yard, "docker:jail");
    assert_sealed(&yard, "attach docker:NAME", inside(&yard, "docker", "jail"));
    let joined =
        ["docker", "run", "-i", "--rm", "--network", "container:jail", "-v", PROGRAMS, IMAGE, "python3", "-"];
    assert_sealed(&yard, "a container that joins", yard.job(joined));
    drop(gate);
    assert_sealed(&yard, "after the gate was killed", inside(&yard, "docker", "jail"));
    let gate = ["sluicegate", "run", "--quiet", "--policy", &yard.policy()];
    let engine = ["--docker", "-i", "--rm", "-v", PROGRAMS, IMAGE, "python3", "-"];
    assert_sealed(&yard, "run --docker", yard.job([&gate[..], &engine].concat()));

    let policy = format!("{}:/etc/sluicegate.toml:ro", yard.policy());
    let trusted = shown(&world.origin_ca_file());
    let trusted = format!("{trusted}:{trusted}:ro");
    let sidecar =
        ["docker", "run", "-d", "--name", "egress", "--cap-add", "NET_ADMIN", "--cap-add", "SYS_ADMIN"];
    let files = ["--tmpfs", "/run", "-v", &policy, "-v", &trusted];
    let command =
        ["sluicegate", "sidecar", "--name", "egress", "--policy", "/etc/sluicegate.toml", "--log", "-"];
    yard.job([&sidecar[..], &files, &command].concat()).run().assert_success();
    let healthy = ["docker", "exec", "egress", "sluicegate", "status", "get"];
    wait_until("a sidecar that serves", Duration::from_secs(60), || yard.job(healthy).run().status.success());
    waits(&yard, "docker", "app", &["--network", "container:egress"]);
    assert_sealed(&yard, "sidecar", inside(&yard, "docker", "app"));
    yard.job(["docker", "kill", "egress"]).run().assert_success();
    assert_sealed(&yard, "after the sidecar was killed", inside(&yard, "docker", "app"));
}

#[test]
fn no_probe_gets_out_of_a_podman_container() {
    for runtime in ["runc", "crun"] {
        let world = World::new("probes-podman");
        let yard = Yard::new(&world);
        yard.install_podman(runtime);
        import(&yard, "podman");
        waits(&yard, "podman", "jail", &["--network", "none"]);
        let gate = attached(&yard, "podman:jail");
        assert_sealed(&yard, &format!("attach podman:NAME, {runtime}"), inside(&yard, "podman", "jail"));
        drop(gate);
        let hook = ["sluicegate", "oci-hook", "--print", "--policy", &yard.policy()];
        let printed = yard.job(hook).run();
        world.file("hooks/sluicegate.json", &printed.assert_success().stdout);
        let hooks = shown(&world.path("hooks"));
        let line =
            ["podman", "--hooks-dir", &hooks, "run", "-i", "--rm", "--network", "none", "-v", PROGRAMS];
        let hooked = yard.job([&line[..], &[IMAGE, "python3", "-"]].concat());
        assert_sealed(&yard, &format!("oci-hook, {runtime}"), hooked);
    }
}

#[test]
fn no_probe_gets_out_of_a_named_namespace_and_of_run() {
    let world = World::new("probes-plain");
    let yard = Yard::new(&world);
    let namespace = Namespace::new(&format!("{}-jail", world.gate_namespace().name()));
    let gate = attached(&yard, &shown(&namespace.path()));
    // With all capabilities, the one to take the rules away among them.
    let root = world.root_job(&namespace, ["python3", "-"]);
    assert_sealed(&yard, "attach, all capabilities", root);
    drop(gate);
    let run = ["sluicegate", "run", "--quiet", "--policy", &yard.policy(), "--", "python3", "-"];
    assert_sealed(&yard, "run", yard.job(run));
}
