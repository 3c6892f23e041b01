//! The one reader of host names, addresses and authorities, for the document and for traffic.
//!
//! **Invariant:** a [`Host`] is normalised: whatever two parsers could read in two ways has been
//! refused, so equal hosts are dialled, matched and logged as the same text.

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use idna::AsciiDenyList;
use idna::uts46::{DnsLength, Hyphens, Uts46};
use thiserror::Error;

/// The longest text looked at, in bytes; a name of 253 characters has room for its longest
/// spelling in UTF-8.
const TEXT_BYTES_MAX: usize = 1024;
/// The longest name in octets, without the root's dot (RFC 1035 section 2.3.4).
const NAME_BYTES_MAX: usize = 253;
/// The longest label in octets (RFC 1035 section 2.3.4).
const LABEL_BYTES_MAX: usize = 63;

/// A name or an address, normalised.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Host {
    /// A DNS name: lower-case A-labels, no trailing dot.
    Dns(Box<str>),
    /// An address literal; an IPv4-mapped IPv6 address is held as IPv4.
    Ip(IpAddr),
}

impl Host {
    /// Reads a DNS name, an IPv4 dotted quad, or an IPv6 address with or without brackets.
    ///
    /// Case and one trailing dot are taken away and other scripts are written as A-labels
    /// (UTS 46, non-transitional). Names that some parsers read as IPv4 addresses, such as `127.1`
    /// or `0x7f.1`, are refused (WHATWG URL, "ends in a number").
    ///
    /// # Errors
    /// The text is none of these, is too long, or holds a zone id, user information or a character
    /// that a host name does not have.
    pub fn parse(text: &str) -> Result<Self, HostError> {
        if text.len() > TEXT_BYTES_MAX {
            return Err(HostError::TooLong);
        }
        if let Some(inner) = text.strip_prefix('[') {
            let inner = inner.strip_suffix(']').ok_or(HostError::Address)?;
            return parse_ipv6(inner);
        }
        if text.contains(':') {
            return parse_ipv6(text);
        }
        let ascii = to_ascii(text)?;
        let name = ascii.strip_suffix('.').unwrap_or(&ascii);
        if let Ok(address) = name.parse::<Ipv4Addr>() {
            return Ok(Self::Ip(IpAddr::V4(address)));
        }
        check_name(name)?;
        Ok(Self::Dns(name.into()))
    }

    /// Whether the host is a name of one label, such as `localhost`.
    #[must_use]
    pub fn is_single_label(&self) -> bool {
        match self {
            Self::Dns(name) => !name.contains('.'),
            Self::Ip(_) => false,
        }
    }
}

impl From<IpAddr> for Host {
    fn from(address: IpAddr) -> Self {
        Self::Ip(address.to_canonical())
    }
}

impl fmt::Display for Host {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns(name) => formatter.write_str(name),
            Self::Ip(address) => address.fmt(formatter),
        }
    }
}

/// A host and the port to dial: what a request is for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Authority {
    /// The host.
    pub host: Host,
    /// The TCP port, never 0 when parsed.
    pub port: u16,
}

impl Authority {
    /// Reads `host` or `host:port`; `default_port` is taken where none is stated.
    ///
    /// # Errors
    /// As [`WrittenAuthority::parse`].
    pub fn parse(text: &str, default_port: u16) -> Result<Self, HostError> {
        WrittenAuthority::parse(text).map(|written| written.or_port(default_port))
    }
}

impl fmt::Display for Authority {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Ip(IpAddr::V6(address)) => write!(formatter, "[{address}]:{}", self.port),
            host => write!(formatter, "{host}:{}", self.port),
        }
    }
}

/// An authority as a request or the document states it, with or without a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrittenAuthority {
    /// The host.
    pub host: Host,
    /// The port, if one is stated.
    pub port: Option<u16>,
}

