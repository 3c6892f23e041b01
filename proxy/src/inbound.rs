//! Connections that come in: an address in the gate's namespace that leads to a port of the workload's.
//!
//! The workload has no interface that anybody could reach it by, so what is to come in is accepted here
//! and passed on, unread. It is dialled from within its namespace, at the namespace's own address: a server
//! of the workload's that listens on loopback alone stays its own.

use std::fmt;
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener as StdListener, TcpStream as StdStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};
use tokio::io::{AsyncWriteExt, Interest};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UnixStream};
use tokio::sync::{Mutex, Semaphore};
use tokio::time::timeout;
use tokio_util::either::Either;

use crate::audit::{AUDIT_UNAVAILABLE, AuditRecord, Verdict};
use crate::gate::Gate;
use crate::sniff::reset;
use crate::splice::{break_off, splice};

/// Connections that are passed on at once. Each holds two descriptors.
const INBOUND_MAX: usize = 1_024;

/// How long connecting inside the namespace may take. Nothing is between, so that only a server whose
/// queue is full makes anybody wait.
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);

/// How long making a socket may take, which is one message there and one back.
const DOOR_DEADLINE: Duration = Duration::from_secs(5);

/// What the door is sent, by family; see `netns-helper/src/door.rs`.
pub(crate) const IPV4: &[u8] = b"4";
pub(crate) const IPV6: &[u8] = b"6";

/// Where to listen, and the workload's port that it leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Published {
    listen: SocketAddr,
    port: u16,
}

impl Published {
    /// Reads `[ADDRESS:]PORT[:PORT]`, the workload's port last. Without an address it is the loopback of
    /// IPv4, and without a second port the same.
    ///
    /// # Errors
    /// How it is written, in words.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!("{text:?} is not written [ADDRESS:]PORT[:PORT], such as 8080, 8080:80 or [::]:8080:80")
        };
        let port = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0).ok_or_else(wrong);
        let (address, ports) = match text.strip_prefix('[').and_then(|rest| rest.split_once("]:")) {
            Some((address, ports)) => (format!("[{address}]"), ports),
            None => match text.split_once(':') {
                Some((address, ports)) if address.contains('.') => (address.to_owned(), ports),
                _ => (Ipv4Addr::LOCALHOST.to_string(), text),
            },
        };
        let (outer, inner) = ports.split_once(':').unwrap_or((ports, ports));
        let listen = format!("{address}:{}", port(outer)?).parse().map_err(|_| wrong())?;
        Ok(Self { listen, port: port(inner)? })
    }

    /// Listens, which for ports below 1024 takes a privilege that is given up later.
    ///
    /// # Errors
    /// The address is not there, or is in use.
    pub fn open(self) -> io::Result<Entrance> {
        let listener = StdListener::bind(self.listen)?;
        listener.set_nonblocking(true)?;
        Ok(Entrance { published: self, listener })
    }
}

impl fmt::Display for Published {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.listen, self.port)
    }
}

/// An address that is listened on.
#[derive(Debug)]
pub struct Entrance {
    published: Published,
    listener: StdListener,
}

/// A process in the workload's namespace that makes sockets there.
#[derive(Debug)]
pub struct Door {
    /// None once it is out of step, or gone.
    line: Mutex<Option<UnixStream>>,
    /// The namespace's own addresses.
    addresses: [IpAddr; 2],
}

impl Door {
    /// The process at the other end of `line`. To be called on a runtime.
    ///
    /// # Errors
    /// It is no socket.
    pub fn new(line: OwnedFd, addresses: [IpAddr; 2]) -> io::Result<Self> {
        let line = StdUnixStream::from(line);
        line.set_nonblocking(true)?;
        Ok(Self { line: Mutex::new(Some(UnixStream::from_std(line)?)), addresses })
    }

