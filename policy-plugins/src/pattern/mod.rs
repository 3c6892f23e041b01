//! Patterns that name hosts: what they match, which is more specific, which covers which.
//!
//! An allowing pattern is narrow and a denying one wide: without a port the first means the
//! scheme's own port, the second every port.

mod parse;

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

pub(crate) use parse::parse_range_or_address;
pub use parse::{ListedIn, PatternError};

use crate::host::{Authority, Host, Scheme};

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

    /// Whether the pattern, read as one that allows, names this port of a flow to its hosts: a flow has
    /// no scheme, and so no port that need not be stated.
    pub(crate) fn admits_flow(&self, port: u16) -> bool {
        self.scheme.is_none() && self.states_port() && self.catches_port(port)
    }

    /// Whether some flow that `other` names is admitted by this pattern.
    pub(crate) fn admits_some_flow_of(&self, other: &Self) -> bool {
        let ports = match (self.ports, other.ports) {
            (Ports::Unstated, _) => false,
            (Ports::One(own), Ports::One(wanted)) => own == wanted,
            (Ports::Any | Ports::One(_), _) => true,
        };
        ports && self.scheme.is_none() && (self.hosts.cover(&other.hosts) || other.hosts.cover(&self.hosts))
    }

    /// Whether a port is written, or `*` in its place.
    pub(crate) fn states_port(&self) -> bool {
        self.ports != Ports::Unstated
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

    /// Whether the pattern names one host and no other.
    pub(crate) fn is_one_host(&self) -> bool {
        match &self.hosts {
            Hosts::Any | Hosts::Below(_) => false,
            Hosts::Name(_) => true,
            Hosts::Range(range) => range.prefix_len() == range.max_prefix_len(),
        }
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

    /// Whether both patterns mean the same, however they are written.
    pub(crate) fn is_same_as(&self, other: &Self) -> bool {
        self.hosts == other.hosts && self.ports == other.ports && self.scheme == other.scheme
    }

    /// The one way to write this pattern.
    pub(crate) fn canonical(&self) -> String {
        let scheme = self.scheme.map(|scheme| format!("{scheme}://")).unwrap_or_default();
        let hosts = match &self.hosts {
            Hosts::Any => String::from("*"),
            Hosts::Below(suffix) => format!("*.{suffix}"),
            Hosts::Name(name) => name.to_string(),
            Hosts::Range(range) => {
                let prefix = if range.prefix_len() == range.max_prefix_len() {
                    String::new()
                } else {
                    format!("/{}", range.prefix_len())
                };
                match range.addr() {
                    IpAddr::V4(address) => format!("{address}{prefix}"),
                    IpAddr::V6(address) => format!("[{address}]{prefix}"),
                }
            }
        };
        let port = match self.ports {
            Ports::Unstated => String::new(),
            Ports::Any => String::from(":*"),
            Ports::One(port) => format!(":{port}"),
        };
        format!("{scheme}{hosts}{port}")
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

/// Whether `name` lies below `suffix`.
fn is_below(name: &str, suffix: &str) -> bool {
    name.strip_suffix(suffix).is_some_and(|front| front.len() > 1 && front.ends_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> HostPattern {
        HostPattern::parse(text, ListedIn::Rule).unwrap()
    }

    fn authority(text: &str) -> Authority {
        Authority::parse(text, 443).unwrap()
    }

    #[test]
    fn patterns_name_hosts() {
        let table = [
            ("*", "any.test", true),
            ("*", "10.0.0.1", true),
            ("*.b.test", "a.b.test", true),
            ("*.b.test", "x.a.b.test", true),
            ("*.b.test", "b.test", false),
            ("*.b.test", "xb.test", false),
            ("*.B.Test.", "a.b.test", true),
            ("b.test", "b.test", true),
            ("b.test", "a.b.test", false),
            ("*.bücher.test", "a.xn--bcher-kva.test", true),
            ("10.0.0.0/8", "10.1.2.3", true),
            ("10.0.0.0/8", "11.1.2.3", false),
            ("10.0.0.0/8", "::ffff:10.1.2.3", true),
            ("::ffff:10.0.0.0/104", "10.1.2.3", true),
            ("10.0.0.1", "10.0.0.1", true),
            ("10.0.0.1", "10.0.0.2", false),
            ("[::ffff:10.0.0.1]", "10.0.0.1", true),
            ("2001:db8::/32", "2001:db8::1", true),
            ("[2001:db8::]/32", "2001:db8::1", true),
            ("[2001:db8::/32]", "2001:db9::1", false),
            ("0.0.0.0/0", "a.test", false),
        ];
        for (text, host, expected) in table {
            assert_eq!(pattern(text).names(&Host::parse(host).unwrap()), expected, "{text} {host}");
        }
    }

    #[test]
    fn allowing_is_narrow_and_denying_is_wide() {
        use Scheme::{Http, Https};
        // pattern, scheme, authority, allowed, denied
        let table = [
            ("a.test", Https, "a.test:443", true, true),
            ("a.test", Http, "a.test:80", true, true),
            ("a.test", Http, "a.test:443", false, true),
            ("a.test", Https, "a.test:8443", false, true),
            ("a.test:*", Https, "a.test:8443", true, true),
            ("a.test:8443", Https, "a.test:8443", true, true),
            ("a.test:8443", Https, "a.test:443", false, false),
            ("https://a.test", Https, "a.test:443", true, true),
            ("https://a.test", Http, "a.test:80", false, false),
            ("HTTP://a.test:*", Http, "a.test:1", true, true),
            ("10.0.0.0/8:9999", Http, "10.0.0.1:9999", true, true),
            ("[2001:db8::]/32:9999", Http, "[2001:db8::1]:9999", true, true),
            ("[2001:db8::/32]:9999", Http, "[2001:db8::1]:80", false, false),
            ("*:*", Http, "x.test:1", true, true),
        ];
        for (text, scheme, to, allowed, denied) in table {
            assert_eq!(pattern(text).admits(scheme, &authority(to)), allowed, "{text} allows {scheme} {to}");
            assert_eq!(pattern(text).catches(scheme, &authority(to)), denied, "{text} denies {scheme} {to}");
        }
    }

    #[test]
    fn p24_the_narrower_pattern_is_greater() {
        let names =
            ["*", "*.test", "*.b.test", "https://*.b.test", "*.b.test:443", "a.b.test", "a.b.test:443"];
        let ranges = ["*", "0.0.0.0/0", "10.0.0.0/8", "10.1.0.0/16", "10.1.0.1", "10.1.0.1:80"];
        for order in [&names[..], &ranges[..]] {
            for pair in order.windows(2) {
                assert!(pattern(pair[0]).specificity() < pattern(pair[1]).specificity(), "{pair:?}");
            }
        }
        assert_eq!(pattern("a.test").specificity(), pattern("a.test:*").specificity());
    }

    #[test]
    fn the_canonical_text_means_the_same() {
        let table = [
            ("Example.COM.", "example.com"),
            ("HTTPS://*.Bücher.test:8443", "https://*.xn--bcher-kva.test:8443"),
            ("10.0.0.1", "10.0.0.1"),
            ("10.0.0.0/8:*", "10.0.0.0/8:*"),
            ("2001:DB8::/32", "[2001:db8::]/32"),
            ("[2001:db8::1]:9999", "[2001:db8::1]:9999"),
            ("[2001:db8::/32]:443", "[2001:db8::]/32:443"),
            ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
            ("http://*", "http://*"),
        ];
        for (text, canonical) in table {
            assert_eq!(pattern(text).canonical(), canonical, "{text}");
            assert!(pattern(text).is_same_as(&pattern(canonical)), "{text}");
        }
        assert!(!pattern("a.test").is_same_as(&pattern("a.test:*")));
        assert!(!pattern("a.test").is_same_as(&pattern("http://a.test")));
    }

    #[test]
    fn covering_is_by_host_port_and_scheme() {
        let table = [
            ("*.test", "*.b.test", true),
            ("*.test", "b.test", true),
            ("*.b.test", "*.test", false),
            ("*.b.test", "*.b.test", true),
            ("*.b.test", "*.xb.test", false),
            ("b.test", "*.b.test", false),
            ("b.test", "b.test:443", true),
            ("b.test", "b.test:8443", false),
            ("b.test", "b.test:*", false),
            ("b.test:*", "b.test:8443", true),
            ("b.test:443", "b.test", true),
            ("http://b.test", "b.test", false),
            ("b.test", "http://b.test:81", true),
            ("10.0.0.0/8", "10.1.0.0/16", true),
            ("10.1.0.0/16", "10.0.0.0/8", false),
            ("10.0.0.0/8", "*", false),
            ("*", "b.test", true),
        ];
        for (own, other, expected) in table {
            assert_eq!(pattern(own).covers(&pattern(other), Scheme::Https), expected, "{own} {other}");
        }
    }

    #[test]
    fn overlap_goes_both_ways() {
        let table = [
            ("*.test", "b.test", true),
            ("b.test:443", "b.test", true),
            ("b.test:8443", "b.test", false),
            ("http://b.test", "https://b.test", false),
            ("http://b.test:*", "b.test:8443", true),
            ("*", "10.0.0.0/8", true),
            ("10.0.0.0/8", "b.test", false),
        ];
        for (own, other, expected) in table {
            assert_eq!(pattern(own).overlaps(&pattern(other)), expected, "{own} {other}");
            assert_eq!(pattern(other).overlaps(&pattern(own)), expected, "{other} {own}");
        }
    }
}
