//! Compiles header names and values, and keeps those out that belong to one hop.

use std::collections::BTreeMap;

use http::{HeaderName, HeaderValue};
use toml::Spanned;

use crate::error::Findings;

/// Headers that frame a message or belong to one hop (RFC 9110 sections 6.4 and 7.6.1, RFC 9112
/// section 6); also all that begin with `proxy-`.
const HOP_HEADERS: [&str; 10] = [
    "connection",
    "content-length",
    "expect",
    "host",
    "http2-settings",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Whether a header frames the message or belongs to one hop, and is the gate's own to write.
pub(crate) fn belongs_to_one_hop(name: &HeaderName) -> bool {
    HOP_HEADERS.contains(&name.as_str()) || name.as_str().starts_with("proxy-")
}

/// A header that the document may set or remove.
pub(super) fn name(text: &Spanned<String>, findings: &mut Findings<'_>) -> Option<HeaderName> {
    let Ok(name) = HeaderName::from_bytes(text.get_ref().as_bytes()) else {
        findings
            .error(text.span(), format!("bad header name `{}`", text.get_ref().escape_debug()))
            .help("use letters, digits and `-`, such as x-api-key");
        return None;
    };
    if belongs_to_one_hop(&name) {
        findings
            .error(text.span(), format!("header `{name}` cannot be set or removed"))
            .label("belongs to one connection or frames the message")
            .help("leave it out: sluicegate writes it anew for each connection");
        return None;
    }
    Some(name)
}

/// Headers with fixed values, in the order of their names.
pub(super) fn fixed(
    entries: &BTreeMap<Spanned<String>, Spanned<String>>,
    findings: &mut Findings<'_>,
) -> Vec<(HeaderName, HeaderValue)> {
    let mut headers: Vec<(HeaderName, HeaderValue)> = Vec::new();
    for (written, value) in entries {
        let Some(name) = name(written, findings) else {
            continue;
        };
        if headers.iter().any(|(other, _)| *other == name) {
            twice(written, findings);
        } else if let Ok(value) = HeaderValue::from_str(value.get_ref()) {
            headers.push((name, value));
        } else {
            bad_value(value, findings);
        }
    }
    headers
}

pub(super) fn twice(written: &Spanned<String>, findings: &mut Findings<'_>) {
    findings
        .error(written.span(), format!("header `{}` stands here twice", written.get_ref()))
        .help("header names differ in more than case; keep one of the two");
}

pub(super) fn bad_value(value: &Spanned<String>, findings: &mut Findings<'_>) {
    findings
        .error(value.span(), "bad header value")
        .help("a header value is printable ASCII without line breaks");
}
