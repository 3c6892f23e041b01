//! The origins and documents of these tests, and clients that say exactly what they are told to.

use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use e2e::{Attached, Identity, ORIGIN_IPV4, Origin, OriginConfig, Outcome, Reply, World};
use nix::sys::signal::Signal;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use serde_json::Value;

pub(crate) const PYTHON: &str = "/usr/bin/python3";
/// Longer than the gate waits for anything in these tests.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);
/// What clients of our own dial: it is no origin's, since the gate dials by name.
pub(crate) const ANYWHERE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);

pub(crate) fn document(world: &World, text: &str, resolve: &[(&str, SocketAddr)]) -> String {
    format!("version = 1\n{text}\n{}", world.upstream(resolve))
}

const LISTS: &str = "allowed_hosts = [\"allowed.test\", \"denied.test\"]\ndenied_hosts = [\"denied.test\"]";

/// Where the two names of [`LISTS`] lead, on a port.
pub(crate) fn lists(world: &World, port: u16, origin: &Origin) -> String {
    let names = ["allowed.test", "denied.test"].map(|name| format!("{name}:{port}"));
    document(world, LISTS, &[(&names[0], origin.address()), (&names[1], origin.address())])
}

pub(crate) fn hello(world: &World) -> Origin {
    Origin::start(world, |_| Reply::text("hello"))
}

pub(crate) fn plain_at(world: &World, address: IpAddr, port: u16) -> Origin {
    let config = OriginConfig { address, port, identity: Identity::Plain, alpn: &["http/1.1"] };
    Origin::start_with(world, config, |_| Reply::text("hello").header("connection", "close"))
}

pub(crate) fn plain(world: &World) -> Origin {
    plain_at(world, ORIGIN_IPV4.into(), 0)
}

/// curl in the sealed namespace, to its end.
pub(crate) fn curl(gate: &Attached<'_>, arguments: &[&str]) -> Outcome {
    let mut line = vec!["curl", "-sS", "--max-time", "20"];
    line.extend(arguments);
    gate.run(line)
}

/// What curl was told: the status, and the reason where the gate gave one.
pub(crate) fn told(gate: &Attached<'_>, arguments: &[&str]) -> String {
    let format = "%{http_code} %header{x-sluicegate-reason}";
    let outcome = curl(gate, &[&["-o", "/dev/null", "-w", format], arguments].concat());
    outcome.assert_success();
    outcome.stdout.trim_end().to_owned()
}

/// `VERDICT REASON` of every exchange and flow.
pub(crate) fn verdicts(log: &[Value]) -> Vec<String> {
    let word = |line: &Value, name: &str| line[name].as_str().unwrap_or_default().to_owned();
    log.iter()
        .filter(|line| line["kind"] == "exchange" || line["kind"] == "flow")
        .map(|line| format!("{} {}", word(line, "verdict"), word(line, "reason")).trim_end().to_owned())
        .collect()
}

/// Ends the gate; the log is whole then.
pub(crate) fn end(gate: Attached<'_>) -> Vec<Value> {
    let (outcome, _namespace) = gate.end(Signal::SIGTERM);
    outcome.assert_success();
    outcome.log
}

pub(crate) fn dial(gate: &Attached<'_>, port: u16) -> TcpStream {
    let address = SocketAddr::new(ANYWHERE.into(), port);
    let stream = gate.namespace().enter(|| TcpStream::connect_timeout(&address, DEADLINE)).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

pub(crate) fn trusting(ca_file: &Path, alpn: Vec<Vec<u8>>) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(ca_file).unwrap()).unwrap();
    let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn;
    Arc::new(config)
}

pub(crate) fn client_for(config: &Arc<ClientConfig>, name: &str) -> ClientConnection {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    ClientConnection::new(Arc::clone(config), name).unwrap()
}

/// One response: its status and its body.
pub(crate) fn answer(io: &mut impl Read) -> (u16, String) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        io.read_exact(&mut byte).unwrap_or_else(|error| {
            panic!("{error} after {:?}", String::from_utf8_lossy(&head));
        });
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap().to_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
    let mut body = vec![0; length.map_or(0, |length| length.trim().parse().unwrap())];
    io.read_exact(&mut body).unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), String::from_utf8(body).unwrap())
}
