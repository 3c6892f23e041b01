//! A captured connection, as the kernel hands it over.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};

use tokio::net::{TcpListener, TcpStream};

/// Where the workload's connection says it comes from.
///
/// Forgeable by a workload that may open raw sockets, so it is only ever logged: who the workload
/// is follows from the listener that accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientAddress(pub SocketAddr);

/// The address that the workload dialled, as the kernel reports it.
///
/// The gate never dials it on a name's behalf: it resolves names itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OriginalDestination(pub SocketAddr);

impl OriginalDestination {
    /// The address dialled, IPv4-mapped IPv6 written as IPv4 so that one host has one form.
    pub fn ip(self) -> IpAddr {
        self.0.ip().to_canonical()
    }

    /// The port dialled.
    pub fn port(self) -> u16 {
        self.0.port()
    }
}

impl fmt::Display for ClientAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for OriginalDestination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A connection whose first byte nobody has read yet.
#[derive(Debug)]
pub struct Accepted {
    /// The forgeable peer address.
    pub client: ClientAddress,
    /// Where the workload wanted to go.
    pub original_destination: OriginalDestination,
    /// The captured connection itself.
    pub io: TcpStream,
}

/// Accepts the next captured connection.
///
/// # Errors
/// Those of `accept(2)`; the caller backs off, since running out of descriptors is temporary.
pub async fn accept(listener: &TcpListener) -> io::Result<Accepted> {
    let (io, client) = listener.accept().await?;
    // A transparent listener's accepted socket has the address that was dialled as its own
    // (Documentation/networking/tproxy.rst in the kernel).
    let original_destination = OriginalDestination(io.local_addr()?);
    // Without this a small response waits 40 ms for the workload's delayed acknowledgement.
    io.set_nodelay(true)?;
    Ok(Accepted { client: ClientAddress(client), original_destination, io })
}