    /// Connects to a port of the workload's.
    async fn connect(&self, port: u16) -> io::Result<TcpStream> {
        let mut failed = io::Error::from(io::ErrorKind::AddrNotAvailable);
        for address in self.addresses {
            let socket = self.socket(address).await?;
            let address = SocketAddr::new(address, port);
            match timeout(CONNECT_DEADLINE, socket.connect(address)).await? {
                Ok(stream) => return Ok(stream),
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }

    /// A socket in the namespace, of the family of an address.
    async fn socket(&self, address: IpAddr) -> io::Result<TcpSocket> {
        let mut place = self.line.lock().await;
        // Taken, so that an answer which comes too late is nobody else's.
        let mut line = place.take().ok_or(io::ErrorKind::NotConnected)?;
        let asked = async {
            line.write_all(if address.is_ipv4() { IPV4 } else { IPV6 }).await?;
            line.async_io(Interest::READABLE, || receive(&line)).await
        };
        let socket = timeout(DOOR_DEADLINE, asked).await??;
        *place = Some(line);
        match socket {
            Some(socket) => Ok(TcpSocket::from_std_stream(StdStream::from(socket))),
            None => Err(io::Error::other("no socket could be made in the workload's namespace")),
        }
    }
}

/// Takes a socket out of the door's answer; none where it could not make one.
fn receive(line: &UnixStream) -> io::Result<Option<OwnedFd>> {
    let mut word = [0];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut slices = [IoSliceMut::new(&mut word)];
    let received = rustix::net::recvmsg(line, &mut slices, &mut control, RecvFlags::CMSG_CLOEXEC)?;
    if received.bytes == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut rights) => rights.next(),
        _ => None,
    }))
}

/// Passes on what comes to an entrance, until the runtime ends. To be called on a runtime.
///
/// # Errors
/// The listener cannot be used.
pub fn serve(gate: &Arc<Gate>, entrance: Entrance, door: &Arc<Door>) -> io::Result<()> {
    let Entrance { published, listener } = entrance;
    let listener = TcpListener::from_std(listener)?;
    let (gate, door) = (Arc::clone(gate), Arc::clone(door));
    let places = Arc::new(Semaphore::new(INBOUND_MAX));
    tokio::spawn(async move {
        loop {
            // A full house waits in the kernel's queue.
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
            match listener.accept().await {
                Ok((client, from)) => {
                    let record = begin(&gate, published, &client, from);
                    let (gate, door) = (Arc::clone(&gate), Arc::clone(&door));
                    tokio::spawn(async move {
                        pass(&gate, &door, published, client, record).await;
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    });
    Ok(())
}

fn begin(gate: &Gate, published: Published, client: &TcpStream, from: SocketAddr) -> AuditRecord {
    let mut record = gate.log.inbound(from, client.local_addr().unwrap_or(published.listen));
    record.generation = Some(Arc::clone(&gate.generation().id));
    record.rule = Some(format!("--publish {published}"));
    record.verdict = Some(Verdict::Failed);
    record
}

/// Connects to the workload, and passes bytes on both ways to the end. What fails is reset.
async fn pass(gate: &Gate, door: &Door, published: Published, client: TcpStream, mut record: AuditRecord) {
    if !gate.log.is_healthy() {
        record.verdict = Some(Verdict::Refused);
        record.reason = Some(AUDIT_UNAVAILABLE);
        return reset(client);
    }
    let mut workload = match door.connect(published.port).await {
        Ok(workload) => workload,
        Err(error) => {
            record.reason = Some("connect_failed");
            record.set_detail(error.to_string());
            return reset(client);
        }
    };
    record.verdict = Some(Verdict::Allowed);
    record.upstream = workload.peer_addr().ok();
    let counters = (record.request_bytes_counter(), record.response_bytes_counter());
    let idle = gate.generation().policy.upstream().idle_timeout;
    let mut client = Either::Left(client);
    let moved = splice(&mut workload, &mut client, Bytes::new(), counters, idle).await;
    record.complete = Some(moved.is_ok());
    if let Err(error) = moved {
        record.set_detail(error.to_string());
        reset(workload);
        break_off(client);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_and_one_or_two_ports_are_read() {
        for (text, listen, port) in [
            ("8080", "127.0.0.1:8080", 8080),
            ("8080:80", "127.0.0.1:8080", 80),
            ("0.0.0.0:8080:80", "0.0.0.0:8080", 80),
            ("0.0.0.0:8080", "0.0.0.0:8080", 8080),
            ("[::]:8080:80", "[::]:8080", 80),
            ("[::1]:8080", "[::1]:8080", 8080),
        ] {
            let wanted = Published { listen: listen.parse().unwrap(), port };
            assert_eq!(Published::parse(text), Ok(wanted), "{text}");
        }
        assert_eq!(Published::parse("8080:80").unwrap().to_string(), "127.0.0.1:8080:80");
        for text in ["", "x", "0", "8080:0", "70000", ":8080", "::1:8080", "a.test:1:2", "1:2:3:4", "[::1]"] {
            assert!(Published::parse(text).is_err(), "{text}");
        }
    }
}
