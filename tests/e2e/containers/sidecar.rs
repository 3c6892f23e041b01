//! `sluicegate sidecar`: a gate that seals the network namespace of its own container.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use e2e::{GATE_IPV4, GATE_IPV6, Job, ORIGIN_IPV4, ORIGIN_IPV6, Running, World, wait_until};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::support::{
    Docker, HOST, IMAGE, Yard, assert_complains, assert_judged, shown, two_answers, two_requests,
};

/// Datagrams, echo requests and connections, by IPv4 and IPv6: to the origins, to the gateway, to nobody.
fn probes(destinations: &[&str]) -> String {
    let mut script = String::from("export PATH=$PATH:/bin\n");
    for to in destinations {
        script += &format!("echo x | busybox nc -u -w 1 {to} 9999 > /dev/null 2>&1\n");
        script += &format!("busybox ping -c 1 -W 1 {to} > /dev/null 2>&1 && echo {to} answers pings\n");
        // Accepted by the gate, which then sees that it is nothing that it knows.
        script += &format!("echo x | busybox nc -w 1 {to} 9998 > /dev/null 2>&1\n");
    }
    script + "true\n"
}

/// A sidecar in the gate's namespace of a world, which is a container's for it: with an interface, addresses and
/// routes of both families, and neighbours that somebody set.
struct Pod<'world> {
    yard: Yard<'world>,
}

impl<'world> Pod<'world> {
    fn new(world: &'world World) -> Self {
        Self { yard: Yard::new(world) }
    }

    fn sidecar(&self, options: &[&str]) -> Job<'world> {
        let (policy, ca) = (self.yard.policy(), shown(&self.yard.world.path("trust/ca.pem")));
        let line =
            ["sluicegate", "sidecar", "--name", "pod", "--policy", &policy, "--ca-file", &ca, "--json"];
        self.yard.job([&line, options].concat())
    }

    fn serving(&self, options: &[&str]) -> Running<'world> {
        let mut gate = self.sidecar(options).spawn();
        gate.wait_for_output("\"ready\"");
        gate
    }

    /// What another container of the pod does, without a capability.
    fn app(&self, script: &str) -> Job<'world> {
        let world = self.yard.world;
        world
            .job(world.gate_namespace(), ["sh", "-c", script])
            .env("SSL_CERT_FILE", world.path("trust/ca.pem"))
    }

    /// The gate's process, which the sidecar has started.
    fn gate_of(&self, sidecar: &Running<'_>) -> String {
        let found = self.yard.job(["pgrep", "-P", &sidecar.pid().to_string()]).run();
        found.assert_success().stdout.trim().to_owned()
    }

    /// Ends a gate by force, and waits until it has ended.
    fn kill(&self, gate: &str) {
        self.yard.job(["kill", "-9", gate]).run().assert_success();
        let process = format!("/proc/{gate}/exe");
        wait_until("the end of a gate", Duration::from_secs(10), || std::fs::read_link(&process).is_err());
    }

    fn interfaces(&self) -> String {
        let listed = self.yard.shell("ip -o link | cut -d: -f2 | cut -d@ -f1").run();
        listed.assert_success().stdout.split_whitespace().collect::<Vec<_>>().join(" ")
    }
}

