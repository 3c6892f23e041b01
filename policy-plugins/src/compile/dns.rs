//! Compiles `[dns]`, and the name servers of `[upstream]`.

use toml::Spanned;

use super::settings::socket_address;
use super::{bad_host, pattern};
use crate::dns::{Dns, EncryptedDns, Forwarding, RefusedNames};
use crate::document::{DnsEntry, EncryptedDnsEntry, RefusedEntry};
use crate::error::{Findings, nearest};
use crate::host::Host;
use crate::name_server::{DnsTransport, NameServer};
use crate::pattern::{HostPattern, Hosts, ListedIn};
use crate::public_resolvers;

pub(super) fn compile(entry: &DnsEntry, findings: &mut Findings<'_>) -> Dns {
    let search = entry.search.iter().filter_map(|text| search_domain(text, findings)).collect();
    let forward = entry
        .forward
        .iter()
        .filter_map(|(names, types)| {
            let types = types.iter().filter_map(|text| record_type(text, findings)).collect();
            Some(Forwarding { names: names_of_records(names, findings)?, types })
        })
        .collect();
    Dns {
        refused: match entry.refused {
            RefusedEntry::Sink => RefusedNames::Sink,
            RefusedEntry::Nxdomain => RefusedNames::Nxdomain,
        },
        search,
        encrypted: match entry.encrypted {
            EncryptedDnsEntry::Refuse => EncryptedDns::Refuse,
            EncryptedDnsEntry::Allow => EncryptedDns::Allow,
        },
        questions_per_second: questions_per_second(entry.questions_per_second.as_ref(), findings),
        forward,
    }
}

fn search_domain(text: &Spanned<String>, findings: &mut Findings<'_>) -> Option<Box<str>> {
    match Host::parse(text.get_ref()) {
        Ok(Host::Dns(name)) => return Some(name),
        Ok(Host::Ip(_)) => {
            findings
                .error(text.span(), format!("`{}` is an address", text.get_ref()))
                .help("name a domain, as after `search` in /etc/resolv.conf");
        }
        Err(error) => bad_host(text, &error, "`example.com`", findings),
    }
    None
}

fn questions_per_second(written: Option<&Spanned<u32>>, findings: &mut Findings<'_>) -> u32 {
    let Some(written) = written else { return Dns::QUESTIONS_PER_SECOND_DEFAULT };
    let questions = *written.get_ref();
    if !(1..=Dns::QUESTIONS_PER_SECOND_MAX).contains(&questions) {
        findings
            .error(written.span(), format!("{questions} questions per second are out of bounds"))
            .help(format!("write a number from 1 to {}", Dns::QUESTIONS_PER_SECOND_MAX));
    }
    questions
}

/// The names of an entry of `forward`: a name, or everything below one.
fn names_of_records(text: &Spanned<String>, findings: &mut Findings<'_>) -> Option<HostPattern> {
    let names = pattern(text.span(), text.get_ref(), ListedIn::Secret, findings)?.into_inner();
    let is_plain = names.scheme().is_none() && !names.states_port();
    if !is_plain || !matches!(names.hosts(), Hosts::Name(_) | Hosts::Below(_)) {
        findings
            .error(text.span(), format!("`{}` is no name of records", text.get_ref().escape_debug()))
            .help("write a name such as `example.com`, or `*.example.com` for every name below it");
        return None;
    }
    Some(names)
}

fn record_type(text: &Spanned<String>, findings: &mut Findings<'_>) -> Option<&'static str> {
    let written = text.get_ref().to_ascii_uppercase();
    let found = Dns::FORWARDED_TYPES.into_iter().find(|known| *known == written);
    if found.is_none() {
        let help = match written.as_str() {
            "A" | "AAAA" => String::from(
                "the gate gives names addresses of its own; `allowed_hosts` and rules say to which",
            ),
            "HTTPS" | "SVCB" => String::from(
                "these records carry keys and addresses that would lead past the gate; they never have data",
            ),
            _ => match nearest(&written, Dns::FORWARDED_TYPES) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("write one of {}", Dns::FORWARDED_TYPES.join(", ")),
            },
        };
        findings
            .error(
                text.span(),
                format!("`{}` is no type of record that can be forwarded", text.get_ref().escape_debug()),
            )
            .help(help);
    }
    found
}

