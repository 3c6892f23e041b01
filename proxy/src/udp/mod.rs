//! The workload's datagrams: DNS is answered, flows that the policy names pass, and everything else is
//! refused at once and logged.

mod flows;

use std::collections::HashMap;
use std::io::{self, IoSliceMut};
use std::net::{SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::socket::{
    ControlMessageOwned, MsgFlags, SockaddrIn, SockaddrIn6, SockaddrStorage, recvmsg, sendto,
};
use sluicegate_policy::{Authority, DenyReason, Host, Transport};
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::time::{Instant, timeout_at};

use crate::audit::{Protocol, Verdict};
use crate::datagram;
use crate::gate::Gate;
use crate::name_server::Reply;

use flows::{Flows, NewFlow};

/// The longest datagram: what its length field can say (RFC 768).
const DATAGRAM_BYTES_MAX: usize = 65_535;

/// The longest question to DNS that is read: one name and EDNS options.
const QUESTION_BYTES_MAX: usize = 4_096;

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
    let mut flows = Flows::new(Arc::new(raw));
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
                handle(&gate, &mut flows, datagram, &received, &mut refusals);
            }
        }
    }
}

fn handle(
    gate: &Arc<Gate>,
    flows: &mut Flows,
    datagram: &[u8],
    received: &Received,
    refusals: &mut Refusals,
) {
    let (from, to) = (received.original_destination, received.client);
    if from.port() == 53 {
        let question = Some(datagram).filter(|question| question.len() <= QUESTION_BYTES_MAX);
        if let Some(question) = question {
            answer(gate, flows.raw(), question, received);
        }
    } else if !flows.pass_on(received.key(), datagram)
        && let Err(reason) = begin(gate, flows, datagram, received)
    {
        refusals.count(gate, received, reason);
        reply(flows.raw(), to, datagram::port_unreachable(from, to));
    }
}

/// Answers a question to DNS: at once, or when a name server of ours has.
fn answer(gate: &Arc<Gate>, raw: &Arc<OwnedFd>, question: &[u8], received: &Received) {
    let (from, to) = (received.original_destination, received.client);
    let generation = gate.generation();
    match gate.names.answer(&generation.policy, question, Transport::Udp) {
        None => {}
        Some(Reply::Ready(answer)) => reply(raw, to, datagram::udp(from, to, &answer)),
        Some(later @ Reply::Forward(_)) => {
            let raw = Arc::clone(raw);
            // As many as the name server lets be asked at once, each with a deadline.
            tokio::spawn(async move {
                let answer = later.bytes(&generation.upstream).await;
                reply(&raw, to, answer.and_then(|answer| datagram::udp(from, to, &answer)));
            });
        }
    }
}

/// Begins the flow that a datagram is the first of. The error is the reason of a refusal.
fn begin(
    gate: &Arc<Gate>,
    flows: &mut Flows,
    datagram: &[u8],
    received: &Received,
) -> Result<(), &'static str> {
    let address = received.original_destination;
    let held = gate.names.hold(address.ip());
    let host = held.as_ref().map_or_else(|| Host::from(address.ip()), |held| held.host().clone());
    let authority = Authority { host, port: address.port() };
    let generation = gate.generation();
    let decision = generation.policy.decide_flow(Transport::Udp, &authority);
    let passage = decision.map_err(|refusal| refusal.reason.as_str())?;
    if !gate.log.is_healthy() {
        return Err(DenyReason::AuditUnavailable.as_str());
    }
    if !flows.have_room() {
        return Err("too_many_flows");
    }
    let mut record = gate.log.flow(Protocol::Udp, received.client, address);
    record.generation = Some(Arc::clone(&generation.id));
    record.host = Some(authority.host.to_string());
    record.port = Some(authority.port);
    record.rule = passage.pattern.map(|pattern| format!("udp: {pattern}"));
    let flow = NewFlow { gate: Arc::clone(gate), generation, authority, held, record };
    flows.begin(received.key(), flow, datagram);
    Ok(())
}

/// Sends a packet to the workload, if there is one.
fn reply(raw: &OwnedFd, to: SocketAddr, packet: Option<Vec<u8>>) {
    if let Some(packet) = packet
        && let Err(error) = send(raw, to, &packet)
    {
        tracing::debug!(%error, "a datagram could not be answered");
    }
}

impl Received {
    fn key(&self) -> flows::Key {
        flows::Key { client: self.client, original_destination: self.original_destination }
    }
}

/// Refusals since the last line about each destination: the client that was last, why, and how many.
struct Refusals {
    counts: HashMap<SocketAddr, (SocketAddr, &'static str, u64)>,
    until: Instant,
}

impl Refusals {
    fn new() -> Self {
        Self { counts: HashMap::new(), until: Instant::now() + COUNTED_FOR }
    }

    /// The first is logged at once, the rest of the time span in one line.
    fn count(&mut self, gate: &Gate, received: &Received, reason: &'static str) {
        if self.counts.len() >= COUNTED_MAX {
            self.write(gate);
        }
        let destination = received.original_destination;
        if let Some((client, last, count)) = self.counts.get_mut(&destination) {
            (*client, *last, *count) = (received.client, reason, *count + 1);
        } else {
            self.counts.insert(destination, (received.client, reason, 0));
            log(gate, received.client, destination, (reason, 1));
        }
    }

    fn write(&mut self, gate: &Gate) {
        for (destination, (client, reason, count)) in self.counts.drain() {
            if count > 0 {
                log(gate, client, destination, (reason, count));
            }
        }
        self.until = Instant::now() + COUNTED_FOR;
    }
}

fn log(gate: &Gate, client: SocketAddr, destination: SocketAddr, (reason, count): (&'static str, u64)) {
    let mut record = gate.log.flow(Protocol::Udp, client, destination);
    record.verdict = Some(Verdict::Refused);
    record.reason = Some(reason);
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
