//! Ways round the capture that need a privilege or an odd socket: marks, raw protocols, devices, rules of
//! others, namespaces within. The container of an `attach` may have root's capabilities.

use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use e2e::{Arrivals, Namespace, Origin, Reply, World};
use serde_json::{Value, json};

use crate::support::{allowing, allowing_api, api_origin, curl, plain, python, script};

/// Every mark of the lowest two bytes' halves, and those that proxies are known to exempt, on TCP and UDP
/// of both families; then every protocol of IP that is not TCP or UDP, from raw sockets; then frames.
const MARKS_AND_PROTOCOLS: &str = "
import errno, json, socket, struct
SO_MARK, found = 36, {}
FAMILIES = ((4, socket.AF_INET, '10.77.0.2'), (6, socket.AF_INET6, 'fd77::2'))
def note(kind, act):
    try: act(); end = 'sent'
    except OSError as error: end = errno.errorcode.get(error.errno, str(error))
    found.setdefault(kind, {}).setdefault(end, 0)
    found[kind][end] += 1
def marked(family, kind, host, mark):
    with socket.socket(family, kind) as s:
        s.setsockopt(socket.SOL_SOCKET, SO_MARK, mark); s.settimeout(5)
        s.connect((host, 443 if kind == socket.SOCK_STREAM else 9)); s.send(b'x')
marks = [low << shift for shift in (0, 8) for low in range(256)]
marks += [0x539, 1337, 0x2023, 0x2024, 0x4000, 0x8000, 0x80000, 0xca6c, 0x7fffffff, -1]
for version, family, host in FAMILIES:
    for mark in marks:
        note(f'tcp {version}', lambda: marked(family, socket.SOCK_STREAM, host, mark))
        note(f'udp {version}', lambda: marked(family, socket.SOCK_DGRAM, host, mark))
    for protocol in set(range(1, 256)) - {6, 17}:
        def raw():
            with socket.socket(family, socket.SOCK_RAW, protocol) as s:
                s.setsockopt(socket.SOL_SOCKET, SO_MARK, 0x539)
                packet = b'E\\0\\0\\x18\\0\\1\\0\\0@\\xfd\\0\\0d@\\0\\2\\nM\\0\\2data' if protocol == 255 else bytes(16)
                s.sendto(packet, (host, 0))
        note(f'raw {version}', raw)
def frame(protocol, payload):
    head = lambda check: struct.pack('>BBHHHBBH4s4s', 69, 0, 20 + len(payload), 1, 0, 64, protocol, check, socket.inet_aton('100.64.0.2'), socket.inet_aton('10.77.0.2'))
    # With a wrong checksum it would be dropped by the first kernel that sees it.
    check = sum(struct.unpack('>10H', head(0))); check = (check & 0xffff) + (check >> 16)
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)) as s:
        s.bind(('lo', 0)); s.send(bytes(12) + b'\\x08\\x00' + head(~check & 0xffff) + payload)
note('frame', lambda: frame(17, struct.pack('>4H', 4000, 9, 9, 0) + b'x'))
note('frame', lambda: frame(6, struct.pack('>2H2I4H', 4000, 443, 1, 0, 0x5002, 1000, 0, 0)))
note('frame', lambda: frame(1, b'\\x08\\0\\xf7\\xff\\0\\0\\0\\0'))
print(json.dumps(found))
";

#[test]
fn e14_no_mark_and_no_protocol_gets_past_the_gate() {
    let world = World::new("e14");
    let (_origin, policy) = api_origin(&world);
    let gate = world.gate(&policy).attach();
    let found = python(world.root_job(gate.namespace(), script(MARKS_AND_PROTOCOLS, &[])));
    for version in [4, 6] {
        // Each was captured, which is why it could connect.
        assert_eq!(found[format!("tcp {version}")], json!({ "sent": 522 }), "{found:#}");
        let raw = found[format!("raw {version}")].as_object().unwrap();
        assert!(!raw.contains_key("sent"), "{found:#}");
        assert_eq!(raw.values().filter_map(Value::as_u64).sum::<u64>(), 253, "{found:#}");
    }
    // A frame goes by the device that it names, and lo is the only one.
    assert_eq!(found["frame"], json!({ "sent": 3 }), "{found:#}");
    assert_eq!(world.arrivals(), Arrivals::default(), "{found:#}");
    curl(&gate, &["https://api.test/"]).assert_success().assert_stdout("hello");
}