#[test]
fn a_pod_is_judged_and_closed_when_its_sidecar_is_killed() {
    let world = World::new("sidecar");
    let pod = Pod::new(&world);
    assert_eq!(pod.interfaces(), "lo veth");
    let gate = pod.serving(&[]);
    assert_eq!(pod.interfaces(), "lo");
    pod.app(&two_requests()).run().assert_stdout(&two_answers());
    let log = pod.yard.log_with("pod", 2, |line| line["kind"] == "exchange");
    assert_judged(&pod.yard, &log);

    // The threads that stay behind hold no more than the gate's: nothing.
    let process = pod.gate_of(&gate);
    let tasks =
        format!("grep -h ^Cap /proc/{}/task/*/status /proc/{process}/task/*/status | sort -u", gate.pid());
    let capabilities = pod.yard.shell(&tasks).run();
    let none = |line: &str| line.ends_with("\t0000000000000000");
    assert!(capabilities.assert_success().stdout.lines().all(none), "{capabilities:?}");

    let before = world.arrivals();
    let destinations =
        [ORIGIN_IPV4.to_string(), ORIGIN_IPV6.to_string(), "192.0.2.1".into(), "2001:db8::1".into()];
    let destinations: Vec<_> = destinations.iter().map(String::as_str).collect();
    pod.app(&probes(&destinations)).run().assert_stdout("");
    assert_eq!(world.arrivals(), before, "only what the policy allows leaves");

    gate.signal(Signal::SIGKILL);
    gate.wait();
    // The gate ends with who started it.
    let process = format!("/proc/{process}/exe");
    wait_until("the end of the gate", Duration::from_secs(10), || std::fs::read_link(&process).is_err());
    assert_eq!(pod.interfaces(), "lo");
    pod.app(&probes(&destinations)).run().assert_stdout("");
    let after = pod.app("curl -sS -m 5 https://api.example.com/").run();
    assert!(!after.status.success(), "{after:?}");
    assert_eq!(world.arrivals(), before, "nothing leaves without a gate");
    // Not even with another one: what led out is gone.
    assert_complains(&pod.sidecar(&[]).run(), 64, &["none besides lo to take over", "hint: ", "anew"]);
}

#[test]
fn a_gate_that_is_killed_is_started_again_in_its_pod_with_the_same_authority() {
    let world = World::new("sidecar-heals");
    let pod = Pod::new(&world);
    let sidecar = pod.serving(&["--publish", "0.0.0.0:8081:9000"]);
    let authority = || std::fs::read_to_string(world.path("trust/ca.pem")).unwrap();
    let before = authority();
    pod.app(&two_requests()).run().assert_stdout(&two_answers());
    let server = "import socket\nserver = socket.create_server(('::', 9000), family=socket.AF_INET6, dualstack_ipv6=True)\n\
                  print('listening', flush=True)\nwhile True:\n client = server.accept()[0]\n client.sendall(b'it is me\\n')\n client.close()";
    let mut app = world.job(world.gate_namespace(), ["/usr/bin/python3", "-c", server]).spawn();
    app.wait_for_output("listening");
    let mut gates = vec![pod.gate_of(&sidecar)];
    for _ in 0..2 {
        pod.kill(gates.last().unwrap());
        // The connection waits for the next gate.
        pod.app(&two_requests()).run().assert_stdout(&two_answers());
        assert_eq!(authority(), before);
        assert_eq!(pod.interfaces(), "lo");
        pod.yard.job(["sluicegate", "status", "get", "--instance", "pod"]).run().assert_success();
        let heard = world.origin_namespace().enter(|| {
            let address = SocketAddr::from((GATE_IPV4, 8081));
            let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5)).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            let mut heard = String::new();
            stream.read_to_string(&mut heard).unwrap();
            heard
        });
        assert_eq!(heard, "it is me\n");
        gates.push(pod.gate_of(&sidecar));
    }
    gates.sort();
    gates.dedup();
    assert_eq!(gates.len(), 3, "each is another process: {gates:?}");
    assert_eq!(pod.yard.site.requests().len(), 3);
    let arrivals = world.arrivals();
    assert_eq!((arrivals.udp, arrivals.icmp, arrivals.other), (0, 0, 0), "nothing else left meanwhile");

    // One that cannot start is tried again until it can.
    let policy = world.path("sluicegate.toml");
    let good = std::fs::read_to_string(&policy).unwrap();
    let replace = |text: &str| {
        // In one step: the gates that are started meanwhile read it.
        let next = world.file("next.toml", text);
        std::fs::rename(next, &policy).unwrap();
    };
    replace("alowed_hosts = []");
    pod.kill(&pod.gate_of(&sidecar));
    let closed = pod.app(&format!("curl -sS -m 2 https://{HOST}/")).run();
    assert!(!closed.status.success(), "{closed:?}");
    replace(&good);
    pod.app(&format!("curl -sS --retry 9 --retry-all-errors https://{HOST}/")).run().assert_success();
    assert_eq!(pod.yard.site.requests().len(), 4);

    sidecar.signal(Signal::SIGTERM);
    let outcome = sidecar.wait();
    outcome.assert_success();
    assert!(outcome.stderr.matches("the gate is started again").count() >= 4, "{outcome:?}");
    let log = pod.yard.log("pod");
    assert_eq!(log.last().unwrap()["action"], "stopped", "{log:#?}");
}

