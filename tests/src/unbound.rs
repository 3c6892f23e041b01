//! A real name server, unbound, in the origin namespace: by UDP, TCP, TLS or HTTPS.

use std::fmt::Write as _;
use std::net::SocketAddr;

use crate::job::Running;
use crate::world::{ORIGIN_IPV4, World};

/// How the server is spoken with; it listens for nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speaks {
    /// UDP and TCP on port 53.
    Udp,
    /// TCP alone on port 53.
    Tcp,
    /// TLS on port 853, with a certificate for `dns.test`.
    Tls,
    /// HTTPS on port 443, likewise.
    Https,
}

/// An unbound that knows its own records and asks nobody.
#[derive(Debug)]
pub struct Unbound<'world> {
    _running: Running<'world>,
    address: SocketAddr,
}

impl<'world> Unbound<'world> {
    /// Starts one for `zone` with these records, such as `example.test. 300 IN TXT "text"`.
    pub fn start(world: &'world World, speaks: Speaks, zone: &str, records: &[&str]) -> Self {
        let port = match speaks {
            Speaks::Udp | Speaks::Tcp => 53,
            Speaks::Tls => 853,
            Speaks::Https => 443,
        };
        let (certificate, key) = world.certificate_files(&["dns.test"]);
        let mut text = format!(
            "server:\n  directory: \"{}\"\n  username: \"\"\n  chroot: \"\"\n  pidfile: \"\"\n  use-syslog: no\n  rrset-roundrobin: no\n  \
             interface: {ORIGIN_IPV4}@{port}\n  access-control: 0.0.0.0/0 allow\n  do-ip6: no\n  do-udp: {}\n  \
             tls-service-key: \"{}\"\n  tls-service-pem: \"{}\"\n  local-zone: \"{zone}\" static\n",
            world.path("").display(),
            if speaks == Speaks::Udp { "yes" } else { "no" },
            key.display(),
            certificate.display(),
        );
        for record in records {
            writeln!(text, "  local-data: '{record}'").expect("a string takes everything");
        }
        text.push_str("remote-control:\n  control-enable: no\n");
        let configuration = world.file("unbound.conf", text).display().to_string();
        let running =
            world.root_job(world.origin_namespace(), ["unbound", "-d", "-c", &configuration]).spawn();
        let address = SocketAddr::new(ORIGIN_IPV4.into(), port);
        world.wait_for_listener(address);
        Self { _running: running, address }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}
