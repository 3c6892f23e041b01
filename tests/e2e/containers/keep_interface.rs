//! `sluicegate attach --keep-interface`: what comes in by an interface is answered, what is begun inside is judged.

use std::time::Duration;

use e2e::{Job, Namespace, Running, World, wait_until};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::probes::{self, assert_sealed};
use crate::support::{ANSWER, Docker, HOST, Yard, assert_complains, shown, two_requests};

/// Echoes on TCP and UDP of every address, and says when it does.
const SERVER: &str = r#"
import socket, threading

def tcp(listener):
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=echo, args=(connection,), daemon=True).start()

def echo(connection):
    while data := connection.recv(65536):
        connection.sendall(data)

def udp(s):
    while True:
        data, peer = s.recvfrom(65536)
        try:
            s.sendto(data, peer)
        except OSError as error:
            print("not answered:", error, flush=True)

for family, address in (socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::"):
    for kind, serve in (socket.SOCK_STREAM, tcp), (socket.SOCK_DGRAM, udp):
        s = socket.socket(family, kind)
        if family == socket.AF_INET6:
            s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        s.bind((address, 7000))
        if kind == socket.SOCK_STREAM:
            s.listen()
        threading.Thread(target=serve, args=(s,)).start()
print("serving", flush=True)
"#;

/// Asks the server by each family and transport, with more than fits into a packet, and prints who answered.
const CLIENT: &str = r#"
import socket

def tcp(family, address):
    with socket.create_connection((address, 7000), 2) as s:
        s.sendall(b"x" * 100000)
        left = 100000
        while left:
            left -= len(s.recv(65536)) or left

def udp(family, address):
    with socket.socket(family, socket.SOCK_DGRAM) as s:
        s.settimeout(2)
        s.connect((address, 7000))
        s.send(b"u" * 4000)
        s.recv(65536)

for family, address in (socket.AF_INET, "10.78.0.2"), (socket.AF_INET6, "fd78::2"):
    for ask in tcp, udp:
        try:
            ask(family, address)
            print("answered", flush=True)
        except OSError:
            print("nothing", flush=True)
"#;

/// Asks by ICMP.
const PING: &str = r#"
import socket
for family, protocol, address, request in (
    (socket.AF_INET, socket.IPPROTO_ICMP, "10.78.0.2", b"\x08\0\xf7\xfd\0\1\0\1"),
    (socket.AF_INET6, socket.IPPROTO_ICMPV6, "fd78::2", b"\x80\0\0\0\0\1\0\1"),
):
    with socket.socket(family, socket.SOCK_RAW, protocol) as s:
        s.settimeout(5)
        s.sendto(request, (address, 0))
        while True:
            answer, _ = s.recvfrom(1000)
            answer = answer[20:] if family == socket.AF_INET else answer
            if answer[0] in (0, 129) and answer[4:8] == request[4:8]:
                print("pong")
                break
"#;

/// Prints what comes by on the other end of the interface of what `forger.py` sends.
const EAR: &str = r#"
import select, socket, sys
wire = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(3))
wire.bind(("jail", 0))
print("listening", flush=True)
heard = []
while True:
    ready = select.select([wire, sys.stdin], [], [])[0]
    if wire in ready:
        packet = wire.recv(2048)
        if b"\xc6\x33\x64\x07" in packet or socket.inet_pton(socket.AF_INET6, "2001:db8::7") in packet or b"looped" in packet:
            heard.append(packet.hex())
    elif ready: break
print(heard)
"#;

/// A namespace with an interface that leads to the gate's namespace, and by that to the origins. It has IPv4 and IPv6,
/// as a container of a bridge has.
struct Jail<'yard, 'world> {
    yard: &'yard Yard<'world>,
    namespace: Namespace,
}

