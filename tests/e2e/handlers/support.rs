//! Handler files, clients that print what they got, and how outcomes are judged.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::time::Duration;

use e2e::{Attached, Dns, Identity, ORIGIN_IPV4, Origin, OriginConfig, Outcome, Reply, Site, World};
pub(crate) use e2e::{answer, assert_line, curl, of_kind};

pub(crate) const PYTHON: &str = "/usr/bin/python3";

pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// Any address that nobody has: a captured connection is for the host that it names.
pub(crate) const ANYWHERE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 9);

/// Writes `handlers/NAME.rhai`, whose function has this body. Policies of this world name it by that
/// path.
pub(crate) fn handler(world: &World, name: &str, body: &str) -> PathBuf {
    script(world, name, format!("fn outbound(request, env, ctx) {{\n{body}\n}}\n"))
}

/// Writes `handlers/NAME.rhai` with exactly this text.
pub(crate) fn script(world: &World, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
    world.file(&format!("handlers/{name}.rhai"), text)
}

/// Fails unless [`curl`] got this body with status 200.
#[track_caller]
pub(crate) fn assert_answer(outcome: &Outcome, body: &str) {
    assert_eq!(answer(outcome), (body, "200 "), "{outcome:?}");
}

/// Fails unless [`curl`] was refused with 403 for this reason.
#[track_caller]
pub(crate) fn assert_refused(outcome: &Outcome, reason: &str) {
    assert_eq!(answer(outcome).1, format!("403 {reason}"), "{outcome:?}");
}

/// A connection out of the sealed namespace, whose reads and writes have a deadline.
pub(crate) fn dial(gate: &Attached<'_>, port: u16) -> TcpStream {
    let address = SocketAddr::new(ANYWHERE.into(), port);
    let stream = gate.namespace().enter(|| TcpStream::connect_timeout(&address, DEADLINE)).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.set_write_timeout(Some(DEADLINE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// A document with one catch-all handler in `handlers/NAME.rhai`, and these names at the site.
pub(crate) fn catch_all(world: &World, site: &Site, name: &str, names: &[&str]) -> String {
    site.policy(world, &format!("outbound = \"handlers/{name}.rhai\""), names)
}

/// An HTTP server on port 80 of an address that is nobody's private one.
pub(crate) fn public_origin(world: &World, address: &str) -> Origin {
    let address = address.parse().unwrap();
    world.add_origin_address(address);
    let config = OriginConfig { address, port: 80, identity: Identity::Plain, ..OriginConfig::default() };
    Origin::start_with(world, config, |request| Reply::text(format!("origin: {}", request.authority)))
}

/// A document by which names are asked for at a name server that knows these ones.
pub(crate) fn with_names(world: &World, text: &str, names: &[(&str, &str)]) -> (Dns, String) {
    let names: Vec<_> = names.iter().map(|(name, address)| (*name, address.parse().unwrap())).collect();
    let dns = Dns::start(world, &names);
    (dns, format!("version = 1\n{text}\n[upstream]\ndns = [\"{ORIGIN_IPV4}\"]\n"))
}
