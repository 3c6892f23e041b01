//! The capture of one network namespace, in the one order that leaves no moment unguarded.

use crate::failure::Failure;
use crate::routes::Routing;
use crate::{nft, sockets};
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
}

/// Captures the current thread's network namespace. Nothing is routed before the rules are there, and
/// no rule is there before somebody listens.
pub(crate) fn capture() -> Result<Capture, Failure> {
    let routing = Routing::open()?;
    routing.refuse_other_interfaces()?;
    let sockets = sockets::open()?;
    let table = nft::install(sockets.port)?;
    routing.install()?;
    let [tcp4, tcp6, udp4, udp6, raw4, raw6] = sockets.descriptors;
    Ok(Capture {
        port: sockets.port,
        exclusive: table.exclusive,
        descriptors: [tcp4, tcp6, udp4, udp6, raw4, raw6, table.owner],
    })
}
