//! deploy/compose.yaml and deploy/compose-sidecar.yaml, as they stand.

use std::fs;
use std::path::Path;
use std::time::Duration;

use e2e::{World, wait_until};

use crate::support::{ANSWER, Docker, IMAGE, Yard, executable, shown};

/// An example at work, in its own folder.
struct Project<'a, 'world> {
    yard: &'a Yard<'world>,
    file: &'static str,
}

impl<'a, 'world> Project<'a, 'world> {
    /// The folder of the examples with their policies, to which is added how origins are found and trusted; and
    /// `docker compose`, which engines of this age have as a program of its own.
    fn new(yard: &'a Yard<'world>, file: &'static str) -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("deploy");
        let folder = yard.world.path("deploy");
        yard.job(["cp", "-r", &shown(&root), &shown(&folder)]).run().assert_success();
        let origin = format!("\"api.example.com:443\" = \"{}\"", yard.site.tls.address());
        for name in ["sluicegate.toml", "sidecar.toml"] {
            let path = folder.join("policy").join(name);
            let mut policy = fs::read_to_string(&path).unwrap() + "extra_ca = [\"ca.pem\"]\n";
            if policy.contains("resolve = {") {
                policy = policy.replace("resolve = {", &format!("resolve = {{ {origin},"));
            } else {
                policy += &format!("resolve = {{ {origin} }}\n");
            }
            fs::write(path, policy).unwrap();
        }
        fs::copy(yard.world.origin_ca_file(), folder.join("policy/ca.pem")).unwrap();
        let wrapper = "#!/bin/sh\nPATH=${PATH#*:}\n[ \"$1\" = compose ] || exec docker \"$@\"\nshift\nexec docker-compose \"$@\"\n";
        executable(yard.world.file("tools/docker", wrapper));
        yard.job(["docker", "tag", IMAGE, "busybox"]).run().assert_success();
        Self { yard, file }
    }

    /// What a command prints that is run in a service, and whether it ended well.
    fn inside(&self, service: &str, command: &str) -> (String, bool) {
        let line = ["docker", "compose", "-f", self.file, "exec", "-T", service, "sh", "-c", command];
        let outcome = self.yard.job(line).run();
        (outcome.stdout.clone(), outcome.status.success())
    }

    #[track_caller]
    fn compose(&self, arguments: &[&str]) {
        let line = [&["docker", "compose", "-f", self.file], arguments].concat();
        self.yard.job(line).env("APP_IMAGE", IMAGE).run().assert_success();
    }

    /// Starts the gate where Docker did not: it tries that once, and maybe before there is a jail again.
    fn start_gate(&self) {
        let gate = "docker ps -aq --filter label=com.docker.compose.service=gate";
        let script =
            format!("{gate} --filter status=exited | xargs -r docker start; {gate} --filter status=running");
        wait_until("a gate that runs", Duration::from_secs(60), || {
            !self.yard.shell(&script).run().stdout.is_empty()
        });
    }

    fn wait_for_health(&self) {
        let healthy = [
            "docker",
            "ps",
            "-q",
            "--filter",
            "label=com.docker.compose.service=gate",
            "--filter",
            "health=healthy",
        ];
        let is_healthy = || !self.yard.job(healthy).run().stdout.is_empty();
        wait_until("a healthy gate", Duration::from_secs(60), is_healthy);
    }

    /// What the policy allows, from the application: whether it came through.
    fn comes_through(&self) -> bool {
        let ask = "curl -sSf -m 10 https://api.example.com/ && curl -sSf -m 10 -o /dev/null http://web:8080/hostname";
        self.inside("app", ask) == (ANSWER.into(), true)
    }

    /// The same without a gate: nobody answers.
    fn is_closed(&self) -> bool {
        let ask = "curl -sS -m 3 https://api.example.com/; curl -sS -m 3 http://10.77.0.2/";
        self.inside("app", ask).0.is_empty()
    }