#[test]
fn the_private_namespace_has_what_was_set_on_the_interface() {
    let world = World::new("sidecar-settings");
    let pod = Pod::new(&world);
    let show =
        "ip -o addr show dev veth; ip -4 route; ip -6 route | grep -v ^fe80; ip neigh show nud permanent";
    pod.yard
        .shell("ip route add 192.0.2.0/24 via 10.77.0.2 metric 7 mtu 1400; ip route add blackhole 192.0.2.9")
        .run();
    let words = |text: &str| {
        let line = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        let mut lines: Vec<_> = text.lines().map(line).filter(|line| !line.contains(" fe80")).collect();
        lines.sort();
        lines
    };
    let before = pod.yard.shell(show).run();
    let gate = pod.serving(&[]);
    // Any thread but the first is in the private namespace.
    let inside = format!(
        "for task in /proc/{0}/task/*; do [ $task = /proc/{0}/task/{0} ] || break; done; \
         exec nsenter --net=$task/ns/net sh -c '{show}'",
        gate.pid()
    );
    let after = pod.yard.shell(&inside).run();
    assert_eq!(words(&after.assert_success().stdout), words(&before.assert_success().stdout));
    gate.signal(Signal::SIGTERM);
    gate.wait().assert_success();
}

#[test]
fn a_published_port_of_the_pods_address_leads_to_the_workload() {
    let world = World::new("sidecar-published");
    let pod = Pod::new(&world);
    let gate = pod.serving(&["--publish", "0.0.0.0:80:9000", "--publish", "[::]:8081:9000"]);
    // Below 1024 without a capability, and for all addresses.
    let server = "import socket\nserver = socket.create_server(('::', 9000), family=socket.AF_INET6, dualstack_ipv6=True)\n\
                  print('listening', flush=True)\nwhile True:\n client = server.accept()[0]\n \
                  client.recv(64)\n client.sendall(b'it is me\\n')\n client.close()";
    let mut app = world.job(world.gate_namespace(), ["/usr/bin/python3", "-c", server]).spawn();
    app.wait_for_output("listening");
    for address in [SocketAddr::from((GATE_IPV4, 80)), SocketAddr::from((GATE_IPV6, 8081))] {
        let heard = world.origin_namespace().enter(|| {
            let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5)).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            stream.write_all(b"who are you?").unwrap();
            let mut heard = [0; 9];
            stream.read_exact(&mut heard).unwrap();
            heard
        });
        assert_eq!(&heard, b"it is me\n");
    }
    let inbound = |line: &&Value| line["kind"] == "inbound" && line["verdict"] == "allowed";
    wait_until("both in the log", Duration::from_secs(20), || {
        pod.yard.log("pod").iter().filter(inbound).count() == 2
    });
    gate.signal(Signal::SIGTERM);
    gate.wait().assert_success();
}

