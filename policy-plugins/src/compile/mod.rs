//! Makes a policy of a document, or reports everything that keeps it from being one.

mod headers;
mod rules;
mod secrets;
mod settings;
mod warnings;

use aws_lc_rs::digest;
use toml::Spanned;

use crate::document::{self, Document};
use crate::error::{Findings, PolicyError, Problem};
use crate::host::HostError;
use crate::index::HostIndex;
use crate::pattern::{HostPattern, ListedIn, PatternError};
use crate::policy::{Compiled, Policy};

pub(crate) fn compile(file_name: &str, text: &str) -> Result<Compiled, PolicyError> {
    let mut findings = Findings::new(file_name, text);
    let policy = document::read(text, &mut findings).map(|document| assemble(&document, text, &mut findings));
    let warnings: Vec<Problem> = findings.finish()?;
    // Without findings the document was read; the closed policy is what nothing else can mean.
    Ok(Compiled { policy: policy.unwrap_or_else(Policy::closed), warnings })
}

/// The first 12 hexadecimal digits of the text's SHA-256.
pub(crate) fn generation(text: &str) -> Box<str> {
    let hash = digest::digest(&digest::SHA256, text.as_bytes());
    hash.as_ref().iter().take(6).map(|byte| format!("{byte:02x}")).collect()
}

/// Compiles every section, so that all problems are found in one go.
fn assemble(document: &Document, text: &str, findings: &mut Findings<'_>) -> Policy {
    check_version(document, findings);
    let allowed =
        document.allowed_hosts.as_ref().map(|list| patterns(list.get_ref(), ListedIn::Allowed, findings));
    let denied = patterns(&document.denied_hosts, ListedIn::Denied, findings);
    let secrets = secrets::compile(&document.secrets, findings);
    let rules = rules::compile(&document.rules, &secrets, findings);
    warnings::find(document, allowed.as_deref(), &denied, &rules, findings);
    Policy {
        generation: generation(text),
        internet: document.internet.as_ref().is_some_and(|internet| *internet.get_ref()),
        denied: index(&denied),
        allowed: allowed.as_deref().map(index),
        rule_hosts: rules.index(),
        rules: rules.into_rules(),
        secrets: secrets.into_declarations(),
        upstream: settings::upstream(&document.upstream, findings),
        refusal: settings::refusal(&document.refusal, findings),
        dns: settings::dns(&document.dns, findings),
    }
}

fn check_version(document: &Document, findings: &mut Findings<'_>) {
    let version = *document.version.get_ref();
    if version != 1 {
        findings
            .error(document.version.span(), format!("version {version} of the document is not known"))
            .help("write `version = 1`, or use a newer sluicegate");
    }
}

fn index(patterns: &[Spanned<HostPattern>]) -> HostIndex {
    let mut index = HostIndex::default();
    for (position, pattern) in patterns.iter().enumerate() {
        index.insert(pattern.get_ref().clone(), position);
    }
    index
}

/// The patterns of a list; bad ones are reported and left out.
fn patterns(
    list: &[Spanned<String>],
    listed_in: ListedIn,
    findings: &mut Findings<'_>,
) -> Vec<Spanned<HostPattern>> {
    list.iter().filter_map(|text| pattern(text.span(), text.get_ref(), listed_in, findings)).collect()
}

fn pattern(
    at: std::ops::Range<usize>,
    text: &str,
    listed_in: ListedIn,
    findings: &mut Findings<'_>,
) -> Option<Spanned<HostPattern>> {
    match HostPattern::parse(text, listed_in) {
        Ok(pattern) => Some(Spanned::new(at, pattern)),
        Err(error) => {
            let why = match &error {
                PatternError::Host(why) => why.to_string(),
                error => error.to_string(),
            };
            findings
                .error(at, format!("bad host pattern `{}`", text.escape_debug()))
                .label(why)
                .help(error.hint());
            None
        }
    }
}

/// Reports a text that should have been a host or an authority.
fn bad_host(text: &Spanned<String>, error: &HostError, example: &str, findings: &mut Findings<'_>) {
    findings
        .error(text.span(), format!("bad host `{}`", text.get_ref().escape_debug()))
        .label(error.to_string())
        .help(format!("write it as {example}"));
}
