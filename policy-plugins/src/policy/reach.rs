//! Answers about hosts and addresses, before there is a request.

use std::net::SocketAddr;

use super::explain::Watch;
use super::{Mode, Policy, Reach};
use crate::deny_reason::DenyReason;
use crate::host::{Authority, Host, Scheme};
use crate::lists::HostList;
use crate::pattern::{HostPattern, Hosts};
use crate::verdict::Refusal;

impl Policy {
    /// Whether some request to the host, on whatever port, could be let through or answered.
    #[must_use]
    pub fn reaches(&self, host: &Host) -> Reach {
        let enforced = self.written.mode == Mode::Enforce;
        if enforced && let Some(reason) = self.lists_refuse(host) {
            return Reach::Refused(reason);
        }
        let rules = || {
            let named = self.written.rule_hosts.naming(host);
            named.filter_map(|entry| Some((entry, self.written.rules.get(entry.owner)?)))
        };
        let widest_denial = rules()
            .filter(|(entry, rule)| {
                rule.denies()
                    && rule.is_enforced()
                    && rule.is_unconditional()
                    && entry.pattern.catches_everything()
            })
            .map(|(entry, _)| entry.pattern.specificity())
            .max();
        let let_through = rules().filter(|(_, rule)| !rule.denies()).any(|(entry, rule)| {
            let own = entry.pattern.specificity();
            widest_denial.is_none_or(|denial| own > denial || (own == denial && !rule.is_unconditional()))
        });
        if let_through || self.written.flows.name(host) {
            Reach::Open
        } else if widest_denial.is_some() {
            Reach::Refused(DenyReason::DeniedByRule)
        } else if !enforced || self.is_handled(host) || self.is_open_by_itself(host) {
            Reach::Open
        } else {
            Reach::Refused(DenyReason::NotNamed)
        }
    }

    /// The rule that has TLS flows to this authority passed on unopened, if one does.
    ///
    /// A rule that must see requests of the same authority wins unless it is less specific.
    #[must_use]
    pub fn splices(&self, authority: &Authority) -> Option<&str> {
        self.ask_lists(Scheme::Https, authority, &mut ()).ok()?;
        self.rules_for(Scheme::Https, authority)
            .map(|naming| (naming.pattern.specificity(), !naming.rule.is_splice(), naming.rule))
            .max_by_key(|&(specificity, opened, _)| (specificity, opened))
            .filter(|&(_, opened, _)| !opened)
            .map(|(_, _, rule)| &*rule.name)
    }

    /// The pattern of `denied_hosts` that names this address, to be asked for every address that
    /// a name resolves to. A pattern with a scheme counts for every scheme here. Answers in
    /// whatever [`Policy::mode`]: the caller asks it whether to refuse.
    #[must_use]
    pub fn denies_address(&self, address: SocketAddr) -> Option<&HostPattern> {
        self.denied
            .naming(&Host::from(address.ip()))
            .map(|listed| listed.pattern)
            .find(|pattern| pattern.catches_port(address.port()))
    }

    /// Whether a handler may fetch from here: the two lists, and nothing of the rules. In
    /// `mode = "audit"` it may, and what would be refused comes back.
    ///
    /// # Errors
    /// The refusal by `denied_hosts` or `allowed_hosts`.
    pub fn admits_fetch(&self, scheme: Scheme, authority: &Authority) -> Result<Option<Refusal>, Refusal> {
        match (self.ask_lists(scheme, authority, &mut ()), self.written.mode) {
            (Ok(()), _) => Ok(None),
            (Err(refusal), Mode::Audit) => Ok(Some(refusal)),
            (Err(refusal), Mode::Enforce) => Err(refusal),
        }
    }

    /// The two lists that come before everything else.
    pub(super) fn ask_lists<W: Watch>(
        &self,
        scheme: Scheme,
        authority: &Authority,
        watch: &mut W,
    ) -> Result<(), Refusal> {
        let mut denials = self.denied.naming(&authority.host);
        let denial = denials.find(|listed| listed.pattern.catches(scheme, authority));
        watch.denied_hosts(self, denial);
        if let Some(listed) = denial {
            let detail = format!("`{}` in denied_hosts names {authority}", listed.pattern);
            return Err(Refusal { reason: DenyReason::DeniedHost, detail });
        }
        let Some(allowed) = &self.allowed else {
            return watch.encrypted_dns(self.refuses_encrypted_dns(authority));
        };
        let admission =
            allowed.naming(&authority.host).find(|listed| listed.pattern.admits(scheme, authority));
        watch.allowed_hosts(self, admission);
        if admission.is_some() {
            return watch.encrypted_dns(self.refuses_encrypted_dns(authority));
        }
        let detail = format!("no pattern in allowed_hosts names {scheme}://{authority}");
        Err(Refusal { reason: DenyReason::NotInAllowedHosts, detail })
    }

    /// Whether the lists refuse every request to the host.
    fn lists_refuse(&self, host: &Host) -> Option<DenyReason> {
        if self.denied.naming(host).any(|listed| listed.pattern.catches_everything()) {
            return Some(DenyReason::DeniedHost);
        }
        let is_allowed = |allowed: &HostList| allowed.naming(host).next().is_some();
        if !self.allowed.as_ref().is_none_or(is_allowed) {
            return Some(DenyReason::NotInAllowedHosts);
        }
        self.is_refused_resolver(host).then_some(DenyReason::EncryptedDns)
    }

    /// Whether a pattern that lets through names the host, so that it is meant, and not only not
    /// refused; `*` names nothing.
    #[must_use]
    pub fn names(&self, host: &Host) -> bool {
        self.patterns_for(host).any(|pattern| !matches!(pattern.hosts(), Hosts::Any))
    }

    /// Whether such a pattern names this host and no other.
    pub(super) fn names_exactly(&self, host: &Host) -> bool {
        self.patterns_for(host).any(HostPattern::is_one_host)
    }

    /// Every pattern that lets something through to the host.
    fn patterns_for<'policy>(&'policy self, host: &Host) -> impl Iterator<Item = &'policy HostPattern> {
        let allowed = self.allowed.iter().flat_map(|list| list.naming(host)).map(|listed| listed.pattern);
        let rules = self.written.rule_hosts.naming(host);
        let rules =
            rules.filter(|entry| self.written.rules.get(entry.owner).is_some_and(|rule| !rule.denies()));
        let handlers =
            [&*self.runtime, &self.written.outbound].into_iter().flat_map(|routes| routes.naming(host));
        allowed
            .chain(rules.map(|entry| &entry.pattern))
            .chain(handlers.map(|route| route.pattern))
            .chain(self.passing.naming(host).map(|entry| &entry.pattern))
            .chain(self.written.flows.naming(host))
    }

    /// Whether a handler is bound to the host.
    fn is_handled(&self, host: &Host) -> bool {
        [&*self.runtime, &self.written.outbound]
            .into_iter()
            .any(|routes| routes.catch_all.is_some() || routes.naming(host).next().is_some())
    }

    /// Whether requests that no rule names and no handler takes are let through.
    fn is_open_by_itself(&self, host: &Host) -> bool {
        self.allowed.is_some() || self.written.internet || self.passing.naming(host).next().is_some()
    }
}
