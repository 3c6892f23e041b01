//! Edits of a rule or a handler applied to a request, secrets last: the one place where a secret's
//! value is put onto a request.
//!
//! **Invariant:** a secret goes on only when its declaration admits this authority over this
//! scheme, into its slot once, after the workload's own values of that slot were removed.

use std::borrow::Cow;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use http::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use http::uri::PathAndQuery;
use http::{Uri, request};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use sluicegate_policy::{
    Authority, BasicAuth, BodyPart, DenyReason, Edits, Encoding, HeaderEdit, Policy, QueryEdit, Scheme,
    SecretName, Template, TemplatePart,
};
use zeroize::Zeroizing;

use crate::secrets::{Secret, SecretError, Secrets};

/// What is left as it is in a query value: the unreserved characters of RFC 3986 section 2.3.
const QUERY_ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Why the edits cannot be applied; nothing of the request may then be sent.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CredentialError {
    /// The secret may not go there, or not by that scheme.
    #[error("secret {name} may not be sent to {authority} over {scheme}")]
    NotAdmitted {
        /// Which secret.
        name: String,
        /// To whom.
        authority: Authority,
        /// By what.
        scheme: Scheme,
        /// Which of the two it is.
        reason: DenyReason,
    },
    /// The secret has no value now.
    #[error("a secret has no usable value")]
    Unavailable(#[source] SecretError),
    /// The value with its surroundings is not one that may stand in its slot.
    #[error("the value does not fit into its slot")]
    Slot,
}

impl CredentialError {
    /// The code of the refusal.
    pub fn reason(&self) -> DenyReason {
        match self {
            Self::NotAdmitted { reason, .. } => *reason,
            Self::Unavailable(_) | Self::Slot => DenyReason::SecretUnavailable,
        }
    }
}

/// Where a request is about to go, and what may be put on it.
#[derive(Clone, Copy, Debug)]
pub struct Slots<'a> {
    /// The policy in force for this exchange.
    pub policy: &'a Policy,
    /// The values.
    pub secrets: &'a Secrets,
    /// Whom the request is for.
    pub authority: &'a Authority,
    /// How it travels.
    pub scheme: Scheme,
}

