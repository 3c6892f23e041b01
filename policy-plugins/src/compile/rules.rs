//! Compiles `[[rules]]`.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, StatusCode};
use toml::Spanned;

use super::handlers::{Handlers, Wanted};
use super::secrets::Secrets;
use super::{edits, headers, pattern};
use crate::document::{RespondEntry, RuleEntry};
use crate::error::Findings;
use crate::handler::BoundHandler;
use crate::index::HostIndex;
use crate::path::PathPattern;
use crate::pattern::{HostPattern, Hosts, ListedIn};
use crate::policy::Mode;
use crate::rule::{Allowance, Effect, Rule};
use crate::secret::SecretName;
use crate::verdict::{Ask, FixedAnswer};

/// The longest name of a rule, in bytes: it stands in a header of each refusal.
const NAME_BYTES_MAX: usize = 64;

/// The longest question to a person, in bytes: it stands in a line of a terminal or two.
const ASK_BYTES_MAX: usize = 256;
/// How long a person has where the rule does not say.
const ASK_PATIENCE_DEFAULT: Duration = Duration::from_secs(60);
/// The longest that a request may wait for a person: clients give up before.
const ASK_SECONDS_MAX: u64 = 600;

/// What rules are compiled with.
pub(super) struct Surroundings<'a, 'sources> {
    pub(super) secrets: &'a Secrets,
    pub(super) handlers: &'a mut Handlers<'sources>,
    pub(super) mode: Mode,
}

/// The rules that compiled, each with its host patterns.
pub(super) struct Rules {
    compiled: Vec<(Rule, Vec<Spanned<HostPattern>>)>,
}

pub(super) fn compile(
    entries: &[Spanned<RuleEntry>],
    mut surroundings: Surroundings<'_, '_>,
    findings: &mut Findings<'_>,
) -> Rules {
    let mut names: HashMap<Box<str>, Range<usize>> = HashMap::new();
    let mut compiled = Vec::new();
    for (position, spanned) in entries.iter().enumerate() {
        let entry = spanned.get_ref();
        let name = name(entry, position + 1, findings);
        let name_at = entry.name.as_ref().map_or_else(|| spanned.span(), Spanned::span);
        if let Some(first_at) = names.insert(name.clone(), name_at.clone()) {
            findings
                .error(name_at, format!("two rules are named \"{name}\""))
                .also(first_at, "the other")
                .help("give each rule a name of its own");
        }
        compiled.push(rule(entry, name, &mut surroundings, findings));
    }
    let rules = Rules { compiled };
    rules.check_splices(findings);
    rules
}

impl Rules {
    /// A handler of a host whose TLS flows pass unopened would never run.
    pub(super) fn check_handled(&self, handled: &[Spanned<HostPattern>], findings: &mut Findings<'_>) {
        for (rule, unopened) in self.splices() {
            for host in handled {
                let (own, other) = (unopened.get_ref(), host.get_ref());
                if own.hosts() == other.hosts() && own.overlaps(other) {
                    findings
                        .error(host.span(), format!("the handler of `{other}` would never run"))
                        .also(unopened.span(), format!("rule \"{rule}\" passes TLS to it on unopened"))
                        .help("drop `intercept = false`, or the handler");
                }
            }
        }
    }

    /// All patterns, each owned by its rule's position.
    pub(super) fn index(&self) -> HostIndex {
        let mut index = HostIndex::default();
        for (position, (_, hosts)) in self.compiled.iter().enumerate() {
            for host in hosts {
                index.insert(host.get_ref().clone(), position);
            }
        }
        index
    }

    /// The patterns of rules that pass TLS on unopened, each with its rule's name.
    pub(super) fn splices(&self) -> impl Iterator<Item = (&str, &Spanned<HostPattern>)> {
        self.compiled
            .iter()
            .filter(|(rule, _)| rule.is_splice())
            .flat_map(|(rule, hosts)| hosts.iter().map(|host| (&*rule.name, host)))
    }

    pub(super) fn into_rules(self) -> Vec<Rule> {
        self.compiled.into_iter().map(|(rule, _)| rule).collect()
    }

    /// The secrets that some rule puts on; one used twice comes twice.
    pub(super) fn secrets_used(&self) -> impl Iterator<Item = &SecretName> {
        self.compiled
            .iter()
            .flat_map(|(rule, _)| match &rule.effect {
                Effect::Allow(allowance) => Some(allowance.edits.secrets()),
                Effect::Deny(_) | Effect::Respond(_) | Effect::Splice => None,
            })
            .flatten()
    }

