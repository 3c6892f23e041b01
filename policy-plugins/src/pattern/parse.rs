//! Reads host patterns, and says what to write instead of a bad one.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net};
use thiserror::Error;

use super::{HostPattern, Hosts, Ports};
use crate::host::{Host, HostError, Scheme, parse_port};

/// Top-level names that no registry sells, so `*.NAME` names nobody's whole top level: RFC 6761,
/// RFC 6762 and the reservation of `.internal` for private use.
const SPECIAL_USE: [&str; 6] = ["test", "example", "invalid", "localhost", "local", "internal"];

/// Where in the document a pattern stands; it decides which wide patterns are accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListedIn {
    /// `allowed_hosts`.
    Allowed,
    /// `denied_hosts`.
    Denied,
    /// `host` of a rule.
    Rule,
    /// `hosts` of a secret.
    Secret,
}

/// Why a text is no pattern. [`PatternError::hint`] says what to write instead.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PatternError {
    /// `*` where a list cannot mean "every host".
    #[error("`*` would name every host")]
    Everything(ListedIn),
    /// The host part is no host.
    #[error("not a host pattern")]
    Host(#[from] HostError),
    /// Bits are set outside the prefix of a range.
    #[error("the address has bits set beyond its prefix")]
    HostBits(IpNet),
    /// A path, query or fragment after the host.
    #[error("a host pattern has no path")]
    Path,
    /// A prefix that is no number, or longer than the address.
    #[error("not an address range")]
    Range,
    /// `scheme://` with another scheme than http and https.
    #[error("a host pattern begins with http:// or https://, or with no scheme")]
    Scheme,
    /// `*.10.0.0.1`.
    #[error("`*.` cannot stand before an address")]
    StarBeforeAddress,
    /// `*` inside or after a label; holds a better pattern if there is one.
    #[error("`*` stands for whole labels at the front only")]
    StarPlace(Option<String>),
    /// `*.com`: everything below a public top-level name.
    #[error("`*.{0}` names everything below a top-level name")]
    TopLevel(String),
}

impl HostPattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// The text is no pattern, or one too wide for where it stands.
    pub fn parse(text: &str, listed_in: ListedIn) -> Result<Self, PatternError> {
        let (scheme, rest) = match text.split_once("://") {
            Some((scheme, rest)) => (Some(parse_scheme(scheme)?), rest),
            None => (None, text),
        };
        let (hosts, port) = split(rest)?;
        let ports = match port {
            None => Ports::Unstated,
            Some("*") => Ports::Any,
            Some(port) => Ports::One(parse_port(port)?),
        };
        let hosts = Hosts::parse(hosts, listed_in)?;
        Ok(Self { text: text.into(), scheme, hosts, ports })
    }
}

impl PatternError {
    /// What to write instead.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::Everything(ListedIn::Allowed) => {
                "leave `allowed_hosts` out and write `internet = true` to let every host pass".into()
            }
            Self::Everything(ListedIn::Denied) => {
                "leave `internet = false` and name what may pass; nothing else does".into()
            }
            Self::Everything(ListedIn::Secret | ListedIn::Rule) => {
                "name each host that may receive it".into()
            }
            Self::Host(HostError::OddAddress) => {
                "write all four numbers in plain decimal: other programs read this as an address".into()
            }
            Self::Host(HostError::UserInformation) => {
                "credentials go into [secrets] and `basic_auth` of a rule".into()
            }
            Self::Host(_) => {
                "write a name such as `example.com`, everything below one as `*.example.com`, an address or a range such as `10.0.0.0/8`".into()
            }
            Self::HostBits(range) => format!("write `{range}`"),
            Self::Path => "paths belong in `paths` of a rule: host = \"example.com\", paths = [\"/v1/**\"]".into(),
            Self::Range => "write it as `10.0.0.0/8` or `2001:db8::/32`".into(),
            Self::Scheme => "write `https://example.com`, or `example.com` for both schemes".into(),
            Self::StarBeforeAddress => "write a range such as `10.0.0.0/8`".into(),
            Self::StarPlace(Some(better)) => format!("did you mean `{better}`?"),
            Self::StarPlace(None) => {
                "anybody can register a name that such a pattern matches; name each host, or `*.example.com`".into()
            }
            Self::TopLevel(name) => format!("name the domains you mean, such as `*.example.{name}`"),
        }
    }
}

