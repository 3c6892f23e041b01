//! Patterns that name hosts: what they match, which is more specific, which covers which.
//!
//! An allowing pattern is narrow and a denying one wide: without a port the first means the
//! scheme's own port, the second every port.

use std::fmt;
use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net};
use thiserror::Error;

use crate::host::{Authority, Host, HostError, Scheme, parse_port};

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

/// A pattern: `host`, `*.suffix`, an address or CIDR range, `*` in a rule; optionally `scheme://`
/// before and `:port` or `:*` after.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPattern {
    text: Box<str>,
    scheme: Option<Scheme>,
    hosts: Hosts,
    ports: Ports,
}

/// Which hosts a pattern names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Hosts {
    /// Every host.
    Any,
    /// Every name below this one, at any depth, and not the name itself.
    Below(Box<str>),
    /// This name.
    Name(Box<str>),
    /// The addresses of this range.
    Range(IpNet),
}

/// Which ports a pattern names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ports {
    /// No port is stated.
    Unstated,
    /// `:*`.
    Any,
    /// `:port`.
    One(u16),
}

/// How narrow a pattern is; the greater, the narrower.
///
/// Compares first the host (a name above a longer suffix above a shorter one above `*`, a longer
/// prefix above a shorter one), then whether a port is stated, then whether a scheme is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Specificity {
    host: HostSpecificity,
    port: bool,
    scheme: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum HostSpecificity {
    Any,
    Below(usize),
    Range(u8),
    Name,
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

    /// The pattern as the document writes it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether the pattern names this host, on whatever port and scheme.
    #[must_use]
    pub fn names(&self, host: &Host) -> bool {
        match (&self.hosts, host) {
            (Hosts::Any, _) => true,
            (Hosts::Below(suffix), Host::Dns(name)) => is_below(name, suffix),
            (Hosts::Name(own), Host::Dns(name)) => own == name,
            (Hosts::Range(range), Host::Ip(address)) => range.contains(address),
            (Hosts::Below(_) | Hosts::Name(_), Host::Ip(_)) | (Hosts::Range(_), Host::Dns(_)) => false,
        }
    }

    /// Whether the pattern, read as one that allows, names this authority.
    #[must_use]
    pub fn admits(&self, scheme: Scheme, authority: &Authority) -> bool {
        let port = match self.ports {
            Ports::Unstated => authority.port == scheme.default_port(),
            Ports::Any => true,
            Ports::One(port) => authority.port == port,
        };
        port && self.scheme.is_none_or(|own| own == scheme) && self.names(&authority.host)
    }

    /// Whether the pattern, read as one that denies, names this authority.
    #[must_use]
    pub fn catches(&self, scheme: Scheme, authority: &Authority) -> bool {
        self.scheme.is_none_or(|own| own == scheme)
            && self.catches_port(authority.port)
            && self.names(&authority.host)
    }

    /// Whether the pattern, read as one that denies, catches this port of its hosts.
    pub(crate) fn catches_port(&self, port: u16) -> bool {
        match self.ports {
            Ports::Unstated | Ports::Any => true,
            Ports::One(own) => own == port,
        }
    }

    /// Whether the pattern, read as one that denies, catches every port and scheme of its hosts.
    pub(crate) fn catches_everything(&self) -> bool {
        self.scheme.is_none() && !matches!(self.ports, Ports::One(_))
    }

    /// How narrow the pattern is.
    #[must_use]
    pub fn specificity(&self) -> Specificity {
        Specificity {
            host: match &self.hosts {
                Hosts::Any => HostSpecificity::Any,
                Hosts::Below(suffix) => HostSpecificity::Below(suffix.len()),
                Hosts::Range(range) => HostSpecificity::Range(range.prefix_len()),
                Hosts::Name(_) => HostSpecificity::Name,
            },
            port: matches!(self.ports, Ports::One(_)),
            scheme: self.scheme.is_some(),
        }
    }

    pub(crate) fn hosts(&self) -> &Hosts {
        &self.hosts
    }

    pub(crate) fn scheme(&self) -> Option<Scheme> {
        self.scheme
    }

    /// Whether everything that `other` admits by this scheme is admitted by this pattern too.
    /// Vacuously so where `other` is not about that scheme.
    pub(crate) fn covers(&self, other: &Self, scheme: Scheme) -> bool {
        let Some(wanted) = other.admitted_ports(scheme) else {
            return true;
        };
        let ports = match self.admitted_ports(scheme) {
            None => false,
            Some(None) => true,
            Some(own) => own == wanted,
        };
        ports && self.hosts.cover(&other.hosts)
    }

    /// Whether some authority is admitted by both patterns.
    pub(crate) fn overlaps(&self, other: &Self) -> bool {
        let ports = Scheme::ALL.into_iter().any(|scheme| {
            match (self.admitted_ports(scheme), other.admitted_ports(scheme)) {
                (Some(Some(own)), Some(Some(wanted))) => own == wanted,
                (Some(_), Some(_)) => true,
                (None, _) | (_, None) => false,
            }
        });
        ports && (self.hosts.cover(&other.hosts) || other.hosts.cover(&self.hosts))
    }

    /// Of an allowing pattern: nothing by this scheme, or every port (`Some(None)`), or one.
    #[expect(clippy::option_option, reason = "private; three cases that are compared, never stored")]
    fn admitted_ports(&self, scheme: Scheme) -> Option<Option<u16>> {
        self.scheme.is_none_or(|own| own == scheme).then(|| match self.ports {
            Ports::Unstated => Some(scheme.default_port()),
            Ports::Any => None,
            Ports::One(port) => Some(port),
        })
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
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

    /// Whether every host that `other` names is named by this too.
    pub(crate) fn cover(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Any, _) => true,
            (Self::Below(own), Self::Below(below)) => own == below || is_below(below, own),
            (Self::Below(own), Self::Name(name)) => is_below(name, own),
            (Self::Name(own), Self::Name(name)) => own == name,
            (Self::Range(own), Self::Range(range)) => own.contains(range),
            (Self::Below(_), Self::Any | Self::Range(_))
            | (Self::Name(_), Self::Any | Self::Below(_) | Self::Range(_))
            | (Self::Range(_), Self::Any | Self::Below(_) | Self::Name(_)) => false,
        }
    }
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
            Self::Path => "paths belong into `paths` of a rule: host = \"example.com\", paths = [\"/v1/**\"]".into(),
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

/// Whether `name` lies below `suffix`.
fn is_below(name: &str, suffix: &str) -> bool {
    name.strip_suffix(suffix).is_some_and(|front| front.len() > 1 && front.ends_with('.'))
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