#[test]
fn a_sidecar_that_cannot_be_starts_nothing_and_says_what_to_do() {
    let world = World::new("sidecar-errors");
    let pod = Pod::new(&world);
    // Before a privilege is asked for, so that even a mistake here takes nothing from this machine.
    let unprivileged = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "sluicegate", "sidecar"];
    let this = format!("--net=/proc/{}/ns/net", std::process::id());
    let in_ours = ["nsenter", &this];
    let own = pod.yard.job([&in_ours, &unprivileged[..]].concat()).run();
    let backlog = ["test", "-e", "/proc/sys/net/core/netdev_max_backlog"];
    if pod.yard.job([&in_ours, &backlog[..]].concat()).run().status.success() {
        assert_complains(&own, 64, &["the machine's own network namespace", "hint: "]);
    } else {
        // These tests run in a container.
        assert_complains(&own, 77, &["CAP_SYS_ADMIN"]);
    }
    let powerless = pod.yard.job(unprivileged).run();
    assert_complains(&powerless, 77, &["CAP_SYS_ADMIN", "CAP_NET_ADMIN", "hint: "]);
    assert_eq!(pod.interfaces(), "lo veth");

    // What is wrong later, is wrong in a namespace that is closed.
    let wrong = world.file("wrong.toml", "version = 1\nalowed_hosts = []\n");
    let refused = pod.yard.job(["sluicegate", "sidecar", "--policy", &shown(&wrong)]).run();
    assert_complains(&refused, 78, &["alowed_hosts"]);
    assert_eq!(pod.interfaces(), "lo");
    assert_eq!(world.arrivals().tcp_connections, 0);
}

/// Counts what containers begin to send on bridges: attempts to connect, and every other packet but what IPv4 asks
/// for neighbours. What goes on is a connection's that began when it was allowed.
const WATCH: &str = "
table bridge witness {
  counter seen {}
  chain arrive {
    type filter hook prerouting priority -300; policy accept;
    meta l4proto tcp tcp flags & (syn | ack) == syn counter name seen accept
    meta l4proto tcp accept
    ether type { ip, ip6 } counter name seen
  }
}
";

/// How many of those there were.
fn sent_on_bridges(world: &World) -> u64 {
    let listed = world.gate_namespace().nft(&["-j", "list", "counters", "table", "bridge", "witness"]);
    let listed: Value = serde_json::from_str(&listed).unwrap();
    listed["nftables"]
        .as_array()
        .unwrap()
        .iter()
        .find_map(|entry| entry["counter"]["packets"].as_u64())
        .unwrap()
}

/// Runs a script of docker commands, and returns what it printed.
#[track_caller]
fn docker(yard: &Yard<'_>, script: &str) -> String {
    let policy = yard.policy();
    let (trust, ca) = (shown(&yard.world.path("trust")), shown(&yard.world.origin_ca_file()));
    let outcome = yard.shell(&format!("set -eu\npolicy={policy}\ntrust={trust}\nca={ca}\n{script}")).run();
    outcome.assert_success().stdout.clone()
}

/// Starts the sidecar.
const START: &str = "
    docker network create net > network.out
    docker run -d --name egress --network net --cap-drop ALL --cap-add NET_ADMIN --cap-add NET_RAW \
        --cap-add SYS_ADMIN --security-opt no-new-privileges --read-only --tmpfs /run \
        -v $policy:/etc/sluicegate.toml:ro -v $ca:$ca:ro -v $trust:/trust -p 8080:8080 sluicegate sidecar --name egress --policy /etc/sluicegate.toml \
        --ca-file /trust/ca.pem --log - --state /run/sluicegate-state --publish 0.0.0.0:8080 > egress.out
";

/// Waits until the sidecar says that it serves, as a health check does.
fn wait_for_health(yard: &Yard<'_>) {
    wait_until("a healthy sidecar", Duration::from_secs(60), || {
        let status = yard.job(["docker", "inspect", "-f", "{{.State.Status}}", "egress"]).run().stdout;
        assert_eq!(status, "running\n", "{:?}", yard.job(["docker", "logs", "egress"]).run());
        yard.job(["docker", "exec", "egress", "sluicegate", "status", "get"]).run().status.success()
    });
}

/// What `docker exec app` prints of a script, and whether it ended well.
fn in_app(yard: &Yard<'_>, script: &str) -> (String, bool) {
    let outcome = yard.job(["docker", "exec", "app", "sh", "-c", script]).run();
    (outcome.stdout.clone(), outcome.status.success())
}