/// Multipath TCP, data in the SYN, sources and devices of loopback: to the gate as any TCP, and to a server
/// of the workload's own as without the gate.
const ODD_SOCKETS: &str = "
import errno, json, socket, struct
FAR, HEAD = ('api.test', 80), b'GET / HTTP/1.1\\r\\nHost: api.test\\r\\nConnection: close\\r\\n\\r\\n'
found = {}
def attempt(name, act):
    try: found[name] = act()
    except OSError as error: found[name] = errno.errorcode.get(error.errno, str(error))
def rest(s):
    return b''.join(iter(lambda: s.recv(4096), b'')).decode().split('\\r\\n')[-1]
def new(protocol=0):
    s = socket.socket(socket.AF_INET, socket.SOCK_STREAM, protocol); s.settimeout(10)
    return s
def multipath():
    s = new(262); s.connect(FAR); s.sendall(HEAD); return rest(s)
def fast_open():
    # Blocking, with the kernel's own time limit: else the call returns before the handshake.
    s = new(); s.settimeout(None); s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack('ll', 10, 0))
    s.sendto(HEAD, 0x20000000, FAR); return rest(s)
def device():
    s = new(); s.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b'lo'); s.connect(FAR); s.sendall(HEAD); return rest(s)
def source(address):
    s = new(); s.bind((address, 0)); s.connect(FAR); s.sendall(HEAD); return rest(s)
attempt('multipath', multipath)
for round in range(2): attempt(f'fast open {round}', fast_open)
attempt('device', device)
attempt('own source', lambda: source('100.64.0.2'))
attempt('loopback source', lambda: source('127.0.0.2'))
server = socket.create_server(('127.0.0.1', 8080))
def own(protocol, device, address):
    s = new(protocol)
    if device: s.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b'lo')
    if address: s.bind((address, 0))
    s.connect(('127.0.0.1', 8080)); there, peer = server.accept(); there.sendall(b'own'); there.close()
    return rest(s)
for name, arguments in (('multipath', (262, False, '')), ('device', (0, True, '')), ('source', (0, False, '127.0.0.2'))):
    attempt('to its own, ' + name, lambda: own(*arguments))
print(json.dumps(found))
";

#[test]
fn odd_tcp_sockets_are_captured_and_loopback_stays_the_workloads_own() {
    let world = World::new("odd-sockets");
    let origin = Origin::start_with(&world, plain(&["http/1.1"]), |_| Reply::text("hello"));
    let gate = world.gate(&allowing(&world, &[("api.test:80", origin.address())])).attach();
    let mut found = python(gate.job(script(ODD_SOCKETS, &[])));
    // Whether a source on loopback may go anywhere is the kernel's to say; past the gate it does not.
    let loopback = found.as_object_mut().unwrap().remove("loopback source").unwrap();
    assert!(loopback == "hello" || loopback.as_str().unwrap().starts_with('E'), "{loopback}");
    let expected = json!({
        "multipath": "hello", "fast open 0": "hello", "fast open 1": "hello", "device": "hello",
        "own source": "hello", "to its own, multipath": "own", "to its own, device": "own",
        "to its own, source": "own",
    });
    assert_eq!(found, expected);
    let count = if loopback == "hello" { 6 } else { 5 };
    assert_eq!(origin.requests().len(), count);
}

#[test]
fn e14_root_within_cannot_take_the_rules_away() {
    let world = World::new("e14-rules");
    let (_origin, policy) = api_origin(&world);
    let gate = world.gate(&policy).attach();
    let before = gate.namespace().nft(&["list", "table", "inet", "sluicegate"]);
    let attempts = [
        &["flush", "ruleset"][..],
        &["delete", "table", "inet", "sluicegate"],
        &["flush", "table", "inet", "sluicegate"],
        &["insert", "rule", "inet", "sluicegate", "out", "accept"],
        &["add", "table", "inet", "sluicegate", "{ flags dormant; }"],
    ];
    for attempt in attempts {
        let outcome = world.root_job(gate.namespace(), [&["nft"], attempt].concat()).run();
        let rules = gate.namespace().nft(&["list", "table", "inet", "sluicegate"]);
        let rules_without_counts = |text: &str| text.replace(|letter: char| letter.is_ascii_digit(), "");
        assert_eq!(rules_without_counts(&rules), rules_without_counts(&before), "{outcome:?}");
        curl(&gate, &["https://api.test/"]).assert_success().assert_stdout("hello");
    }
    // Nor do routes of its own lead out: there is no device that they could name.
    let routes = "ip rule add pref 1 lookup 7; ip route add default dev lo table 7; \
                  ip -6 rule add pref 1 lookup 7; ip -6 route add default dev lo table 7; \
                  ip route add unreachable 10.77.0.0/24; ping -c 1 -W 1 10.77.0.2; \
                  curl -s --max-time 3 -o /dev/null http://10.77.0.2/ http://[fd77::2]/";
    world.root_job(gate.namespace(), ["sh", "-c", routes]).run();
    let (before, origin) = (Arrivals::default(), world.arrivals());
    assert_eq!((origin.udp, origin.icmp, origin.other), (before.udp, before.icmp, before.other));
    assert_eq!(origin.tcp_connections, 1, "the gate's own, kept for the next request");
}

