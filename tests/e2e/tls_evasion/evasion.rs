//! Ways round the gate that a workload may try: no name, a cut name, other ports, addresses inside.

use std::io::{ErrorKind, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};

use e2e::{Dns, GATE_IPV4, GATE_IPV6, ORIGIN_IPV4, Origin, World};
use rustls::{ClientConnection, StreamOwned};

use crate::support::{
    PYTHON, answer, client_for, curl, dial, document, end, hello, lists, plain, plain_at, told, trusting,
    verdicts,
};

#[test]
fn e01_tls_without_a_server_name_is_refused() {
    let world = World::new("e01");
    let target = "198.51.100.7:443";
    let line = ["openssl", "s_client", "-noservername", "-quiet", "-verify_return_error", "-connect", target];
    for (number, host) in ["198.51.100.7", "allowed.test"].into_iter().enumerate() {
        let origin = hello(&world);
        let resolve = [(target, origin.address()), ("allowed.test:443", origin.address())];
        let policy = document(&world, "allowed_hosts = [\"allowed.test\"]", &resolve);
        let request = format!("GET / HTTP/1.0\r\nHost: {host}\r\n\r\n");
        let outcome = world.gate(&policy).job(line).stdin(request).run();
        let (status, reason) = [("403", "server_name_missing"), ("421", "authority_mismatch")][number];
        assert!(outcome.stdout.starts_with(&format!("HTTP/1.0 {status} ")), "{outcome:#?}");
        assert_eq!(verdicts(&outcome.log), [format!("refused {reason}")]);
        assert_eq!(outcome.only_exchange()["original_destination"], target);
        origin.assert_untouched();
    }
}

type Cut = fn(Vec<u8>) -> Vec<Vec<u8>>;

/// The handshake message in two records: what follows the five bytes of a record's header, cut.
fn two_records(hello: Vec<u8>) -> Vec<Vec<u8>> {
    let (first, second) = hello[5..].split_at(40);
    let record = |part: &[u8]| {
        let length = u16::try_from(part.len()).unwrap().to_be_bytes();
        [&hello[..3], &length, part].concat()
    };
    vec![[record(first), record(second)].concat()]
}

fn two_segments(hello: Vec<u8>) -> Vec<Vec<u8>> {
    let (first, second) = hello.split_at(60);
    vec![first.to_vec(), second.to_vec()]
}

fn single_bytes(hello: Vec<u8>) -> Vec<Vec<u8>> {
    hello.into_iter().map(|byte| vec![byte]).collect()
}

/// Sends the ClientHello in these parts, then a request; what comes back.
fn get_over(mut io: TcpStream, mut client: ClientConnection, name: &str, cut: Cut) -> (u16, String) {
    let mut hello = Vec::new();
    client.write_tls(&mut hello).unwrap();
    for part in cut(hello) {
        io.write_all(&part).unwrap();
    }
    let mut tls = StreamOwned::new(client, io);
    write!(tls, "GET / HTTP/1.1\r\nHost: {name}\r\n\r\n").unwrap();
    answer(&mut tls)
}

#[test]
fn e02_a_client_hello_in_pieces_is_classified() {
    let world = World::new("e02");
    let origin = hello(&world);
    let gate = world.gate(&lists(&world, 443, &origin)).attach();
    let config = trusting(gate.ca_file(), Vec::new());
    for (what, cut) in
        [("two records", two_records as Cut), ("two segments", two_segments), ("single bytes", single_bytes)]
    {
        let get = |name| get_over(dial(&gate, 443), client_for(&config, name), name, cut);
        let (status, body) = get("denied.test");
        assert!(status == 403 && body.contains("denied_host"), "{what}: {status} {body}");
        assert_eq!(get("allowed.test"), (200, "hello".to_owned()), "{what}");
    }
    let log = end(gate);
    assert_eq!(verdicts(&log), ["refused denied_host", "allowed"].repeat(3));
    assert!(log.iter().filter(|line| line["kind"] == "exchange").all(|line| line["sni"] == line["host"]));
    assert_eq!(origin.requests().len(), 3);
}