    /// The patterns of the rules that want to let something through, each with its rule's name.
    pub(super) fn hosts_let_through(&self) -> impl Iterator<Item = (&str, &Spanned<HostPattern>)> {
        self.compiled
            .iter()
            .filter(|(rule, _)| !matches!(rule.effect, Effect::Deny(_)))
            .flat_map(|(rule, hosts)| hosts.iter().map(|host| (&*rule.name, host)))
    }

    /// A rule that has flows passed on unopened leaves an equally specific rule nothing to judge.
    fn check_splices(&self, findings: &mut Findings<'_>) {
        let (splicing, judging): (Vec<_>, Vec<_>) = self
            .compiled
            .iter()
            .flat_map(|(rule, hosts)| hosts.iter().map(move |host| (rule, host)))
            .partition(|(rule, _)| rule.is_splice());
        for (splice, unopened) in &splicing {
            for (rule, host) in &judging {
                let (own, other) = (unopened.get_ref(), host.get_ref());
                let same = own.hosts() == other.hosts() && own.specificity() == other.specificity();
                if same && own.overlaps(other) {
                    findings
                        .error(
                            host.span(),
                            format!("rule \"{}\" would never see a TLS request to `{other}`", rule.name),
                        )
                        .also(
                            unopened.span(),
                            format!("rule \"{}\" passes TLS to it on unopened", splice.name),
                        )
                        .help("drop `intercept = false`, or name different hosts or ports in the two rules");
                }
            }
        }
    }
}

fn rule(
    entry: &RuleEntry,
    name: Box<str>,
    surroundings: &mut Surroundings<'_, '_>,
    findings: &mut Findings<'_>,
) -> (Rule, Vec<Spanned<HostPattern>>) {
    let hosts = hosts(entry, findings);
    let methods = entry.methods.as_ref().map(|list| methods(list, findings)).unwrap_or_default();
    let paths = entry.paths.as_ref().map(|list| paths(list, findings)).unwrap_or_default();
    let allowance = Allowance {
        edits: edits::compile(entry, surroundings.secrets, &hosts, findings),
        ask: ask(entry, findings),
        handler: handler(entry, surroundings, findings),
    };
    let effect = effect(entry, allowance, findings);
    if matches!(effect, Effect::Splice) {
        check_splice(entry, &hosts, findings);
    }
    let mode = entry.mode.as_ref().map_or(surroundings.mode, |mode| Mode::from(*mode.get_ref()));
    (Rule { name, methods, paths, effect, mode }, hosts)
}

/// The question for a person.
fn ask(entry: &RuleEntry, findings: &mut Findings<'_>) -> Option<Ask> {
    if let (None, Some(seconds)) = (&entry.ask, &entry.ask_seconds) {
        findings
            .error(seconds.span(), "`ask_seconds` has no effect without `ask`")
            .help("say what the person is asked: ask = \"really write?\"");
    }
    let written = entry.ask.as_ref()?;
    let reason = written.get_ref();
    if reason.trim().is_empty() || reason.len() > ASK_BYTES_MAX || reason.contains(char::is_control) {
        findings
            .error(written.span(), "`ask` is no question")
            .help(format!("say in one line of at most {ASK_BYTES_MAX} bytes what the person decides"));
    }
    let mut patience = ASK_PATIENCE_DEFAULT;
    if let Some(seconds) = &entry.ask_seconds {
        if !(1..=ASK_SECONDS_MAX).contains(seconds.get_ref()) {
            findings
                .error(seconds.span(), format!("a wait of {} s is out of bounds", seconds.get_ref()))
                .help(format!("write a number from 1 to {ASK_SECONDS_MAX}"));
        }
        patience = Duration::from_secs(*seconds.get_ref());
    }
    Some(Ask { reason: reason.as_str().into(), patience })
}