#[test]
fn a_namespace_with_strict_reverse_paths_is_captured_as_well() {
    let world = World::new("rp-filter");
    let (_origin, policy) = api_origin(&world);
    let namespace = Namespace::new(&format!("{}-strict", world.gate_namespace().name()));
    let strict = "for i in all default lo; do echo 1 >/proc/sys/net/ipv4/conf/$i/rp_filter; done";
    world.root_job(&namespace, ["sh", "-ec", strict]).run().assert_success();
    let gate = world.gate(&policy).attach_to(namespace);
    for family in ["-4", "-6"] {
        curl(&gate, &[family, "https://api.test/"]).assert_success().assert_stdout("hello");
    }
}

#[test]
fn a_namespace_within_a_container_has_no_way_round() {
    let world = World::new("nested");
    let (_origin, policy) = api_origin(&world);
    let gate = world.gate(&policy).attach();
    let inner = Namespace::new(&format!("{}-inner", world.gate_namespace().name()));
    let (outer, name) = (gate.namespace(), inner.name().to_owned());
    outer.ip(&["link", "add", "inner", "type", "veth", "peer", "name", "eth0", "netns", &name]);
    for (place, device, number) in [(outer, "inner", 1), (&inner, "eth0", 2)] {
        place.ip(&["addr", "add", &format!("172.20.0.{number}/24"), "dev", device]);
        place.ip(&["addr", "add", &format!("fd79::{number}/64"), "dev", device, "nodad"]);
        place.ip(&["link", "set", device, "up"]);
    }
    inner.ip(&["route", "add", "default", "via", "172.20.0.1"]);
    inner.ip(&["route", "add", "default", "via", "fd79::1"]);
    let forward = "echo 1 >/proc/sys/net/ipv4/ip_forward; echo 1 >/proc/sys/net/ipv6/conf/all/forwarding; \
                   nft add table ip nat; nft 'add chain ip nat post { type nat hook postrouting priority 100; }'; \
                   nft add rule ip nat post ip saddr 172.20.0.0/24 masquerade";
    world.root_job(outer, ["sh", "-ec", forward]).run().assert_success();
    for target in ["http://10.77.0.2/", "http://[fd77::2]/", "http://172.20.0.1:8080/"] {
        let line = ["curl", "-s", "--max-time", "3", "-o", "/dev/null", "-w", "%{http_code}", target];
        let outcome = world.job(&inner, line).run();
        assert!(!outcome.status.success() && outcome.stdout == "000", "{outcome:?}");
    }
    world.root_job(&inner, ["ping", "-c", "1", "-W", "1", "10.77.0.2"]).run();
    assert_eq!(world.arrivals(), Arrivals::default());
    curl(&gate, &["https://api.test/"]).assert_success().assert_stdout("hello");
}

#[test]
fn a_namespace_whose_name_is_gone_is_served_and_not_taken_for_the_next_of_that_name() {
    let world = World::new("renamed");
    let (origin, _) = api_origin(&world);
    let gate = world.gate(&allowing_api(&world, &origin)).attach();
    // A program that stays in the namespace, and asks when told to.
    let text = "
import subprocess, sys
for _ in sys.stdin: print(subprocess.run(['curl', '-sS', 'https://api.test/'], capture_output=True, text=True).stdout, flush=True)
";
    let mut staying = gate.job(script(text, &[])).spawn();
    staying.write("\n");
    staying.wait_for_output("hello\n");
    let name = gate.namespace().name().to_owned();
    let rename = format!("ip netns delete {name} && ip netns add {name} && ip -n {name} link set lo up");
    world.root_job(world.gate_namespace(), ["sh", "-ec", &rename]).run().assert_success();
    staying.write("\n");
    staying.wait_for_output("hello\nhello\n");
    // The next of that name is another namespace, of which the gate knows nothing.
    let address: SocketAddr = "198.51.100.7:443".parse().unwrap();
    let dialled = gate.namespace().enter(|| TcpStream::connect_timeout(&address, Duration::from_secs(5)));
    assert!(dialled.is_err(), "{dialled:?}");
    assert!(!gate.namespace().nft(&["list", "ruleset"]).contains("sluicegate"));
    staying.close_stdin();
    staying.wait().assert_success();
}