#[test]
fn e03_a_server_name_behind_long_extensions_is_read() {
    let world = World::new("e03");
    let origin = hello(&world);
    let gate = world.gate(&lists(&world, 443, &origin)).attach();
    let mut alpn: Vec<Vec<u8>> = (0..25).map(|number| vec![b'a' + number; 250]).collect();
    alpn.push(b"http/1.1".to_vec());
    let config = trusting(gate.ca_file(), alpn);
    for (name, wanted) in [("denied.test", 403), ("allowed.test", 200)] {
        // The order of the extensions is random: until the long one comes before the name.
        let client = (0..1000).find_map(|_| {
            let mut client = client_for(&config, name);
            let mut hello = Vec::new();
            client.write_tls(&mut hello).unwrap();
            let at = hello.windows(name.len()).position(|window| window == name.as_bytes());
            (at? > 5000).then_some((client, hello))
        });
        let (client, hello) = client.unwrap();
        let mut io = dial(&gate, 443);
        io.write_all(&hello).unwrap();
        let (status, body) = get_over(io, client, name, |nothing_more| vec![nothing_more]);
        assert_eq!(status, wanted, "{body}");
    }
    assert_eq!(verdicts(&end(gate)), ["refused denied_host", "allowed"]);
    assert_eq!(origin.only_request().authority, "allowed.test");
}

#[test]
fn e09_unusual_methods_are_judged_as_any_other() {
    let world = World::new("e09");
    let origin = plain(&world);
    let text = "denied_hosts = [\"denied.test\"]\n[[rules]]\nhost = \"limited.test\"\nmethods = [\"GET\"]";
    let resolve = [("denied.test:80", origin.address()), ("limited.test:80", origin.address())];
    let gate = world.gate(&document(&world, text, &resolve)).attach();
    let methods = ["PROPFIND", "QUERY", "get", "Get", "M-SEARCH", "TRACE", "OPTIONS", "X!#$%&'*+.^_`|~"];
    for method in methods {
        for (name, answer) in [("denied.test", "403 denied_host"), ("limited.test", "403 no_rule_matches")] {
            assert_eq!(told(&gate, &["-X", method, &format!("http://{name}/")]), answer, "{method}");
        }
    }
    origin.assert_untouched();
    assert_eq!(told(&gate, &["http://limited.test/"]), "200");
    let log = end(gate);
    let refusals = ["refused denied_host", "refused no_rule_matches"].repeat(methods.len());
    assert_eq!(verdicts(&log), [refusals, vec!["allowed"]].concat());
    assert!(methods.iter().all(|method| log.iter().any(|line| line["method"] == *method)));
}

#[test]
fn e10_http_and_tls_on_other_ports_are_judged() {
    let world = World::new("e10");
    let (http, https) = (plain(&world), hello(&world));
    let text = "internet = false\n[[rules]]\nhost = \"named.test\"";
    let names = [
        ("other.test:8080", http.address()),
        ("other.test:8443", https.address()),
        ("named.test:8080", http.address()),
        ("named.test:8443", https.address()),
    ];
    let gate = world.gate(&document(&world, text, &names)).attach();
    for (name, _) in names {
        let scheme = if name.ends_with("8443") { "https" } else { "http" };
        assert_eq!(told(&gate, &[&format!("{scheme}://{name}/")]), "403 not_named", "{name}");
    }
    assert_eq!(verdicts(&end(gate)), ["refused not_named"; 4]);
    http.assert_untouched();
    https.assert_untouched();

    let text = text.replace("named.test", "named.test:8443");
    let gate = world.gate(&document(&world, &text, &names)).attach();
    assert_eq!(told(&gate, &["https://named.test:8443/"]), "200");
}

