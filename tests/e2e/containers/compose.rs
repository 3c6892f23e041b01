//! deploy/compose.yaml, as it stands.

use std::fs;
use std::path::Path;
use std::time::Duration;

use e2e::{World, wait_until};

use crate::support::{ANSWER, Docker, IMAGE, Yard, executable, shown};

/// The folder of the example with its policy, to which is added how origins are found and trusted; and `docker
/// compose`, which engines of this age have as a program of its own.
fn project(yard: &Yard<'_>) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("deploy");
    let folder = yard.world.path("deploy");
    yard.job(["cp", "-r", &shown(&root), &shown(&folder)]).run().assert_success();
    let policy = fs::read_to_string(folder.join("policy/sluicegate.toml")).unwrap();
    let origin = yard.site.tls.address();
    let more = format!("extra_ca = [\"ca.pem\"]\nresolve = {{ \"api.example.com:443\" = \"{origin}\" }}\n");
    fs::write(folder.join("policy/sluicegate.toml"), policy + &more).unwrap();
    fs::copy(yard.world.origin_ca_file(), folder.join("policy/ca.pem")).unwrap();
    let wrapper = "#!/bin/sh\nPATH=${PATH#*:}\n[ \"$1\" = compose ] || exec docker \"$@\"\nshift\nexec docker-compose \"$@\"\n";
    executable(yard.world.file("tools/docker", wrapper));
    yard.job(["docker", "tag", IMAGE, "busybox"]).run().assert_success();
}

/// What a command prints that is run in a service, and whether it ended well.
fn inside(yard: &Yard<'_>, service: &str, command: &str) -> (String, bool) {
    let line = ["docker", "compose", "-f", "deploy/compose.yaml", "exec", "-T", service, "sh", "-c", command];
    let outcome = yard.job(line).run();
    (outcome.stdout.clone(), outcome.status.success())
}

#[track_caller]
fn compose(yard: &Yard<'_>, arguments: &[&str]) {
    let line = [&["docker", "compose", "-f", "deploy/compose.yaml"], arguments].concat();
    yard.job(line).env("APP_IMAGE", IMAGE).run().assert_success();
}

fn wait_for_health(yard: &Yard<'_>) {
    let healthy = [
        "docker",
        "ps",
        "-q",
        "--filter",
        "label=com.docker.compose.service=gate",
        "--filter",
        "health=healthy",
    ];
    wait_until("a healthy gate", Duration::from_secs(60), || !yard.job(healthy).run().stdout.is_empty());
}

/// What the policy allows, from the application: whether it came through.
fn comes_through(yard: &Yard<'_>) -> bool {
    let ask =
        "curl -sSf -m 10 https://api.example.com/ && curl -sSf -m 10 -o /dev/null http://web:8080/hostname";
    inside(yard, "app", ask) == (ANSWER.into(), true)
}

/// The same without a gate: nobody answers.
fn is_closed(yard: &Yard<'_>) -> bool {
    inside(yard, "app", "curl -sS -m 3 https://api.example.com/; curl -sS -m 3 http://10.77.0.2/")
        .0
        .is_empty()
}

#[test]
fn the_commands_of_the_guide_start_the_example_and_its_names_ports_and_refusals_are_as_they_say() {
    let world = World::new("compose");
    let yard = Yard::new(&world);
    let _docker = Docker::start_with_networks(&yard);
    project(&yard);
    let documented = yard.shell(&yard.documented("Compose")).env("APP_IMAGE", IMAGE).run();
    documented.assert_success();
    let web = yard.job(["docker", "ps", "-q", "--filter", "label=com.docker.compose.service=web"]).run();
    let hostname = web.stdout.trim();
    let certificate = "-----BEGIN CERTIFICATE-----";
    for wanted in [ANSWER, hostname, "403", certificate] {
        assert!(documented.stdout.contains(wanted), "{wanted:?} in {documented:?}");
    }
    assert_eq!(yard.site.requests().len(), 1);

    // Names that the policy does not have, addresses, and other ports of the same service: all refused.
    for refused in ["http://gate:8080/", "http://web:8081/", "http://10.77.0.2/", "http://jail/"] {
        let (_, ended_well) = inside(&yard, "app", &format!("curl -sSf -m 10 {refused}"));
        assert!(!ended_well, "{refused}");
    }
    let before = world.arrivals();
    let ping = "for to in 10.77.0.2 192.0.2.1; do busybox ping -c 1 -W 1 $to; echo x | busybox nc -u -w 1 $to 9999; done";
    inside(&yard, "app", ping);
    assert_eq!(world.arrivals(), before, "only what the policy allows leaves");
    assert_eq!(yard.site.requests().len(), 1);
}

#[test]
fn every_part_of_the_example_can_be_started_again() {
    let world = World::new("compose-restart");
    let yard = Yard::new(&world);
    let _docker = Docker::start_with_networks(&yard);
    project(&yard);
    compose(&yard, &["up", "-d"]);
    assert!(comes_through(&yard));

    compose(&yard, &["restart", "-t", "0", "app"]);
    assert!(comes_through(&yard));
    compose(&yard, &["restart", "-t", "5", "gate"]);
    wait_for_health(&yard);
    assert!(comes_through(&yard), "the application goes on in the namespace that it has");

    compose(&yard, &["kill", "-s", "KILL", "gate"]);
    let before = world.arrivals();
    assert!(is_closed(&yard));
    assert_eq!(world.arrivals(), before, "nothing leaves without a gate");
    compose(&yard, &["start", "gate"]);
    wait_for_health(&yard);
    assert!(comes_through(&yard));

    // It takes the gate with it, which is started again, and the application stays in a namespace that nobody
    // serves any more.
    compose(&yard, &["restart", "jail"]);
    wait_for_health(&yard);
    let before = world.arrivals();
    assert!(is_closed(&yard));
    assert_eq!(world.arrivals(), before, "nothing leaves by the old namespace");
    compose(&yard, &["restart", "-t", "0", "app"]);
    assert!(comes_through(&yard));
}
