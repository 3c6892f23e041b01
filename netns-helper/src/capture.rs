//! The capture of one network namespace, in the one order that leaves no moment unguarded.

use crate::addresses;
use crate::failure::Failure;
use crate::nft::Installed;
use crate::routes::{self, Routing};
use crate::sockets::Sockets;
use crate::{kept_ruleset, nft, ruleset, sockets};
use std::os::fd::OwnedFd;

/// A captured namespace, to be handed to the gate.
#[derive(Debug)]
pub(crate) struct Capture {
    /// The port of the four listeners on 127.0.0.1 and ::1.
    pub(crate) port: u16,
    /// Whether the kernel keeps a second gate from attaching while the last descriptor lives.
    pub(crate) exclusive: bool,
    /// TCP v4 v6, UDP v4 v6, raw v4 v6, and the netlink socket that owns the table.
    pub(crate) descriptors: [OwnedFd; 7],
    /// The names of the interfaces that stayed.
    pub(crate) interfaces: Vec<String>,
}

/// Captures the current thread's network namespace. Nothing is routed before the rules are there, and
/// no rule is there before somebody listens.
pub(crate) fn capture() -> Result<Capture, Failure> {
    let routing = Routing::open()?;
    routing.refuse_other_interfaces()?;
    let sockets = sockets::open()?;
    let table = nft::install(&[ruleset::table(sockets.port)])?;
    routing.install()?;
    Ok(captured(sockets, table, Vec::new()))
}

/// The same, but the interfaces stay for what comes in by them. Where there are none, it is the same.
pub(crate) fn capture_beside_interfaces() -> Result<Capture, Failure> {
    let routing = Routing::open()?;
    let interfaces = routing.ways_in()?;
    if interfaces.is_empty() {
        return capture();
    }
    let addresses = addresses::of_interfaces(&routing)?;
    let sockets = sockets::open()?;
    let table = nft::install(&kept_ruleset::tables(sockets.port, &addresses))?;
    routing.install_beside(&interfaces, kept_ruleset::CAPTURED)?;
    Ok(captured(sockets, table, interfaces.iter().map(routes::name).collect()))
}

fn captured(sockets: Sockets, table: Installed, interfaces: Vec<String>) -> Capture {
    let [tcp4, tcp6, udp4, udp6, raw4, raw6] = sockets.descriptors;
    Capture {
        port: sockets.port,
        exclusive: table.exclusive,
        descriptors: [tcp4, tcp6, udp4, udp6, raw4, raw6, table.owner],
        interfaces,
    }
}