/// A CIDR range, or an address as the range of itself.
///
/// # Errors
/// The text is neither.
pub(crate) fn parse_range_or_address(text: &str) -> Result<IpNet, PatternError> {
    if text.contains('/') {
        return parse_range(text);
    }
    match Host::parse(text) {
        Ok(Host::Ip(address)) => Ok(address.into()),
        Ok(Host::Dns(_)) | Err(_) => Err(PatternError::Range),
    }
}

impl Hosts {
    fn parse(text: &str, listed_in: ListedIn) -> Result<Self, PatternError> {
        if text == "*" {
            return match listed_in {
                ListedIn::Rule => Ok(Self::Any),
                other => Err(PatternError::Everything(other)),
            };
        }
        if text.contains('/') {
            return parse_range(text).map(Self::Range);
        }
        let Some(suffix) = text.strip_prefix("*.") else {
            return match Host::parse(text) {
                _ if text.contains('*') => Err(misplaced_star(text)),
                Ok(Host::Dns(name)) => Ok(Self::Name(name)),
                Ok(Host::Ip(address)) => Ok(Self::Range(address.into())),
                Err(error) => Err(error.into()),
            };
        };
        if suffix.contains('*') {
            return Err(misplaced_star(text));
        }
        let suffix = match Host::parse(suffix)? {
            Host::Dns(name) => name,
            Host::Ip(_) => return Err(PatternError::StarBeforeAddress),
        };
        let whole_top_level = !suffix.contains('.') && !SPECIAL_USE.contains(&&*suffix);
        if whole_top_level && listed_in != ListedIn::Denied {
            return Err(PatternError::TopLevel(suffix.into()));
        }
        Ok(Self::Below(suffix))
    }
}

fn parse_scheme(text: &str) -> Result<Scheme, PatternError> {
    Scheme::ALL
        .into_iter()
        .find(|scheme| text.eq_ignore_ascii_case(scheme.as_str()))
        .ok_or(PatternError::Scheme)
}

/// Splits the text after the scheme into hosts (brackets kept, range included) and port.
fn split(text: &str) -> Result<(&str, Option<&str>), PatternError> {
    if text.contains(['?', '#']) {
        return Err(PatternError::Path);
    }
    let after_bracket = text.starts_with('[').then(|| text.rsplit_once(']')).flatten();
    if let Some((_, rest)) = after_bracket {
        // `[addr]:port`, `[addr]/len:port` or `[addr/len]:port`.
        return Ok(match rest.split_once(':') {
            Some((_, port)) => {
                (text.strip_suffix(port).and_then(|host| host.strip_suffix(':')).unwrap_or(text), Some(port))
            }
            None => (text, None),
        });
    }
    let address_end = text.find('/').unwrap_or(text.len());
    let (address, _) = text.split_at(address_end);
    match text.rsplit_once(':') {
        // More than one colon before the range is a bare IPv6 address, which cannot have a port.
        Some(_) if address.matches(':').count() > 1 => Ok((text, None)),
        Some((host, port)) if !port.contains('/') => Ok((host, Some(port))),
        Some(_) => Err(PatternError::Path),
        None => Ok((text, None)),
    }
}

