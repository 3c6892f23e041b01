//! Makes a policy of a document, or reports everything that keeps it from being one.

mod bindings;
mod dns;
mod edits;
mod files;
mod flows;
mod handlers;
mod headers;
mod json;
mod limits;
mod places;
mod rules;
mod secrets;
mod settings;
mod upstream;
mod warnings;

pub(crate) use headers::belongs_to_one_hop;

use std::sync::Arc;

use toml::Spanned;

use crate::digest::Digest;
use crate::document::{self, Document};
use crate::error::{Findings, PolicyError, Problem};
use crate::handler::Environment;
use crate::host::HostError;
use crate::index::HostIndex;
use crate::pattern::{HostPattern, ListedIn, PatternError};
use crate::policy::{Compiled, Mode, Policy, Written};
use crate::sources::Sources;

use handlers::{ByHost, Handlers, Materials};

pub(crate) fn compile(file_name: &str, text: &str, sources: &dyn Sources) -> Result<Compiled, PolicyError> {
    let mut findings = Findings::new(file_name, text);
    let written =
        document::read(text, &mut findings).map(|document| assemble(&document, sources, &mut findings));
    let warnings: Vec<Problem> = findings.finish()?;
    // Without findings the document was read; the closed policy is what nothing else can mean.
    Ok(Compiled { policy: written.map_or_else(Policy::closed, Policy::of), warnings })
}

/// Compiles every section, so that all problems are found in one go.
fn assemble(document: &Document, sources: &dyn Sources, findings: &mut Findings<'_>) -> Written {
    check_version(document, findings);
    let allowed =
        document.allowed_hosts.as_ref().map(|list| patterns(list.get_ref(), ListedIn::Allowed, findings));
    let denied = patterns(&document.denied_hosts, ListedIn::Denied, findings);
    let mode = document.mode.as_ref().map_or(Mode::Enforce, |mode| Mode::from(*mode.get_ref()));
    let secrets = secrets::compile(&document.secrets, findings);
    let bindings = bindings::compile(&document.bindings, &secrets, findings);
    let limits = limits::compile(&document.handler_limits, findings);
    let materials = Materials { sources, secrets: &secrets, limits: &limits };
    let mut handlers = Handlers::compile(document, materials, findings);
    let ByHost { patterns: handled, routes } = handlers.routes(document, findings);
    let on_connect = handlers.on_connect(document, &routes, findings);
    let surroundings = rules::Surroundings { secrets: &secrets, handlers: &mut handlers, mode };
    let rules = rules::compile(&document.rules, surroundings, findings);
    rules.check_handled(&handled, findings);
    let upstream = settings::upstream(&document.upstream, &secrets, findings);
    let compiled = warnings::Compiled {
        rules: &rules,
        handled: &handled,
        bindings: &bindings,
        upstream: &upstream,
        has_scripts: handlers.files().digests().next().is_some(),
    };
    warnings::find(document, allowed.as_deref(), &denied, &compiled, findings);
    let judged: Vec<_> = rules.hosts_let_through().map(|(_, host)| host).chain(&handled).collect();
    let flows = flows::compile(document, allowed.as_deref(), &judged, findings);
    let digest = Digest::of(findings.text().as_bytes()).and(handlers.files().digests());
    let scripts = handlers.files().digests().map(|(path, _)| path.into()).collect();
    let programs = handlers.files().programs();
    let handlers = handlers.into_named();
    let secrets = secrets.into_declarations();
    let environment = Environment {
        secrets: secrets.iter().map(|secret| secret.name.clone()).collect(),
        bindings: bindings.iter().map(|binding| (binding.name.clone(), binding.kind)).collect(),
        constants: bindings::constants(&document.env, &bindings, findings),
        limits,
    };
    Written {
        digest,
        scripts,
        programs,
        internet: document.internet.as_ref().is_some_and(|internet| *internet.get_ref()),
        mode,
        denied: Arc::new(index(&denied)),
        allowed: allowed.as_deref().map(|allowed| Arc::new(index(allowed))),
        rule_hosts: rules.index(),
        flows,
        rules: rules.into_rules(),
        handlers,
        outbound: routes,
        on_connect,
        secrets,
        bindings,
        environment: Arc::new(environment),
        upstream,
        flows_on_publish: settings::flows_on_publish(&document.upstream),
        refusal: settings::refusal(&document.refusal, findings),
        dns: dns::compile(&document.dns, findings),
        places: places::find(document, findings),
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

#[cfg(test)]
mod tests;
