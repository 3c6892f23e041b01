//! Finds what is legal in a document and probably not meant.

use std::collections::BTreeSet;

use toml::Spanned;

use super::index;
use super::rules::Rules;
use crate::bindings::BindingDeclaration;
use crate::document::Document;
use crate::error::Findings;
use crate::host::Scheme;
use crate::index::HostIndex;
use crate::pattern::HostPattern;
use crate::secret::SecretName;
use crate::upstream::Upstream;

pub(super) fn find(
    document: &Document,
    allowed: Option<&[Spanned<HostPattern>]>,
    denied: &[Spanned<HostPattern>],
    policy: &Compiled<'_>,
    findings: &mut Findings<'_>,
) {
    let denied = index(denied);
    let Compiled { rules, handled, .. } = policy;
    if let Some(allowed) = allowed {
        idle_allowed_list(document, findings);
        denied_anyway(allowed.iter(), &denied, findings);
        let by_rule = rules.hosts_let_through().map(|(rule, host)| (Some(rule), host));
        let by_handler = handled.iter().map(|host| (None, host));
        outside_allowed_list(allowed, by_rule.chain(by_handler).collect(), findings);
    }
    denied_anyway(rules.hosts_let_through().map(|(_, host)| host), &denied, findings);
    denied_anyway(handled.iter(), &denied, findings);
    unused_secrets(document, policy, findings);
}

/// What was compiled, as far as warnings are about it.
pub(super) struct Compiled<'a> {
    pub(super) rules: &'a Rules,
    /// The patterns of `outbound_by_host`.
    pub(super) handled: &'a [Spanned<HostPattern>],
    pub(super) bindings: &'a [BindingDeclaration],
    pub(super) upstream: &'a Upstream,
    /// Whether some handler may use any secret.
    pub(super) has_scripts: bool,
}

/// An empty list, and `internet` beside a list.
fn idle_allowed_list(document: &Document, findings: &mut Findings<'_>) {
    let Some(list) = &document.allowed_hosts else {
        return;
    };
    if list.get_ref().is_empty() {
        findings
            .warning(list.span(), "`allowed_hosts` is empty: every request is refused")
            .help("name the hosts that may be reached, or remove the list");
    } else if let Some(internet) = document.internet.as_ref().filter(|internet| *internet.get_ref()) {
        findings
            .warning(internet.span(), "`internet = true` has no effect beside `allowed_hosts`")
            .also(list.span(), "only these hosts can be reached")
            .help("remove one of the two");
    }
}

/// Patterns of which `denied_hosts` leaves nothing.
fn denied_anyway<'patterns>(
    patterns: impl Iterator<Item = &'patterns Spanned<HostPattern>>,
    denied: &HostIndex,
    findings: &mut Findings<'_>,
) {
    for spanned in patterns {
        let pattern = spanned.get_ref();
        let denial = denied.around(pattern.hosts()).find(|entry| entry.pattern.denies_all_of(pattern));
        if let Some(entry) = denial {
            findings
                .warning(spanned.span(), format!("`{pattern}` can never be reached"))
                .label(format!("`{}` in denied_hosts covers it", entry.pattern))
                .help("remove it here or from `denied_hosts`, which is asked first");
        }
    }
}

/// Rules and handlers for hosts that `allowed_hosts` keeps from being reached; a handler's pattern
/// comes without the name of a rule.
fn outside_allowed_list(
    allowed: &[Spanned<HostPattern>],
    named: Vec<(Option<&str>, &Spanned<HostPattern>)>,
    findings: &mut Findings<'_>,
) {
    let mut rule_index = HostIndex::default();
    for (position, (_, host)) in named.iter().enumerate() {
        rule_index.insert(host.get_ref().clone(), position);
    }
    // Of two patterns that overlap one covers the other's hosts, so looking around each of them
    // finds every overlap without comparing all pairs.
    let mut reached: BTreeSet<usize> = BTreeSet::new();
    for pattern in allowed.iter().map(Spanned::get_ref) {
        let overlapping = rule_index.around(pattern.hosts()).filter(|entry| entry.pattern.overlaps(pattern));
        reached.extend(overlapping.map(|entry| entry.owner));
    }
    let allowed = index(allowed);
    for (position, (rule, host)) in named.into_iter().enumerate() {
        let pattern = host.get_ref();
        let overlapped = || allowed.around(pattern.hosts()).any(|entry| entry.pattern.overlaps(pattern));
        if !reached.contains(&position) && !overlapped() {
            let message = match rule {
                Some(rule) => format!("rule \"{rule}\" can never match for `{pattern}`"),
                None => format!("the handler of `{pattern}` can never run"),
            };
            findings
                .warning(host.span(), message)
                .label("`allowed_hosts` does not name it")
                .help(format!("add \"{pattern}\" to `allowed_hosts`"));
        }
    }
}

fn unused_secrets(document: &Document, policy: &Compiled<'_>, findings: &mut Findings<'_>) {
    if policy.has_scripts {
        return;
    }
    let by_bindings = policy.bindings.iter().flat_map(BindingDeclaration::secrets);
    let used: BTreeSet<&str> = policy
        .rules
        .secrets_used()
        .chain(by_bindings)
        .chain(policy.upstream.secrets())
        .map(SecretName::as_str)
        .collect();
    for name in document.secrets.keys().filter(|name| !used.contains(name.get_ref().as_str())) {
        let name_text = name.get_ref();
        findings.warning(name.span(), format!("secret {name_text} is not used by any rule")).help(format!(
            "put it on with set_headers = {{ authorization = \"Bearer ${{secret:{name_text}}}\" }}"
        ));
    }
}

impl HostPattern {
    /// Whether this pattern, read as one that denies, catches all that `other` allows.
    fn denies_all_of(&self, other: &Self) -> bool {
        self.catches_everything() && self.hosts().cover(other.hosts())
            || (!self.catches_everything()
                && Scheme::ALL.into_iter().all(|scheme| self.covers(other, scheme)))
    }
}