/// `10.0.0.0/8`, `2001:db8::/32`, `[2001:db8::]/32` or `[2001:db8::/32]`.
fn parse_range(text: &str) -> Result<IpNet, PatternError> {
    let unwrapped = text.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(text);
    let (address, length) = unwrapped.split_once('/').ok_or(PatternError::Range)?;
    let bare = address.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(address);
    let address: IpAddr = match bare.parse() {
        Ok(address) => address,
        // `example.com/path`, as opposed to `10.0.0.0/33` or `10.0/8`.
        Err(_) if Host::parse(address).is_ok() || address.contains('*') => {
            return Err(PatternError::Path);
        }
        Err(_) => return Err(PatternError::Range),
    };
    let length: u8 = length.parse().map_err(|_| PatternError::Range)?;
    let range = IpNet::new(address, length).map_err(|_| PatternError::Range)?;
    if range.addr() != range.network() {
        return Err(PatternError::HostBits(range.trunc()));
    }
    Ok(canonical(range))
}

/// A range of IPv4-mapped IPv6 addresses as the IPv4 range that it means.
fn canonical(range: IpNet) -> IpNet {
    let IpNet::V6(v6) = range else { return range };
    v6.addr()
        .to_ipv4_mapped()
        .zip(v6.prefix_len().checked_sub(96))
        .and_then(|(address, length)| Ipv4Net::new(address, length).ok())
        .map_or(range, IpNet::V4)
}

fn misplaced_star(text: &str) -> PatternError {
    let front = text.trim_start_matches(['*', '.']);
    let better = (!front.contains('*') && front.contains('.') && Host::parse(front).is_ok())
        .then(|| format!("*.{front}"));
    PatternError::StarPlace(better)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p20_wide_or_malformed_patterns_are_refused_with_a_hint() {
        use ListedIn::{Allowed, Denied, Rule, Secret};
        let table = [
            ("google.*", Allowed, "name each host"),
            ("*github.com", Allowed, "`*.github.com`"),
            ("**.x.test", Allowed, "`*.x.test`"),
            ("a.*.test", Denied, "name each host"),
            ("*.*.test", Rule, "name each host"),
            ("*.com", Allowed, "`*.example.com`"),
            ("*.com", Rule, "`*.example.com`"),
            ("*.com", Secret, "`*.example.com`"),
            ("*", Allowed, "`internet = true`"),
            ("*", Denied, "`internet = false`"),
            ("*", Secret, "each host"),
            ("*.10.0.0.1", Allowed, "range"),
            ("https://x.test/path", Allowed, "`paths`"),
            ("x.test/", Allowed, "`paths`"),
            ("x.test:443/a", Allowed, "`paths`"),
            ("x.test?q", Allowed, "`paths`"),
            ("*.x.test/v1", Allowed, "`paths`"),
            ("10.0.0.0/33", Allowed, "`10.0.0.0/8`"),
            ("10.0.0.0/", Allowed, "`10.0.0.0/8`"),
            ("10.0.0.1/8", Denied, "`10.0.0.0/8`"),
            ("2001:db8::1/32", Denied, "`2001:db8::/32`"),
            ("ftp://x.test", Allowed, "https://"),
            ("127.1", Denied, "plain decimal"),
            ("user@x.test", Allowed, "[secrets]"),
            ("x.test:0", Allowed, "example.com"),
            ("x.test:http", Allowed, "example.com"),
            ("fe80::1%eth0", Allowed, "example.com"),
            ("", Allowed, "example.com"),
            (" x.test", Allowed, "example.com"),
        ];
        for (text, listed_in, hint) in table {
            let error = HostPattern::parse(text, listed_in).unwrap_err();
            assert!(error.hint().contains(hint), "{text}: {error}: {}", error.hint());
        }
    }

    #[test]
    fn p20_special_use_suffixes_and_denied_top_levels_are_accepted() {
        for suffix in SPECIAL_USE {
            assert!(HostPattern::parse(&format!("*.{suffix}"), ListedIn::Allowed).is_ok(), "{suffix}");
        }
        assert!(HostPattern::parse("*.zip", ListedIn::Denied).is_ok());
    }
}
