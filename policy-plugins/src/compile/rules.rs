//! Compiles `[[rules]]`.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use http::{HeaderName, HeaderValue, Method, StatusCode, header};
use toml::Spanned;

use super::secrets::Secrets;
use super::{headers, pattern};
use crate::document::{BasicAuthEntry, RespondEntry, RuleEntry};
use crate::edits::{BasicAuth, Edits, HeaderEdit, QueryEdit};
use crate::error::Findings;
use crate::index::HostIndex;
use crate::path::PathPattern;
use crate::pattern::{HostPattern, Hosts, ListedIn};
use crate::rule::{Effect, Rule};
use crate::secret::SecretName;
use crate::template::{Template, TemplateError};
use crate::verdict::FixedAnswer;

/// The longest name of a rule, in bytes: it stands in a header of each refusal.
const NAME_BYTES_MAX: usize = 64;

/// The rules that compiled, each with its host patterns.
pub(super) struct Rules {
    compiled: Vec<(Rule, Vec<Spanned<HostPattern>>)>,
}

pub(super) fn compile(
    entries: &[Spanned<RuleEntry>],
    secrets: &Secrets,
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
        compiled.push(rule(entry, name, secrets, findings));
    }
    let rules = Rules { compiled };
    rules.check_splices(findings);
    rules
}

impl Rules {
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

    pub(super) fn into_rules(self) -> Vec<Rule> {
        self.compiled.into_iter().map(|(rule, _)| rule).collect()
    }

    /// The secrets that some rule puts on; one used twice comes twice.
    pub(super) fn secrets_used(&self) -> impl Iterator<Item = &SecretName> {
        self.compiled
            .iter()
            .flat_map(|(rule, _)| match &rule.effect {
                Effect::Allow(edits) => Some(edits.secrets()),
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
    secrets: &Secrets,
    findings: &mut Findings<'_>,
) -> (Rule, Vec<Spanned<HostPattern>>) {
    let hosts = hosts(entry, findings);
    let methods = entry.methods.as_ref().map(|list| methods(list, findings)).unwrap_or_default();
    let paths = entry.paths.as_ref().map(|list| paths(list, findings)).unwrap_or_default();
    let edits = edits(entry, secrets, &hosts, findings);
    let effect = effect(entry, edits, findings);
    if matches!(effect, Effect::Splice) {
        check_splice(entry, &hosts, findings);
    }
    (Rule { name, methods, paths, effect }, hosts)
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

/// The one effect of a rule; the edits count only where that is to allow.
fn effect(entry: &RuleEntry, edits: Edits, findings: &mut Findings<'_>) -> Effect {
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
    if splice.is_some() { Effect::Splice } else { Effect::Allow(edits) }
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

fn reason(deny: &Spanned<String>, findings: &mut Findings<'_>) -> Box<str> {
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

fn edits(
    entry: &RuleEntry,
    secrets: &Secrets,
    hosts: &[Spanned<HostPattern>],
    findings: &mut Findings<'_>,
) -> Edits {
    let mut templates = Templates { secrets, hosts, findings };
    let removed = entry.remove_headers.as_ref().map(Spanned::get_ref).into_iter().flatten();
    let mut headers: Vec<HeaderEdit> =
        removed.filter_map(|name| headers::name(name, templates.findings)).map(HeaderEdit::Remove).collect();
    if let Some(set) = &entry.set_headers {
        headers.extend(templates.headers(set.get_ref()));
    }
    let query = entry.set_query.as_ref().map(|set| templates.query(set.get_ref())).unwrap_or_default();
    let basic_auth = entry.basic_auth.as_ref().and_then(|basic| templates.basic_auth(basic.get_ref()));
    let authorization =
        headers.iter().any(|edit| matches!(edit, HeaderEdit::Set(name, _) if *name == header::AUTHORIZATION));
    if let Some(basic) = entry.basic_auth.as_ref().filter(|_| authorization) {
        templates
            .findings
            .error(basic.span(), "`basic_auth` and `set_headers` both set `authorization`")
            .help("keep one of the two");
    }
    Edits { headers, query, basic_auth }
}

/// Reads the values of one rule that may hold secrets.
struct Templates<'rule, 'findings, 'text> {
    secrets: &'rule Secrets,
    hosts: &'rule [Spanned<HostPattern>],
    findings: &'findings mut Findings<'text>,
}

impl Templates<'_, '_, '_> {
    fn headers(&mut self, entries: &BTreeMap<Spanned<String>, Spanned<String>>) -> Vec<HeaderEdit> {
        let mut seen: Vec<HeaderName> = Vec::new();
        let mut edits = Vec::new();
        for (written, value) in entries {
            let name = headers::name(written, self.findings);
            let template = self.template(value);
            let (Some(name), Some(template)) = (name, template) else {
                continue;
            };
            if seen.contains(&name) {
                headers::twice(written, self.findings);
            }
            if template.literals().any(|text| HeaderValue::from_str(text).is_err()) {
                headers::bad_value(value, self.findings);
            }
            seen.push(name.clone());
            edits.push(HeaderEdit::Set(name, template));
        }
        edits
    }

    fn query(&mut self, entries: &BTreeMap<Spanned<String>, Spanned<String>>) -> Vec<QueryEdit> {
        let mut edits = Vec::new();
        for (name, value) in entries {
            if name.get_ref().is_empty() {
                self.findings
                    .error(name.span(), "a query parameter needs a name")
                    .help("write `key = \"value\"`");
            }
            edits.extend(
                self.template(value).map(|value| QueryEdit { name: name.get_ref().as_str().into(), value }),
            );
        }
        edits
    }

    fn basic_auth(&mut self, entry: &BasicAuthEntry) -> Option<BasicAuth> {
        let username = self.template(&entry.username);
        let password = self.template(&entry.password);
        let (username, password) = (username?, password?);
        for (written, template) in [(&entry.username, &username), (&entry.password, &password)] {
            if template.literals().any(|text| text.contains(char::is_control)) {
                self.findings
                    .error(written.span(), "a control character in credentials")
                    .help("remove it (RFC 7617)");
            }
        }
        if username.literals().any(|text| text.contains(':')) {
            self.findings
                .error(entry.username.span(), "a user name holds no colon")
                .help("what follows the colon belongs in `password` (RFC 7617)");
        }
        Some(BasicAuth { username, password })
    }

    /// Reads one value and checks that the rule may use its secrets.
    fn template(&mut self, value: &Spanned<String>) -> Option<Template> {
        match Template::parse(value.get_ref()) {
            Ok(template) => {
                for name in template.secrets() {
                    self.secrets.check_use(name, value.span(), self.hosts, self.findings);
                }
                Some(template)
            }
            Err(error) => {
                let help = match &error {
                    TemplateError::Unknown(hole) if SecretName::parse(hole).is_some() => {
                        format!("did you mean `${{secret:{hole}}}`?")
                    }
                    _ => String::from("write `${secret:NAME}`, or `$${` for a literal `${`"),
                };
                self.findings.error(value.span(), error.to_string()).help(help);
                None
            }
        }
    }
}
