//! The compiled policy: one immutable generation that answers for names, flows and requests.
//!
//! **Invariant:** `denied_hosts` is asked first and `allowed_hosts` second, in every question;
//! what nothing allows is refused.

use std::cmp::Reverse;
use std::net::SocketAddr;

use http::Method;

use crate::compile;
use crate::deny_reason::DenyReason;
use crate::dns::Dns;
use crate::edits::Edits;
use crate::error::{PolicyError, Problem};
use crate::host::{Authority, Host, Scheme};
use crate::index::HostIndex;
use crate::path::{PathSpecificity, RequestPath};
use crate::pattern::{HostPattern, Specificity};
use crate::refusal::RefusalAnswer;
use crate::rule::{Effect, Rule};
use crate::secret::SecretDeclaration;
use crate::upstream::Upstream;
use crate::verdict::{Decision, Refusal, Verdict};

/// One generation of the policy.
#[derive(Clone, Debug)]
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
        Self {
            generation: compile::generation(""),
            internet: false,
            denied: HostIndex::default(),
            allowed: None,
            rules: Vec::new(),
            rule_hosts: HostIndex::default(),
            secrets: Vec::new(),
            upstream: Upstream::default(),
            refusal: RefusalAnswer::default(),
            dns: Dns::default(),
        }
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
    /// a name resolves to. A pattern with a scheme counts for every scheme here.
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

