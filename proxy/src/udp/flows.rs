//! UDP flows that pass: one socket towards the upstream for each, and answers from the address that
//! the workload sent to.
//!
//! **Invariant:** a flow is one client and one destination; what comes back from anywhere but the
//! address that was dialled for it never reaches the workload.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use sluicegate_policy::{Authority, FlowsOnPublish, Transport};
use tokio::net::UdpSocket;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::{DATAGRAM_BYTES_MAX, reply};
use crate::audit::{AuditRecord, Verdict};
use crate::causes::in_words;
use crate::datagram;
use crate::gate::Gate;
use crate::generation::Generation;
use crate::name_server::HeldName;

/// Flows at once, for each of IPv4 and IPv6: what a resolver or a game opens at most, and as many
/// sockets as the gate can spare.
const FLOWS_MAX: usize = 1_024;

/// Datagrams of one flow that wait to be sent: a burst while its upstream is found. More are lost, as
/// on any path that is too slow.
const WAITING_MAX: usize = 64;

/// Bytes of datagrams that wait in all flows of a family together: many flows of long datagrams towards
/// upstreams that are not found would else take gigabytes.
const WAITING_BYTES_MAX: usize = 4 * 1024 * 1024;

/// How long a flow may be without a datagram either way. RFC 4787 section 4.3: not less than two
/// minutes, better five.
const IDLE: Duration = Duration::from_secs(300);

/// Who sends to whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) client: SocketAddr,
    pub(super) original_destination: SocketAddr,
}

/// The flows of one family.
pub(super) struct Flows {
    raw: Arc<OwnedFd>,
    begun: HashMap<Key, mpsc::Sender<Waiting>>,
    /// Of [`WAITING_BYTES_MAX`].
    room: Arc<Semaphore>,
}

/// A datagram on its way to the upstream, and the room that it takes until it is sent.
struct Waiting {
    datagram: Bytes,
    _room: OwnedSemaphorePermit,
}

/// A flow that may pass.
pub(super) struct NewFlow {
    pub(super) gate: Arc<Gate>,
    /// The one that judged it.
    pub(super) generation: Arc<Generation>,
    pub(super) authority: Authority,
    /// Keeps the address that was dialled for this name.
    pub(super) held: Option<HeldName>,
    pub(super) record: AuditRecord,
}

impl Flows {
    /// None yet; `raw` sends to the workload.
    pub(super) fn new(raw: Arc<OwnedFd>) -> Self {
        Self { raw, begun: HashMap::new(), room: Arc::new(Semaphore::new(WAITING_BYTES_MAX)) }
    }

    pub(super) fn raw(&self) -> &Arc<OwnedFd> {
        &self.raw
    }

    /// Gives a datagram to its flow; false where there is none.
    pub(super) fn pass_on(&mut self, key: Key, datagram: &[u8]) -> bool {
        let Some(flow) = self.begun.get(&key) else {
            return false;
        };
        let Some(datagram) = self.waiting(datagram) else {
            // Lost, as on any path that is too slow.
            return !flow.is_closed();
        };
        match flow.try_send(datagram) {
            Ok(()) | Err(mpsc::error::TrySendError::Full(_)) => true,
            Err(mpsc::error::TrySendError::Closed(_)) => {
                self.begun.remove(&key);
                false
            }
        }
    }

    /// Whether one more may begin.
    pub(super) fn have_room(&mut self) -> bool {
        if self.begun.len() >= FLOWS_MAX {
            self.begun.retain(|_, flow| !flow.is_closed());
        }
        self.begun.len() < FLOWS_MAX
    }

    /// Begins a flow with its first datagram.
    pub(super) fn begin(&mut self, key: Key, flow: NewFlow, datagram: &[u8]) {
        let (sender, waiting) = mpsc::channel(WAITING_MAX);
        if let Some(datagram) = self.waiting(datagram) {
            // The channel is new, and has room for the first.
            drop(sender.try_send(datagram));
        }
        self.begun.insert(key, sender);
        tokio::spawn(flow.run(key, waiting, Arc::clone(&self.raw)));
    }

    /// A copy of a datagram, if there is room for it.
    fn waiting(&self, datagram: &[u8]) -> Option<Waiting> {
        let bytes = u32::try_from(datagram.len()).ok()?;
        let room = Arc::clone(&self.room).try_acquire_many_owned(bytes).ok()?;
        Some(Waiting { datagram: Bytes::copy_from_slice(datagram), _room: room })
    }
}

impl NewFlow {
    async fn run(mut self, key: Key, mut waiting: mpsc::Receiver<Waiting>, raw: Arc<OwnedFd>) {
        self.record.verdict = Some(Verdict::Failed);
        let socket = match self.generation.upstream.connect_datagrams(&self.authority).await {
            Ok((socket, address)) => {
                self.record.upstream = Some(address);
                socket
            }
            Err(error) => {
                self.record.verdict = Some(error.verdict());
                self.record.reason = Some(error.code());
                self.record.set_detail(in_words(&error));
                let Key { client, original_destination } = key;
                return reply(&raw, client, datagram::port_unreachable(original_destination, client));
            }
        };
        self.record.verdict = Some(Verdict::Allowed);
        tokio::select! {
            biased;
            // First: a policy may have come while the upstream was looked for.
            () = until_refused(&self.gate, &self.authority) => {}
            () = move_datagrams(&socket, key, &mut waiting, (&mut self.record, &raw)) => {
                self.record.complete = Some(true);
            }
        }
        if self.record.complete.is_none() {
            self.record.complete = Some(false);
            self.record.set_detail("closed: a newer policy does not pass this flow on");
        }
        drop(self.held.take());
    }
}

/// Moves datagrams both ways until none has come for [`IDLE`].
async fn move_datagrams(
    socket: &UdpSocket,
    Key { client, original_destination }: Key,
    waiting: &mut mpsc::Receiver<Waiting>,
    (record, raw): (&mut AuditRecord, &OwnedFd),
) {
    let (sent, received) = (record.request_bytes_counter(), record.response_bytes_counter());
    let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
    loop {
        let moved = async {
            tokio::select! {
                next = waiting.recv() => {
                    let Some(Waiting { datagram, _room }) = next else { return false };
                    if socket.send(&datagram).await.is_ok() {
                        sent.fetch_add(datagram.len() as u64, Ordering::Relaxed);
                    }
                }
                answer = socket.recv(&mut buffer) => match answer {
                    Ok(length) => {
                        let answer = buffer.get(..length).unwrap_or_default();
                        received.fetch_add(length as u64, Ordering::Relaxed);
                        reply(raw, client, datagram::udp(original_destination, client, answer));
                    }
                    // The upstream's port is closed (ICMP), and the workload's kernel shall know.
                    Err(_) => reply(raw, client, datagram::port_unreachable(original_destination, client)),
                },
            }
            true
        };
        match tokio::time::timeout(IDLE, moved).await {
            Ok(true) => {}
            Ok(false) | Err(_) => return,
        }
    }
}

/// Ends when a policy comes that does not let the flow pass, and does not say to keep such flows.
async fn until_refused(gate: &Gate, authority: &Authority) {
    let refuses = |generation: &Generation| {
        generation.policy.flows_on_publish() == FlowsOnPublish::Judge
            && generation.policy.decide_flow(Transport::Udp, authority).is_err()
    };
    gate.until(refuses).await;
}
