//! Text with holes: literal parts and the names of secrets, never a secret's value.

use thiserror::Error;

use crate::secret::SecretName;

/// A value of the document that may hold `${secret:NAME}`; `$${` stands for a literal `${`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    parts: Vec<TemplatePart>,
}

/// A stretch of a [`Template`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TemplatePart {
    /// Text to be taken as it is.
    Literal(Box<str>),
    /// The value of this secret.
    Secret(SecretName),
}

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    /// A hole that does not end, or that holds something else than `secret:NAME`.
    pub(crate) fn parse(text: &str) -> Result<Self, TemplateError> {
        let parts = pieces(text)?
            .into_iter()
            .map(|piece| match piece {
                Piece::Text(text) => Ok(TemplatePart::Literal(text.into())),
                Piece::Hole(hole) => hole
                    .strip_prefix("secret:")
                    .and_then(SecretName::parse)
                    .map(TemplatePart::Secret)
                    .ok_or_else(|| TemplateError::Unknown(hole.to_owned())),
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { parts })
    }

    /// A template of these parts; empty literals are left out.
    pub fn from_parts(mut parts: Vec<TemplatePart>) -> Self {
        parts.retain(|part| !matches!(part, TemplatePart::Literal(text) if text.is_empty()));
        Self { parts }
    }

    /// The parts in order.
    #[must_use]
    pub fn parts(&self) -> &[TemplatePart] {
        &self.parts
    }

    /// The literal parts in order.
    pub(crate) fn literals(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            TemplatePart::Literal(text) => Some(&**text),
            TemplatePart::Secret(_) => None,
        })
    }

    /// The secrets named, in order; one named twice comes twice.
    pub fn secrets(&self) -> impl Iterator<Item = &SecretName> {
        self.parts.iter().filter_map(|part| match part {
            TemplatePart::Literal(_) => None,
            TemplatePart::Secret(name) => Some(name),
        })
    }
}

/// Why a text with `${…}` cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum TemplateError {
    /// A `${` without its `}`.
    #[error("`${{` has no closing `}}`")]
    Unclosed,
    /// The text between the braces means nothing here.
    #[error("`${{{0}}}` means nothing here")]
    Unknown(String),
}

/// A stretch of text as [`pieces`] finds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Piece<'text> {
    /// Text with `$${` already made `${`.
    Text(String),
    /// What stands between `${` and `}`.
    Hole(&'text str),
}

/// Splits text at its holes; empty stretches are left out.
pub(crate) fn pieces(text: &str) -> Result<Vec<Piece<'_>>, TemplateError> {
    let mut found = Vec::new();
    let mut literal = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        if let Some(before) = before.strip_suffix('$') {
            literal.push_str(before);
            literal.push_str("${");
            rest = after;
            continue;
        }
        literal.push_str(before);
        if !literal.is_empty() {
            found.push(Piece::Text(std::mem::take(&mut literal)));
        }
        let (hole, after) = after.split_once('}').ok_or(TemplateError::Unclosed)?;
        found.push(Piece::Hole(hole));
        rest = after;
    }
    literal.push_str(rest);
    if !literal.is_empty() {
        found.push(Piece::Text(literal));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn literal(text: &str) -> TemplatePart {
        TemplatePart::Literal(text.into())
    }

    fn secret(name: &str) -> TemplatePart {
        TemplatePart::Secret(SecretName::parse(name).unwrap())
    }

    #[test]
    fn holes_and_escapes_are_read() {
        let table = [
            ("", vec![]),
            ("plain $ } {", vec![literal("plain $ } {")]),
            ("Bearer ${secret:A}", vec![literal("Bearer "), secret("A")]),
            ("${secret:A}${secret:B_2}!", vec![secret("A"), secret("B_2"), literal("!")]),
            ("$${secret:A}", vec![literal("${secret:A}")]),
            ("a$${b}${secret:A}", vec![literal("a${b}"), secret("A")]),
        ];
        for (text, parts) in table {
            assert_eq!(Template::parse(text).unwrap().parts, parts, "{text}");
        }
    }

    #[test]
    fn unknown_or_open_holes_are_refused() {
        assert_eq!(Template::parse("${secret:A"), Err(TemplateError::Unclosed));
        for hole in ["", "A", "secret:", "secret:1A", "secret:A B", "Secret:A", "env:HOME"] {
            let text = format!("${{{hole}}}");
            assert_eq!(Template::parse(&text), Err(TemplateError::Unknown(hole.to_owned())));
        }
    }
}
