//! The compiled policy: one immutable generation that answers for names, flows and requests.
//!
//! **Invariant:** `denied_hosts` is asked first and `allowed_hosts` second, in every question;
//! what nothing allows is refused.

use std::cmp::Reverse;
use std::net::SocketAddr;

use http::Method;

use crate::compile;
use crate::deny_reason::DenyReason;
use crate::edits::Edits;
use crate::error::{PolicyError, Problem};
use crate::host::{Authority, Host, Scheme};
use crate::index::HostIndex;
use crate::path::{PathPattern, PathSpecificity, RequestPath};
use crate::pattern::{HostPattern, Specificity};
use crate::refusal::RefusalAnswer;
use crate::secret::SecretDeclaration;
use crate::upstream::Upstream;
use crate::verdict::{Decision, FixedAnswer, Refusal, Verdict};

/// One generation of the policy.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    pub(crate) generation: Box<str>,
    pub(crate) internet: bool,
    pub(crate) denied: HostIndex,
    /// `None` where the document has no `allowed_hosts`; an empty list allows nothing.
    pub(crate) allowed: Option<HostIndex>,
    pub(crate) rules: Vec<Rule>,
    /// The patterns of all rules; the owner is the position in `rules`.
    pub(crate) rule_hosts: HostIndex,
    pub(crate) secrets: Vec<SecretDeclaration>,
    pub(crate) upstream: Upstream,
    pub(crate) refusal: RefusalAnswer,
    pub(crate) dns: Dns,
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
}

/// Whether a name can be of any use to the workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Some request to this host might be let through or answered.
    Open,
    /// Every request to this host is refused, for this reason.
    Refused(DenyReason),
}

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

/// One `[[rules]]` entry.
#[derive(Clone, Debug)]
pub(crate) struct Rule {
    pub(crate) name: Box<str>,
    /// Empty means every method.
    pub(crate) methods: Vec<Method>,
    /// Empty means every path.
    pub(crate) paths: Vec<PathPattern>,
    pub(crate) effect: Effect,
}

/// What a rule does with what it matches.
#[derive(Clone, Debug)]
pub(crate) enum Effect {
    Allow(Edits),
    Deny(Box<str>),
    Respond(FixedAnswer),
    Splice,
}

/// What makes one matching rule win over another; the greatest wins.
type Rank = (Specificity, Option<PathSpecificity>, bool, bool, Reverse<usize>);

static NO_EDITS: Edits = Edits::NONE;

impl Policy {
    /// Reads and checks a document. `file_name` is only for messages.
    ///
    /// # Errors
    /// Every problem of the document, each with its place and a hint.
    pub fn compile(file_name: &str, text: &str) -> Result<Compiled, PolicyError> {
        compile::compile(file_name, text)
    }

    /// The policy that refuses everything, for when there is no document.
    #[must_use]
    pub fn closed() -> Self {
        Self { generation: compile::generation(""), ..Self::default() }
    }

    /// The generation: the first 12 hexadecimal digits of the document's SHA-256.
    #[must_use]
    pub fn generation(&self) -> &str {
        &self.generation
    }