#[test]
fn a_docker_container_that_joins_a_sidecar_has_its_way_out_and_no_other() {
    let world = World::new("docker-sidecar");
    let yard = Yard::new(&world);
    let _docker = Docker::start_with_networks(&yard);
    docker(&yard, START);
    wait_for_health(&yard);
    world.gate_namespace().nft(&[WATCH]);
    let start = format!(
        "docker run -d --name app --network container:egress -v $trust:/trust:ro -e SSL_CERT_FILE=/trust/ca.pem \
         {IMAGE} busybox httpd -f -p 8080 -h /trust > app.out"
    );
    docker(&yard, &start);
    assert_eq!(in_app(&yard, "ls /sys/class/net"), ("lo\n".into(), true));
    assert_eq!(in_app(&yard, &two_requests()), (two_answers(), true));
    assert_eq!(yard.site.requests().len(), 1);
    let judged = sent_on_bridges(&world);
    assert!(judged > 0, "the request that was let through is seen");

    let gateway = docker(&yard, "docker network inspect -f '{{range .IPAM.Config}}{{.Gateway}}{{end}}' net");
    let destinations = [gateway.trim(), "10.77.0.2", "192.0.2.1", "169.254.169.254"];
    assert_eq!(in_app(&yard, &probes(&destinations)), (String::new(), true));
    // Neither does docker's name server answer, on whatever port it is.
    let resolvers = "
        pid=$(docker inspect -f '{{.State.Pid}}' app)
        for port in 53 $(nsenter -n -t $pid ss -Hlnu src 127.0.0.11 | awk '{ sub(/.*:/, \"\", $4); print $4 }'); do
            echo \"asked $port\"
            nsenter -n -t $pid dig +short +time=2 +tries=1 -p $port @127.0.0.11 egress || true
        done";
    let answers = docker(&yard, resolvers);
    assert_eq!(answers.matches("asked ").count(), 2, "docker's own port is found: {answers}");
    assert!(!answers.contains("172.30.0"), "{answers}");
    assert_eq!(sent_on_bridges(&world), judged, "only what the policy allows leaves");

    // The gate is a child of the container's first process, and comes again.
    let kill = "kill -9 $(pgrep -P $(docker inspect -f '{{.State.Pid}}' egress))";
    docker(&yard, kill);
    assert_eq!(in_app(&yard, &two_requests()), (two_answers(), true));
    wait_for_health(&yard);

    // In by the address of the machine, and by its loopback.
    let ca = std::fs::read_to_string(world.path("trust/ca.pem")).unwrap();
    yard.job(["curl", "-sS", "-m", "10", "http://127.0.0.1:8080/ca.pem"]).run().assert_stdout(&ca);
    let outside = ["curl", "-sS", "-m", "10", &format!("http://{GATE_IPV4}:8080/ca.pem")];
    world.job(world.origin_namespace(), outside).run().assert_stdout(&ca);
}

#[test]
fn either_side_of_a_docker_sidecar_can_be_started_again_and_nothing_leaves_between() {
    let world = World::new("docker-restart");
    let yard = Yard::new(&world);
    let _docker = Docker::start_with_networks(&yard);
    docker(&yard, START);
    wait_for_health(&yard);
    let start = format!(
        "docker run -d --name app --network container:egress -v $trust:/trust:ro -e SSL_CERT_FILE=/trust/ca.pem \
         {IMAGE} sleep 3600 > app.out"
    );
    docker(&yard, &start);
    assert_eq!(in_app(&yard, &two_requests()), (two_answers(), true));
    docker(&yard, "docker restart -t 0 app");
    assert_eq!(in_app(&yard, &two_requests()), (two_answers(), true));

    docker(&yard, "docker kill -s KILL egress; docker wait egress");
    // From here on: the kernel has closed the connections of the gate that was killed.
    world.gate_namespace().nft(&[WATCH]);
    let ask = format!("{}; curl -sS -m 5 https://{HOST}/", probes(&["10.77.0.2", "172.30.0.1"]));
    assert_eq!(in_app(&yard, &ask), (String::new(), false));
    assert_eq!(sent_on_bridges(&world), 0, "nothing leaves without a gate");
    // A namespace of its own again: the application has the one of before, which stays closed.
    docker(&yard, "docker start egress");
    wait_for_health(&yard);
    assert_eq!(in_app(&yard, &ask), (String::new(), false));
    assert_eq!(sent_on_bridges(&world), 0, "nothing leaves by the old namespace");
    docker(&yard, "docker restart -t 0 app");
    assert_eq!(in_app(&yard, &two_requests()), (two_answers(), true));
}