impl Slots<'_> {
    /// Applies `edits` to the head of a request.
    ///
    /// # Errors
    /// [`CredentialError`]; the head may then be half edited and must be dropped.
    pub fn apply(&self, edits: &Edits, parts: &mut request::Parts) -> Result<(), CredentialError> {
        for edit in &edits.headers {
            match edit {
                HeaderEdit::Remove(name) => {
                    parts.headers.remove(name);
                }
                HeaderEdit::Set(name, template) => {
                    let value = self.header_value(template)?;
                    parts.headers.insert(name, value);
                }
            }
        }
        if !edits.query.is_empty() {
            parts.uri = self.with_query(&parts.uri, &edits.query)?;
        }
        if let Some(basic) = &edits.basic_auth {
            self.basic_auth(basic, &mut parts.headers)?;
        }
        Ok(())
    }

    /// A body with its secrets in place.
    ///
    /// # Errors
    /// [`CredentialError`].
    pub fn fill_body(&self, parts: &[BodyPart]) -> Result<Bytes, CredentialError> {
        let mut body = Vec::new();
        for part in parts {
            match part {
                BodyPart::Literal(bytes) => body.extend_from_slice(bytes),
                BodyPart::Secret(name, encoding) => {
                    let secret = self.admitted(name)?;
                    put_encoded(secret.bytes(), *encoding, &mut body)?;
                }
            }
        }
        Ok(Bytes::from(body))
    }

    fn header_value(&self, template: &Template) -> Result<HeaderValue, CredentialError> {
        let text = self.fill(template)?;
        let mut value = HeaderValue::from_bytes(&text).map_err(|_| CredentialError::Slot)?;
        // Kept out of HPACK's table and of hyper's debug output.
        value.set_sensitive(template.secrets().next().is_some());
        Ok(value)
    }

    fn basic_auth(&self, basic: &BasicAuth, headers: &mut HeaderMap) -> Result<(), CredentialError> {
        let mut pair = self.fill(&basic.username)?;
        pair.push(b':');
        pair.extend_from_slice(&self.fill(&basic.password)?);
        let text = Zeroizing::new(format!("Basic {}", BASE64.encode(&*pair)));
        let mut value = HeaderValue::from_str(&text).map_err(|_| CredentialError::Slot)?;
        value.set_sensitive(true);
        headers.insert(AUTHORIZATION, value);
        Ok(())
    }

    fn with_query(&self, uri: &Uri, edits: &[QueryEdit]) -> Result<Uri, CredentialError> {
        let named = |part: &str| {
            let name = part.split('=').next().unwrap_or_default().replace('+', " ");
            let name = percent_decode_str(&name).decode_utf8_lossy().into_owned();
            edits.iter().any(|edit| *edit.name == name)
        };
        let mut query: Vec<Cow<'_, str>> = uri
            .query()
            .into_iter()
            .flat_map(|query| query.split('&'))
            .filter(|part| !part.is_empty() && !named(part))
            .map(Cow::Borrowed)
            .collect();
        for edit in edits {
            let value = self.fill(&edit.value)?;
            let value = std::str::from_utf8(&value).map_err(|_| CredentialError::Slot)?;
            query.push(Cow::Owned(format!(
                "{}={}",
                utf8_percent_encode(&edit.name, QUERY_ENCODED),
                utf8_percent_encode(value, QUERY_ENCODED)
            )));
        }
        let path = PathAndQuery::try_from(format!("{}?{}", uri.path(), query.join("&")))
            .map_err(|_| CredentialError::Slot)?;
        let mut parts = uri.clone().into_parts();
        parts.path_and_query = Some(path);
        Uri::from_parts(parts).map_err(|_| CredentialError::Slot)
    }

    /// The template with its secrets in place.
    ///
    /// # Errors
    /// [`CredentialError`].
    pub(crate) fn fill(&self, template: &Template) -> Result<Zeroizing<Vec<u8>>, CredentialError> {
        let mut text = Zeroizing::new(Vec::new());
        for part in template.parts() {
            match part {
                TemplatePart::Literal(literal) => text.extend_from_slice(literal.as_bytes()),
                TemplatePart::Secret(name) => text.extend_from_slice(self.admitted(name)?.bytes()),
            }
        }
        Ok(text)
    }

    /// The value of a secret that may go where this request goes.
    fn admitted(&self, name: &SecretName) -> Result<Arc<Secret>, CredentialError> {
        let declaration = self.policy.secrets().iter().find(|it| it.name == *name);
        let travels = declaration.is_some_and(|it| it.travels_by(self.scheme));
        let bound = declaration.is_some_and(|it| it.is_bound_to(self.authority, self.scheme));
        if !(travels && bound) {
            return Err(CredentialError::NotAdmitted {
                name: name.to_string(),
                authority: self.authority.clone(),
                scheme: self.scheme,
                reason: if travels { DenyReason::SecretNotBound } else { DenyReason::SecretOverPlainHttp },
            });
        }
        self.secrets.reveal(name).map_err(CredentialError::Unavailable)
    }
}

/// Writes a value so that it stays within its slot of the body.
fn put_encoded(value: &[u8], encoding: Encoding, body: &mut Vec<u8>) -> Result<(), CredentialError> {
    match encoding {
        Encoding::Raw => body.extend_from_slice(value),
        Encoding::Json => {
            let text = std::str::from_utf8(value).map_err(|_| CredentialError::Slot)?;
            let quoted = Zeroizing::new(serde_json::to_vec(text).map_err(|_| CredentialError::Slot)?);
            let inside = quoted.get(1..quoted.len().saturating_sub(1)).unwrap_or_default();
            body.extend_from_slice(inside);
        }
        Encoding::Form => {
            let encoded = percent_encoding::percent_encode(value, QUERY_ENCODED);
            encoded.for_each(|piece| body.extend_from_slice(piece.as_bytes()));
        }
    }
    Ok(())
}
