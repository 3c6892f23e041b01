//! The listeners and raw sockets that stay in the namespace when the gate serves them from outside.

use crate::failure::{Failure, Kind};
use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;

const STEP: &str = "listeners";
/// Connections waiting to be accepted, for each family.
const BACKLOG: i32 = 1024;
/// How often another free port is tried when one of the four sockets finds it taken.
const PORT_ATTEMPTS: u32 = 16;

/// Six sockets in the order in which they are handed over; TCP and UDP share one port.
#[derive(Debug)]
pub(crate) struct Sockets {
    pub(crate) port: u16,
    pub(crate) descriptors: [OwnedFd; 6],
}

/// Opens all sockets in the current thread's network namespace, on a port that was free for both
/// families and both transports.
pub(crate) fn open() -> Result<Sockets, Failure> {
    let mut taken = io::Error::from(io::ErrorKind::AddrInUse);
    for _ in 0..PORT_ATTEMPTS {
        match open_on_a_free_port() {
            Ok(sockets) => return Ok(sockets),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => taken = error,
            Err(error) => return Err(explain(error)),
        }
    }
    Err(explain(taken))
}

fn open_on_a_free_port() -> io::Result<Sockets> {
    let tcp4 = listener(Domain::IPV4, Type::STREAM, 0)?;
    let port = tcp4.local_addr()?.as_socket().map_or(0, |address| address.port());
    let tcp6 = listener(Domain::IPV6, Type::STREAM, port)?;
    let udp4 = listener(Domain::IPV4, Type::DGRAM, port)?;
    let udp6 = listener(Domain::IPV6, Type::DGRAM, port)?;
    let raw4 = raw(Domain::IPV4)?;
    let raw6 = raw(Domain::IPV6)?;
    Ok(Sockets { port, descriptors: [tcp4, tcp6, udp4, udp6, raw4, raw6].map(OwnedFd::from) })
}

/// A transparent socket on loopback. No address reuse is asked for, so that the workload cannot
/// bind the same port beside us.
fn listener(domain: Domain, kind: Type, port: u16) -> io::Result<Socket> {
    let socket = Socket::new(domain, kind, None)?;
    socket.set_nonblocking(true)?;
    let address = if domain == Domain::IPV6 {
        socket.set_only_v6(true)?;
        socket.set_ip_transparent_v6(true)?;
        SocketAddr::from((Ipv6Addr::LOCALHOST, port))
    } else {
        socket.set_ip_transparent_v4(true)?;
        SocketAddr::from((Ipv4Addr::LOCALHOST, port))
    };
    if kind == Type::DGRAM {
        // The original destination comes with each datagram.
        if domain == Domain::IPV6 {
            setsockopt(&socket, sockopt::Ipv6OrigDstAddr, &true)?;
        } else {
            setsockopt(&socket, sockopt::Ipv4OrigDstAddr, &true)?;
        }
    }
    socket.bind(&SockAddr::from(address))?;
    if kind == Type::STREAM {
        socket.listen(BACKLOG)?;
    }
    Ok(socket)
}

/// Sends UDP answers and ICMP errors from any address; IPPROTO_RAW carries its own IP header.
fn raw(domain: Domain) -> io::Result<Socket> {
    let socket = Socket::new(domain, Type::RAW, Some(Protocol::from(libc::IPPROTO_RAW)))?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn explain(error: io::Error) -> Failure {
    let hint = match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => {
            "transparent and raw sockets need CAP_NET_ADMIN and CAP_NET_RAW in the user namespace that owns the network namespace"
        }
        Some(libc::EAFNOSUPPORT) => {
            "this kernel runs without IPv6 (ipv6.disable=1?); IPv4 and IPv6 are always captured together, so switch it on"
        }
        _ => "see the cause",
    };
    Failure::new(Kind::Privilege, STEP, "the sockets in the namespace could not be opened")
        .because(error)
        .hint(hint)
}