    /// Judges one request. Takes no memory from the heap unless it refuses or decodes a path.
    #[must_use]
    pub fn decide(&self, request: &RequestFacts<'_>) -> Decision<'_> {
        let RequestFacts { scheme, authority, .. } = *request;
        if let Err(refusal) = self.pass_lists(scheme, authority) {
            return Decision { rule: None, verdict: Verdict::Refuse(refusal) };
        }
        let path = match self.read_path(request) {
            Ok(path) => path,
            Err(refusal) => {
                return Decision { rule: None, verdict: Verdict::Refuse(refusal) };
            }
        };
        if let Some(rule) = self.winner(request, path.as_ref()) {
            return rule.decision();
        }
        if let Some(refusal) = self.closed_by_rule(request) {
            return refusal;
        }
        if self.allowed.is_some() || self.internet {
            return Decision { rule: None, verdict: Verdict::Forward(&NO_EDITS) };
        }
        let detail = format!("nothing in the policy names {authority}, and the internet is off");
        Decision { rule: None, verdict: Verdict::Refuse(Refusal { reason: DenyReason::NotNamed, detail }) }
    }

    /// Whether some request to the host, on whatever port, could be let through or answered.
    #[must_use]
    pub fn reaches(&self, host: &Host) -> Reach {
        if self.denied.naming(host).any(|entry| entry.pattern.catches_everything()) {
            return Reach::Refused(DenyReason::DeniedHost);
        }
        if let Some(allowed) = &self.allowed
            && allowed.naming(host).next().is_none()
        {
            return Reach::Refused(DenyReason::NotInAllowedHosts);
        }
        let rules =
            || self.rule_hosts.naming(host).filter_map(|entry| Some((entry, self.rules.get(entry.owner)?)));
        let widest_denial = rules()
            .filter(|(entry, rule)| {
                rule.denies() && rule.is_unconditional() && entry.pattern.catches_everything()
            })
            .map(|(entry, _)| entry.pattern.specificity())
            .max();
        let let_through = rules().filter(|(_, rule)| !rule.denies()).any(|(entry, rule)| {
            let own = entry.pattern.specificity();
            widest_denial.is_none_or(|denial| own > denial || (own == denial && !rule.is_unconditional()))
        });
        if let_through {
            Reach::Open
        } else if widest_denial.is_some() {
            Reach::Refused(DenyReason::DeniedByRule)
        } else if self.allowed.is_some() || self.internet {
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
        self.pass_lists(Scheme::Https, authority).ok()?;
        self.rules_for(Scheme::Https, authority)
            .map(|(_, pattern, rule)| (pattern.specificity(), !rule.is_splice(), rule))
            .max_by_key(|&(specificity, opened, _)| (specificity, opened))
            .filter(|&(_, opened, _)| !opened)
            .map(|(_, _, rule)| &*rule.name)
    }

    /// The pattern of `denied_hosts` that names this address, to be asked for every address that
    /// a name resolves to.
    #[must_use]
    pub fn denies_address(&self, address: SocketAddr) -> Option<&HostPattern> {
        self.denied
            .naming(&Host::from(address.ip()))
            .map(|entry| &entry.pattern)
            .find(|pattern| pattern.catches_port(address.port()))
    }

    /// The declared secrets, by name.
    #[must_use]
    pub fn secrets(&self) -> &[SecretDeclaration] {
        &self.secrets
    }

    /// How upstreams are reached.
    #[must_use]
    pub fn upstream(&self) -> &Upstream {
        &self.upstream
    }

    /// What a refused HTTP request is answered.
    #[must_use]
    pub fn refusal(&self) -> &RefusalAnswer {
        &self.refusal
    }

    /// How names are answered.
    #[must_use]
    pub fn dns(&self) -> &Dns {
        &self.dns
    }

    /// How much the policy says.
    #[must_use]
    pub fn summary(&self) -> Summary {
        Summary {
            internet: self.internet,
            allowed_hosts: self.allowed.as_ref().map(HostIndex::len),
            denied_hosts: self.denied.len(),
            rules: self.rules.len(),
            secrets: self.secrets.len(),
        }
    }

    /// The two lists that come before everything else.
    fn pass_lists(&self, scheme: Scheme, authority: &Authority) -> Result<(), Refusal> {
        let denial =
            self.denied.naming(&authority.host).find(|entry| entry.pattern.catches(scheme, authority));
        if let Some(entry) = denial {
            let detail = format!("`{}` in denied_hosts names {authority}", entry.pattern);
            return Err(Refusal { reason: DenyReason::DeniedHost, detail });
        }
        let admitted = self.allowed.as_ref().is_none_or(|allowed| {
            allowed.naming(&authority.host).any(|entry| entry.pattern.admits(scheme, authority))
        });
        if admitted {
            return Ok(());
        }
        let detail = format!("no pattern in allowed_hosts names {scheme}://{authority}");
        Err(Refusal { reason: DenyReason::NotInAllowedHosts, detail })
    }

    /// Every rule that names the authority, with the pattern that does and the rule's position.
    fn rules_for<'policy>(
        &'policy self,
        scheme: Scheme,
        authority: &Authority,
    ) -> impl Iterator<Item = (usize, &'policy HostPattern, &'policy Rule)> {
        self.rule_hosts.naming(&authority.host).filter_map(move |entry| {
            let rule = self.rules.get(entry.owner)?;
            rule.names(&entry.pattern, scheme, authority).then_some((entry.owner, &entry.pattern, rule))
        })
    }

    /// The path, where a rule of this authority limits paths; other hosts do not pay for it.
    fn read_path<'request>(
        &self,
        request: &RequestFacts<'request>,
    ) -> Result<Option<RequestPath<'request>>, Refusal> {
        let limited =
            self.rules_for(request.scheme, request.authority).find(|(_, _, rule)| !rule.paths.is_empty());
        let Some((_, _, rule)) = limited else {
            return Ok(None);
        };
        RequestPath::read(request.path).map(Some).map_err(|ambiguous| Refusal {
            reason: DenyReason::AmbiguousPath,
            detail: format!("{ambiguous}; rule \"{}\" limits the paths of this host", rule.name),
        })
    }

    fn winner(&self, request: &RequestFacts<'_>, path: Option<&RequestPath<'_>>) -> Option<&Rule> {
        self.rules_for(request.scheme, request.authority)
            .filter_map(|(position, pattern, rule)| {
                let (path, method) = rule.matches(request.method, path)?;
                let rank: Rank = (pattern.specificity(), path, method, rule.denies(), Reverse(position));
                Some((rank, rule))
            })
            .max_by_key(|&(rank, _)| rank)
            .map(|(_, rule)| rule)
    }

    /// The refusal of a request that no rule matches, to a host that some rule allows in part.
    fn closed_by_rule(&self, request: &RequestFacts<'_>) -> Option<Decision<'_>> {
        let (_, _, rule) = self
            .rules_for(request.scheme, request.authority)
            .filter(|(_, _, rule)| rule.closes())
            .max_by_key(|&(position, pattern, _)| (pattern.specificity(), Reverse(position)))?;
        let detail = match &rule.effect {
            Effect::Splice => format!("rule \"{}\" passes TLS flows on unopened and no request", rule.name),
            _ => format!("rule \"{}\" allows {} only", rule.name, rule.what_it_matches()),
        };
        let refusal = Refusal { reason: DenyReason::NoRuleMatches, detail };
        Some(Decision { rule: Some(&rule.name), verdict: Verdict::Refuse(refusal) })
    }
}