impl<'yard, 'world> Jail<'yard, 'world> {
    fn new(yard: &'yard Yard<'world>) -> Self {
        let namespace = Namespace::new(&format!("{}-jail", yard.world.gate_namespace().name()));
        let name = namespace.name();
        let script = format!(
            "set -eu
            sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
            ip link add jail type veth peer name eth0 netns {name}
            ip addr add 10.78.0.1/24 dev jail
            ip addr add fd78::1/64 dev jail nodad
            ip link set jail up"
        );
        yard.shell(&script).run().assert_success();
        for line in [
            "addr add 10.78.0.2/24 dev eth0",
            "addr add fd78::2/64 dev eth0 nodad",
            "link set eth0 up",
            "route add default via 10.78.0.1",
            "-6 route add default via fd78::1",
        ] {
            namespace.ip(&line.split(' ').collect::<Vec<_>>());
        }
        for (network, gate) in [("10.78.0.0/24", "10.77.0.1"), ("fd78::/64", "fd77::1")] {
            yard.world.origin_namespace().ip(&["route", "add", network, "via", gate]);
        }
        Self { yard, namespace }
    }

    /// A command of a root in there that has these capabilities left.
    fn job(&self, capabilities: &str, command: &[&str]) -> Job<'world> {
        let bounding = format!("--bounding-set=-all{capabilities}");
        let line = ["setpriv", &bounding, "--inh-caps=-all", "--"];
        self.yard.world.root_job(&self.namespace, [&line[..], command].concat())
    }

    fn python(&self, capabilities: &str, script: &str) -> Job<'world> {
        self.job(capabilities, &["python3", "-c", script])
    }

    /// The server, once it serves.
    fn server(&self) -> Running<'world> {
        let mut server = self.python("", SERVER).spawn();
        server.wait_for_output("serving");
        server
    }

    fn attach(&self, options: &[&str]) -> Job<'world> {
        let (path, policy) = (shown(&self.namespace.path()), self.yard.policy());
        let line = ["sluicegate", "attach", &path, "--policy", &policy, "--json"];
        self.yard.job([&line, options].concat())
    }

    /// A gate that keeps the interface, once it serves.
    fn gate(&self, options: &[&str]) -> Running<'world> {
        let ca = format!("--ca-file={}", shown(&self.yard.world.path("trust/ca.pem")));
        let mut gate = self.attach(&[&["--keep-interface", "--name", "jail", &ca], options].concat()).spawn();
        gate.wait_for_output("\"ready\"");
        gate
    }

    /// Who of TCP and UDP, by IPv4 and IPv6, is answered from outside.
    fn answered(&self) -> usize {
        let outcome = self.yard.job(["python3", "-c", CLIENT]).run();
        outcome.assert_success().stdout.matches("answered").count()
    }
}

/// The lines of the log about something done to the gate.
fn actions(log: &[Value], action: &str) -> Vec<String> {
    let of_action = log.iter().filter(|line| line["action"] == action);
    of_action.map(|line| line["detail"].as_str().unwrap_or_default().to_owned()).collect()
}

#[test]
fn n01_what_comes_in_is_answered_and_what_is_begun_inside_is_judged() {
    let world = World::new("keep");
    let yard = Yard::new(&world);
    let jail = Jail::new(&yard);
    let _server = jail.server();
    // Without the option it is refused, as ever.
    assert_complains(&jail.attach(&[]).run(), 64, &["besides lo", "eth0", "hint: ", "--keep-interface"]);
    let _gate = jail.gate(&[]);
    assert_eq!(jail.answered(), 4);
    // Also who asks whether it is there.
    yard.job(["python3", "-c", PING]).run().assert_stdout("pong\npong\n");
    let before = world.arrivals();
    let curl = jail.job("", &["sh", "-c", &two_requests()]);
    let answers = curl.env("SSL_CERT_FILE", world.path("trust/ca.pem")).run();
    answers.assert_stdout(&format!("{ANSWER}\n403\n"));
    // One request, by the gate.
    let after = world.arrivals();
    assert_eq!((after.tcp_connections - before.tcp_connections, after.udp - before.udp), (1, 0));
    // The other end of the interface is judged as any other address, and so is who is bound to the interface.
    let script = "
import socket
for device in None, b'eth0':
    for family, address in (socket.AF_INET, '10.78.0.1'), (socket.AF_INET6, 'fd78::1'), (socket.AF_INET, '10.77.0.2'):
        with socket.socket(family, socket.SOCK_STREAM) as s:
            if device:
                s.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device)
            s.settimeout(5)
            try:
                s.connect((address, 22))
                print(s.recv(1))
            except ConnectionResetError:
                print('reset')
