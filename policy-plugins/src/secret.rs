//! What the document says about a secret: its name, where its value is, where it may go.

use std::fmt;

use crate::host::{Authority, Scheme};
use crate::instance_text::{self, Stretch};
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

/// Where the value of a secret is read from. May hold `{container_id}` and `{instance_id}` until
/// [`SecretSource::for_instance`].
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
        let bounded = |rest: &str| {
            !rest.is_empty() && !rest.contains(char::is_control) && instance_text::stretches(rest).is_some()
        };
        if let Some(name) = text.strip_prefix("env://") {
            let source = Self::Env(name.into());
            // A hole alone would be every variable there is.
            let named = source.literals().next().is_some();
            return (bounded(name) && !name.contains(['=', '/']) && named).then_some(source);
        }
        let path = text.strip_prefix("file://")?;
        bounded(path).then(|| Self::File(path.into()))
    }

    /// The source for one instance. What stands for `{container_id}` and `{instance_id}` stays one
    /// name: in a variable, what is not a letter, a digit or `_` becomes `_`; in a path, `/` and
    /// control characters do, and dots where there is nothing else.
    #[must_use]
    pub fn for_instance(&self, container_id: &str, instance_id: &str) -> Self {
        let fill = |text: &str, keep: &dyn Fn(&str) -> String| -> Box<str> {
            let Some(stretches) = instance_text::stretches(text) else {
                return text.into();
            };
            let filled = stretches.into_iter().map(|stretch| match stretch {
                Stretch::Literal(text) => String::from(text),
                Stretch::ContainerId => keep(container_id),
                Stretch::InstanceId => keep(instance_id),
            });
            filled.collect::<String>().into()
        };
        match self {
            Self::Env(name) => Self::Env(fill(name, &|id| {
                id.chars().map(|letter| if is_of_variable(letter) { letter } else { '_' }).collect()
            })),
            Self::File(path) => Self::File(fill(path, &|id| {
                let dots = id.bytes().all(|byte| byte == b'.');
                let fits = |letter: char| letter != '/' && !letter.is_control() && !dots;
                id.chars().map(|letter| if fits(letter) { letter } else { '_' }).collect()
            })),
        }
    }

    /// Whether this is a variable of the environment that the secret of some instance may be in.
    #[must_use]
    pub fn is_variable_of(&self, name: &str) -> bool {
        let Self::Env(pattern) = self else { return false };
        let Some(stretches) = instance_text::stretches(pattern) else {
            return &**pattern == name;
        };
        let fills = |text: &str| text.chars().all(is_of_variable);
        let mut rest = name;
        let mut hole = false;
        let mut left = stretches.iter().filter(|stretch| matches!(stretch, Stretch::Literal(_))).count();
        for stretch in &stretches {
            let Stretch::Literal(text) = stretch else {
                hole = true;
                continue;
            };
            left -= 1;
            let ends = left == 0 && matches!(stretches.last(), Some(Stretch::Literal(_)));
            let found = match (hole, ends) {
                (false, _) => rest.strip_prefix(text).map(|after| ("", after)),
                (true, true) => rest.strip_suffix(text).map(|before| (before, "")),
                (true, false) => rest.split_once(text),
            };
            let Some((_, after)) = found.filter(|(before, _)| fills(before)) else {
                return false;
            };
            rest = after;
            hole = false;
        }
        if hole { fills(rest) } else { rest.is_empty() }
    }

    fn literals(&self) -> impl Iterator<Item = &str> {
        let (Self::Env(text) | Self::File(text)) = self;
        instance_text::stretches(text).into_iter().flatten().filter_map(|stretch| match stretch {
            Stretch::Literal(text) => Some(text),
            Stretch::ContainerId | Stretch::InstanceId => None,
        })
    }
}

fn is_of_variable(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || letter == '_'
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
    /// Whether responses are searched for its value, which is masked there.
    pub scrub: bool,
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
        for text in ["env://API_TOKEN", "file:///run/token", "file://secrets/token", "env://A_{container_id}"]
        {
            assert_eq!(SecretSource::parse(text).unwrap().to_string(), text);
        }
        let no_sources = [
            "",
            "sk-live-123",
            "env://",
            "env://A=B",
            "file://",
            "vault://x",
            "ENV://A",
            "env://A\0",
            "env://A_{id}",
            "env://{container_id}",
            "file://{",
        ];
        for text in no_sources {
            assert_eq!(SecretSource::parse(text), None, "{text}");
        }
    }

    #[test]
    fn p28_a_source_is_filled_in_for_an_instance() {
        let table = [
            ("env://A", "env://A"),
            ("env://A_{container_id}", "env://A_3f_2_"),
            ("env://{instance_id}_A", "env://b_x_A"),
            ("file://{container_id}/{instance_id}", "file://3f-2é/b_x"),
        ];
        for (text, expected) in table {
            let filled = SecretSource::parse(text).unwrap().for_instance("3f-2é", "b/x");
            assert_eq!(filled.to_string(), expected, "{text}");
        }
        let climbing = SecretSource::parse("file://{container_id}/token").unwrap();
        assert_eq!(climbing.for_instance("..", "").to_string(), "file://__/token");
        assert_eq!(climbing.for_instance("a/../../b", "").to_string(), "file://a_.._.._b/token");
    }

    #[test]
    fn p28_the_variables_of_every_instance_are_known() {
        let table = [
            ("env://A", "A", true),
            ("env://A", "AB", false),
            ("env://A_{container_id}", "A_", true),
            ("env://A_{container_id}", "A_3f_2", true),
            ("env://A_{container_id}", "B_3f", false),
            ("env://A_{container_id}", "A-3f", false),
            ("env://{instance_id}_A", "box_A", true),
            ("env://{instance_id}_A", "x_A_A", true),
            ("env://{instance_id}_A", "box_B", false),
            ("env://A_{container_id}_B_{instance_id}", "A_1_B_2", true),
            ("env://A_{container_id}_B_{instance_id}", "A_1_2", false),
            ("env://A_{container_id}_B", "A_1_B_B", true),
            ("env://A_{container_id}_B", "A_B", false),
            ("file://A", "A", false),
        ];
        for (text, name, expected) in table {
            assert_eq!(SecretSource::parse(text).unwrap().is_variable_of(name), expected, "{text} {name}");
        }
    }

    #[test]
    fn c03_a_secret_stays_off_plain_http_unless_told() {
        let mut declaration = SecretDeclaration {
            name: SecretName::parse("A").unwrap(),
            source: SecretSource::Env("A".into()),
            hosts: vec![HostPattern::parse("api.example.test", ListedIn::Secret).unwrap()],
            plaintext: false,
            scrub: false,
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
