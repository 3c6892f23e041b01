//! Compiles `[secrets]` and answers whether a rule may use one.

use std::collections::BTreeMap;
use std::ops::Range;

use toml::Spanned;

use super::patterns;
use crate::document::SecretEntry;
use crate::error::{Findings, nearest};
use crate::host::{Authority, Scheme};
use crate::pattern::{HostPattern, ListedIn};
use crate::secret::{SecretDeclaration, SecretName, SecretSource};

/// The declared secrets, by name.
pub(super) struct Secrets {
    by_name: BTreeMap<SecretName, Secret>,
}

struct Secret {
    /// `None` where the entry has problems of its own, which have been reported.
    declaration: Option<SecretDeclaration>,
    hosts_at: Range<usize>,
}

pub(super) fn compile(
    entries: &BTreeMap<Spanned<String>, SecretEntry>,
    findings: &mut Findings<'_>,
) -> Secrets {
    let mut by_name = BTreeMap::new();
    for (name, entry) in entries {
        if let Some(parsed) = SecretName::parse(name.get_ref()) {
            let declaration = declaration(&parsed, entry, findings);
            by_name.insert(parsed, Secret { declaration, hosts_at: entry.hosts.span() });
        } else {
            findings
                .error(name.span(), format!("bad name `{}` of a secret", name.get_ref().escape_debug()))
                .help("use letters, digits and `_`, such as API_TOKEN, 64 at most");
        }
    }
    Secrets { by_name }
}

impl Secrets {
    pub(super) fn into_declarations(self) -> Vec<SecretDeclaration> {
        self.by_name.into_values().filter_map(|secret| secret.declaration).collect()
    }

    /// The name of a declared secret, or a report that it is none.
    pub(super) fn declared(
        &self,
        text: &str,
        at: Range<usize>,
        findings: &mut Findings<'_>,
    ) -> Option<SecretName> {
        let name = SecretName::parse(text).filter(|name| self.by_name.contains_key(name));
        if name.is_none() {
            let help = match nearest(text, self.names()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => String::from("write the name of a [secrets.NAME] section"),
            };
            findings.error(at, format!("secret {} is not declared", text.escape_debug())).help(help);
        }
        name
    }