/// The handler that the rule names itself.
fn handler(
    entry: &RuleEntry,
    surroundings: &mut Surroundings<'_, '_>,
    findings: &mut Findings<'_>,
) -> Option<Arc<BoundHandler>> {
    let Some(handler) = &entry.handler else {
        let params = entry.params.as_ref().map(|params| ("params", params.span()));
        let reveal = entry.reveal.as_ref().map(|reveal| ("reveal", reveal.span()));
        for (key, at) in [params, reveal].into_iter().flatten() {
            findings
                .error(at, format!("`{key}` has no effect without `handler`"))
                .help("name the handler: handler = \"handlers/name.rhai\"");
        }
        return None;
    };
    let wanted = Wanted {
        handler: handler.get_ref(),
        at: handler.span(),
        params: entry.params.as_ref(),
        reveal: entry.reveal.as_ref(),
    };
    surroundings.handlers.bind(&wanted, findings)
}

fn name(entry: &RuleEntry, number: usize, findings: &mut Findings<'_>) -> Box<str> {
    let Some(written) = &entry.name else {
        return format!("rules[{number}]").into();
    };
    let name = written.get_ref();
    let fits = !name.is_empty()
        && name.len() <= NAME_BYTES_MAX
        && name.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ');
    if !fits {
        findings
            .error(written.span(), "bad name of a rule")
            .help(format!("use 1 to {NAME_BYTES_MAX} printable ASCII characters"));
    }
    name.as_str().into()
}

fn hosts(entry: &RuleEntry, findings: &mut Findings<'_>) -> Vec<Spanned<HostPattern>> {
    let written = entry.host.get_ref().strings(entry.host.span());
    if written.is_empty() {
        findings.error(entry.host.span(), "the rule names no host").help("name one, or `*` for every host");
    }
    written.into_iter().filter_map(|(at, text)| pattern(at, text, ListedIn::Rule, findings)).collect()
}

fn methods(list: &Spanned<Vec<Spanned<String>>>, findings: &mut Findings<'_>) -> Vec<Method> {
    if list.get_ref().is_empty() {
        findings.error(list.span(), "the rule matches no method").help("leave `methods` out to match all");
    }
    let mut methods = Vec::new();
    for written in list.get_ref() {
        let text = written.get_ref();
        match Method::from_bytes(text.as_bytes()) {
            Ok(_) if text == "*" => {
                findings.error(written.span(), "`*` is no method").help("leave `methods` out to match all");
            }
            Ok(_) if text.bytes().any(|byte| byte.is_ascii_lowercase()) => {
                findings.error(written.span(), format!("method `{text}` is not in capitals")).help(format!(
                    "write \"{}\": methods are case-sensitive (RFC 9110)",
                    text.to_ascii_uppercase()
                ));
            }
            Ok(method) => methods.push(method),
            Err(_) => {
                findings
                    .error(written.span(), format!("bad method `{}`", text.escape_debug()))
                    .help("write a method such as \"GET\"");
            }
        }
    }
    methods
}

fn paths(list: &Spanned<Vec<Spanned<String>>>, findings: &mut Findings<'_>) -> Vec<PathPattern> {
    if list.get_ref().is_empty() {
        findings.error(list.span(), "the rule matches no path").help("leave `paths` out to match all");
    }
    let mut paths = Vec::new();
    for written in list.get_ref() {
        match PathPattern::parse(written.get_ref()) {
            Ok(path) => paths.push(path),
            Err(error) => {
                findings
                    .error(written.span(), format!("bad path pattern `{}`", written.get_ref().escape_debug()))
                    .label(error.to_string())
                    .help("write it as `/v1/users`, `/v1/*` for one segment or `/v1/**` for all below");
            }
        }
    }
    paths
}

/// The one effect of a rule; the allowance counts only where that is to allow.
fn effect(entry: &RuleEntry, allowance: Allowance, findings: &mut Findings<'_>) -> Effect {
    let deny = entry.deny.as_ref().map(|deny| ("deny", deny.span()));
    let respond = entry.respond.as_ref().map(|respond| ("respond", respond.span()));
    let splice = entry.intercept.as_ref().filter(|intercept| !intercept.get_ref());
    let splice_at = splice.map(|splice| ("intercept = false", splice.span()));
    let mut effects = [deny, respond, splice_at].into_iter().flatten();
    if let Some((first, first_at)) = effects.next() {
        for (other, at) in effects {
            findings
                .error(at, format!("`{first}` and `{other}` exclude each other"))
                .also(first_at.clone(), "the other effect")
                .help("make two rules of it");
        }
        for (key, at) in keys_of_going_on(entry) {
            findings
                .error(at, format!("`{key}` has no effect beside `{first}`"))
                .also(first_at.clone(), "the request goes no further")
                .help(format!("drop `{key}`, or make a second rule that allows"));
        }
        for (key, at) in edit_keys(entry) {
            findings
                .error(at, format!("`{key}` has no effect beside `{first}`"))
                .also(first_at.clone(), "nothing is sent on that could be changed")
                .help(format!("drop `{key}`, or make a second rule that allows"));
        }
    }
    if let Some(deny) = &entry.deny {
        return Effect::Deny(reason(deny, findings));
    }
    if let Some(respond) = &entry.respond {
        return Effect::Respond(answer(respond, findings));
    }
    if splice.is_some() { Effect::Splice } else { Effect::Allow(allowance) }
}

