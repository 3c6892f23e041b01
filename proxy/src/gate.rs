//! What every connection of one instance shares.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use sluicegate_certs::LeafCache;
use sluicegate_policy::Policy;

use crate::audit::Log;
use crate::name_server::NameServer;
use crate::secrets::Secrets;
use crate::upstream::Upstream;

/// One instance at work: a workload's policy, authority, secrets, way out and log.
///
/// **Invariant:** shared with no other instance; identity is which gate accepted.
#[derive(Debug)]
pub struct Gate {
    /// What decides.
    pub policy: Arc<Policy>,
    /// The leaves that the workload is shown.
    pub leaves: LeafCache,
    /// What may be put on.
    pub secrets: Secrets,
    /// The way out.
    pub upstream: Upstream,
    /// What is known afterwards.
    pub log: Log,
    /// What the workload's names resolve to.
    pub names: NameServer,
    /// The instance's name.
    pub instance: String,
    /// Random, so that request ids do not repeat in a log that several runs share.
    pub run: u32,
    /// Requests begun; the number makes a request's id.
    pub requests: AtomicU64,
}

impl Gate {
    /// An id for the next request, unique in the instance's log.
    pub fn request_id(&self) -> String {
        let number = self.requests.fetch_add(1, Ordering::Relaxed) + 1;
        format!("{:08x}-{number}", self.run)
    }
}
