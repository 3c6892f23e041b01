//! Connections to upstreams, kept and shared within this one instance.
//!
//! **Invariant:** a connection is reused only for the scheme, authority and set of credentials that
//! it was made for: servers tie identity to connections (NTLM). Which client certificate one shows follows
//! from its authority, and whether it goes through a proxy as well.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper::client::conn::http1;
use sluicegate_policy::{Authority, Scheme, SecretName};
use tokio::time::Instant;

use super::http2::Http2;
use crate::body::RequestBody;

/// How long an unused connection is kept: below the 60-75 s after which common servers close.
const IDLE_MAX: Duration = Duration::from_secs(55);

/// Unused HTTP/1.1 connections kept for one key: a parallel installer opens 6 to 50.
const IDLE_PER_KEY_MAX: usize = 64;

/// Keys remembered. Beyond it, those without a live connection are forgotten.
const KEYS_MAX: usize = 1024;

/// What a connection may be reused for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Origin {
    /// Over TLS or not.
    pub scheme: Scheme,
    /// Whom the request is for.
    pub authority: Authority,
    /// Whether the upstream is offered HTTP/2, or without TLS spoken to by it: it is when the workload
    /// speaks it. What comes as HTTP/1.1 goes as HTTP/1.1, with the case of its headers and its reason
    /// phrases, and costs half; unless the upstream refuses it.
    pub multiplexed: bool,
    /// The secrets put on requests for it.
    pub credentials: Vec<SecretName>,
}

/// All that is known of one origin.
#[derive(Debug, Default)]
pub(super) struct Slot {
    idle: Mutex<Vec<Idle>>,
    shared: Mutex<Option<Shared>>,
    /// Held while the first connection is made, so that fifty requests at once to an HTTP/2 origin
    /// share one connection instead of opening fifty.
    pub(super) first: tokio::sync::Mutex<()>,
    /// Set when the origin turned out to speak HTTP/1.1: then nobody waits for `first`.
    pub(super) speaks_http1: std::sync::atomic::AtomicBool,
}

#[derive(Debug)]
struct Idle {
    sender: http1::SendRequest<RequestBody>,
    address: SocketAddr,
    since: Instant,
}

#[derive(Debug, Clone)]
struct Shared {
    sender: Http2,
    address: SocketAddr,
}

/// The connections of the instance.
#[derive(Debug, Default)]
pub(super) struct Pool {
    slots: Mutex<HashMap<Origin, Arc<Slot>>>,
}

impl Pool {
    /// The slot of `origin`.
    pub(super) fn slot(&self, origin: &Origin) -> Arc<Slot> {
        let mut slots = lock(&self.slots);
        if let Some(slot) = slots.get(origin) {
            return Arc::clone(slot);
        }
        if slots.len() >= KEYS_MAX {
            slots.retain(|_, slot| slot.is_in_use());
        }
        let slot = Arc::new(Slot::default());
        slots.insert(origin.clone(), Arc::clone(&slot));
        slot
    }

    /// Drops connections that nobody used for a while; called now and then.
    pub(super) fn sweep(&self) {
        let slots: Vec<_> = lock(&self.slots).values().cloned().collect();
        for slot in slots {
            slot.sweep();
        }
    }
}

impl Slot {
    /// A live HTTP/1.1 connection, the most recently used first.
    pub(super) fn take_http1(&self) -> Option<(http1::SendRequest<RequestBody>, SocketAddr)> {
        let mut idle = lock(&self.idle);
        while let Some(last) = idle.pop() {
            if last.sender.is_ready() && last.since.elapsed() < IDLE_MAX {
                return Some((last.sender, last.address));
            }
        }
        None
    }

    /// Gives back a connection whose exchange is over and which is ready for the next.
    pub(super) fn give_http1(&self, sender: http1::SendRequest<RequestBody>, address: SocketAddr) {
        let mut idle = lock(&self.idle);
        if idle.len() < IDLE_PER_KEY_MAX {
            idle.push(Idle { sender, address, since: Instant::now() });
        }
    }

    /// The shared HTTP/2 connection, if it is alive.
    pub(super) fn http2(&self) -> Option<(Http2, SocketAddr)> {
        let mut shared = lock(&self.shared);
        if shared.as_mut().is_some_and(|shared| shared.sender.is_closed()) {
            *shared = None;
        }
        shared.as_ref().map(|shared| (shared.sender.clone(), shared.address))
    }

    /// Shares an HTTP/2 connection.
    pub(super) fn share_http2(&self, sender: Http2, address: SocketAddr) {
        *lock(&self.shared) = Some(Shared { sender, address });
    }

    fn sweep(&self) {
        lock(&self.idle).retain(|idle| !idle.sender.is_closed() && idle.since.elapsed() < IDLE_MAX);
        let mut shared = lock(&self.shared);
        if shared.as_mut().is_some_and(|shared| shared.sender.is_closed()) {
            *shared = None;
        }
    }

    fn is_in_use(&self) -> bool {
        self.sweep();
        !lock(&self.idle).is_empty() || lock(&self.shared).is_some()
    }
}

/// No panic happens under these locks; if one did, what they hold is still consistent.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