";
    jail.python("", script).run().assert_stdout(&"reset\n".repeat(6));
    let refused = yard.log_with("jail", 6, |line| line["port"] == 22);
    let refused: Vec<_> = refused.iter().filter(|line| line["port"] == 22).collect();
    assert_eq!(refused.len(), 6, "{refused:#?}");
    assert!(refused.iter().all(|line| line["verdict"] == "refused"), "{refused:#?}");
}

#[test]
fn n07_without_a_gate_nothing_leaves_and_the_next_one_takes_over() {
    let world = World::new("keep-killed");
    let yard = Yard::new(&world);
    let jail = Jail::new(&yard);
    let _server = jail.server();
    let (out, _) = probes::tried(&yard, jail.job("", &["python3", "-"]));
    assert!(out.len() >= 15, "without a gate: {out:?}");
    let gate = jail.gate(&[]);
    assert_eq!(jail.answered(), 4);
    assert_complains(&jail.attach(&["--keep-interface"]).run(), 75, &["another gate is attached"]);
    gate.signal(Signal::SIGKILL);
    assert!(!gate.wait().status.success());
    assert_eq!(jail.answered(), 0, "answers are for a time with a gate");
    assert_sealed(&yard, "kept, after the gate was killed", jail.job("", &["python3", "-"]));
    let _gate = jail.gate(&[]);
    assert_eq!(jail.answered(), 4);
    assert_sealed(&yard, "kept", jail.job("", &["python3", "-"]));
}

#[test]
fn connections_from_before_end_there() {
    // Both ends go on talking as long as they can.
    const ORIGIN: &str = r#"
import socket, threading, time
def talk(connection):
    connection.settimeout(0.05)
    while True:
        try:
            connection.sendall(b"from the origin")
            data = connection.recv(1000)
            if not data: break
            print("origin got", data.decode(), flush=True)
        except TimeoutError: pass
        except OSError as error: break
        time.sleep(0.05)
listener = socket.create_server(("", 7100), family=socket.AF_INET6, dualstack_ipv6=True)
print("serving", flush=True)
while True:
    connection, _ = listener.accept()
    threading.Thread(target=talk, args=(connection,), daemon=True).start()
"#;
    const INSIDE: &str = r#"
import socket, sys
tcp = [socket.create_connection((address, 7100), 5) for address in ("10.77.0.2", "fd77::2")]
udp = [socket.socket(family, socket.SOCK_DGRAM) for family in (socket.AF_INET, socket.AF_INET6)]
for s, address in zip(udp, ("10.77.0.2", "fd77::2")):
    s.connect((address, 7200))
    s.send(b"before")
for s in tcp:
    s.sendall(b"before")
print("connected", flush=True)
sys.stdin.readline()
for s in tcp:
    s.settimeout(5)
    try:
        while True:
            s.sendall(b"after")
            if not s.recv(1000): print("ended"); break
    except TimeoutError: print("silence")
    except OSError as error: print("ended")
for s in udp:
    # The first one may be told what became of the one before.
    for _ in range(2):
        try: s.send(b"after")
        except OSError: pass
print("done", flush=True)
"#;
    let world = World::new("keep-before");
    let yard = Yard::new(&world);
    let jail = Jail::new(&yard);
    let mut origin = world.root_job(world.origin_namespace(), ["python3", "-c", ORIGIN]).spawn();
    origin.wait_for_output("serving");
    let mut inside = jail.python("", INSIDE).spawn();
    inside.wait_for_output("connected");
    let heard = || origin.stdout().matches("before").count() == 2 && world.arrivals().udp == 2;
    wait_until("what was said before", Duration::from_secs(10), heard);
    let _gate = jail.gate(&[]);
    inside.write("go on\n");
    inside.wait_for_output("done");
    let outcome = inside.wait();
    outcome.assert_success();
    // Reset, as soon as it says something.
    assert_eq!(outcome.stdout, "connected\nended\nended\ndone\n", "{outcome:?}");
    assert!(!origin.stdout().contains("after"), "{}", origin.stdout());
    assert_eq!(world.arrivals().udp, 2);
}

