//! Compiles `tcp` and `udp`, the lists of flows that pass unread.

use toml::Spanned;

use super::{index, pattern};
use crate::document::Document;
use crate::error::Findings;
use crate::pattern::{HostPattern, Hosts, ListedIn};
use crate::policy::Flows;

/// `allowed` is `allowed_hosts`; `judged` are the patterns of what judges by requests: rules, and handlers
/// of hosts.
pub(super) fn compile(
    document: &Document,
    allowed: Option<&[Spanned<HostPattern>]>,
    judged: &[&Spanned<HostPattern>],
    findings: &mut Findings<'_>,
) -> Flows {
    let tcp = list("tcp", &document.tcp, findings);
    let udp = list("udp", &document.udp, findings);
    if let Some(allowed) = allowed {
        outside_allowed_hosts(tcp.iter().chain(&udp), allowed, findings);
    }
    hidden_requests(&tcp, judged, findings);
    Flows { tcp: index(&tcp), udp: index(&udp) }
}

fn list(key: &str, written: &[Spanned<String>], findings: &mut Findings<'_>) -> Vec<Spanned<HostPattern>> {
    let mut patterns = Vec::new();
    for text in written {
        let Some(pattern) = pattern(text.span(), text.get_ref(), ListedIn::Rule, findings) else {
            continue;
        };
        let host = pattern.get_ref();
        let (fault, help) = if host.scheme().is_some() {
            ("a flow has no scheme", String::from("write the host and the port alone: \"db.internal:5432\""))
        } else if matches!(host.hosts(), Hosts::Any) {
            ("too wide to be passed on unread", String::from("name the hosts"))
        } else if !host.states_port() {
            ("the port is missing", format!("write it, such as \"{host}:5432\", or `:*` for every port"))
        } else {
            patterns.push(pattern);
            continue;
        };
        findings
            .error(text.span(), format!("`{}` cannot stand in `{key}`", text.get_ref().escape_debug()))
            .label(fault)
            .help(help);
    }
    patterns
}

/// Flows that `allowed_hosts` keeps from passing: it has to name them with their port.
fn outside_allowed_hosts<'patterns>(
    flows: impl Iterator<Item = &'patterns Spanned<HostPattern>>,
    allowed: &[Spanned<HostPattern>],
    findings: &mut Findings<'_>,
) {
    for flow in flows {
        let pattern = flow.get_ref();
        let reached =
            allowed.iter().map(Spanned::get_ref).any(|allowed| allowed.admits_some_flow_of(pattern));
        if !reached {
            findings
                .warning(flow.span(), format!("`{pattern}` can never pass"))
                .label("`allowed_hosts` does not name it with its port")
                .help(format!("add \"{pattern}\" to `allowed_hosts`"));
        }
    }
}

/// Rules and handlers that would never see the requests which they are for.
fn hidden_requests(
    tcp: &[Spanned<HostPattern>],
    judged: &[&Spanned<HostPattern>],
    findings: &mut Findings<'_>,
) {
    let by_host = index(tcp);
    for host in judged {
        let other = host.get_ref();
        let hiding = by_host.around(other.hosts()).find(|entry| entry.pattern.overlaps(other));
        if let Some(hiding) = hiding.and_then(|entry| tcp.get(entry.owner)) {
            let passing = hiding.get_ref();
            findings
                .warning(hiding.span(), format!("`{passing}` passes on what `{other}` is to judge"))
                .also(host.span(), "no request on that port is seen")
                .help("remove it from `tcp`; TLS passes unopened with `intercept = false` in a rule");
        }
    }
}
