//! Compiles what `[upstream]` says of proxies and client certificates: the parts that use secrets.

use toml::Spanned;

use super::secrets::Secrets;
use super::{bad_host, edits, pattern, patterns};
use crate::document::{ClientCertificateEntry, UpstreamEntry};
use crate::edits::BasicAuth;
use crate::error::Findings;
use crate::host::{Authority, Scheme, WrittenAuthority};
use crate::pattern::{HostPattern, ListedIn};
use crate::upstream::{ClientCertificate, ProxyProtocol, UpstreamProxy};

/// What a proxy is written as.
const EXAMPLE: &str = "`http://proxy.example.com:3128`, `https://…` or `socks5://…`";

pub(super) fn proxy(
    entry: &UpstreamEntry,
    secrets: &Secrets,
    findings: &mut Findings<'_>,
) -> Option<UpstreamProxy> {
    let Some(written) = &entry.proxy else {
        keys_without_a_proxy(entry, findings);
        return None;
    };
    let exceptions = entry.no_proxy.as_ref().map(|list| exceptions(list.get_ref(), findings));
    let (protocol, authority) = place(written, findings)?;
    let mut proxy = UpstreamProxy {
        protocol,
        authority,
        credentials: None,
        resolves: entry.proxy_resolves.as_ref().is_some_and(|resolves| *resolves.get_ref()),
        exceptions: exceptions.unwrap_or_default(),
    };
    if let Some(basic) = &entry.proxy_auth {
        proxy.credentials = edits::basic_auth(basic.get_ref(), secrets, findings);
        if let Some(credentials) = &proxy.credentials {
            check_secrets(credentials, basic, &proxy, secrets, findings);
        }
    }
    if let Some(resolves) = entry.proxy_resolves.as_ref().filter(|resolves| *resolves.get_ref()) {
        findings
            .warning(resolves.span(), "the proxy resolves names, so that where they lead is not checked")
            .label("an allowed name may lead to a private address that the proxy can reach")
            .help(
                "leave it out where the gate can resolve names; else refuse private addresses in the proxy",
            );
    }
    Some(proxy)
}

pub(super) fn client_certificates(
    entries: &[ClientCertificateEntry],
    secrets: &Secrets,
    findings: &mut Findings<'_>,
) -> Vec<ClientCertificate> {
    entries.iter().filter_map(|entry| client_certificate(entry, secrets, findings)).collect()
}

fn client_certificate(
    entry: &ClientCertificateEntry,
    secrets: &Secrets,
    findings: &mut Findings<'_>,
) -> Option<ClientCertificate> {
    let written = entry.hosts.get_ref();
    if written.is_empty() {
        findings
            .error(entry.hosts.span(), "a client certificate that nobody is shown")
            .help("name the hosts that ask for it, such as hosts = [\"api.example.com\"]");
    }
    let hosts = patterns(written, ListedIn::Secret, findings);
    for host in hosts.iter().filter(|host| host.get_ref().scheme() == Some(Scheme::Http)) {
        findings
            .error(host.span(), "there are no certificates over plain http")
            .help("write the host without `http://`");
    }
    let certificate = super::settings::file(&entry.certificate, findings)?;
    let key = secrets.declared(entry.key.get_ref(), entry.key.span(), findings)?;
    secrets.check_key(&key, entry.key.span(), &hosts, findings);
    let hosts = hosts.into_iter().map(Spanned::into_inner).collect();
    Some(ClientCertificate { hosts, certificate, key })
}

/// Reads `scheme://host:port`; what may hold a credential is not shown.
fn place(written: &Spanned<String>, findings: &mut Findings<'_>) -> Option<(ProxyProtocol, Authority)> {
    let text = written.get_ref();
    if text.contains('@') {
        findings.hide(written.span());
        findings
            .error(written.span(), "credentials do not belong in the URL of a proxy")
            .help("write proxy_auth = { username = \"…\", password = \"${secret:NAME}\" }");
        return None;
    }
    let protocols = [
        ("http://", ProxyProtocol::Http),
        ("https://", ProxyProtocol::Https),
        ("socks5://", ProxyProtocol::Socks5),
    ];
    let found = protocols
        .into_iter()
        .find_map(|(scheme, protocol)| text.strip_prefix(scheme).map(|rest| (protocol, rest)));
    let Some((protocol, rest)) = found else {
        let help = if text.starts_with("socks5h://") {
            String::from("write `socks5://…`, and `proxy_resolves = true` for the proxy to resolve names")
        } else {
            format!("write it as {EXAMPLE}")
        };
        findings
            .error(written.span(), format!("not a proxy that this version knows: `{}`", text.escape_debug()))
            .help(help);
        return None;
    };
    match WrittenAuthority::parse(rest.strip_suffix('/').unwrap_or(rest)) {
        Ok(WrittenAuthority { host, port: Some(port) }) => Some((protocol, Authority { host, port })),
        Ok(WrittenAuthority { port: None, .. }) => {
            findings
                .error(written.span(), format!("the proxy `{}` has no port", text.escape_debug()))
                .help(format!("write it as {EXAMPLE}"));
            None
        }
        Err(error) => {
            bad_host(written, &error, EXAMPLE, findings);
            None
        }
    }
}

fn exceptions(list: &[Spanned<String>], findings: &mut Findings<'_>) -> Vec<HostPattern> {
    let mut exceptions = Vec::new();
    for text in list {
        if text.get_ref() == "*" {
            findings.error(text.span(), "`no_proxy` names every host").help("remove `proxy` instead");
            continue;
        }
        let Some(found) = pattern(text.span(), text.get_ref(), ListedIn::Denied, findings) else { continue };
        if found.get_ref().scheme().is_some() {
            findings
                .error(text.span(), "`no_proxy` is about hosts and ports, not about a scheme")
                .help("write the host without `http://` or `https://`");
        }
        exceptions.push(found.into_inner());
    }
    exceptions
}

fn keys_without_a_proxy(entry: &UpstreamEntry, findings: &mut Findings<'_>) {
    let keys = [
        ("proxy_auth", entry.proxy_auth.as_ref().map(Spanned::span)),
        ("proxy_resolves", entry.proxy_resolves.as_ref().map(Spanned::span)),
        ("no_proxy", entry.no_proxy.as_ref().map(Spanned::span)),
    ];
    for (key, at) in keys.into_iter().filter_map(|(key, at)| Some((key, at?))) {
        findings
            .error(at, format!("`{key}` means nothing without `proxy`"))
            .help(format!("name the proxy, as {EXAMPLE}, or remove `{key}`"));
    }
}

fn check_secrets(
    credentials: &BasicAuth,
    written: &Spanned<crate::document::BasicAuthEntry>,
    proxy: &UpstreamProxy,
    secrets: &Secrets,
    findings: &mut Findings<'_>,
) {
    let entry = written.get_ref();
    for (template, at) in
        [(&credentials.username, entry.username.span()), (&credentials.password, entry.password.span())]
    {
        for name in template.secrets() {
            secrets.check_proxy(name, at.clone(), (proxy.scheme(), &proxy.authority), findings);
        }
    }
}