#[test]
fn no_mark_no_source_and_no_raw_packet_makes_an_answer_of_what_is_begun_inside() {
    let world = World::new("keep-forged");
    let yard = Yard::new(&world);
    let jail = Jail::new(&yard);
    let forged = |capabilities: &str| {
        let mut ear = yard.job(["python3", "-c", EAR]).spawn();
        ear.wait_for_output("listening");
        let outcome = jail.python(capabilities, include_str!("forger.py")).run();
        eprintln!("with {capabilities:?}: {}", outcome.assert_success().stdout);
        ear.close_stdin();
        ear.wait().assert_success().stdout.lines().nth(1).unwrap().to_owned()
    };
    assert_ne!(forged(",+net_raw"), "[]", "without a gate");
    let gate = jail.gate(&[]);
    for capabilities in ["", ",+net_raw"] {
        assert_eq!(forged(capabilities), "[]");
    }
    gate.signal(Signal::SIGKILL);
    assert!(!gate.wait().status.success());
    for capabilities in ["", ",+net_raw"] {
        assert_eq!(forged(capabilities), "[]", "after the gate was killed");
    }
}

/// Waits until it says so.
fn there(job: Job<'_>) -> Running<'_> {
    let mut sleeper = job.spawn();
    sleeper.wait_for_output("there");
    sleeper
}

#[test]
fn e14_who_could_send_past_the_rules_is_refused_and_named() {
    let world = World::new("keep-capable");
    let yard = Yard::new(&world);
    let jail = Jail::new(&yard);
    let attach = |options: &[&str]| jail.attach(&[&["--keep-interface"], options].concat());
    const SLEEPER: &str = "import time; print('there', flush=True); time.sleep(600)";
    let raw = there(jail.python(",+net_raw", SLEEPER));
    let named = format!("process {} (python3) has CAP_NET_RAW in its effective set", raw.pid());
    assert_complains(&attach(&[]).run(), 64, &[&named, "hint: ", "--cap-drop NET_RAW", "--allow-net-raw"]);
    drop(raw);
    // As a user who is not root it is in the bounding set alone.
    let user = ["setpriv", "--reuid=61010", "--regid=61010", "--clear-groups", "python3", "-c", SLEEPER];
    let raw = there(jail.job(",+net_raw,+setuid,+setgid", &user));
    assert_complains(&attach(&[]).run(), 64, &["has CAP_NET_RAW in its bounding set"]);
    let mut gate = jail.gate(&["--allow-net-raw"]);
    gate.wait_for_complaint("has CAP_NET_RAW in its bounding set");
    let log = yard.log_with("jail", 1, |line| line["action"] == "way_past_allowed");
    let said = actions(&log, "way_past_allowed");
    assert!(matches!(said.as_slice(), [said] if said.contains("CAP_NET_RAW")), "{said:?}");
    drop((gate, raw));
    for name in ["net_admin", "sys_admin"] {
        let _held = there(jail.python(&format!(",+{name}"), SLEEPER));
        let words = format!("has CAP_{} in its", name.to_uppercase());
        assert_complains(&attach(&["--allow-net-raw"]).run(), 64, &[&words, "hint: "]);
    }
    // Two ends in there: what the workload sends by one would come in by the other.
    jail.namespace.ip(&["link", "add", "in0", "type", "veth", "peer", "name", "in1"]);
    let complaint = attach(&["--allow-net-raw"]).run();
    assert_complains(
        &complaint,
        64,
        &["what comes in by in1, in0 could have been sent by the workload", "hint: "],
    );
    jail.namespace.ip(&["link", "del", "in0"]);
    // A socket outlives the capability that it was opened with.
    let opener = "
import ctypes, os, socket, sys
socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0).detach()
libc = ctypes.CDLL(None)
for number in range(64):
    libc.prctl(24, number, 0, 0, 0)
data = (ctypes.c_uint32 * 6)()
assert libc.capset((ctypes.c_uint32 * 2)(0x20080522, 0), data) == 0
print('given up', flush=True)
sys.stdin.read()
";
    let mut opener = jail.python(",+net_raw,+setpcap", opener).spawn();
    opener.wait_for_output("given up");
    assert_complains(&attach(&[]).run(), 64, &["a packet socket is open in the namespace", "hint: "]);
    drop(opener);
    let _gate = jail.gate(&[]);
    assert!(yard.site.requests().is_empty());
}

