//! The namespace's fate: whom the gate dials, what is left when it ends, and that nothing leaks.

use std::net::SocketAddr;
use std::time::Duration;

use e2e::{Arrivals, Dns, Namespace, ORIGIN_IPV4, ORIGIN_IPV6, Origin, OriginConfig, Reply, Running, World};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::support::{allowing, api_origin, curl, lines, one_line, python, script, until};

/// Tries every way out of a namespace that a root workload has, once, and says how each ended.
const PROBE: &str = r"
import errno, json, socket, struct, sys, time
HERE, FAR = ('10.77.0.2', 'fd77::2'), ('198.51.100.9', '2001:db8::9')
def attempt(act):
    began = time.monotonic()
    try: word = act() or 'sent'
    except socket.timeout: word = 'ETIMEDOUT'
    except OSError as error: word = errno.errorcode.get(error.errno, str(error))
    return [word, time.monotonic() - began]
def tcp(family, host):
    s = socket.socket(family, socket.SOCK_STREAM); s.settimeout(5); s.connect((host, 443))
    return 'connected'
def send(family, kind, protocol, packet, host, port=0):
    socket.socket(family, kind, protocol).sendto(packet, (host, port))
def frame():
    udp = struct.pack('>4H', 4000, 9, 9, 0) + b'x'
    ip = struct.pack('>BBHHHBBH4s4s', 69, 0, 20 + len(udp), 1, 0, 64, 17, 0, socket.inet_aton('100.64.0.2'), socket.inet_aton(HERE[0]))
    s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)); s.bind(('lo', 0)); s.send(bytes(12) + b'\x08\x00' + ip + udp)
def round():
    found = {}
    for version, family, icmp, echo in ((4, socket.AF_INET, 1, b'\x08\0\xf7\xff\0\0\0\0'), (6, socket.AF_INET6, 58, b'\x80\0\0\0\0\0\0\0')):
        for place in (HERE, FAR):
            host, name = place[version == 6], f'{version}{place is HERE and chr(104) or chr(102)}'
            found['tcp' + name] = attempt(lambda: tcp(family, host))
            found['udp' + name] = attempt(lambda: send(family, socket.SOCK_DGRAM, 0, b'x', host, 9))
            found['dns' + name] = attempt(lambda: send(family, socket.SOCK_DGRAM, 0, b'\0\7\1\0\0\1\0\0\0\0\0\0\1a\0\0\1\0\1', host, 53))
            found['icmp' + name] = attempt(lambda: send(family, socket.SOCK_RAW, icmp, echo, host))
            found['sctp' + name] = attempt(lambda: send(family, socket.SOCK_RAW, 132, bytes(12), host))
    found['frame'] = attempt(frame)
    return found
";

/// One round, as JSON.
const ONCE: &str = "\nprint(json.dumps(round()))\n";

/// Rounds until standard input ends; prints each change of how TCP fares.
const FOREVER: &str = r"
import select
rounds, last = 0, None
while not select.select([sys.stdin], [], [], 0)[0]:
    rounds += 1
    word = round()['tcp4h'][0]
    if word != last: print(word, flush=True)
    last = word
print('rounds', rounds)
";

fn probe(world: &World, namespace: &Namespace) -> Value {
    let text = [PROBE, ONCE].concat();
    python(world.root_job(namespace, script(&text, &[])))
}

/// Nobody serves the namespace and nothing leaves it, and who tries is told at once where the
/// protocol can.
#[track_caller]
fn assert_sealed(world: &World, namespace: &Namespace) {
    let before = world.arrivals();
    let found = probe(world, namespace);
    for (name, ended) in found.as_object().unwrap() {
        assert!(ended[1].as_f64().unwrap() < 2.0, "{name} took long: {found:#}");
        if name.starts_with("tcp") {
            assert_eq!(ended[0], "ECONNREFUSED", "{name}: {found:#}");
        }
    }
    for name in ["icmp4h", "icmp6h", "sctp4h", "sctp6h"] {
        assert_ne!(found[name][0], "sent", "{name}: {found:#}");
    }
    let flags = ["+time=1", "+tries=1", "api.test"];
    for server in ["@10.77.0.2", "@127.0.0.53"] {
        let dig = world.job(namespace, [&["dig", server], &flags[..]].concat()).run();
        assert_eq!(dig.code(), 9, "{dig:?}");
    }
    assert_eq!(world.arrivals(), before, "something left: {found:#}");
}