    /// The names of all that are declared, in order.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.by_name.keys().map(SecretName::as_str)
    }

    /// Reports it if the store of a binding may not be given the secret. Without a scheme, host and
    /// port decide.
    pub(super) fn check_binding(
        &self,
        name: &SecretName,
        used_at: Range<usize>,
        (scheme, authority): (Option<Scheme>, &Authority),
        findings: &mut Findings<'_>,
    ) {
        let Some(secret) = self.by_name.get(name) else { return };
        let Some(declaration) = &secret.declaration else { return };
        let bound = match scheme {
            Some(scheme) => declaration.is_bound_to(authority, scheme),
            None => Scheme::ALL.into_iter().any(|scheme| declaration.is_bound_to(authority, scheme)),
        };
        if !bound {
            findings
                .error(used_at, format!("secret {name} is not bound to `{authority}`"))
                .label(format!("would be sent to `{authority}`"))
                .also(secret.hosts_at.clone(), format!("{name} may go to these hosts only"))
                .help(format!("add \"{authority}\" to `hosts` of [secrets.{name}]"));
        }
    }

    /// Reports it if the proxy of `[upstream]` may not be told the secret.
    pub(super) fn check_proxy(
        &self,
        name: &SecretName,
        used_at: Range<usize>,
        (scheme, authority): (Scheme, &Authority),
        findings: &mut Findings<'_>,
    ) {
        self.check_binding(name, used_at.clone(), (Some(scheme), authority), findings);
        let declaration = self.by_name.get(name).and_then(|secret| secret.declaration.as_ref());
        if declaration.is_some_and(|declaration| !declaration.travels_by(scheme)) {
            findings
                .error(used_at, format!("secret {name} may not be told to the proxy unencrypted"))
                .help(format!("use an `https://` proxy, or write `plaintext = true` in [secrets.{name}]"));
        }
    }

    /// Reports it if a client certificate for these hosts may not be used with the secret as its key.
    pub(super) fn check_key(
        &self,
        name: &SecretName,
        used_at: Range<usize>,
        hosts: &[Spanned<HostPattern>],
        findings: &mut Findings<'_>,
    ) {
        let Some(secret) = self.by_name.get(name) else { return };
        let Some(declaration) = &secret.declaration else { return };
        for host in hosts.iter().map(Spanned::get_ref) {
            if !declaration.hosts.iter().any(|own| own.covers(host, Scheme::Https)) {
                findings
                    .error(used_at.clone(), format!("secret {name} is not bound to `{host}`"))
                    .label(format!("would identify the gate to `{host}`"))
                    .also(secret.hosts_at.clone(), format!("{name} is for these hosts only"))
                    .help(format!("add \"{host}\" to `hosts` of [secrets.{name}]"));
            }
        }
    }

    /// Reports it if a rule for these hosts may not put the secret on.
    pub(super) fn check_use(
        &self,
        name: &SecretName,
        used_at: Range<usize>,
        rule_hosts: &[Spanned<HostPattern>],
        findings: &mut Findings<'_>,
    ) {
        let Some(secret) = self.by_name.get(name) else {
            let help = match nearest(name.as_str(), self.names()) {
                Some(near) => format!("did you mean `${{secret:{near}}}`?"),
                None => format!("declare it with [secrets.{name}]"),
            };
            findings.error(used_at, format!("secret {name} is not declared")).help(help);
            return;
        };
        let Some(declaration) = &secret.declaration else {
            return;
        };
        for host in rule_hosts.iter().map(Spanned::get_ref) {
            if host.scheme() == Some(Scheme::Http) && !declaration.plaintext {
                findings
                    .error(used_at.clone(), format!("secret {name} may not go over plain http to `{host}`"))
                    .help(format!("write `https://` in `host`, or `plaintext = true` in [secrets.{name}]"));
            } else if !is_bound(declaration, host) {
                findings
                    .error(used_at.clone(), format!("secret {name} is not bound to `{host}`"))
                    .label(format!("would be sent to `{host}`"))
                    .also(secret.hosts_at.clone(), format!("{name} may go to these hosts only"))
                    .help(how_to_bind(name, host));
            }
        }
    }
}

/// Whether everything that the rule's pattern lets through is covered by one of the secret's.
/// Plain http is left out for a secret that is refused there anyway.
fn is_bound(declaration: &SecretDeclaration, host: &HostPattern) -> bool {
    Scheme::ALL
        .into_iter()
        .filter(|&scheme| declaration.travels_by(scheme))
        .all(|scheme| declaration.hosts.iter().any(|own| own.covers(host, scheme)))
}

fn how_to_bind(name: &SecretName, host: &HostPattern) -> String {
    if HostPattern::parse(host.as_str(), ListedIn::Secret).is_ok() {
        format!("add \"{host}\" to `hosts` of [secrets.{name}], or narrow `host` of the rule")
    } else {
        String::from("write in `host` of the rule only hosts that the secret is bound to")
    }
}

fn declaration(
    name: &SecretName,
    entry: &SecretEntry,
    findings: &mut Findings<'_>,
) -> Option<SecretDeclaration> {
    let source = SecretSource::parse(entry.source.get_ref());
    if source.is_none() {
        findings.hide(entry.source.span());
        findings
            .error(entry.source.span(), format!("bad source of secret {name}"))
            .help("write `env://NAME` or `file://PATH`, with `{container_id}` or `{instance_id}` in it where it differs from instance to instance; the value itself does not belong in the document");
    }
    let written = entry.hosts.get_ref();
    if written.is_empty() {
        findings
            .error(entry.hosts.span(), format!("secret {name} is bound to no host"))
            .help("name the hosts that may receive it, such as hosts = [\"api.example.com\"]");
    }
    let hosts: Vec<HostPattern> =
        patterns(written, ListedIn::Secret, findings).into_iter().map(Spanned::into_inner).collect();
    let complete = !hosts.is_empty() && hosts.len() == written.len();
    source.filter(|_| complete).map(|source| SecretDeclaration {
        name: name.clone(),
        source,
        hosts,
        plaintext: entry.plaintext,
        scrub: entry.scrub,
    })
}
