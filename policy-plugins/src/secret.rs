//! What the document says about a secret: its name, where its value is, where it may go.

use std::fmt;

use crate::host::{Authority, Scheme};
use crate::pattern::HostPattern;

/// The name of a secret: a letter or `_`, then letters, digits and `_`, at most 64 in all.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SecretName(Box<str>);

impl SecretName {
    /// The name, or `None` if the text is not one.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let first = text.bytes().next()?;
        let fits = text.len() <= 64
            && !first.is_ascii_digit()
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        fits.then(|| Self(text.into()))
    }

    /// The name as written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SecretName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// Where the value of a secret is read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretSource {
    /// `env://NAME`: a variable of the proxy's environment.
    Env(Box<str>),
    /// `file://PATH`: a file; a relative path counts from the document's folder.
    File(Box<str>),
}

impl SecretSource {
    /// The source, or `None` if the text is not one.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let bounded = |rest: &str| !rest.is_empty() && !rest.contains(char::is_control);
        if let Some(name) = text.strip_prefix("env://") {
            return (bounded(name) && !name.contains(['=', '/'])).then(|| Self::Env(name.into()));
        }
        let path = text.strip_prefix("file://")?;
        bounded(path).then(|| Self::File(path.into()))
    }
}

impl fmt::Display for SecretSource {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Env(name) => write!(formatter, "env://{name}"),
            Self::File(path) => write!(formatter, "file://{path}"),
        }
    }
}

/// One `[secrets.NAME]` of the document. It holds no value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretDeclaration {
    /// Its name.
    pub name: SecretName,
    /// Where its value is.
    pub source: SecretSource,
    /// Where it may be sent; never empty, never `*`.
    pub hosts: Vec<HostPattern>,
    /// Whether it may be sent over unencrypted HTTP.
    pub plaintext: bool,
}

impl SecretDeclaration {
    /// Whether the secret may be sent to this authority over this scheme.
    #[must_use]
    pub fn admits(&self, authority: &Authority, scheme: Scheme) -> bool {
        self.travels_by(scheme) && self.is_bound_to(authority, scheme)
    }

    /// Whether the secret may travel by this scheme at all.
    #[must_use]
    pub fn travels_by(&self, scheme: Scheme) -> bool {
        self.plaintext || scheme == Scheme::Https
    }

    /// Whether one of `hosts` names this authority.
    #[must_use]
    pub fn is_bound_to(&self, authority: &Authority, scheme: Scheme) -> bool {
        self.hosts.iter().any(|pattern| pattern.admits(scheme, authority))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pattern::ListedIn;

    #[test]
    fn names_are_bounded_words() {
        for name in ["A", "_a", "API_TOKEN", "a1"] {
            assert_eq!(SecretName::parse(name).unwrap().as_str(), name);
        }
        for name in ["", "1A", "A-B", "A B", "Ä", &"A".repeat(65)] {
            assert_eq!(SecretName::parse(name), None, "{name}");
        }
    }

    #[test]
    fn sources_are_read_and_written_alike() {
        for text in ["env://API_TOKEN", "file:///run/token", "file://secrets/token"] {
            assert_eq!(SecretSource::parse(text).unwrap().to_string(), text);
        }
        for text in ["", "sk-live-123", "env://", "env://A=B", "file://", "vault://x", "ENV://A", "env://A\0"]
        {
            assert_eq!(SecretSource::parse(text), None, "{text}");
        }
    }

    #[test]
    fn c03_a_secret_stays_off_plain_http_unless_told() {
        let mut declaration = SecretDeclaration {
            name: SecretName::parse("A").unwrap(),
            source: SecretSource::Env("A".into()),
            hosts: vec![HostPattern::parse("api.example.test", ListedIn::Secret).unwrap()],
            plaintext: false,
        };
        let authority = |text| Authority::parse(text, 443).unwrap();
        assert!(declaration.admits(&authority("api.example.test"), Scheme::Https));
        assert!(!declaration.admits(&authority("api.example.test:80"), Scheme::Http));
        assert!(!declaration.admits(&authority("other.example.test"), Scheme::Https));
        assert!(!declaration.admits(&authority("api.example.test:8443"), Scheme::Https));
        declaration.plaintext = true;
        assert!(declaration.admits(&authority("api.example.test:80"), Scheme::Http));
    }
}