impl Reach {
    /// Whether the host is open.
    #[must_use]
    pub fn is_open(self) -> bool {
        self == Self::Open
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edits::{HeaderEdit, QueryEdit};
    use crate::template::Template;

    const DOCUMENT: &str = r#"
version = 1
denied_hosts = ["denied.test"]

[secrets.TOKEN]
source = "file://token"
hosts = ["api.test"]

[[rules]]
host = "api.test"
methods = ["GET", "HEAD"]
paths = ["/v1/**"]
set_headers = { X-Token = "${secret:TOKEN}", Cookie = "a" }
remove_headers = ["Cookie", "x-debug"]
set_query = { key = "k" }

[upstream]
extra_ca = ["ca.pem"]
resolve = { "API.test.:443" = "[::ffff:127.0.0.1]:9443" }
allow_ranges = ["10.1.0.0/16", "192.168.0.1"]
dns = ["1.1.1.1", "[2001:db8::53]:5353", "2001:db8::53"]
connect_timeout_ms = 1500

[refusal]
status = 451
headers = { content-type = "application/json", x-reason = "policy" }
body = '{"why":"${detail}"}'
"#;

    fn compiled(text: &str) -> Policy {
        Policy::compile("sluicegate.toml", text).unwrap().policy
    }

    fn decide<'policy>(policy: &'policy Policy, method: &Method, url: &str) -> Decision<'policy> {
        let (host, path) = url.split_once('/').unwrap();
        let authority = Authority::parse(host, 443).unwrap();
        let path = format!("/{path}");
        policy.decide(&RequestFacts { scheme: Scheme::Https, authority: &authority, method, path: &path })
    }

    fn refused(policy: &Policy, method: &Method, url: &str) -> Refusal {
        match decide(policy, method, url).verdict {
            Verdict::Refuse(refusal) => refusal,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn p17_the_closed_policy_refuses_everything() {
        let policy = Policy::closed();
        assert_eq!(refused(&policy, &Method::GET, "a.test/").reason, DenyReason::NotNamed);
        assert_eq!(policy.reaches(&Host::parse("a.test").unwrap()), Reach::Refused(DenyReason::NotNamed));
        assert_eq!(policy.generation(), "e3b0c44298fc");
        assert_eq!(policy.refusal().status, 403);
    }

    #[test]
    fn a_generation_is_named_after_its_text() {
        let (first, second) = (compiled("version = 1"), compiled("version = 1 "));
        assert_eq!(first.generation().len(), 12);
        assert_ne!(first.generation(), second.generation());
    }

    #[test]
    fn edits_are_removals_and_then_settings() {
        let policy = compiled(DOCUMENT);
        let decision = decide(&policy, &Method::GET, "api.test/v1/x");
        let Verdict::Forward(edits) = decision.verdict else { panic!("{decision:?}") };
        assert_eq!(decision.rule, Some("rules[1]"));
        let template = |text| Template::parse(text).unwrap();
        assert_eq!(
            edits.headers,
            [
                HeaderEdit::Remove(http::header::COOKIE),
                HeaderEdit::Remove(http::HeaderName::from_static("x-debug")),
                HeaderEdit::Set(http::header::COOKIE, template("a")),
                HeaderEdit::Set(http::HeaderName::from_static("x-token"), template("${secret:TOKEN}")),
            ]
        );
        assert_eq!(edits.query, [QueryEdit { name: "key".into(), value: template("k") }]);
        let used: Vec<&str> = edits.secrets().map(|name| name.as_str()).collect();
        assert_eq!(used, ["TOKEN"]);
    }

    #[test]
    fn o02_a_refusal_says_why_in_words() {
        let policy = compiled(DOCUMENT);
        let table = [
            ("denied.test/", DenyReason::DeniedHost, "`denied.test` in denied_hosts names denied.test:443"),
            (
                "other.test/",
                DenyReason::NotNamed,
                "nothing in the policy names other.test:443, and the internet is off",
            ),
            ("api.test/v2", DenyReason::NoRuleMatches, "rule \"rules[1]\" allows GET, HEAD on /v1/** only"),
        ];
        for (url, reason, detail) in table {
            assert_eq!(refused(&policy, &Method::GET, url), Refusal { reason, detail: detail.into() });
        }
        let ambiguous = refused(&policy, &Method::GET, "api.test/v1/%2e%2e/v2");
        assert_eq!(ambiguous.reason, DenyReason::AmbiguousPath);
        assert!(
            ambiguous.detail.contains("a dot segment") && ambiguous.detail.contains("rules[1]"),
            "{ambiguous:?}"
        );
    }

    #[test]
    fn settings_are_parsed_and_normalised() {
        let policy = compiled(DOCUMENT);
        let upstream = policy.upstream();
        assert_eq!(*upstream.extra_ca, ["ca.pem".into()]);
        let resolved = upstream.resolve_override(&Authority::parse("api.test:443", 1).unwrap());
        assert_eq!(resolved, Some("127.0.0.1:9443".parse().unwrap()));
        assert_eq!(upstream.resolve_override(&Authority::parse("api.test:80", 1).unwrap()), None);
        let servers = ["1.1.1.1:53", "[2001:db8::53]:5353", "[2001:db8::53]:53"];
        assert_eq!(upstream.dns, servers.map(|server| server.parse::<SocketAddr>().unwrap()));
        for (address, allowed) in [
            ("10.1.255.1", true),
            ("::ffff:10.1.0.1", true),
            ("192.168.0.1", true),
            ("192.168.0.2", false),
            ("10.2.0.1", false),
        ] {
            assert_eq!(upstream.allows_address(address.parse().unwrap()), allowed, "{address}");
        }
        assert_eq!(upstream.connect_timeout.as_millis(), 1500);
        assert_eq!(upstream.idle_timeout, Upstream::IDLE_TIMEOUT_DEFAULT);
        let summary = Summary { internet: false, allowed_hosts: None, denied_hosts: 1, rules: 1, secrets: 1 };
        assert_eq!(policy.summary(), summary);
    }

    #[test]
    fn o03_the_refusal_is_as_configured() {
        let policy = compiled(DOCUMENT);
        let refusal = policy.refusal();
        assert_eq!(refusal.status, 451);
        assert!(refusal.headers.iter().any(|(name, value)| name == "x-reason" && value == "policy"));
        let facts = crate::refusal::RefusalFacts {
            reason: DenyReason::NotNamed,
            detail: "\"quoted\"",
            rule: None,
            host: "a.test",
            request_id: "1",
        };
        assert_eq!(refusal.body(&facts), r#"{"why":"\"quoted\""}"#);
    }

    #[test]
    fn no_prefix_of_a_document_panics() {
        for end in 0..DOCUMENT.len() {
            drop(Policy::compile("prefix.toml", DOCUMENT.get(..end).unwrap()));
        }
    }

    #[test]
    fn a_document_is_bounded() {
        let text = format!("version = 1\n#{}", "x".repeat(4 * 1024 * 1024));
        let error = Policy::compile("large.toml", &text).unwrap_err();
        assert!(error.to_string().contains("larger than"), "{error}");
    }
}