#[test]
fn e15_nothing_of_the_gates_own_side_can_be_reached() {
    let world = World::new("e15");
    let inside = world.gate_namespace();
    // What may be listening beside a gate: on every address of its namespace, loopback included.
    let listeners = ["0.0.0.0:7000", "[::]:7001"].map(|address| {
        let listener = inside.enter(|| TcpListener::bind(address)).unwrap();
        listener.set_nonblocking(true).unwrap();
        listener
    });
    let datagrams = inside.enter(|| UdpSocket::bind("0.0.0.0:7000")).unwrap();
    datagrams.set_nonblocking(true).unwrap();
    let gateway = plain_at(&world, ORIGIN_IPV4.into(), 7000);

    let gate = world.gate("version = 1\ninternet = true").attach();
    let addresses = [
        format!("{GATE_IPV4}:7000"),
        format!("[{GATE_IPV6}]:7001"),
        format!("{ORIGIN_IPV4}:7000"),
        "169.254.169.254:80".to_owned(),
        "172.17.0.1:7000".to_owned(),
    ];
    for address in &addresses {
        assert_eq!(told(&gate, &[&format!("http://{address}/")]), "403 forbidden_address", "{address}");
    }
    // Its own loopback is another one than the gate's.
    for address in ["127.0.0.1:7000", "[::1]:7001"] {
        assert_eq!(curl(&gate, &[&format!("http://{address}/")]).code(), 7, "{address}");
    }
    let send = format!(
        "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); \
                        s.sendto(b'x', ('{GATE_IPV4}', 7000))"
    );
    gate.run([PYTHON, "-c", &send]);
    // Sockets with abstract names belong to a network namespace: there must be none in this one.
    let unix = gate.run(["cat", "/proc/net/unix"]);
    assert!(unix.stdout.starts_with("Num ") && !unix.stdout.contains('@'), "{unix:#?}");

    let exchanges = end(gate).into_iter().filter(|line| line["kind"] == "exchange").collect::<Vec<_>>();
    assert_eq!(verdicts(&exchanges), vec!["refused forbidden_address"; addresses.len()]);
    for listener in &listeners {
        assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
    }
    assert_eq!(datagrams.recv(&mut [0; 8]).unwrap_err().kind(), ErrorKind::WouldBlock);
    gateway.assert_untouched();
    assert_eq!(world.arrivals(), e2e::Arrivals::default());
}

/// Dials the gate's own listeners, and tries to take their ports.
const DIAL_LISTENERS: &str = "
import errno, socket
listeners = []
for family, file in ((socket.AF_INET, 'tcp'), (socket.AF_INET6, 'tcp6')):
    rows = [line.split() for line in open('/proc/net/' + file)][1:]
    listeners += [(family, int(row[1].rsplit(':', 1)[1], 16)) for row in rows if row[3] == '0A']
assert sorted(family for family, _ in listeners) == [socket.AF_INET, socket.AF_INET6], listeners
hosts = {socket.AF_INET: ['127.0.0.1', '127.0.0.2', '100.64.0.2', '0.0.0.0'],
         socket.AF_INET6: ['::1', '::ffff:127.0.0.1', 'fd00:e9::2', '::']}
for family, port in listeners:
    for host in hosts[family]:
        tcp = socket.socket(family, socket.SOCK_STREAM)
        tcp.settimeout(10)
        print(host, 'tcp', errno.errorcode[tcp.connect_ex((host, port))])
        udp = socket.socket(family, socket.SOCK_DGRAM)
        udp.settimeout(10)
        try:
            udp.connect((host, port)); udp.send(b'x'); print(host, 'udp', udp.recv(8))
        except OSError as error:
            print(host, 'udp', errno.errorcode.get(error.errno, error))
    squatter = socket.socket(family, socket.SOCK_STREAM)
    squatter.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    squatter.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        squatter.bind((hosts[family][0], port)); squatter.listen(); print('taken')
    except OSError as error:
        print('squatter', errno.errorcode[error.errno])
    print('port', port)
";

#[test]
fn e16_the_listeners_cannot_be_dialled_directly() {
    let world = World::new("e16");
    let gate = world.gate("version = 1\ninternet = true").attach();
    let outcome = gate.run([PYTHON, "-c", DIAL_LISTENERS]);
    // Under `run` the workload has the uid of the gate, which is who may share a port.
    let same_user = world.run("", [PYTHON, "-c", DIAL_LISTENERS]);
    for outcome in [&outcome, &same_user] {
        outcome.assert_success();
        for line in outcome.stdout.lines().filter(|line| !line.starts_with("port ")) {
            let end = line.rsplit(' ').next().unwrap();
            let refused = matches!(end, "ECONNREFUSED" | "EPERM" | "EADDRINUSE");
            assert!(refused, "{line}: {outcome:#?}");
        }
    }
    assert_eq!(verdicts(&same_user.log), [""; 0]);
    // Neither can it be named, at the port that it listens on or any other.
    for port in outcome.stdout.lines().filter_map(|line| line.strip_prefix("port ")) {
        for host in ["127.0.0.1", "[::1]", "localhost", "0.0.0.0"] {
            let (host, url) = (format!("Host: {host}:{port}"), format!("http://198.51.100.7:{port}/"));
            let answer = told(&gate, &["-H", &host, &url]);
            let refusals = ["421 misdirected", "403 forbidden_address", "502 name_not_found"];
            assert!(refusals.contains(&answer.as_str()), "{host}: {answer}");
        }
    }
    let exchanges = verdicts(&end(gate));
    assert!(exchanges.len() == 8 && exchanges.iter().all(|verdict| verdict != "allowed"), "{exchanges:?}");
    assert_eq!(world.arrivals().tcp_connections, 0);
}