/// The rules, routes and routing rules of a namespace, without numbers that differ each time.
fn configuration(world: &World, namespace: &Namespace) -> String {
    let listing = "nft list ruleset; ip rule; ip -6 rule; ip -4 route show table all; ip -6 route show table all; ip -o addr";
    let outcome = world.root_job(namespace, ["sh", "-c", listing]).run();
    let text = outcome
        .assert_success()
        .stdout
        .replace(|letter: char| letter.is_ascii_digit(), "")
        .replace(" # progname sluicegate", "");
    // Whether somebody owns the table, and who, the listing says as well.
    text.lines().filter(|line| !line.trim_start().starts_with("flags ")).collect::<Vec<_>>().join("\n")
}

fn attach_command(world: &World, namespace: &Namespace, number: usize) -> Vec<String> {
    let log = world.path(&format!("log/second-{number}.jsonl")).display().to_string();
    let path = namespace.path().display().to_string();
    [&world.program("sluicegate"), "attach", &path, "--json", "--log", &log].map(str::to_owned).into()
}

#[test]
fn the_probe_is_seen_where_nothing_is_sealed() {
    let world = World::new("probe");
    let found = probe(&world, world.gate_namespace());
    // The frame went to the gate namespace's own loopback.
    let arrivals = world.arrivals();
    assert!(arrivals.tcp_connections >= 4, "{arrivals:?} {found:#}");
    assert_eq!((arrivals.udp, arrivals.icmp, arrivals.other), (8, 4, 4), "{found:#}");
}

#[test]
fn n05_refusing_origin_is_told_at_once_and_apart_from_a_refusal() {
    let world = World::new("n05");
    let (origin, _) = api_origin(&world);
    let closed = SocketAddr::new(ORIGIN_IPV4.into(), 9);
    let found =
        [("closed.test:443", closed), ("api.test:443", origin.address()), ("spliced.test:443", closed)];
    let policy = allowing(&world, &found) + "[[rules]]\nhost = \"spliced.test\"\nintercept = false\n";
    let mut gate = world.gate(&policy).attach();
    assert_eq!(world.direct(closed, &["https://closed.test/"]).code(), 7);
    for version in ["--http1.1", "--http2"] {
        let outcome = curl(&gate, &[version, "-w", "\n%{http_code}", "https://closed.test/"]);
        let (body, status) = outcome.assert_success().stdout.rsplit_once('\n').unwrap();
        let body: Value = serde_json::from_str(body).unwrap();
        assert_eq!((status, &body["reason"]), ("502", &json!("connect_failed")), "{outcome:?}");
        assert!(body["detail"].as_str().unwrap().contains("refused"), "{body}");
        assert!(outcome.duration < Duration::from_secs(2), "{outcome:?}");
    }
    let closed = [("host", json!("closed.test")), ("reason", json!("connect_failed"))];
    until("both are in the log", || lines(&gate.log(), &closed).len() == 2);
    assert!(
        lines(&gate.log(), &closed).iter().all(|line| line["verdict"] == "failed" && line["status"] == 502)
    );

    let outcome = curl(&gate, &["https://spliced.test/"]);
    assert_eq!(outcome.code(), 35, "a reset within the handshake: {outcome:?}");
    let line = one_line(&mut gate, &[("kind", json!("flow")), ("host", json!("spliced.test"))]);
    assert_eq!((&line["verdict"], &line["reason"]), (&json!("failed"), &json!("connect_failed")));
    curl(&gate, &["https://api.test/"]).assert_success();
}

#[test]
fn n06_ipv6_origin_is_reached() {
    let world = World::new("n06");
    let config = OriginConfig { address: ORIGIN_IPV6.into(), port: 443, ..OriginConfig::default() };
    let origin = Origin::start_with(&world, config, |_| Reply::text("hello"));
    let dns = Dns::start(&world, &[("named.test", ORIGIN_IPV6.into())]);
    let policy = format!(
        "version = 1\nallowed_hosts = [\"api.test\", \"named.test\", \"[fd77::2]\"]\n{}dns = [\"{ORIGIN_IPV4}\"]\nallow_ranges = [\"fd77::/64\"]\n",
        world.upstream(&[("api.test:443", origin.address())])
    );
    let gate = world.gate(&policy).attach();
    for arguments in [
        &["-4", "https://api.test/"][..],
        &["-6", "https://api.test/"],
        &["https://named.test/"],
        &["https://[fd77::2]/"],
    ] {
        curl(&gate, arguments).assert_success().assert_stdout("hello");
    }
    assert!(dns.questions().iter().all(|question| question.starts_with("named.test ")));
    let requests = origin.requests();
    assert_eq!(requests.len(), 4);
    assert_eq!(requests[3].authority, "[fd77::2]");
    let log = gate.log();
    let upstream = [("upstream", json!("[fd77::2]:443")), ("verdict", json!("allowed"))];
    assert_eq!(lines(&log, &upstream).len(), 4, "{log:#?}");
}