    /// Tries names that the policy does not have, addresses, and other ports of the same service, and what is no TCP.
    #[track_caller]
    fn assert_sealed(&self) {
        for refused in ["http://gate:8080/", "http://web:8081/", "http://10.77.0.2/", "http://jail/"] {
            let (_, ended_well) = self.inside("app", &format!("curl -sSf -m 10 {refused}"));
            assert!(!ended_well, "{refused}");
        }
        let before = self.yard.world.arrivals();
        let ping = "for to in 10.77.0.2 192.0.2.1; do busybox ping -c 1 -W 1 $to; echo x | busybox nc -u -w 1 $to 9999; done";
        self.inside("app", ping);
        assert_eq!(self.yard.world.arrivals(), before, "only what the policy allows leaves");
    }
}

#[test]
fn the_commands_of_the_guide_start_the_example_and_its_names_ports_and_refusals_are_as_they_say() {
    let world = World::new("compose");
    let yard = Yard::new(&world);
    let _docker = Docker::start_with_networks(&yard);
    let project = Project::new(&yard, "deploy/compose.yaml");
    let documented = yard.shell(&yard.documented("Compose")).env("APP_IMAGE", IMAGE).run();
    documented.assert_success();
    let web = yard.job(["docker", "ps", "-q", "--filter", "label=com.docker.compose.service=web"]).run();
    let hostname = web.stdout.trim();
    let certificate = "-----BEGIN CERTIFICATE-----";
    for wanted in [ANSWER, hostname, "403", certificate] {
        assert!(documented.stdout.contains(wanted), "{wanted:?} in {documented:?}");
    }
    assert_eq!(yard.site.requests().len(), 1);

    project.assert_sealed();
    assert_eq!(yard.site.requests().len(), 1);
}

#[test]
fn every_part_of_the_example_can_be_started_again() {
    let world = World::new("compose-restart");
    let yard = Yard::new(&world);
    let _docker = Docker::start_with_networks(&yard);
    let project = Project::new(&yard, "deploy/compose.yaml");
    project.compose(&["up", "-d"]);
    assert!(project.comes_through());

    project.compose(&["restart", "-t", "0", "app"]);
    assert!(project.comes_through());
    project.compose(&["restart", "-t", "5", "gate"]);
    project.wait_for_health();
    assert!(project.comes_through(), "the application goes on in the namespace that it has");

    project.compose(&["kill", "-s", "KILL", "gate"]);
    let before = world.arrivals();
    assert!(project.is_closed());
    assert_eq!(world.arrivals(), before, "nothing leaves without a gate");
    project.compose(&["start", "gate"]);
    project.wait_for_health();
    assert!(project.comes_through());

    // It takes the gate with it, and the application stays in a namespace that nobody serves any more.
    project.compose(&["restart", "jail"]);
    project.start_gate();
    project.wait_for_health();
    let before = world.arrivals();
    assert!(project.is_closed());
    assert_eq!(world.arrivals(), before, "nothing leaves by the old namespace");
    project.compose(&["restart", "-t", "0", "app"]);
    assert!(project.comes_through());
}

#[test]
fn a_sidecar_of_the_other_example_gives_up_its_interface_and_its_names_ports_and_refusals_are_as_it_says() {
    let world = World::new("compose-sidecar");
    let yard = Yard::new(&world);
    let _docker = Docker::start_with_networks(&yard);
    let project = Project::new(&yard, "deploy/compose-sidecar.yaml");
    project.compose(&["up", "-d"]);
    assert!(project.comes_through());
    // It has joined the gate's network, and there is no interface but lo.
    let (links, _) = project.inside("app", "cat /proc/net/dev");
    assert!(links.contains("lo:") && !links.contains("eth0"), "{links}");
    project.assert_sealed();
    let published = yard.job(["curl", "-sS", "-m", "10", "http://127.0.0.1:8080/ca.pem"]).run();
    assert!(published.stdout.starts_with("-----BEGIN CERTIFICATE-----"), "{published:?}");

    project.compose(&["restart", "-t", "0", "app"]);
    assert!(project.comes_through());
    project.compose(&["kill", "-s", "KILL", "gate"]);
    let before = world.arrivals();
    assert!(project.is_closed());
    assert_eq!(world.arrivals(), before, "nothing leaves without a gate");
    // Docker gives it another namespace, which the application has to join.
    project.compose(&["start", "gate"]);
    project.wait_for_health();
    project.compose(&["restart", "-t", "0", "app"]);
    assert!(project.comes_through());
}
