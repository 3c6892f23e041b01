//! Interfaces that somebody puts into a sealed namespace while the gate serves it, from outside: a veth, a bridge and
//! a tun, each with addresses and routes. What programs send by them leaves no more than before.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use e2e::{Arrivals, Attached, World};
use serde_json::{Value, json};

use crate::support::{PYTHON, api_origin, curl, python, script};

/// Opens a tun, and counts what is sent by it until its standard input ends.
const TUN: &str = "
import fcntl, os, select, struct, sys
tun = os.open('/dev/net/tun', os.O_RDWR | os.O_NONBLOCK)
fcntl.ioctl(tun, 0x400454ca, struct.pack('16sH', b'late2', 0x1001))
print('made', flush=True)
seen = 0
while sys.stdin not in select.select([tun, sys.stdin], [], [])[0]:
    os.read(tun, 65536); seen += 1
print('seen', seen)
";

/// Whatever a program can send by a device that it names, or from its addresses.
const TRIES: &str = "
import concurrent.futures, errno, json, socket, sys
DEVICES = (('late0', '172.30.0', 'fd7a'), ('late1', '172.30.1', 'fd7b'), ('late2', '172.30.2', 'fd7c'))
found, tries = {}, []
def attempt(name, act):
    try: act(); end = 'sent'
    except OSError as error: end = errno.errorcode.get(error.errno, str(error))
    found[name] = end
def send(family, kind, protocol, device, source, to):
    with socket.socket(family, kind, protocol) as s:
        s.settimeout(3)
        if device: s.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())
        if source: s.bind((source, 0))
        s.connect(to); s.send(b'\\x08\\0\\xf7\\xff\\0\\0\\0\\0')
def all_of(device, far, version, family, mine, theirs):
    kinds = [('tcp', socket.SOCK_STREAM, 0, 443), ('udp', socket.SOCK_DGRAM, 0, 9), ('dns', socket.SOCK_DGRAM, 0, 53)]
    if 'raw' in sys.argv: kinds += [('echo', socket.SOCK_RAW, 1 if version == 4 else 58, 0), ('gre', socket.SOCK_RAW, 47, 0)]
    for name, kind, protocol, port in kinds:
        for way, bound, source in (('by', device, ''), ('from', '', mine)):
            tries.append((f'{name} {version} {way} {device} {far}', (family, kind, protocol, bound, source, (theirs, port))))
for device, v4, v6 in DEVICES:
    all_of(device, 'near', 4, socket.AF_INET, f'{v4}.1', f'{v4}.2')
    all_of(device, 'near', 6, socket.AF_INET6, f'{v6}::1', f'{v6}::2')
    all_of(device, 'far', 4, socket.AF_INET, f'{v4}.1', '10.77.0.2')
    all_of(device, 'far', 6, socket.AF_INET6, f'{v6}::1', 'fd77::2')
with concurrent.futures.ThreadPoolExecutor(40) as pool:
    for name, arguments in tries: pool.submit(attempt, name, lambda arguments=arguments: send(*arguments))
print(json.dumps(found))
";

/// A frame of UDP by the veth, as somebody with `CAP_NET_RAW` sends one.
const FRAME: &str = "
import socket, struct
udp = struct.pack('>4H', 4000, 9, 9, 0) + b'x'
head = lambda check: struct.pack('>BBHHHBBH4s4s', 69, 0, 20 + len(udp), 1, 0, 64, 17, check, socket.inet_aton('172.30.0.1'), socket.inet_aton('172.30.0.2'))
check = sum(struct.unpack('>10H', head(0))); check = (check & 0xffff) + (check >> 16)
with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)) as s:
    s.bind(('late0', 0)); s.send(b'\\xff' * 6 + b'\\x02\\0\\0\\0\\0\\x51\\x08\\0' + head(~check & 0xffff) + udp)
print('{}')
";

