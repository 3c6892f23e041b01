//! Secrets, usable and not readable.

use std::fmt;

use crate::bindings::sluicegate::policy::secrets;
use crate::{Error, Result};

/// A secret as a handler has it: a text that stands for it.
///
/// [`Display`](fmt::Display) and [`AsRef<str>`] give that text. Put it into a header, the query or a body
/// of a request; the gate puts the value in its place when the request leaves, and only towards a host
/// that the secret is bound to. The text is another one for every request; it is worth nothing elsewhere.
/// Put it in whole: a part of it, or its base64 (but for
/// [`set_basic_auth`](crate::Request::set_basic_auth)), stands for nothing.
#[derive(Clone)]
pub struct Secret {
    name: String,
    placeholder: String,
}

impl Secret {
    pub(crate) fn new(name: &str, placeholder: String) -> Self {
        Self { name: name.to_owned(), placeholder }
    }

    /// Its name in the document.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// HMAC-SHA-256 (RFC 2104) with the secret as its key, made by the gate.
    ///
    /// # Errors
    /// The secret has no value now; or a placeholder stands in `data`.
    pub fn hmac_sha256(&self, data: impl AsRef<[u8]>) -> Result<Vec<u8>> {
        secrets::hmac_sha256(&self.name, data.as_ref()).map_err(Error::from_host)
    }

    /// The value, for a handler whose entry in the document says `reveal = ["NAME"]`. A component that
    /// uses this imports `sluicegate:policy/reveal`, and is not taken without that.
    ///
    /// # Errors
    /// The document does not grant it.
    #[cfg(feature = "reveal")]
    pub fn reveal(&self) -> Result<Vec<u8>> {
        crate::bindings::sluicegate::policy::reveal::reveal(&self.name).map_err(Error::from_host)
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.placeholder)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "<secret {}>", self.name)
    }
}

impl AsRef<str> for Secret {
    fn as_ref(&self) -> &str {
        &self.placeholder
    }
}

#[cfg(feature = "json")]
impl serde::Serialize for Secret {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.placeholder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_written_as_what_stands_for_it_and_shown_by_its_name() {
        let secret = Secret::new("TOKEN", "sluicegate_secret_00_0_".to_owned());
        assert_eq!(format!("Bearer {secret}"), "Bearer sluicegate_secret_00_0_");
        assert_eq!(secret.as_ref(), "sluicegate_secret_00_0_");
        assert_eq!(format!("{secret:?}"), "<secret TOKEN>");
    }

    #[cfg(feature = "json")]
    #[test]
    fn it_can_stand_in_json() {
        let secret = Secret::new("TOKEN", "sluicegate_secret_00_0_".to_owned());
        let body = serde_json::json!({ "token": secret }).to_string();
        assert_eq!(body, r#"{"token":"sluicegate_secret_00_0_"}"#);
    }
}