impl WrittenAuthority {
    /// Reads `host` or `host:port`; an IPv6 address stands in brackets (RFC 3986 section 3.2.2).
    ///
    /// # Errors
    /// As [`Host::parse`], and for user information or a port that is not 1 to 65535 in plain
    /// decimal.
    pub fn parse(text: &str) -> Result<Self, HostError> {
        if text.len() > TEXT_BYTES_MAX {
            return Err(HostError::TooLong);
        }
        if text.contains('@') {
            return Err(HostError::UserInformation);
        }
        let (host, port) = if let Some(inner) = text.strip_prefix('[') {
            let (inner, rest) = inner.split_once(']').ok_or(HostError::Address)?;
            let port = match rest.strip_prefix(':') {
                Some(port) => Some(port),
                None if rest.is_empty() => None,
                None => return Err(HostError::Port),
            };
            (parse_ipv6(inner)?, port)
        } else {
            match text.split_once(':') {
                Some((_, port)) if port.contains(':') => return Err(HostError::Unbracketed),
                Some((host, port)) => (Host::parse(host)?, Some(port)),
                None => (Host::parse(text)?, None),
            }
        };
        let port = port.map(parse_port).transpose()?;
        Ok(Self { host, port })
    }

    /// The authority, with this port where none is stated.
    #[must_use]
    pub fn or_port(self, default_port: u16) -> Authority {
        Authority { host: self.host, port: self.port.unwrap_or(default_port) }
    }
}

/// How a request travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scheme {
    /// Unencrypted HTTP.
    Http,
    /// HTTP over TLS.
    Https,
}

impl Scheme {
    /// Both schemes.
    pub(crate) const ALL: [Self; 2] = [Self::Http, Self::Https];

    /// The port that a URL of this scheme means when it states none.
    #[must_use]
    pub const fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }

    /// The scheme as a URL writes it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// Why a text is no host or authority.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum HostError {
    /// Brackets around, or colons within, something that is not an IPv6 address.
    #[error("not an IPv6 address")]
    Address,
    /// A character that a host name does not have.
    #[error("{0:?} cannot be part of a host name")]
    Character(char),
    /// Nothing at all, or nothing between two dots.
    #[error("a host name has no empty label")]
    Empty,
    /// A label that begins or ends with a hyphen (RFC 1123 section 2.1).
    #[error("a label of a host name does not begin or end with a hyphen")]
    Hyphen,
    /// A name in another script, or in A-labels, that IDNA does not allow.
    #[error("not a valid internationalised name")]
    International,
    /// Looks like an IPv4 address to some parsers and is not a dotted quad.
    #[error("ends in a number, and is not an IPv4 address of four plain decimal numbers")]
    OddAddress,
    /// Not 1 to 65535 in plain decimal.
    #[error("a port is a number from 1 to 65535")]
    Port,
    /// The name exceeds 253 characters, or one of its labels 63.
    #[error("longer than a host name may be")]
    TooLong,
    /// An IPv6 address and a port cannot be told apart.
    #[error("an IPv6 address stands in brackets here")]
    Unbracketed,
    /// `user@` or `user:password@`.
    #[error("user information does not belong here")]
    UserInformation,
    /// `%` after an IPv6 address, which means an interface of one machine.
    #[error("an IPv6 zone id means nothing outside its machine")]
    ZoneId,
}

fn parse_ipv6(text: &str) -> Result<Host, HostError> {
    if text.contains('%') {
        return Err(HostError::ZoneId);
    }
    let address: Ipv6Addr = text.parse().map_err(|_| HostError::Address)?;
    Ok(Host::from(IpAddr::V6(address)))
}

pub(crate) fn parse_port(text: &str) -> Result<u16, HostError> {
    let plain = !text.starts_with('0') && text.bytes().all(|byte| byte.is_ascii_digit());
    let port = text.parse().map_err(|_| HostError::Port)?;
    if plain { Ok(port) } else { Err(HostError::Port) }
}

