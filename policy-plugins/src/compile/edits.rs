//! Compiles what a rule changes in the requests that it lets through.

use std::collections::BTreeMap;

use http::{HeaderName, HeaderValue, header};
use toml::Spanned;

use super::headers;
use super::secrets::Secrets;
use crate::document::{BasicAuthEntry, RuleEntry};
use crate::edits::{BasicAuth, Edits, HeaderEdit, QueryEdit};
use crate::error::Findings;
use crate::pattern::HostPattern;
use crate::secret::SecretName;
use crate::template::{Template, TemplateError};

pub(super) fn compile(
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

/// Reads a user name and password that no rule puts on; whether the secrets may go where they are told
/// is the caller's to check.
pub(super) fn basic_auth(
    entry: &BasicAuthEntry,
    secrets: &Secrets,
    findings: &mut Findings<'_>,
) -> Option<BasicAuth> {
    Templates { secrets, hosts: &[], findings }.basic_auth(entry)
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
