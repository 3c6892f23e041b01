//! The name that a leaf is made for, checked once so that no later stage has to.
//!
//! **Invariant:** a [`DnsName`] is lower-case ASCII of 1 to 253 octets in labels of 1 to 63, and
//! holds nothing that X.509 text, a log line or a policy pattern could read as more than one name.

use std::{fmt, net::IpAddr, sync::Arc};

use crate::CertError;

/// Longest DNS name in text without its trailing dot (RFC 1035 §2.3.4: 255 octets on the wire).
const MAX_NAME_OCTETS: usize = 253;

/// Longest label (RFC 1035 §2.3.4).
const MAX_LABEL_OCTETS: usize = 63;

/// What a leaf certifies: one DNS name or one IP address, nothing else.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum LeafName {
    /// A DNS name, from the SNI of the connection.
    Dns(DnsName),
    /// An address, for a connection without SNI.
    Ip(IpAddr),
}

impl LeafName {
    /// Takes a DNS name as a client sent it: lower-cases it and strips one trailing dot.
    ///
    /// Labels are letters, digits, `-` (not at either end) and `_`, which real hosts have;
    /// internationalised names stay in their ASCII form (`xn--…`).
    ///
    /// # Errors
    /// [`CertError::InvalidName`] for anything else, wildcards included: the name is the workload's
    /// input to a certificate authority. A name that ends in a number is refused too, since a URL
    /// parser reads it as an IPv4 address.
    pub fn dns(name: &str) -> Result<Self, CertError> {
        let undotted = name.strip_suffix('.').unwrap_or(name);
        match fault(undotted) {
            None => Ok(Self::Dns(DnsName(undotted.to_ascii_lowercase().into()))),
            Some(reason) => Err(CertError::InvalidName { name: shortened(name), reason }),
        }
    }
}

impl From<IpAddr> for LeafName {
    fn from(address: IpAddr) -> Self {
        Self::Ip(address)
    }
}

impl fmt::Display for LeafName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns(name) => name.fmt(f),
            Self::Ip(address) => address.fmt(f),
        }
    }
}

/// A DNS name that was checked by [`LeafName::dns`], the only way to make one; cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DnsName(Arc<str>);

impl DnsName {
    /// The name: lower-case, without a trailing dot.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DnsName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What is wrong with a name, if anything; lengths first, so that the rest looks at little.
fn fault(name: &str) -> Option<&'static str> {
    if name.is_empty() {
        return Some("is empty");
    }
    if name.len() > MAX_NAME_OCTETS {
        return Some("is longer than 253 octets");
    }
    if let Some(fault) = name.split('.').find_map(label_fault) {
        return Some(fault);
    }
    name.rsplit('.').next().filter(|label| is_number(label)).map(|_| "ends in a number")
}

fn label_fault(label: &str) -> Option<&'static str> {
    if label.is_empty() {
        Some("has an empty label")
    } else if label.len() > MAX_LABEL_OCTETS {
        Some("has a label longer than 63 octets")
    } else if !label.bytes().all(|octet| octet.is_ascii_alphanumeric() || b"-_".contains(&octet)) {
        Some("holds something other than letters, digits, '-', '_' and '.'")
    } else if label.starts_with('-') || label.ends_with('-') {
        Some("has a label that begins or ends with '-'")
    } else {
        None
    }
}

/// Whether a URL parser would take a name with this last label for an IPv4 address
/// (the "ends in a number" rule of the URL standard): decimal or octal digits, or `0x` and hex.
fn is_number(label: &str) -> bool {
    let hex = label.strip_prefix("0x").or_else(|| label.strip_prefix("0X"));
    label.bytes().all(|octet| octet.is_ascii_digit())
        || hex.is_some_and(|digits| digits.bytes().all(|octet| octet.is_ascii_hexdigit()))
}