/// A name server of `[upstream] dns`.
pub(super) fn name_server(text: &Spanned<String>, findings: &mut Findings<'_>) -> Option<NameServer> {
    let parsed = parse_name_server(text.get_ref());
    if let Err(help) = parsed {
        findings
            .error(
                text.span(),
                format!("`{}` is not the address of a name server", text.get_ref().escape_debug()),
            )
            .help(help);
    }
    parsed.ok()
}

/// Reads `[scheme://]address[:port][/path][#name]`, or says what to write instead.
fn parse_name_server(text: &str) -> Result<NameServer, &'static str> {
    const PLAIN: &str = "write it as `192.0.2.53`, `192.0.2.53:5353` or `[2001:db8::53]:53`";
    const ENCRYPTED: &str = "write the server's address, and the name of its certificate behind `#`: `tls://192.0.2.53#dns.example.com` or `https://192.0.2.53/dns-query#dns.example.com`";
    let (scheme, rest) = text.split_once("://").unwrap_or(("udp", text));
    let encrypted = match scheme {
        "udp" | "tcp" => false,
        "tls" | "https" => true,
        _ => return Err("write `udp://`, `tcp://`, `tls://` or `https://`, or the address alone"),
    };
    if !encrypted {
        let address = socket_address(rest, Some(NameServer::PORT)).ok_or(PLAIN)?;
        let transport = if scheme == "tcp" { DnsTransport::Tcp } else { DnsTransport::Udp };
        return Ok(NameServer { address, transport });
    }
    let (rest, name) = match rest.split_once('#') {
        Some((rest, name)) => (rest, Some(Host::parse(name).map_err(|_| ENCRYPTED)?)),
        None => (rest, None),
    };
    let (place, path) = match rest.find('/') {
        Some(at) => rest.split_at(at),
        None => (rest, ""),
    };
    let port = if scheme == "tls" { NameServer::TLS_PORT } else { NameServer::HTTPS_PORT };
    let address = socket_address(place, Some(port)).ok_or(ENCRYPTED)?;
    let name = name.unwrap_or_else(|| Host::from(address.ip()));
    let is_path = path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'?');
    let transport = match (scheme, path) {
        ("tls", "") => DnsTransport::Tls(name),
        ("https", "" | "/") => DnsTransport::Https { name, path: public_resolvers::PATH.into() },
        ("https", path) if is_path => DnsTransport::Https { name, path: path.into() },
        _ => return Err(ENCRYPTED),
    };
    Ok(NameServer { address, transport })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_servers_are_written_by_address() {
        let named = || Host::parse("dns.test").unwrap();
        let https = |path: &str| DnsTransport::Https { name: named(), path: path.into() };
        let address = || Host::parse("192.0.2.53").unwrap();
        let table = [
            ("192.0.2.53", "192.0.2.53:53", DnsTransport::Udp),
            ("192.0.2.53:5353", "192.0.2.53:5353", DnsTransport::Udp),
            ("udp://192.0.2.53", "192.0.2.53:53", DnsTransport::Udp),
            ("2001:db8::53", "[2001:db8::53]:53", DnsTransport::Udp),
            ("tcp://[2001:db8::53]:54", "[2001:db8::53]:54", DnsTransport::Tcp),
            ("tls://192.0.2.53#DNS.test", "192.0.2.53:853", DnsTransport::Tls(named())),
            ("tls://192.0.2.53:8853", "192.0.2.53:8853", DnsTransport::Tls(address())),
            ("https://192.0.2.53#dns.test", "192.0.2.53:443", https("/dns-query")),
            ("https://192.0.2.53:8443/a/b#dns.test", "192.0.2.53:8443", https("/a/b")),
        ];
        for (text, address, transport) in table {
            let expected = NameServer { address: address.parse().unwrap(), transport };
            assert_eq!(parse_name_server(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_name_server_says_what_to_write() {
        let table = [
            ("dns.example.com", "write it as"),
            ("192.0.2.53:0", "write it as"),
            ("tcp://192.0.2.53#dns.test", "write it as"),
            ("https://dns.example.com/dns-query", "behind `#`"),
            ("tls://192.0.2.53/dns-query", "behind `#`"),
            ("tls://192.0.2.53#", "behind `#`"),
            ("https://192.0.2.53/dns-query?a=b", "behind `#`"),
            ("https://192.0.2.53/a b", "behind `#`"),
            ("quic://192.0.2.53", "`tls://`"),
            ("", "write it as"),
        ];
        for (text, hint) in table {
            let help = parse_name_server(text).unwrap_err();
            assert!(help.contains(hint), "{text}: {help}");
        }
    }
}
