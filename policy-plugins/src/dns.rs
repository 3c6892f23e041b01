//! How names are answered: the `[dns]` section, parsed.

use crate::host::Host;

/// The `[dns]` section of the document.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dns {
    /// What a refused name resolves to.
    pub refused: RefusedNames,
    /// Domains that the workload's resolver appends to names, as A-labels.
    pub search: Vec<Box<str>>,
}

/// What a refused name resolves to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RefusedNames {
    /// The sink address, where the refusal is explained.
    #[default]
    Sink,
    /// Nothing: NXDOMAIN.
    Nxdomain,
}

impl Dns {
    /// Whether a refused name gets NXDOMAIN rather than the sink address: by setting, because it
    /// is a single label, or because the workload's resolver made it with its search list.
    #[must_use]
    pub fn answers_nxdomain(&self, host: &Host) -> bool {
        let Host::Dns(name) = host else { return false };
        let ends_in = |domain: &str| {
            name.strip_suffix(domain).is_some_and(|front| front.is_empty() || front.ends_with('.'))
        };
        self.refused == RefusedNames::Nxdomain
            || host.is_single_label()
            || self.search.iter().any(|domain| ends_in(domain))
    }
}
