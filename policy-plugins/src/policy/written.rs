//! What a document says, compiled: shared by every policy that differs in runtime overrides only.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::{Flows, Mode, Source, Transport};
use crate::bindings::BindingDeclaration;
use crate::digest::Digest;
use crate::dns::Dns;
use crate::handler::{BoundHandler, Environment, Program};
use crate::index::HostIndex;
use crate::outbound::Routes;
use crate::refusal::RefusalAnswer;
use crate::rule::Rule;
use crate::secret::SecretDeclaration;
use crate::upstream::{FlowsOnPublish, Upstream};

/// A compiled document. Never changes.
#[derive(Debug)]
pub(crate) struct Written {
    /// Of the document and every script.
    pub(crate) digest: Digest,
    pub(crate) internet: bool,
    pub(crate) mode: Mode,
    pub(crate) denied: Arc<HostIndex>,
    /// `None` where the document has no `allowed_hosts`; an empty list allows nothing.
    pub(crate) allowed: Option<Arc<HostIndex>>,
    pub(crate) rules: Vec<Rule>,
    /// The patterns of all rules; the owner is the position in `rules`.
    pub(crate) rule_hosts: HostIndex,
    pub(crate) flows: Flows,
    /// `outbound_handlers`.
    pub(crate) handlers: BTreeMap<Box<str>, Arc<BoundHandler>>,
    pub(crate) outbound: Routes,
    /// `on_connect`, or what the program of `outbound` offers for connections.
    pub(crate) on_connect: Option<Arc<BoundHandler>>,
    /// The files that were read, in the order of their paths.
    pub(crate) scripts: Vec<Box<str>>,
    /// Those of them that are run as programs.
    pub(crate) programs: Vec<Arc<Program>>,
    pub(crate) secrets: Vec<SecretDeclaration>,
    pub(crate) bindings: Vec<BindingDeclaration>,
    pub(crate) environment: Arc<Environment>,
    pub(crate) upstream: Upstream,
    pub(crate) flows_on_publish: FlowsOnPublish,
    pub(crate) refusal: RefusalAnswer,
    pub(crate) dns: Dns,
    pub(crate) places: Places,
}

/// Where in the document things stand, for whoever asks why.
#[derive(Clone, Debug, Default)]
pub(crate) struct Places {
    pub(crate) file: Box<str>,
    /// The lines of single keys, written such as `internet` or `secrets.TOKEN`.
    pub(crate) keys: HashMap<Box<str>, usize>,
    /// The lines of the list's patterns, in order; likewise below.
    pub(crate) denied: Vec<usize>,
    pub(crate) allowed: Vec<usize>,
    pub(crate) tcp: Vec<usize>,
    pub(crate) udp: Vec<usize>,
    pub(crate) rules: Vec<usize>,
    pub(crate) by_host: Vec<usize>,
}

impl Places {
    /// Where a key stands; [`Source::Default`] where it does not.
    pub(crate) fn of(&self, key: &str) -> Source {
        self.keys.get(key).map_or(Source::Default, |&line| self.line(line))
    }

    /// The lines of the list of a transport's flows.
    pub(crate) fn flows(&self, transport: Transport) -> &[usize] {
        match transport {
            Transport::Tcp => &self.tcp,
            Transport::Udp => &self.udp,
        }
    }

    /// Where an entry of a list stands; without a position it was put there at run time.
    pub(crate) fn entry(&self, lines: &[usize], position: Option<usize>) -> Source {
        match position {
            None => Source::Runtime,
            Some(position) => self.line(lines.get(position).copied().unwrap_or_default()),
        }
    }

    fn line(&self, line: usize) -> Source {
        Source::Document { file: self.file.clone(), line }
    }
}

impl Written {
    /// Nothing at all, which allows nothing.
    pub(crate) fn nothing() -> Self {
        let bindings = BindingDeclaration::implicit();
        let kinds = bindings.iter().map(|binding| (binding.name.clone(), binding.kind)).collect();
        Self {
            digest: Digest::of(b""),
            internet: false,
            mode: Mode::Enforce,
            denied: Arc::default(),
            allowed: None,
            rules: Vec::new(),
            rule_hosts: HostIndex::default(),
            flows: Flows::default(),
            handlers: BTreeMap::new(),
            outbound: Routes::default(),
            on_connect: None,
            scripts: Vec::new(),
            programs: Vec::new(),
            secrets: Vec::new(),
            bindings,
            environment: Arc::new(Environment { bindings: kinds, ..Environment::default() }),
            upstream: Upstream::default(),
            flows_on_publish: FlowsOnPublish::default(),
            refusal: RefusalAnswer::default(),
            dns: Dns::default(),
            places: Places::default(),
        }
    }
}
