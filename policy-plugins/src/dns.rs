//! How names are answered: the `[dns]` section, parsed.

use crate::host::Host;
use crate::pattern::HostPattern;

/// The `[dns]` section of the document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dns {
    /// What a refused name resolves to.
    pub refused: RefusedNames,
    /// Domains that the workload's resolver appends to names, as A-labels.
    pub search: Vec<Box<str>>,
    /// Whether the workload may ask other name servers over TLS or HTTPS.
    pub encrypted: EncryptedDns,
    /// Questions answered in a second.
    pub questions_per_second: u32,
    /// Which records are asked for upstream.
    pub(crate) forward: Vec<Forwarding>,
}

/// Names, and the types of their records that are asked for upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Forwarding {
    pub(crate) names: HostPattern,
    pub(crate) types: Vec<&'static str>,
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

/// What becomes of DNS over TLS and over HTTPS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EncryptedDns {
    /// It is refused, but to a host that the document names exactly.
    #[default]
    Refuse,
    /// It is traffic like other traffic.
    Allow,
}

impl Dns {
    /// More than a parallel installer asks; an endless loop of questions is seen.
    pub const QUESTIONS_PER_SECOND_DEFAULT: u32 = 500;
    /// What the gate answers without much ado on one processor.
    pub const QUESTIONS_PER_SECOND_MAX: u32 = 10_000;

    /// The types of records that can be asked for upstream: those that lead nowhere by themselves.
    /// Addresses are the gate's to give, HTTPS and SVCB records carry addresses and keys, and `ANY`
    /// and the transfers are no types of records.
    pub const FORWARDED_TYPES: [&str; 10] =
        ["CAA", "CNAME", "MX", "NAPTR", "NS", "SOA", "SRV", "SSHFP", "TLSA", "TXT"];

    /// Whether a refused name gets NXDOMAIN rather than the sink address: by setting, because it
    /// is a single label, or because the workload's resolver made it with its search list.
    #[must_use]
    pub fn answers_nxdomain(&self, host: &Host) -> bool {
        self.refused == RefusedNames::Nxdomain || self.is_made_by_a_search(host)
    }

    /// Whether the workload's resolver asks for this name on its way to another one: a single label,
    /// or a name in a domain of its search list.
    #[must_use]
    pub fn is_made_by_a_search(&self, host: &Host) -> bool {
        let Host::Dns(name) = host else { return false };
        let ends_in = |domain: &str| {
            name.strip_suffix(domain).is_some_and(|front| front.is_empty() || front.ends_with('.'))
        };
        host.is_single_label() || self.search.iter().any(|domain| ends_in(domain))
    }

    /// Whether records of this type, such as `TXT`, are asked for upstream for this name.
    #[must_use]
    pub fn forwards(&self, host: &Host, record_type: &str) -> bool {
        self.forward.iter().any(|entry| entry.types.contains(&record_type) && entry.names.names(host))
    }
}

impl Default for Dns {
    fn default() -> Self {
        Self {
            refused: RefusedNames::default(),
            search: Vec::new(),
            encrypted: EncryptedDns::default(),
            questions_per_second: Self::QUESTIONS_PER_SECOND_DEFAULT,
            forward: Vec::new(),
        }
    }
}
