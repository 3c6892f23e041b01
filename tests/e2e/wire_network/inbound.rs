//! What comes in: a server of the workload's own is reached from within its namespace and never by an
//! interface, since a namespace that has one is not taken, and one that appears later leads nowhere.

use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

use e2e::{Arrivals, Namespace, Running, World};
use serde_json::json;

use crate::support::{api_origin, curl, lines, python, script};

/// Serves on port 8080 of every address, and says who came.
const SERVER: &str = "
import socket
server = socket.create_server(('::', 8080), family=socket.AF_INET6, dualstack_ipv6=True)
print('listening', flush=True)
while True:
    stream, peer = server.accept()
    stream.sendall(b'from the app\\n')
    stream.close()
";

fn app<'world>(world: &'world World, namespace: &Namespace) -> Running<'world> {
    let mut app = world.job(namespace, script(SERVER, &[])).spawn();
    app.wait_for_output("listening");
    app
}

/// What a server on port 8080 says to who connects from this namespace.
fn said(from: &Namespace, address: impl Into<IpAddr>) -> Result<String, std::io::Error> {
    let address = SocketAddr::new(address.into(), 8080);
    let mut stream = from.enter(|| TcpStream::connect_timeout(&address, Duration::from_secs(2)))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

#[test]
fn a_server_of_the_workload_is_reached_within_its_namespace_and_not_captured() {
    let world = World::new("inbound");
    let (_origin, policy) = api_origin(&world);
    let gate = world.gate(&policy).attach();
    let _app = app(&world, gate.namespace());
    let own: [IpAddr; 6] = [
        Ipv4Addr::LOCALHOST.into(),
        Ipv4Addr::new(127, 0, 0, 2).into(),
        Ipv4Addr::new(100, 64, 0, 2).into(),
        Ipv6Addr::LOCALHOST.into(),
        Ipv6Addr::new(0xfd00, 0xe9, 0, 0, 0, 0, 0, 2).into(),
        Ipv4Addr::UNSPECIFIED.into(),
    ];
    for address in own {
        assert_eq!(said(gate.namespace(), address).unwrap(), "from the app\n", "{address}");
    }
    assert!(gate.log().iter().all(|line| line["kind"] == "control"), "{:#?}", gate.log());
    // Foreign addresses on the same port are captured all the same.
    assert!(said(gate.namespace(), Ipv4Addr::new(198, 51, 100, 7)).is_err());
}

/// Joins a namespace to the origin namespace as a container's own interface would be: `198.51.100.1` and
/// `fd78::1` there, `.2` and `::2` at the origins.
fn add_interface(world: &World, namespace: &Namespace) {
    const HARDWARE: [&str; 2] = ["02:00:00:00:01:01", "02:00:00:00:01:02"];
    let origin = world.origin_namespace();
    let peer = ["peer", "name", "eth0", "address", HARDWARE[0], "netns", namespace.name()];
    origin.ip(&[&["link", "add", "bridge", "address", HARDWARE[1], "type", "veth"][..], &peer].concat());
    for (place, device, number, other) in
        [(namespace, "eth0", 1, HARDWARE[1]), (origin, "bridge", 2, HARDWARE[0])]
    {
        place.ip(&["addr", "add", &format!("198.51.100.{number}/24"), "dev", device]);
        place.ip(&["addr", "add", &format!("fd78::{number}/64"), "dev", device, "nodad"]);
        place.ip(&["link", "set", device, "up"]);
        place.ip(&["neigh", "add", &format!("fd78::{}", 3 - number), "lladdr", other, "dev", device]);
    }
}

const INSIDE: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1)), IpAddr::V6(Ipv6Addr::new(0xfd78, 0, 0, 0, 0, 0, 0, 1))];

#[test]
fn a_namespace_with_an_interface_is_refused_and_stays_as_it_was() {
    let world = World::new("inbound-refused");
    let namespace = Namespace::new(&format!("{}-eth0", world.gate_namespace().name()));
    add_interface(&world, &namespace);
    let _app = app(&world, &namespace);
    let path = namespace.path().display().to_string();
    let log = world.path("log/refused.jsonl").display().to_string();
    let line = [&world.program("sluicegate"), "attach", &path, "--json", "--log", &log].map(str::to_owned);
    let outcome = world.root_job(world.gate_namespace(), line).run();
    assert_eq!(outcome.code(), 64, "{outcome:?}");
    for part in ["interfaces besides lo", "eth0", "--network none"] {
        assert!(outcome.stderr.contains(part), "{part}: {outcome:?}");
    }
    for address in INSIDE {
        assert_eq!(said(world.origin_namespace(), address).unwrap(), "from the app\n", "{address}");
    }
    assert_eq!(namespace.nft(&["list", "ruleset"]), "");
}

/// Tries what needs no privilege to leave by a device that is named, then what a program would do anyway.
const BY_DEVICE: &str = "
import errno, json, socket, sys
ends = {}
def attempt(name, act):
    try: ends[name] = act() or 'sent'
    except TimeoutError: ends[name] = 'ETIMEDOUT'
    except OSError as error: ends[name] = errno.errorcode.get(error.errno, str(error))
def tcp(family, host, device):
    s = socket.socket(family, socket.SOCK_STREAM); s.settimeout(1.5)
    if device: s.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b'eth0')
    s.connect((host, 443)); return 'connected'
def udp(family, host, device):
    s = socket.socket(family, socket.SOCK_DGRAM)
    if device: s.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b'eth0')
    s.sendto(b'x', (host, 9))
def echo(family, protocol, packet, host):
    s = socket.socket(family, socket.SOCK_RAW, protocol)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b'eth0')
    s.sendto(packet, (host, 0))
for version, family, near, far in ((4, socket.AF_INET, '198.51.100.2', '192.0.2.9'), (6, socket.AF_INET6, 'fd78::2', '2001:db8::9')):
    for place, host in (('near', near), ('far', far)):
        for device in (False, True):
            name = f'{version} {place} {\"device\" if device else \"\"}'
            attempt('tcp ' + name, lambda: tcp(family, host, device))
            attempt('udp ' + name, lambda: udp(family, host, device))
attempt('echo 4', lambda: echo(socket.AF_INET, 1, b'\\x08\\0\\xf7\\xff\\0\\0\\0\\0', '198.51.100.2'))
attempt('echo 6', lambda: echo(socket.AF_INET6, 58, b'\\x80\\0\\0\\0\\0\\0\\0\\0', 'fd78::2'))
print(json.dumps(ends))
";

#[test]
fn an_interface_that_appears_later_leads_neither_out_nor_in() {
    let world = World::new("inbound-later");
    let (_origin, policy) = api_origin(&world);
    let gate = world.gate(&policy).attach();
    let _app = app(&world, gate.namespace());
    add_interface(&world, gate.namespace());
    let before = world.arrivals();
    let ends = python(world.root_job(gate.namespace(), script(BY_DEVICE, &[])));
    for (name, end) in ends.as_object().unwrap() {
        if name.contains("device") || name.contains("echo") {
            assert!(end != "sent" && end != "connected", "{name}: {ends:#}");
        }
    }
    for address in INSIDE {
        let error = said(world.origin_namespace(), address).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::TimedOut, "{address}: {error}");
    }
    assert_eq!(world.arrivals(), before, "something left: {ends:#}");
    assert_eq!(world.arrivals(), Arrivals::default());
    curl(&gate, &["https://api.test/"]).assert_success().assert_stdout("hello");
    let allowed = [("kind", json!("exchange")), ("verdict", json!("allowed"))];
    assert_eq!(lines(&gate.log(), &allowed).len(), 1);
}