#[test]
fn what_does_not_go_with_interfaces_that_stay_is_refused_at_the_command_line() {
    let world = World::new("keep-line");
    let yard = Yard::new(&world);
    let refused = |line: &[&str], words: &str| {
        let outcome = yard.job([&["sluicegate"], line].concat()).run();
        assert_complains(&outcome, 64, &[words]);
    };
    refused(&["attach", "pid:1", "--keep-interface", "--publish", "80"], "cannot be used with");
    refused(&["attach", "docker:jail", "--keep-interface", "--follow"], "cannot be used with");
    refused(&["attach", "pid:1", "--allow-net-raw"], "--keep-interface");
    refused(&["sidecar", "--keep-interface"], "unexpected argument");
    refused(&["oci-hook", "--print", "--keep-interface"], "unexpected argument");
    refused(&["run", "--keep-interface", "--", "true"], "unexpected argument");
    refused(&["attach", "/proc/self/ns/net", "--keep-interface"], "our own network namespace");
}

#[test]
fn the_commands_of_the_guide_leave_a_docker_container_its_published_port() {
    let world = World::new("keep-guide");
    let yard = Yard::new(&world);
    let _docker = Docker::start_with_networks(&yard);
    let outcome = yard.shell(&yard.documented("A container that keeps its interface")).run();
    outcome.assert_success();
    assert!(outcome.stdout.ends_with(&format!("{ANSWER}hello from inside\n")), "{outcome:?}");
    yard.log_with("jail", 1, |line| line["host"] == HOST && line["verdict"] == "allowed");
    assert_eq!(yard.site.requests().len(), 1);
}

#[test]
fn no_probe_gets_out_of_a_docker_container_that_keeps_its_interface() {
    let world = World::new("probes-kept");
    let yard = Yard::new(&world);
    let _docker = Docker::start_with_networks(&yard);
    probes::import(&yard, "docker");
    // What Docker gives to root is one too many.
    probes::waits(&yard, "docker", "open", &[]);
    let keep = |name: &str, option: &str| {
        let target = format!("docker:{name}");
        yard.job([
            "sluicegate",
            "attach",
            &target,
            "--policy",
            &yard.policy(),
            "--json",
            "--keep-interface",
            option,
        ])
    };
    let complaint = keep("open", "--no-control").run();
    assert_complains(&complaint, 64, &["CAP_NET_RAW", "--cap-drop NET_RAW (Docker gives it to all)"]);
    let doctor = |name: &str| {
        let report = yard.job(["sluicegate", "doctor", &format!("docker:{name}"), "--json"]).run().json();
        let checks = report["checks"].as_array().unwrap().clone();
        checks.into_iter().find(|check| check["id"] == "keep_interface").unwrap()
    };
    let told = doctor("open");
    assert_eq!((&told["state"], &told["found"]), (&"problem".into(), &"NET_RAW".into()), "{told:#}");
    let mut warned = keep("open", "--allow-net-raw").spawn();
    warned.wait_for_output("\"ready\"");
    warned.wait_for_complaint("CAP_NET_RAW");
    drop(warned);

    // A network with names, for which Docker has rules of its own in there.
    yard.job(["docker", "network", "create", "named"]).run().assert_success();
    probes::waits(&yard, "docker", "jail", &["--network", "named", "--cap-drop", "NET_RAW"]);
    assert_eq!(doctor("jail")["state"], "ok");
    let mut gate = keep("jail", "--no-control").spawn();
    gate.wait_for_output("\"ready\"");
    assert_sealed(&yard, "attach --keep-interface", probes::inside(&yard, "docker", "jail"));
    drop(gate);
    assert_sealed(&yard, "the same after the gate was killed", probes::inside(&yard, "docker", "jail"));
}