/// Lower-case ASCII, through IDNA where the name is, or claims to be, of another script.
fn to_ascii(text: &str) -> Result<Cow<'_, str>, HostError> {
    let lower = text.bytes().any(|byte| byte.is_ascii_uppercase());
    let text = if lower { Cow::Owned(text.to_ascii_lowercase()) } else { Cow::Borrowed(text) };
    if text.is_ascii() && !text.split('.').any(|label| label.starts_with("xn--")) {
        return Ok(text);
    }
    Uts46::new()
        .to_ascii(text.as_bytes(), AsciiDenyList::EMPTY, Hyphens::Allow, DnsLength::Ignore)
        .map(|ascii| Cow::Owned(ascii.into_owned()))
        .map_err(|_| HostError::International)
}

/// Letters, digits, hyphens and underscores in labels of bounded length.
fn check_name(name: &str) -> Result<(), HostError> {
    for label in name.split('.') {
        if let Some(other) = label.chars().find(|&c| !(c.is_ascii_alphanumeric() || c == '-' || c == '_')) {
            return Err(match other {
                '@' => HostError::UserInformation,
                other => HostError::Character(other),
            });
        }
        if label.is_empty() {
            return Err(HostError::Empty);
        }
        if label.starts_with('-') || label.ends_with('-') {
            return Err(HostError::Hyphen);
        }
        if label.len() > LABEL_BYTES_MAX {
            return Err(HostError::TooLong);
        }
    }
    if name.len() > NAME_BYTES_MAX {
        return Err(HostError::TooLong);
    }
    let last = name.rsplit('.').next().unwrap_or(name);
    let decimal = last.bytes().all(|byte| byte.is_ascii_digit());
    let hexadecimal =
        last.strip_prefix("0x").is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
    if decimal || hexadecimal { Err(HostError::OddAddress) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_normalised() {
        let long = format!("{}.test", vec!["a"; 124].join("."));
        let table = [
            ("example.com", "example.com"),
            ("EXAMPLE.Com", "example.com"),
            ("h.", "h"),
            ("my_host.test", "my_host.test"),
            ("a--b.test", "a--b.test"),
            ("BÜCHER.example", "xn--bcher-kva.example"),
            ("bücher.example.", "xn--bcher-kva.example"),
            ("xn--bcher-kva.EXAMPLE", "xn--bcher-kva.example"),
            ("example\u{3002}com", "example.com"),
            ("ｅｘａｍｐｌｅ.com", "example.com"),
            ("3com.com", "3com.com"),
            ("0x7f.com", "0x7f.com"),
            (&long, &long),
        ];
        for (text, name) in table {
            assert_eq!(Host::parse(text), Ok(Host::Dns(name.into())), "{text}");
        }
    }

    #[test]
    fn addresses_are_normalised() {
        let table = [
            ("10.0.0.1", "10.0.0.1"),
            ("10.0.0.1.", "10.0.0.1"),
            ("１０.0.0.1", "10.0.0.1"),
            ("::1", "::1"),
            ("[2001:DB8:0::1]", "2001:db8::1"),
            ("[::ffff:10.0.0.1]", "10.0.0.1"),
            ("::ffff:a00:1", "10.0.0.1"),
        ];
        for (text, address) in table {
            assert_eq!(Host::parse(text), Ok(Host::Ip(address.parse().unwrap())), "{text}");
            assert_eq!(Host::parse(text).unwrap().to_string(), address);
        }
    }

    #[test]
    fn what_can_be_read_in_two_ways_is_refused() {
        let label = format!("{}.test", "a".repeat(64));
        let name = format!("{}.test", vec!["a"; 125].join("."));
        let text = "a".repeat(2000);
        let table = [
            ("", HostError::Empty),
            (".", HostError::Empty),
            ("a..b", HostError::Empty),
            ("h..", HostError::Empty),
            (".a", HostError::Empty),
            ("127.1", HostError::OddAddress),
            ("2130706433", HostError::OddAddress),
            ("0x7f000001", HostError::OddAddress),
            ("0X7F.1", HostError::OddAddress),
            ("0177.0.0.1", HostError::OddAddress),
            ("127.0.0.01", HostError::OddAddress),
            ("127.0.0.0x1", HostError::OddAddress),
            ("127.0.0.0x", HostError::OddAddress),
            ("256.0.0.1", HostError::OddAddress),
            ("1.2.3.4.5", HostError::OddAddress),
            ("example.1", HostError::OddAddress),
            ("１２７.1", HostError::OddAddress),
            ("[10.0.0.1]", HostError::Address),
            ("[::1", HostError::Address),
            ("::1.", HostError::Address),
            ("a:80", HostError::Address),
            ("fe80::1%eth0", HostError::ZoneId),
            ("[fe80::1%25eth0]", HostError::ZoneId),
            ("a b", HostError::Character(' ')),
            ("a\0.test", HostError::Character('\0')),
            ("a\r\nx.test", HostError::Character('\r')),
            ("a\u{7f}", HostError::Character('\u{7f}')),
            ("a/b", HostError::Character('/')),
            ("a%2eb", HostError::Character('%')),
            ("a\\b", HostError::Character('\\')),
            ("*.example.com", HostError::Character('*')),
            ("a\u{ff0f}b.test", HostError::Character('/')),
            ("user@a", HostError::UserInformation),
            ("-a.test", HostError::Hyphen),
            ("a-.test", HostError::Hyphen),
            ("xn--a.test", HostError::International),
            ("a\u{200b}\u{ad}\u{fffd}.test", HostError::International),
            (&label, HostError::TooLong),
            (&name, HostError::TooLong),
            (&text, HostError::TooLong),
        ];
        for (text, error) in table {
            assert_eq!(Host::parse(text), Err(error), "{text:?}");
        }
    }

    #[test]
    fn a_normalised_host_reads_as_itself() {
        for text in ["Example.COM.", "bücher.example", "[::FFFF:1.2.3.4]", "2001:db8::1", "_a.b-c.d"] {
            let host = Host::parse(text).unwrap();
            assert_eq!(Host::parse(&host.to_string()), Ok(host), "{text}");
        }
    }

    #[test]
    fn authorities_tell_whether_a_port_is_stated() {
        let table = [
            ("example.com", "example.com:443", None),
            ("Example.com.:80", "example.com:80", Some(80)),
            ("[::1]", "[::1]:443", None),
            ("[::1]:8443", "[::1]:8443", Some(8443)),
            ("10.0.0.1:65535", "10.0.0.1:65535", Some(65535)),
        ];
        for (text, normal, port) in table {
            let written = WrittenAuthority::parse(text).unwrap();
            assert_eq!(written.port, port, "{text}");
            assert_eq!(written.or_port(443).to_string(), normal, "{text}");
        }
    }

    #[test]
    fn odd_authorities_are_refused() {
        let table = [
            ("user:pw@a:80", HostError::UserInformation),
            ("a@b", HostError::UserInformation),
            ("@[::1]", HostError::UserInformation),
            ("::1", HostError::Unbracketed),
            ("a:80:80", HostError::Unbracketed),
            ("a:", HostError::Port),
            ("a:0", HostError::Port),
            ("a:080", HostError::Port),
            ("a:+80", HostError::Port),
            ("a:65536", HostError::Port),
            ("a: 80", HostError::Port),
            ("[::1]80", HostError::Port),
            ("[::1]:", HostError::Port),
            ("[::1%lo]:80", HostError::ZoneId),
            ("[::1", HostError::Address),
            (":80", HostError::Empty),
            ("", HostError::Empty),
            ("127.1:80", HostError::OddAddress),
        ];
        for (text, error) in table {
            assert_eq!(WrittenAuthority::parse(text), Err(error), "{text:?}");
        }
    }
}
