//! The workload's datagrams: DNS is answered, everything else is refused at once and logged.

use std::collections::HashMap;
use std::io::{self, IoSliceMut};
use std::net::{SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::socket::{
    ControlMessageOwned, MsgFlags, SockaddrIn, SockaddrIn6, SockaddrStorage, recvmsg, sendto,
};
use sluicegate_policy::DenyReason;
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::time::{Instant, timeout_at};

use crate::audit::{Protocol, Verdict};
use crate::datagram;
use crate::gate::Gate;

/// The longest datagram read. A longer question is no question; anything else is refused unread.
const DATAGRAM_BYTES_MAX: usize = 4_096;

/// For how long refusals for one destination are counted in one line of the log.
const COUNTED_FOR: Duration = Duration::from_secs(10);

/// Destinations counted at once; beyond it the counts are written early.
const COUNTED_MAX: usize = 256;

/// A datagram: from whom, and where the workload sent it.
struct Received {
    length: usize,
    client: SocketAddr,
    original_destination: SocketAddr,
}

/// Serves one of the two captured UDP sockets; `raw` sends packets of the same family.
pub async fn serve(gate: Arc<Gate>, socket: UdpSocket, raw: OwnedFd) {
    let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
    let mut refusals = Refusals::new();
    loop {
        let receive = socket.async_io(Interest::READABLE, || receive(&socket, &mut buffer));
        match timeout_at(refusals.until, receive).await {
            Err(_) => refusals.write(&gate),
            Ok(Err(error)) => {
                tracing::debug!(%error, "a datagram could not be read");
                // Errors of earlier answers come here too; none of them lasts.
                tokio::task::yield_now().await;
            }
            Ok(Ok(received)) => {
                let datagram = buffer.get(..received.length).unwrap_or_default();
                handle(&gate, &raw, datagram, &received, &mut refusals);
            }
        }
    }
}

fn handle(gate: &Gate, raw: &OwnedFd, datagram: &[u8], received: &Received, refusals: &mut Refusals) {
    let (from, to) = (received.original_destination, received.client);
    let packet = if from.port() == 53 {
        gate.names
            .answer(&gate.generation().policy, datagram)
            .and_then(|answer| datagram::udp(from, to, &answer))
    } else {
        refusals.count(gate, received);
        datagram::port_unreachable(from, to)
    };
    if let Some(packet) = packet
        && let Err(error) = send(raw, to, &packet)
    {
        tracing::debug!(%error, "a datagram could not be answered");
    }
}

/// Refusals since the last line about each destination: the client that was last, and how many.
struct Refusals {
    counts: HashMap<SocketAddr, (SocketAddr, u64)>,
    until: Instant,
}

impl Refusals {
    fn new() -> Self {
        Self { counts: HashMap::new(), until: Instant::now() + COUNTED_FOR }
    }

    /// The first is logged at once, the rest of the time span in one line.
    fn count(&mut self, gate: &Gate, received: &Received) {
        if self.counts.len() >= COUNTED_MAX {
            self.write(gate);
        }
        let destination = received.original_destination;
        if let Some((client, count)) = self.counts.get_mut(&destination) {
            (*client, *count) = (received.client, *count + 1);
        } else {
            self.counts.insert(destination, (received.client, 0));
            log(gate, received.client, destination, 1);
        }
    }

    fn write(&mut self, gate: &Gate) {
        for (destination, (client, count)) in self.counts.drain().filter(|(_, (_, count))| *count > 0) {
            log(gate, client, destination, count);
        }
        self.until = Instant::now() + COUNTED_FOR;
    }
}

fn log(gate: &Gate, client: SocketAddr, destination: SocketAddr, count: u64) {
    let mut record = gate.log.flow(Protocol::Udp, client, destination);
    record.verdict = Some(Verdict::Refused);
    record.reason = Some(DenyReason::UdpFlow.as_str());
    record.count = Some(count);
}

fn receive(socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<Received> {
    let mut slices = [IoSliceMut::new(buffer)];
    let mut control = nix::cmsg_space!(nix::libc::sockaddr_in6);
    let message = recvmsg::<SockaddrStorage>(
        socket.as_raw_fd(),
        &mut slices,
        Some(&mut control),
        MsgFlags::MSG_DONTWAIT,
    )?;
    let client = message.address.as_ref().and_then(socket_address);
    let original_destination = message.cmsgs()?.find_map(|control| match control {
        ControlMessageOwned::Ipv4OrigDstAddr(address) => {
            Some(SocketAddr::V4(SocketAddrV4::from(SockaddrIn::from(address))))
        }
        ControlMessageOwned::Ipv6OrigDstAddr(address) => {
            Some(SocketAddr::V6(SocketAddrV6::from(SockaddrIn6::from(address))))
        }
        _ => None,
    });
    match (client, original_destination) {
        (Some(client), Some(original_destination)) => {
            Ok(Received { length: message.bytes, client, original_destination })
        }
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

fn socket_address(storage: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = storage.as_sockaddr_in().map(|it| SocketAddr::V4(SocketAddrV4::from(*it)));
    v4.or_else(|| storage.as_sockaddr_in6().map(|it| SocketAddr::V6(SocketAddrV6::from(*it))))
}

fn send(raw: &OwnedFd, to: SocketAddr, packet: &[u8]) -> io::Result<()> {
    // A raw IPv6 socket refuses a port (raw(7)).
    let to = SockaddrStorage::from(SocketAddr::new(to.ip(), 0));
    sendto(raw.as_raw_fd(), packet, &to, MsgFlags::MSG_DONTWAIT)?;
    Ok(())
}
