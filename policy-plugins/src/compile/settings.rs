//! Compiles `[upstream]` and `[refusal]`.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use http::{HeaderName, HeaderValue, StatusCode, header};
use ipnet::IpNet;
use toml::Spanned;

use super::secrets::Secrets;
use super::{bad_host, dns, headers, upstream as way_out};
use crate::document::{FlowsOnPublishEntry, ModeEntry, RefusalEntry, UpstreamEntry};
use crate::error::{Findings, nearest};
use crate::host::{Authority, Host, WrittenAuthority};
use crate::pattern::parse_range_or_address;
use crate::policy::Mode;
use crate::refusal::{RefusalAnswer, RefusalBody};
use crate::template::TemplateError;
use crate::upstream::{FlowsOnPublish, Upstream};

pub(super) fn upstream(entry: &UpstreamEntry, secrets: &Secrets, findings: &mut Findings<'_>) -> Upstream {
    Upstream {
        extra_ca: entry.extra_ca.iter().filter_map(|path| file(path, findings)).collect(),
        resolve: resolve(&entry.resolve, findings),
        dns: entry.dns.iter().filter_map(|text| dns::name_server(text, findings)).collect(),
        proxy: way_out::proxy(entry, secrets, findings),
        client_certificates: way_out::client_certificates(&entry.client_certificates, secrets, findings),
        connect_timeout: timeout(entry.connect_timeout_ms.as_ref(), findings)
            .unwrap_or(Upstream::CONNECT_TIMEOUT_DEFAULT),
        response_timeout: timeout(entry.response_timeout_ms.as_ref(), findings)
            .unwrap_or(Upstream::RESPONSE_TIMEOUT_DEFAULT),
        idle_timeout: timeout(entry.idle_timeout_ms.as_ref(), findings)
            .unwrap_or(Upstream::IDLE_TIMEOUT_DEFAULT),
        allow_ranges: entry.allow_ranges.iter().filter_map(|text| range(text, findings)).collect(),
    }
}

pub(super) fn flows_on_publish(entry: &UpstreamEntry) -> FlowsOnPublish {
    match entry.flows_on_publish {
        None | Some(FlowsOnPublishEntry::Judge) => FlowsOnPublish::Judge,
        Some(FlowsOnPublishEntry::Keep) => FlowsOnPublish::Keep,
    }
}

impl From<ModeEntry> for Mode {
    fn from(entry: ModeEntry) -> Self {
        match entry {
            ModeEntry::Enforce => Self::Enforce,
            ModeEntry::Audit => Self::Audit,
        }
    }
}

pub(super) fn refusal(entry: &RefusalEntry, findings: &mut Findings<'_>) -> RefusalAnswer {
    let status = entry.status.as_ref().map_or(Some(StatusCode::FORBIDDEN), |written| {
        let status = StatusCode::from_u16(*written.get_ref()).ok();
        let status = status.filter(|status| (400..=599).contains(&status.as_u16()));
        if status.is_none() {
            findings
                .error(written.span(), format!("status {} does not tell of a refusal", written.get_ref()))
                .help("write a number from 400 to 599, such as 403");
        }
        status
    });
    let headers = headers::fixed(&entry.headers, findings);
    let body =
        entry.body.as_ref().and_then(|body| match RefusalBody::parse(body.get_ref(), is_json(&headers)) {
            Ok(body) => Some(body),
            Err(error) => {
                let help = refusal_help(&error);
                findings.error(body.span(), error.to_string()).help(help);
                None
            }
        });
    RefusalAnswer::new(status.unwrap_or(StatusCode::FORBIDDEN), headers, body)
}

pub(super) fn file(path: &Spanned<String>, findings: &mut Findings<'_>) -> Option<Box<str>> {
    let fits = !path.get_ref().is_empty() && !path.get_ref().contains(char::is_control);
    if !fits {
        findings.error(path.span(), "not a file name").help("write a path, such as \"ca.pem\"");
    }
    fits.then(|| path.get_ref().as_str().into())
}

fn resolve(
    entries: &BTreeMap<Spanned<String>, Spanned<String>>,
    findings: &mut Findings<'_>,
) -> BTreeMap<Authority, SocketAddr> {
    const EXAMPLE: &str = "`\"api.example.com:443\" = \"127.0.0.1:9443\"`";
    let mut resolve = BTreeMap::new();
    for (written, address) in entries {
        let authority = match WrittenAuthority::parse(written.get_ref()) {
            Ok(WrittenAuthority { host, port: Some(port) }) => Authority { host, port },
            Ok(WrittenAuthority { port: None, .. }) => {
                findings
                    .error(written.span(), format!("`{}` has no port", written.get_ref()))
                    .help(format!("write it as {EXAMPLE}"));
                continue;
            }
            Err(error) => {
                bad_host(written, &error, EXAMPLE, findings);
                continue;
            }
        };
        let Some(address) = socket_address(address.get_ref(), None) else {
            findings
                .error(address.span(), format!("`{}` is not an address with a port", address.get_ref()))
                .help(format!("write it as {EXAMPLE}"));
            continue;
        };
        if resolve.insert(authority, address).is_some() {
            findings
                .error(written.span(), format!("`{}` stands here twice", written.get_ref()))
                .help("names differ in more than case and a trailing dot; keep one of the two");
        }
    }
    resolve
}

/// An address with a port, or with the default port if there is one.
pub(super) fn socket_address(text: &str, default_port: Option<u16>) -> Option<SocketAddr> {
    let bare =
        text.parse::<IpAddr>().ok().map(|address| WrittenAuthority { host: address.into(), port: None });
    let written = bare.or_else(|| WrittenAuthority::parse(text).ok())?;
    let Host::Ip(address) = written.host else {
        return None;
    };
    Some(SocketAddr::new(address, written.port.or(default_port)?))
}

fn range(text: &Spanned<String>, findings: &mut Findings<'_>) -> Option<IpNet> {
    match parse_range_or_address(text.get_ref()) {
        Ok(range) => Some(range),
        Err(error) => {
            findings
                .error(text.span(), format!("bad address range `{}`", text.get_ref()))
                .label(error.to_string())
                .help(error.hint());
            None
        }
    }
}

fn timeout(written: Option<&Spanned<u64>>, findings: &mut Findings<'_>) -> Option<Duration> {
    let written = written?;
    let timeout = Duration::from_millis(*written.get_ref());
    if timeout.is_zero() || timeout > Upstream::TIMEOUT_MAX {
        findings
            .error(written.span(), format!("a timeout of {} ms is out of bounds", written.get_ref()))
            .help(format!("write a number from 1 to {}", Upstream::TIMEOUT_MAX.as_millis()));
    }
    Some(timeout)
}

fn is_json(headers: &[(HeaderName, HeaderValue)]) -> bool {
    headers.iter().find(|(name, _)| name == header::CONTENT_TYPE).is_some_and(|(_, value)| {
        let media_type = value.to_str().unwrap_or_default().split(';').next().unwrap_or_default();
        let media_type = media_type.trim().to_ascii_lowercase();
        media_type == "application/json" || media_type.ends_with("+json")
    })
}

fn refusal_help(error: &TemplateError) -> String {
    let near = match error {
        TemplateError::Unknown(hole) => nearest(hole, RefusalBody::HOLES),
        TemplateError::Unclosed => None,
    };
    match near {
        Some(near) => format!("did you mean `${{{near}}}`?"),
        None => {
            format!("write ${{{}}}, or `$${{` for a literal `${{`", RefusalBody::HOLES.join("}, ${"))
        }
    }
}
