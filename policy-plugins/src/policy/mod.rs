//! The compiled policy: one immutable generation that answers for names, flows and requests.
//!
//! **Invariant:** `denied_hosts` is asked first and `allowed_hosts` second, in every question;
//! what nothing allows is refused.

mod decide;
mod effective;
mod encrypted_dns;
mod explain;
mod flows;
mod overridden;
mod reach;
mod written;

use std::sync::Arc;

use http::Method;

pub use effective::{Effective, EffectiveEntry, Source};
pub use explain::{ExplainedStep, Explanation};
pub(crate) use flows::Flows;
pub use flows::{Passage, Transport};
pub(crate) use written::{Places, Written};

use crate::bindings::BindingDeclaration;
use crate::compile;
use crate::deny_reason::DenyReason;
use crate::dns::Dns;
use crate::error::{PolicyError, Problem};
use crate::handler::{BoundHandler, Environment, Program};
use crate::host::{Authority, Scheme};
use crate::index::HostIndex;
use crate::lists::HostList;
use crate::outbound::Routes;
use crate::overrides::Overrides;
use crate::refusal::RefusalAnswer;
use crate::secret::SecretDeclaration;
use crate::sources::Sources;
use crate::upstream::{FlowsOnPublish, Upstream};

/// One generation of the policy. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Policy {
    generation: Box<str>,
    written: Arc<Written>,
    /// What was changed at run time, without what means nothing here.
    overrides: Arc<Overrides>,
    denied: HostList,
    /// `None` where there is no `allowed_hosts`; an empty list allows nothing.
    allowed: Option<HostList>,
    /// Hosts that were let through at run time where there is no `allowed_hosts`.
    passing: Arc<HostIndex>,
    /// Handlers that were set at run time.
    runtime: Arc<Routes>,
}

/// What compiling a document gives.
#[derive(Clone, Debug)]
pub struct Compiled {
    /// The policy.
    pub policy: Policy,
    /// What is legal and probably not meant, in the order of the document.
    pub warnings: Vec<Problem>,
}

/// A request, as far as the policy looks at it.
#[derive(Clone, Copy, Debug)]
pub struct RequestFacts<'request> {
    /// How it travels.
    pub scheme: Scheme,
    /// What it is for.
    pub authority: &'request Authority,
    /// Its method; methods are case-sensitive (RFC 9110 section 9.1).
    pub method: &'request Method,
    /// Its path as received, without the query.
    pub path: &'request str,
    /// Whether its headers say that it is DNS over HTTPS: `application/dns-message` (RFC 8484).
    pub carries_dns: bool,
}

/// Whether a name can be of any use to the workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Some request to this host might be let through or answered.
    Open,
    /// Every request to this host is refused, for this reason.
    Refused(DenyReason),
}

/// How much a policy says, for the message at start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Whether hosts that nothing names pass.
    pub internet: bool,
    /// Patterns in `allowed_hosts`; `None` where the document has none.
    pub allowed_hosts: Option<usize>,
    /// Patterns in `denied_hosts`.
    pub denied_hosts: usize,
    /// `[[rules]]` entries.
    pub rules: usize,
    /// `[secrets.NAME]` entries.
    pub secrets: usize,
}

/// What becomes of refusals, and of questions to a person.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// They are carried out.
    #[default]
    Enforce,
    /// They are only logged.
    Audit,
}

impl Policy {
    /// Reads and checks a document. `file_name` is only for messages.
    ///
    /// # Errors
    /// Every problem of the document, each with its place and a hint.
    pub fn compile(file_name: &str, text: &str, sources: &dyn Sources) -> Result<Compiled, PolicyError> {
        compile::compile(file_name, text, sources)
    }

    /// The policy that refuses everything, for when there is no document.
    #[must_use]
    pub fn closed() -> Self {
        Self::of(Written::nothing())
    }

    /// What a document says, without overrides.
    pub(crate) fn of(written: Written) -> Self {
        Self::of_shared(Arc::new(written))
    }

    fn of_shared(written: Arc<Written>) -> Self {
        let Written { denied, allowed, digest, .. } = &*written;
        Self {
            generation: digest.short(),
            overrides: Arc::default(),
            denied: HostList::written(Arc::clone(denied)),
            allowed: allowed.as_ref().map(|allowed| HostList::written(Arc::clone(allowed))),
            passing: Arc::default(),
            runtime: Arc::default(),
            written,
        }
    }

    /// The generation: the first 12 hexadecimal digits of a SHA-256 over the document, its handlers'
    /// files and the overrides; the document's own where there are neither of the others.
    #[must_use]
    pub fn generation(&self) -> &str {
        &self.generation
    }

    /// The declared secrets, by name.
    #[must_use]
    pub fn secrets(&self) -> &[SecretDeclaration] {
        &self.written.secrets
    }

    /// The handler that is asked about connections, before there is a request. What it lets pass unopened
    /// has still to be admitted by the lists of hosts.
    #[must_use]
    pub fn on_connect(&self) -> Option<&Arc<BoundHandler>> {
        self.written.on_connect.as_ref()
    }

    /// The programs that its handlers run, each once.
    #[must_use]
    pub fn programs(&self) -> &[Arc<Program>] {
        &self.written.programs
    }

    /// How upstreams are reached.
    #[must_use]
    pub fn upstream(&self) -> &Upstream {
        &self.written.upstream
    }

    /// What a refused HTTP request is answered.
    #[must_use]
    pub fn refusal(&self) -> &RefusalAnswer {
        &self.written.refusal
    }

    /// How names are answered.
    #[must_use]
    pub fn dns(&self) -> &Dns {
        &self.written.dns
    }

    /// The files that the policy was compiled from besides the document, as the document writes them.
    pub fn scripts(&self) -> impl Iterator<Item = &str> {
        self.written.scripts.iter().map(|path| &**path)
    }

    /// What `env` offers to handlers.
    #[must_use]
    pub fn environment(&self) -> &Arc<Environment> {
        &self.written.environment
    }

    /// The stores that handlers may use, `kv` and `objects` always among them.
    #[must_use]
    pub fn bindings(&self) -> &[BindingDeclaration] {
        &self.written.bindings
    }

    /// What becomes of flows when another policy takes this one's place: the new one's word counts.
    #[must_use]
    pub fn flows_on_publish(&self) -> FlowsOnPublish {
        self.written.flows_on_publish
    }

    /// Whether refusals are carried out or only logged.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.written.mode
    }

    /// Whether upstream connections made under the other policy may be used under this one: what
    /// says how upstreams are reached, which addresses are denied and what secrets there are is
    /// the same.
    #[must_use]
    pub fn same_way_out(&self, other: &Self) -> bool {
        self.written.upstream == other.written.upstream
            && self.denied == other.denied
            && self.written.secrets == other.written.secrets
    }

    /// How much the policy says.
    #[must_use]
    pub fn summary(&self) -> Summary {
        Summary {
            internet: self.written.internet,
            allowed_hosts: self.allowed.as_ref().map(HostList::len),
            denied_hosts: self.denied.len(),
            rules: self.written.rules.len(),
            secrets: self.written.secrets.len(),
        }
    }
}

impl Reach {
    /// Whether the host is open.
    #[must_use]
    pub fn is_open(self) -> bool {
        self == Self::Open
    }
}

#[cfg(test)]
mod tests;