/// The keys of a rule that change requests, as far as they are used.
fn edit_keys(entry: &RuleEntry) -> impl Iterator<Item = (&'static str, Range<usize>)> {
    [
        ("set_headers", entry.set_headers.as_ref().map(Spanned::span)),
        ("remove_headers", entry.remove_headers.as_ref().map(Spanned::span)),
        ("set_query", entry.set_query.as_ref().map(Spanned::span)),
        ("basic_auth", entry.basic_auth.as_ref().map(Spanned::span)),
    ]
    .into_iter()
    .filter_map(|(key, at)| Some((key, at?)))
}

/// The keys of a rule that say what becomes of requests that go on, as far as they are used.
fn keys_of_going_on(entry: &RuleEntry) -> impl Iterator<Item = (&'static str, Range<usize>)> {
    let ask = entry.ask.as_ref().map(|ask| ("ask", ask.span()));
    let handler = entry.handler.as_ref().map(|handler| ("handler", handler.span()));
    [ask, handler].into_iter().flatten()
}

pub(super) fn reason(deny: &Spanned<String>, findings: &mut Findings<'_>) -> Box<str> {
    let why = deny.get_ref();
    if why.trim().is_empty() || why.contains(char::is_control) {
        findings
            .error(deny.span(), "the denial gives no reason")
            .help("say in one line why: deny = \"read only\"");
    }
    why.as_str().into()
}

fn answer(respond: &Spanned<RespondEntry>, findings: &mut Findings<'_>) -> FixedAnswer {
    let entry = respond.get_ref();
    let number = *entry.status.get_ref();
    let status = StatusCode::from_u16(number).ok().filter(|status| (200..=599).contains(&status.as_u16()));
    if status.is_none() {
        findings
            .error(entry.status.span(), format!("status {number} is no final status"))
            .help("write a number from 200 to 599");
    }
    let status = status.unwrap_or(StatusCode::OK);
    if let Some(body) = &entry.body
        && matches!(number, 204 | 205 | 304)
        && !body.get_ref().is_empty()
    {
        findings
            .error(body.span(), format!("an answer with status {number} has no body"))
            .help("drop `body`");
    }
    let body = entry.body.as_ref().map(|body| body.get_ref().as_str()).unwrap_or_default();
    FixedAnswer { status, headers: headers::fixed(&entry.headers, findings), body: body.into() }
}

/// What a rule cannot say about flows that nobody looks into.
fn check_splice(entry: &RuleEntry, hosts: &[Spanned<HostPattern>], findings: &mut Findings<'_>) {
    let unseen = [
        ("methods", entry.methods.as_ref().map(Spanned::span)),
        ("paths", entry.paths.as_ref().map(Spanned::span)),
    ];
    for (key, at) in unseen {
        if let Some(at) = at {
            findings
                .error(at, format!("`{key}` cannot stand beside `intercept = false`"))
                .label("nobody sees this of a flow that is passed on unopened")
                .help(format!("drop `{key}`, or drop `intercept = false`"));
        }
    }
    for host in hosts {
        let pattern = host.get_ref();
        let (fault, help) = match pattern.hosts() {
            _ if pattern.scheme() == Some(crate::host::Scheme::Http) => {
                ("plain http is not TLS", "drop `http://`")
            }
            Hosts::Any => ("too wide to be passed on unseen", "name the hosts"),
            Hosts::Range(range) if range.prefix_len() < range.max_prefix_len() => {
                ("too wide to be passed on unseen", "name each address, or better each host name")
            }
            Hosts::Below(_) | Hosts::Name(_) | Hosts::Range(_) => continue,
        };
        findings
            .error(host.span(), format!("`{pattern}` cannot stand beside `intercept = false`"))
            .label(fault)
            .help(help);
    }
}
