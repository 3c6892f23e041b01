//! Texts that stand for secrets in what a program writes, and what becomes of them.
//!
//! A program gets a text instead of a secret's value, and writes it where the value is to go. The text
//! holds a nonce that is drawn for each request, so that nothing the workload sends can name a secret.

use bytes::Bytes;

use super::message::MessageError;
use super::{BodyPart, Encoding};
use crate::secret::SecretName;
use crate::template::{Template, TemplatePart};

/// What every placeholder begins with. It and all that follows are letters, digits and `_`: as they are
/// in JSON, in a form and percent-encoded.
const PREFIX: &str = "sluicegate_secret_";
/// Bytes of the nonce.
const NONCE_BYTES: usize = 16;

/// The placeholders that one execution has given out.
#[derive(Debug)]
pub struct Placeholders {
    /// `sluicegate_secret_NONCE_`.
    lead: String,
    names: Vec<SecretName>,
}

/// A stretch of what a program wrote.
enum Piece<'text> {
    Literal(&'text [u8]),
    Secret(&'text SecretName),
}

impl Placeholders {
    /// None, with a nonce of these bytes, which must come from a cryptographic source.
    #[must_use]
    pub fn new(nonce: [u8; NONCE_BYTES]) -> Self {
        let nonce: String = nonce.iter().map(|byte| format!("{byte:02x}")).collect();
        Self { lead: format!("{PREFIX}{nonce}_"), names: Vec::new() }
    }

    /// The text that stands for a secret.
    pub fn of(&mut self, name: &SecretName) -> String {
        let index = self.names.iter().position(|known| known == name).unwrap_or_else(|| {
            self.names.push(name.clone());
            self.names.len() - 1
        });
        format!("{}{index}_", self.lead)
    }

    /// Whether a placeholder stands in `bytes`.
    #[must_use]
    pub fn stand_in(&self, bytes: &[u8]) -> bool {
        !self.names.is_empty() && find(bytes, self.lead.as_bytes()).is_some()
    }

    /// A text with its secrets as a template; `None` where there are none.
    ///
    /// # Errors
    /// What stands beside a secret cannot stand in a header or a query, or the placeholder was cut.
    pub fn template(&self, text: &str) -> Result<Option<Template>, MessageError> {
        if !self.stand_in(text.as_bytes()) {
            return Ok(None);
        }
        let mut parts = Vec::new();
        for piece in self.pieces(text.as_bytes())? {
            parts.push(match piece {
                Piece::Secret(name) => TemplatePart::Secret(name.clone()),
                Piece::Literal(bytes) => match std::str::from_utf8(bytes) {
                    Ok(text) if text.bytes().all(|byte| matches!(byte, b' '..=b'~')) => {
                        TemplatePart::Literal(text.into())
                    }
                    _ => return Err(MessageError::new("beside a secret only printable ASCII can stand")),
                },
            });
        }
        Ok(Some(Template::from_parts(parts)))
    }

    /// A body with its secrets, each written as `encoding` says; `None` where there are none.
    ///
    /// # Errors
    /// A placeholder was cut.
    pub fn body(&self, content: &Bytes, encoding: Encoding) -> Result<Option<Vec<BodyPart>>, MessageError> {
        if !self.stand_in(content) {
            return Ok(None);
        }
        let part = |piece| match piece {
            Piece::Literal(bytes) => BodyPart::Literal(content.slice_ref(bytes)),
            Piece::Secret(name) => BodyPart::Secret(name.clone(), encoding),
        };
        Ok(Some(self.pieces(content)?.into_iter().map(part).collect()))
    }

    /// A text for the log, with the names of secrets in place of their placeholders.
    #[must_use]
    pub fn shown(&self, text: &str) -> String {
        let mut shown = text.to_owned();
        for (index, name) in self.names.iter().enumerate() {
            shown = shown.replace(&format!("{}{index}_", self.lead), &format!("<secret {name}>"));
        }
        shown
    }

    fn pieces<'text>(&'text self, bytes: &'text [u8]) -> Result<Vec<Piece<'text>>, MessageError> {
        let mut pieces = Vec::new();
        let mut rest = bytes;
        while let Some(at) = find(rest, self.lead.as_bytes()) {
            let (before, after) = rest.split_at(at);
            let after = after.get(self.lead.len()..).unwrap_or_default();
            let end = after.iter().position(|byte| *byte == b'_');
            let index =
                end.and_then(|end| std::str::from_utf8(after.get(..end)?).ok()?.parse::<usize>().ok());
            let (Some(end), Some(name)) = (end, index.and_then(|index| self.names.get(index))) else {
                return Err(MessageError::new("the text that stands for a secret was changed: use it whole"));
            };
            if !before.is_empty() {
                pieces.push(Piece::Literal(before));
            }
            pieces.push(Piece::Secret(name));
            rest = after.get(end + 1..).unwrap_or_default();
        }
        if !rest.is_empty() {
            pieces.push(Piece::Literal(rest));
        }
        Ok(pieces)
    }
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> SecretName {
        SecretName::parse(text).unwrap()
    }

    #[test]
    fn what_was_given_out_is_found_again_and_nothing_else_is() {
        let mut placeholders = Placeholders::new([7; NONCE_BYTES]);
        let (a, b) = (placeholders.of(&name("A")), placeholders.of(&name("B")));
        assert_eq!(placeholders.of(&name("A")), a);
        let template = placeholders.template(&format!("Bearer {a}:{b}")).unwrap().unwrap();
        assert_eq!(template.secrets().map(ToString::to_string).collect::<Vec<_>>(), ["A", "B"]);
        assert_eq!(placeholders.shown(&format!("got {b}!")), "got <secret B>!");
        assert_eq!(placeholders.template("Bearer abc").unwrap(), None);
        let other = Placeholders::new([8; NONCE_BYTES]).of(&name("A"));
        assert_eq!(placeholders.template(&other).unwrap(), None, "another request's");
    }

    #[test]
    fn a_body_keeps_what_stands_around() {
        let mut placeholders = Placeholders::new([0; NONCE_BYTES]);
        let a = placeholders.of(&name("A"));
        let content = Bytes::from(format!("{{\"k\":\"{a}\"}}"));
        let parts = placeholders.body(&content, Encoding::Json).unwrap().unwrap();
        assert_eq!(
            parts,
            [
                BodyPart::Literal(Bytes::from("{\"k\":\"")),
                BodyPart::Secret(name("A"), Encoding::Json),
                BodyPart::Literal(Bytes::from("\"}")),
            ]
        );
    }

    #[test]
    fn a_cut_placeholder_is_an_error_and_not_sent() {
        let mut placeholders = Placeholders::new([1; NONCE_BYTES]);
        let a = placeholders.of(&name("A"));
        assert!(placeholders.template(a.strip_suffix("0_").unwrap()).is_err());
        assert!(placeholders.template(&a.replace("_0_", "_9_")).is_err());
        assert!(placeholders.template(&format!("\u{e9}{a}")).is_err());
    }
}