#[test]
fn e18_names_that_lead_inside_are_refused() {
    let world = World::new("e18");
    world.add_origin_address("169.254.169.254".parse().unwrap());
    let addresses = [
        "127.0.0.1",
        "127.8.9.10",
        "0.0.0.0",
        "10.77.0.1",
        "10.77.0.2",
        "172.16.0.1",
        "192.168.1.1",
        "100.64.0.2",
        "169.254.169.254",
        "198.18.0.1",
        "224.0.0.1",
        "::1",
        "::ffff:127.0.0.1",
        "::ffff:10.77.0.2",
        "64:ff9b::a4d:2",
        "2002:a4d:2::",
        "fd77::2",
        "fe80::1",
    ];
    let names: Vec<_> = (0..addresses.len()).map(|number| format!("n{number}.test")).collect();
    let zone: Vec<_> = names
        .iter()
        .zip(addresses)
        .map(|(name, address)| (name.as_str(), address.parse().unwrap()))
        .collect();
    let dns = Dns::start(&world, &zone);
    let text = format!(
        "allowed_hosts = [\"*.test\"]\n[[rules]]\nhost = \"spliced.test\"\nintercept = false\n{}\
         dns = [\"{ORIGIN_IPV4}\"]\n",
        world.upstream(&[])
    );
    dns.set("spliced.test", &["10.77.0.2".parse().unwrap()]);
    let origins = ["10.77.0.2:80", "10.77.0.2:443", "[fd77::2]:80", "169.254.169.254:80"].map(|address| {
        let address: SocketAddr = address.parse().unwrap();
        plain_at(&world, address.ip(), address.port())
    });
    let loopback = world.gate_namespace().enter(|| TcpListener::bind("127.0.0.1:80")).unwrap();
    loopback.set_nonblocking(true).unwrap();

    let gate = world.gate(&format!("version = 1\n{text}")).attach();
    for (name, address) in names.iter().zip(addresses) {
        for scheme in ["http", "https"] {
            let answer = told(&gate, &[&format!("{scheme}://{name}/")]);
            assert_eq!(answer, "403 forbidden_address", "{scheme} {name} at {address}");
        }
    }
    assert_ne!(curl(&gate, &["https://spliced.test/"]).code(), 0);
    let log = verdicts(&end(gate));
    let (last, others) = log.split_last().unwrap();
    assert_eq!(others, vec!["refused forbidden_address"; 2 * names.len()]);
    assert!(last.ends_with(" forbidden_address"), "{last}");
    origins.iter().for_each(Origin::assert_untouched);
    assert_eq!(loopback.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
    assert_eq!(world.arrivals().tcp_connections, 0);

    // Where the policy names the range, and only there, the same name gets through.
    let gate = world.gate(&format!("version = 1\n{text}allow_ranges = [\"10.77.0.2/32\"]\n")).attach();
    assert_eq!(told(&gate, &["http://n4.test/"]), "200");
    assert_eq!(told(&gate, &["http://n3.test/"]), "403 forbidden_address");
    assert_eq!(origins[0].only_request().authority, "n4.test");
}

#[test]
fn e18_a_name_that_turns_inward_is_not_followed() {
    let world = World::new("e18-turn");
    let public: IpAddr = "203.0.114.7".parse().unwrap();
    world.add_origin_address(public);
    let (outside, inside) = (plain_at(&world, public, 80), plain_at(&world, ORIGIN_IPV4.into(), 80));
    let dns = Dns::start(&world, &[("turning.test", public)]);
    let text =
        format!("version = 1\nallowed_hosts = [\"turning.test\"]\n[upstream]\ndns = [\"{ORIGIN_IPV4}\"]\n");
    let gate = world.gate(&text).attach();
    let get = || told(&gate, &["http://turning.test/"]);
    assert_eq!(get(), "200");
    dns.set("turning.test", &[ORIGIN_IPV4.into()]);
    assert_eq!(get(), "403 forbidden_address");
    // One public address among inner ones: that one alone is dialled.
    dns.set("turning.test", &[ORIGIN_IPV4.into(), public, Ipv4Addr::LOCALHOST.into()]);
    assert_eq!(get(), "200");
    assert_eq!(verdicts(&end(gate)), ["allowed", "refused forbidden_address", "allowed"]);
    assert_eq!(outside.requests().len(), 2);
    inside.assert_untouched();
}