#[test]
fn n07_killed_gate_leaves_an_attached_namespace_sealed() {
    let world = World::new("n07");
    let (origin, policy) = api_origin(&world);
    let gate = world.gate(&policy).attach();
    curl(&gate, &["https://api.test/"]).assert_success();
    // A connection that was open, with an exchange on it, ends as well.
    let text = "
import http.client, ssl, sys
connection = http.client.HTTPSConnection('api.test', timeout=30)
connection.request('GET', '/'); print(connection.getresponse().read().decode(), flush=True)
sys.stdin.readline()
try: connection.request('GET', '/'); print(connection.getresponse().status)
except (OSError, http.client.HTTPException) as error: print('broken', type(error).__name__)
";
    let mut open = gate.job(script(text, &[])).spawn();
    open.wait_for_output("hello");
    let (outcome, namespace) = gate.end(Signal::SIGKILL);
    assert!(!outcome.status.success());
    let requests = origin.requests().len();
    open.write("\n");
    let open = open.wait();
    assert!(open.stdout.contains("broken "), "{open:?}");
    assert_sealed(&world, &namespace);
    assert_eq!(origin.requests().len(), requests);
}

#[test]
fn n08_ended_gate_leaves_an_attached_namespace_sealed_and_its_log_closed() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let world = World::new("n08");
        let (_origin, policy) = api_origin(&world);
        let gate = world.gate(&policy);
        let log = gate.log_file().display().to_string();
        let gate = gate.attach();
        let before = configuration(&world, gate.namespace());
        assert!(!before.contains("mark"), "{before}");
        curl(&gate, &["https://api.test/"]).assert_success();
        let (outcome, namespace) = gate.end(signal);
        outcome.assert_success();
        assert!(outcome.duration < Duration::from_secs(30), "{outcome:?}");
        assert_eq!(outcome.lines("exchange").len(), 1);
        let verify = [&world.program("sluicegate"), "log", "verify", "--closed", "--log", &log];
        world.root_job(world.gate_namespace(), verify).run().assert_success();
        assert_eq!(configuration(&world, &namespace), before);
        assert_sealed(&world, &namespace);
    }
}

#[test]
fn n09_second_gate_is_refused_and_the_next_one_replaces_a_dead_one() {
    let world = World::new("n09");
    let (origin, policy) = api_origin(&world);
    let mut gate = world.gate(&policy).attach();
    let first = configuration(&world, gate.namespace());
    for number in 0..2 {
        let second =
            world.root_job(world.gate_namespace(), attach_command(&world, gate.namespace(), number)).run();
        assert_eq!(second.code(), 75, "{second:?}");
        assert!(second.stderr.contains("another gate"), "{second:?}");
        assert_eq!(configuration(&world, gate.namespace()), first);
        curl(&gate, &["https://api.test/"]).assert_success();
    }
    for signal in [Signal::SIGKILL, Signal::SIGTERM, Signal::SIGKILL] {
        let (_, namespace) = gate.end(signal);
        gate = world.gate(&policy).attach_to(namespace);
        assert_eq!(configuration(&world, gate.namespace()), first);
        curl(&gate, &["https://api.test/"]).assert_success();
    }
    for (one, what) in [("table inet ", &first), ("lookup ", &first), ("local default dev lo table", &first)]
    {
        let count = what.lines().filter(|line| line.contains(one)).count();
        // IPv4 and IPv6 have routing rules of their own: the system's three and two, and one more each.
        assert_eq!(
            count,
            match one {
                "lookup " => 7,
                "table inet " => 1,
                _ => 2,
            },
            "{one}: {what}"
        );
    }
    assert_eq!(origin.requests().len(), 5);
}

#[test]
fn n09_of_gates_started_at_once_one_attaches() {
    let world = World::new("n09-race");
    let namespace = Namespace::new(&format!("{}-race", world.gate_namespace().name()));
    let mut gates: Vec<_> = (0..4)
        .map(|number| {
            world.root_job(world.gate_namespace(), attach_command(&world, &namespace, number)).spawn()
        })
        .collect();
    until("all but one gave up", || {
        let ready = gates.iter().filter(|gate| gate.stdout().contains("\"ready\"")).count();
        let busy = gates.iter().filter(|gate| gate.stderr().contains("another gate")).count();
        (ready, busy) == (1, 3)
    });
    let ready = gates.iter().position(|gate| gate.stdout().contains("\"ready\"")).unwrap();
    let gate = gates.swap_remove(ready);
    for loser in gates {
        assert_eq!(loser.wait().code(), 75);
    }
    let served =
        world.job(&namespace, ["curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", "http://a.test/"]);
    served.run().assert_success().assert_stdout("403");
    gate.signal(Signal::SIGTERM);
    gate.wait().assert_success();
}