impl Rule {
    /// Denial is wide and everything else narrow; only TLS can be passed on unopened.
    fn names(&self, pattern: &HostPattern, scheme: Scheme, authority: &Authority) -> bool {
        match self.effect {
            Effect::Deny(_) => pattern.catches(scheme, authority),
            Effect::Allow(_) | Effect::Respond(_) => pattern.admits(scheme, authority),
            Effect::Splice => scheme == Scheme::Https && pattern.admits(scheme, authority),
        }
    }

    /// How narrowly the rule matches by path and method; `None` where it does not.
    fn matches(
        &self,
        method: &Method,
        path: Option<&RequestPath<'_>>,
    ) -> Option<(Option<PathSpecificity>, bool)> {
        if self.is_splice() {
            return None;
        }
        if !self.methods.is_empty() && !self.methods.contains(method) {
            return None;
        }
        if self.paths.is_empty() {
            return Some((None, !self.methods.is_empty()));
        }
        let path = path?;
        let fits = |pattern: &&PathPattern| {
            if self.denies() { pattern.catches(path) } else { pattern.admits(path) }
        };
        let best = self.paths.iter().filter(fits).map(PathPattern::specificity).max()?;
        Some((Some(best), !self.methods.is_empty()))
    }

    fn decision(&self) -> Decision<'_> {
        let verdict = match &self.effect {
            Effect::Allow(edits) => Verdict::Forward(edits),
            Effect::Respond(answer) => Verdict::Respond(answer),
            Effect::Deny(why) => {
                Verdict::Refuse(Refusal { reason: DenyReason::DeniedByRule, detail: String::from(&**why) })
            }
            // Flows are passed on unopened before there is a request; a request was opened for
            // another reason and is not what the rule meant.
            Effect::Splice => Verdict::Refuse(Refusal {
                reason: DenyReason::NoRuleMatches,
                detail: String::from("the rule passes TLS flows on unopened and no request"),
            }),
        };
        Decision { rule: Some(&self.name), verdict }
    }

    /// Whether the rule leaves its hosts closed for what no rule matches.
    fn closes(&self) -> bool {
        matches!(self.effect, Effect::Allow(_) | Effect::Splice)
    }

    fn denies(&self) -> bool {
        matches!(self.effect, Effect::Deny(_))
    }

    pub(crate) fn is_splice(&self) -> bool {
        matches!(self.effect, Effect::Splice)
    }

    fn is_unconditional(&self) -> bool {
        self.methods.is_empty() && self.paths.is_empty()
    }

    /// `GET, HEAD on /v1/**`, for the detail of a refusal.
    fn what_it_matches(&self) -> String {
        let methods: Vec<&str> = self.methods.iter().map(Method::as_str).collect();
        let paths: Vec<&str> = self.paths.iter().map(PathPattern::as_str).collect();
        match (methods.is_empty(), paths.is_empty()) {
            (_, true) => methods.join(", "),
            (true, false) => paths.join(", "),
            (false, false) => format!("{} on {}", methods.join(", "), paths.join(", ")),
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