/// Moves them in, and gives them what an engine gives to its own.
fn add_interfaces(world: &World, gate: &Attached<'_>) {
    let (sealed, origin) = (gate.namespace(), world.origin_namespace());
    let peer = ["peer", "name", "late0", "netns", sealed.name()];
    origin.ip(&[&["link", "add", "far0", "type", "veth"][..], &peer].concat());
    sealed.ip(&["link", "add", "late1", "type", "bridge"]);
    world.gate_namespace().ip(&["link", "set", "late2", "netns", sealed.name()]);
    origin.ip(&["addr", "add", "172.30.0.2/24", "dev", "far0"]);
    origin.ip(&["addr", "add", "fd7a::2/64", "dev", "far0", "nodad"]);
    origin.ip(&["link", "set", "far0", "up"]);
    for (number, device) in ["late0", "late1", "late2"].into_iter().enumerate() {
        let v6 = ["fd7a", "fd7b", "fd7c"][number];
        sealed.ip(&["addr", "add", &format!("172.30.{number}.1/24"), "dev", device]);
        sealed.ip(&["addr", "add", &format!("{v6}::1/64"), "dev", device, "nodad"]);
        sealed.ip(&["link", "set", device, "up"]);
        let metric = (number + 1).to_string();
        for via in [format!("172.30.{number}.2"), format!("{v6}::2")] {
            sealed.ip(&["route", "add", "default", "via", &via, "dev", device, "metric", &metric]);
        }
    }
}

#[test]
fn nothing_leaves_by_an_interface_that_is_added_later() {
    let world = World::new("later-interface");
    let (_origin, policy) = api_origin(&world);
    let gate = world.gate(&policy).attach();
    curl(&gate, &["https://api.test/"]).assert_success().assert_stdout("hello");
    let mut tun = world.root_job(world.gate_namespace(), [PYTHON, "-c", TUN]).spawn();
    tun.wait_for_output("made");
    add_interfaces(&world, &gate);
    let before = world.arrivals();

    let tries = |found: Value, count: usize| {
        let found = found.as_object().unwrap().clone();
        assert_eq!(found.len(), count, "{found:#?}");
        // By a device that is not lo there is no connection to anybody, not even to the gate.
        let by = found.iter().filter(|(name, _)| name.starts_with("tcp") && name.contains(" by "));
        assert!(by.clone().count() == 12 && by.clone().all(|(_, end)| end != "sent"), "{found:#?}");
    };
    tries(python(gate.job(script(TRIES, &[]))), 72);
    tries(python(world.root_job(gate.namespace(), script(TRIES, &["raw"]))), 120);
    world.root_job(gate.namespace(), ["ping", "-c", "1", "-W", "1", "-I", "late0", "172.30.0.2"]).run();
    assert_eq!(world.arrivals(), before);
    let bridge = world.root_job(gate.namespace(), ["ip", "-j", "-s", "link", "show", "late1"]).run().json();
    assert_eq!(bridge[0]["stats64"]["tx"]["packets"], 0, "{bridge:#}");
    tun.close_stdin();
    tun.wait().assert_success().assert_stdout("made\nseen 0\n");

    // Nor does anything come in by one.
    let server = "import socket; s = socket.create_server(('0.0.0.0', 8080)); print('listens', flush=True); s.accept()";
    let mut server = gate.job([PYTHON, "-c", server]).spawn();
    server.wait_for_output("listens");
    let address = SocketAddr::new(Ipv4Addr::new(172, 30, 0, 1).into(), 8080);
    let dialled =
        world.origin_namespace().enter(|| TcpStream::connect_timeout(&address, Duration::from_secs(2)));
    assert!(dialled.is_err(), "{dialled:?}");
    drop(server);

    // The policy is obeyed as before, and nobody else is asked for a name.
    curl(&gate, &["https://api.test/"]).assert_success().assert_stdout("hello");
    let outcome = curl(&gate, &["-o", "/dev/null", "-w", "%{http_code}", "http://172.30.0.2/"]);
    assert_eq!(outcome.stdout, "403", "{outcome:?}");
    assert_eq!(world.arrivals(), before);
    // What the threat model leaves open: frames of those who may write frames.
    assert_eq!(python(world.root_job(gate.namespace(), script(FRAME, &[]))), json!({}));
    assert_eq!(world.arrivals(), Arrivals { udp: before.udp + 1, ..before });
    let refused = gate.job(script(FRAME, &[])).run();
    assert!(!refused.status.success() && refused.stderr.contains("PermissionError"), "{refused:?}");
    assert_eq!(world.arrivals(), Arrivals { udp: before.udp + 1, ..before });
}
