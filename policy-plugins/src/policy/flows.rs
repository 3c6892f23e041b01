//! Judges flows that carry no requests: raw TCP and UDP, by name or address, and port.

use super::explain::Watch;
use super::{Mode, Policy};
use crate::deny_reason::DenyReason;
use crate::host::{Authority, Host};
use crate::index::{Entry, HostIndex};
use crate::pattern::HostPattern;
use crate::verdict::Refusal;

/// What carries a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// TCP (RFC 9293).
    Tcp,
    /// UDP (RFC 768).
    Udp,
}

impl Transport {
    /// The list of the document that names its flows.
    pub(crate) const fn key(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }

    /// Why a flow is refused that the list does not name.
    const fn unlisted(self) -> DenyReason {
        match self {
            Self::Tcp => DenyReason::OpaqueFlow,
            Self::Udp => DenyReason::UdpFlow,
        }
    }
}

/// Why a flow may pass unread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passage<'policy> {
    /// The pattern of `tcp` or `udp` that names it, as written; `None` where only `mode = "audit"` or a
    /// handler lets it pass.
    pub pattern: Option<&'policy str>,
    /// What would have been refused if it were not for `mode = "audit"`; for the log.
    pub would_refuse: Option<Refusal>,
}

/// The lists `tcp` and `udp` of a document.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Flows {
    pub(crate) tcp: HostIndex,
    pub(crate) udp: HostIndex,
}

impl Flows {
    /// Whether some flow to this host, on whatever port, may pass.
    pub(super) fn name(&self, host: &Host) -> bool {
        [&self.tcp, &self.udp].into_iter().any(|list| list.naming(host).next().is_some())
    }

    /// Every pattern that names the host.
    pub(super) fn naming<'flows>(&'flows self, host: &Host) -> impl Iterator<Item = &'flows HostPattern> {
        [&self.tcp, &self.udp].into_iter().flat_map(|list| list.naming(host)).map(|entry| &entry.pattern)
    }

    pub(super) fn of(&self, transport: Transport) -> &HostIndex {
        match transport {
            Transport::Tcp => &self.tcp,
            Transport::Udp => &self.udp,
        }
    }
}

impl Policy {
    /// Whether a list names this flow, so that it is passed on without a look at its bytes if nothing
    /// else refuses it: [`Policy::decide_flow`].
    #[must_use]
    pub fn names_flow(&self, transport: Transport, authority: &Authority) -> bool {
        self.listed_flow(transport, authority).is_some()
    }

    /// Judges a flow whose bytes nobody reads, by whom it is for.
    ///
    /// In `mode = "audit"` TCP flows pass that would be refused. Datagrams do not: where HTTP/3 gets
    /// nowhere, clients send the same requests by TCP, where they are read and logged.
    ///
    /// # Errors
    /// The refusal.
    pub fn decide_flow(&self, transport: Transport, authority: &Authority) -> Result<Passage<'_>, Refusal> {
        self.judge_flow(transport, authority, &mut ())
    }

    /// Judges a flow while somebody watches.
    pub(super) fn judge_flow<W: Watch>(
        &self,
        transport: Transport,
        authority: &Authority,
        watch: &mut W,
    ) -> Result<Passage<'_>, Refusal> {
        let listed = self.listed_flow(transport, authority);
        let mut refusal = self.denies_flow(authority, watch);
        if refusal.is_none() {
            watch.flow(self, transport, listed);
            refusal = listed.is_none().then(|| {
                let detail = format!("no pattern in `{}` names {authority}", transport.key());
                Refusal { reason: transport.unlisted(), detail }
            });
        }
        let refusal = refusal.or_else(|| self.allowed_hosts_refuse_flow(authority, watch));
        let pattern = listed.map(|entry| entry.pattern.as_str());
        match (refusal, self.written.mode, transport) {
            (None, ..) => Ok(Passage { pattern, would_refuse: None }),
            (Some(refusal), Mode::Audit, Transport::Tcp) => {
                watch.only_audited(&refusal);
                Ok(Passage { pattern, would_refuse: Some(refusal) })
            }
            (Some(refusal), ..) => Err(refusal),
        }
    }

    /// Whether a flow that no list need name may pass: by the lists of hosts alone, for what a handler
    /// decided. In `mode = "audit"` it may, and what would be refused comes back.
    ///
    /// # Errors
    /// The refusal by `denied_hosts` or `allowed_hosts`.
    pub fn admits_flow(&self, authority: &Authority) -> Result<Option<Refusal>, Refusal> {
        let refusal = self
            .denies_flow(authority, &mut ())
            .or_else(|| self.allowed_hosts_refuse_flow(authority, &mut ()));
        match (refusal, self.written.mode) {
            (Some(refusal), Mode::Enforce) => Err(refusal),
            (refusal, _) => Ok(refusal),
        }
    }

    fn listed_flow(&self, transport: Transport, authority: &Authority) -> Option<&Entry> {
        let mut naming = self.written.flows.of(transport).naming(&authority.host);
        naming.find(|entry| entry.pattern.catches_port(authority.port))
    }

    /// `denied_hosts`, read for a flow: it has no scheme, and is denied by a pattern of any.
    fn denies_flow<W: Watch>(&self, authority: &Authority, watch: &mut W) -> Option<Refusal> {
        let mut denials = self.denied.naming(&authority.host);
        let denial = denials.find(|listed| listed.pattern.catches_port(authority.port));
        watch.denied_hosts(self, denial);
        let detail = format!("`{}` in denied_hosts names {authority}", denial?.pattern);
        Some(Refusal { reason: DenyReason::DeniedHost, detail })
    }

    /// `allowed_hosts`, read for a flow: the port must be stated there.
    fn allowed_hosts_refuse_flow<W: Watch>(&self, authority: &Authority, watch: &mut W) -> Option<Refusal> {
        let mut admissions = self.allowed.as_ref()?.naming(&authority.host);
        let admission = admissions.find(|listed| listed.pattern.admits_flow(authority.port));
        watch.allowed_hosts(self, admission);
        if admission.is_some() {
            return None;
        }
        let detail = format!("no pattern in allowed_hosts names {authority} with its port");
        Some(Refusal { reason: DenyReason::NotInAllowedHosts, detail })
    }
}