/// Enough of a refused name to recognise it by: as given it has no bound.
fn shortened(name: &str) -> String {
    name.get(..name.floor_char_boundary(MAX_NAME_OCTETS)).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepted(name: &str) -> String {
        LeafName::dns(name).unwrap_or_else(|error| panic!("{error}")).to_string()
    }

    fn refused(name: &str) -> &'static str {
        match LeafName::dns(name) {
            Err(CertError::InvalidName { reason, .. }) => reason,
            other => panic!("{name:?} gave {other:?}"),
        }
    }

    /// 253 octets in labels of at most 63.
    fn longest() -> String {
        let label = "a".repeat(63);
        format!("{label}.{label}.{label}.{}", "b".repeat(61))
    }

    #[test]
    fn takes_names_that_hosts_have() {
        for (given, kept) in [
            ("example.test", "example.test"),
            ("API.Example.TEST", "api.example.test"),
            ("example.test.", "example.test"),
            ("localhost", "localhost"),
            ("xn--bcher-kva.example", "xn--bcher-kva.example"),
            ("XN--BCHER-KVA.example", "xn--bcher-kva.example"),
            ("_dmarc.my_host.example", "_dmarc.my_host.example"),
            ("r3---sn-4g5e6n7k.example", "r3---sn-4g5e6n7k.example"),
            ("1.2.3.4.example", "1.2.3.4.example"),
            ("127-0-0-1.example", "127-0-0-1.example"),
            ("4.0xg", "4.0xg"),
            ("a", "a"),
        ] {
            assert_eq!(accepted(given), kept);
        }
        assert_eq!(longest().len(), 253);
        assert_eq!(accepted(&longest()), longest());
        assert_eq!(accepted(&format!("{}.", longest())), longest());
    }

    #[test]
    fn refuses_hostile_names() {
        let characters = "holds something other than letters, digits, '-', '_' and '.'";
        for name in [
            "x,dns:internal",
            "x,DNS:internal.test",
            "a b",
            " a",
            "a ",
            "*.x",
            "*",
            "a*.x",
            "a\0.example",
            "a.example\0",
            "a\nb.example",
            "a\r\nb",
            "bücher.example",
            "a。b",
            "user@host",
            "host:443",
            "host/path",
            "[::1]",
            "::1",
            "%61.example",
            "a\\b",
            "\"a\"",
            "a=b",
        ] {
            assert_eq!(refused(name), characters, "{name:?}");
        }
    }

    #[test]
    fn refuses_broken_labels_and_lengths() {
        for (name, reason) in [
            (String::new(), "is empty"),
            (".".to_owned(), "is empty"),
            ("..".to_owned(), "has an empty label"),
            ("a..b".to_owned(), "has an empty label"),
            (".a".to_owned(), "has an empty label"),
            ("a..".to_owned(), "has an empty label"),
            ("-a.example".to_owned(), "has a label that begins or ends with '-'"),
            ("a-.example".to_owned(), "has a label that begins or ends with '-'"),
            (format!("{}.example", "a".repeat(64)), "has a label longer than 63 octets"),
            (format!("{}b", longest()), "is longer than 253 octets"),
            ("a.".repeat(1 << 20), "is longer than 253 octets"),
        ] {
            assert_eq!(refused(&name), reason);
        }
    }

    #[test]
    fn refuses_what_reads_as_an_address() {
        for name in ["1.2.3.4", "1.2.3.4.", "127.1", "2130706433", "0x7f000001", "0X7F.0x", "a.0", "a.0x"] {
            assert_eq!(refused(name), "ends in a number", "{name:?}");
        }
    }

    #[test]
    fn keeps_the_refused_name_short() {
        let name = "é".repeat(1 << 16);
        let Err(CertError::InvalidName { name, .. }) = LeafName::dns(&name) else {
            panic!("accepted");
        };
        assert!((250..=253).contains(&name.len()), "{}", name.len());
    }

    #[test]
    fn escapes_the_refused_name_in_the_message() {
        let message = LeafName::dns("a\n\u{1b}[31m").unwrap_err().to_string();
        assert!(message.chars().all(|character| !character.is_control()), "{message:?}");
    }

    #[test]
    fn compares_by_what_is_certified() {
        assert_eq!(LeafName::dns("A.example.").unwrap(), LeafName::dns("a.example").unwrap());
        let v4 = LeafName::from(IpAddr::from([127, 0, 0, 1]));
        let mapped = LeafName::from("::ffff:127.0.0.1".parse::<IpAddr>().unwrap());
        assert_ne!(v4, mapped);
        assert_eq!(v4.to_string(), "127.0.0.1");
    }
}
