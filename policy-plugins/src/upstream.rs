//! How the proxy reaches upstreams: the `[upstream]` section, parsed.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;

use crate::host::Authority;

/// What becomes of flows that pass unopened, and of upgraded ones, when a policy is published.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FlowsOnPublish {
    /// Those that the new policy does not let through are closed.
    #[default]
    Judge,
    /// They go on to their end.
    Keep,
}

/// The `[upstream]` section of the document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// PEM files of additional roots, as written; a relative path counts from the document's folder.
    pub extra_ca: Vec<Box<str>>,
    /// Where these authorities are dialled instead of at their resolved address.
    pub resolve: BTreeMap<Authority, SocketAddr>,
    /// Name servers to ask; empty means the system's.
    pub dns: Vec<SocketAddr>,
    /// The longest time for one TCP connection and TLS handshake.
    pub connect_timeout: Duration,
    /// The longest time from the sent request to the response's head.
    pub response_timeout: Duration,
    /// The longest time without a byte in either direction of a body.
    pub idle_timeout: Duration,
    pub(crate) allow_ranges: Vec<IpNet>,
}

impl Upstream {
    /// A connection that takes longer than this will not come about.
    pub const CONNECT_TIMEOUT_DEFAULT: Duration = Duration::from_millis(10_000);
    /// Slow services answer within a minute or stream.
    pub const RESPONSE_TIMEOUT_DEFAULT: Duration = Duration::from_millis(60_000);
    /// Long enough for event streams with sparse keep-alives.
    pub const IDLE_TIMEOUT_DEFAULT: Duration = Duration::from_millis(300_000);
    /// The longest timeout that a document may state: an hour.
    pub const TIMEOUT_MAX: Duration = Duration::from_millis(3_600_000);

    /// The address that the document names for this authority. Naming an address allows it.
    #[must_use]
    pub fn resolve_override(&self, authority: &Authority) -> Option<SocketAddr> {
        self.resolve.get(authority).copied()
    }

    /// Whether `allow_ranges` permits dialling this address although it is private or local.
    #[must_use]
    pub fn allows_address(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.allow_ranges.iter().any(|range| range.contains(&address))
    }
}

impl Default for Upstream {
    fn default() -> Self {
        Self {
            extra_ca: Vec::new(),
            resolve: BTreeMap::new(),
            dns: Vec::new(),
            connect_timeout: Self::CONNECT_TIMEOUT_DEFAULT,
            response_timeout: Self::RESPONSE_TIMEOUT_DEFAULT,
            idle_timeout: Self::IDLE_TIMEOUT_DEFAULT,
            allow_ranges: Vec::new(),
        }
    }
}
