//! What every connection of one instance shares.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use sluicegate_certs::LeafCache;
use sluicegate_policy::Identity;
use sluicegate_wasm::Programs;
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;

use crate::approvals::Approvals;
use crate::audit::Log;
use crate::generation::Generation;
use crate::name_server::NameServer;

/// Handlers that need more than a moment, at once. They have threads of their own, so that one that
/// loops takes a processor and not the bytes of other requests.
pub const HANDLER_THREADS_MAX: usize = 2;

/// Bodies that all handlers together have in memory, in KiB. Further ones wait, within the time of
/// their handlers.
pub const HANDLER_MEMORY_KIB_MAX: u32 = 64 * 1024;

/// One instance at work: a workload's policy, authority, secrets, way out and log.
///
/// **Invariant:** shared with no other instance; identity is which gate accepted.
#[derive(Debug)]
pub struct Gate {
    /// The leaves that the workload is shown.
    pub leaves: LeafCache,
    /// What is known afterwards.
    pub log: Log,
    /// What the workload's names resolve to.
    pub names: NameServer,
    /// Who the workload is.
    pub identity: Arc<Identity>,
    /// Requests that wait for a person.
    pub approvals: Arc<Approvals>,
    /// Room for handlers that need more than a moment.
    pub handler_threads: Arc<Semaphore>,
    /// Room for bodies that handlers take into memory, in KiB.
    pub handler_memory: Arc<Semaphore>,
    /// What runs the programs of handlers.
    pub programs: Arc<Programs>,
    /// Random, so that request ids do not repeat in a log that several runs share.
    pub run: u32,
    /// Requests begun; the number makes a request's id.
    pub requests: AtomicU64,
    /// Cancelled when what goes on is to be ended in order, and nothing more begun.
    pub draining: CancellationToken,
    /// The policy in force.
    pub current: watch::Sender<Arc<Generation>>,
}

impl Gate {
    /// The generation in force, for a request that begins now.
    pub fn generation(&self) -> Arc<Generation> {
        Arc::clone(&self.current.borrow())
    }

    /// Ends when a generation is in force of which this is true; the present one may be.
    pub async fn until(&self, is_so: impl Fn(&Generation) -> bool) {
        let mut current = self.current.subscribe();
        // Fails only where the gate is gone, and then so is whoever waits.
        if current.wait_for(|generation| is_so(generation)).await.is_err() {
            std::future::pending().await
        }
    }

    /// An id for the next request, unique in the instance's log.
    pub fn request_id(&self) -> String {
        let number = self.requests.fetch_add(1, Ordering::Relaxed) + 1;
        format!("{:08x}-{number}", self.run)
    }
}