#[test]
fn n10_not_one_packet_leaves_before_during_and_after() {
    let world = World::new("n10");
    let namespace = Namespace::new(&format!("{}-watched", world.gate_namespace().name()));
    let text = [PROBE, FOREVER].concat();
    let mut watcher = world.root_job(&namespace, script(&text, &[])).spawn();
    watcher.wait_for_output("ENETUNREACH");
    let mut seen = 0;
    let mut now = |watcher: &Running<'_>, wanted: &str| {
        until(&format!("{wanted} is seen from inside"), || {
            watcher.stdout().lines().skip(seen).any(|line| line == wanted)
        });
        seen = watcher.stdout().lines().count();
    };
    let mut gate = world.gate("").attach_to(namespace);
    now(&watcher, "connected");
    for signal in [Signal::SIGKILL, Signal::SIGTERM] {
        let (_, namespace) = gate.end(signal);
        now(&watcher, "ECONNREFUSED");
        gate = world.gate("").attach_to(namespace);
        now(&watcher, "connected");
    }
    let (_, namespace) = gate.end(Signal::SIGKILL);
    now(&watcher, "ECONNREFUSED");
    watcher.close_stdin();
    let outcome = watcher.wait();
    let seen: Vec<_> = outcome.assert_success().stdout.lines().collect();
    // From the first captured packet on there is no moment without rules. A gate that ends resets who has just
    // connected.
    let captured = seen.iter().position(|line| *line == "connected").unwrap();
    let states = &seen[captured..seen.len() - 1];
    assert!(
        states.iter().all(|state| ["connected", "ECONNREFUSED", "ECONNRESET"].contains(state)),
        "{outcome:?}"
    );
    assert_eq!(world.arrivals(), Arrivals::default(), "{outcome:?}");
    drop(namespace);
}

const THEIRS: &str = "
table ip nat {
  chain OUTPUT {
    type nat hook output priority -100; policy accept;
    ip daddr 127.0.0.11 udp dport 53 dnat to 127.0.0.11:41234
    ip daddr 127.0.0.11 tcp dport 53 dnat to 127.0.0.11:41235
  }
  chain POSTROUTING {
    type nat hook postrouting priority 100; policy accept;
    ip saddr 127.0.0.11 udp sport 41234 snat to :53
  }
}
table inet filter {
  set friends { type ipv4_addr; flags interval; elements = { 192.0.2.0/24 }; }
  chain input { type filter hook input priority 0; policy accept; ct state established,related accept; tcp dport 1 drop; }
  chain early { type filter hook output priority -400; policy accept; meta mark set 100; }
}
table ip6 mangle {
  chain pre { type filter hook prerouting priority -150; policy accept; udp dport 9 accept; }
}
";

#[test]
fn n12_tables_of_others_stay_and_change_nothing() {
    let world = World::new("n12");
    let (_origin, policy) = api_origin(&world);
    let namespace = Namespace::new(&format!("{}-shared", world.gate_namespace().name()));
    namespace.nft(&[THEIRS]);
    let theirs = |namespace: &Namespace| {
        let tables = [["ip", "nat"], ["inet", "filter"], ["ip6", "mangle"]];
        tables.map(|[family, name]| namespace.nft(&["list", "table", family, name])).concat()
    };
    let before = theirs(&namespace);
    assert!(before.contains("41234") && before.contains("friends"));
    let mut gate = world.gate(&policy).attach_to(namespace);
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        assert_eq!(theirs(gate.namespace()), before);
        curl(&gate, &["https://api.test/"]).assert_success();
        for transport in ["+notcp", "+tcp"] {
            let flags = ["dig", "+short", "+time=2", "+tries=1", transport, "@127.0.0.11", "api.test"];
            let answer = gate.run(flags);
            assert!(answer.assert_success().stdout.starts_with("198.18."), "{answer:?}");
        }
        let (_, namespace) = gate.end(signal);
        assert_eq!(theirs(&namespace), before);
        assert_sealed(&world, &namespace);
        gate = world.gate(&policy).attach_to(namespace);
    }
    assert_eq!(theirs(gate.namespace()), before);
}