#[test]
fn the_commands_of_the_guide_start_a_sidecar_and_what_joins_it() {
    let world = World::new("docker-sidecar-guide");
    let yard = Yard::new(&world);
    let _docker = Docker::start_with_networks(&yard);
    // The policy of these tests names files of this machine.
    let folder = shown(&world.path(""));
    let commands =
        yard.documented("Sidecar").replace("-v $PWD:", &format!("-v {folder}:{folder}:ro -v $PWD:"));
    let outcome = yard.shell(&commands).run();
    outcome.assert_success();
    assert!(outcome.stdout.contains("hello from the origin"), "{outcome:?}");
    assert_eq!(yard.site.requests().len(), 1);
}

/// A sidecar that starts when the last service has begun, a service that waits for its health, and one that does not.
/// Each says first which interfaces there are.
const PROJECT: &str = r#"
services:
  gate:
    image: sluicegate
    entrypoint: [/busybox, sh, -c, "until [ -e /trust/early ]; do /busybox sleep 0.1; done; exec sluicegate sidecar --name gate --policy $POLICY --state /run/state --ca-file /trust/ca.pem"]
    cap_add: [NET_ADMIN, SYS_ADMIN]
    tmpfs: [/run]
    volumes: ["/bin/busybox:/busybox:ro", "$POLICY:$POLICY:ro", "$CA:$CA:ro", "$TRUST:/trust"]
    healthcheck: { test: [CMD, sluicegate, status, get], interval: 1s, retries: 60 }
  waits:
    image: $IMAGE
    network_mode: "service:gate"
    depends_on: { gate: { condition: service_healthy } }
    environment: { SSL_CERT_FILE: /trust/ca.pem }
    volumes: ["$TRUST:/trust:ro"]
    command: [sh, -c, "echo $$(ls /sys/class/net); $REQUESTS; exec sleep 3600"]
  early:
    image: $IMAGE
    network_mode: "service:gate"
    volumes: ["$TRUST:/trust"]
    command: [sh, -c, "echo $$(ls /sys/class/net); : >/trust/early; exec sleep 3600"]
"#;

#[test]
fn what_waits_for_the_sidecars_health_is_sealed_from_its_first_instruction_and_what_does_not_is_not() {
    let world = World::new("sidecar-order");
    let yard = Yard::new(&world);
    let _docker = Docker::start_with_networks(&yard);
    let project = [
        ("$POLICY", yard.policy()),
        ("$CA", shown(&world.origin_ca_file())),
        ("$TRUST", shown(&world.path("trust"))),
        ("$IMAGE", IMAGE.to_owned()),
        ("$REQUESTS", two_requests().replace('\\', "\\\\").replace('"', "\\\"")),
    ];
    let text = project.iter().fold(PROJECT.to_owned(), |text, (name, value)| text.replace(name, value));
    let file = shown(&world.file("project.yaml", text));
    yard.job(["docker-compose", "-p", "order", "-f", &file, "up", "-d"]).run().assert_success();
    let said = |service: &str| {
        yard.job(["docker-compose", "-p", "order", "-f", &file, "logs", "--no-color", service]).run().stdout
    };
    wait_until("the answers", Duration::from_secs(30), || said("waits").contains("403"));
    let waits = said("waits");
    for line in ["lo", "hello from the origin", "403"] {
        assert!(waits.lines().any(|said| said.ends_with(&format!("| {line}"))), "{line:?} in {waits}");
    }
    assert!(!waits.contains("eth0"), "{waits}");
    assert_eq!(yard.site.requests().len(), 1);
    assert!(said("early").contains("eth0"), "which is why the others are to wait: {}", said("early"));
}
