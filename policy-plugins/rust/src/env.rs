//! What the document gives to handlers, by name.

use crate::bindings::sluicegate::policy::context::{self, Binding};
use crate::bindings::sluicegate::policy::secrets;
use crate::{Error, Kv, Objects, Result, Secret};

/// Everything that the document gives to handlers, by name.
#[derive(Clone, Copy, Debug)]
pub struct Env(());

impl Env {
    pub(crate) fn new() -> Self {
        Self(())
    }

    /// The secret `[secrets.NAME]`.
    ///
    /// # Errors
    /// The document has none of that name.
    pub fn secret(&self, name: &str) -> Result<Secret> {
        let placeholder = secrets::placeholder(name).map_err(Error::from_host)?;
        Ok(Secret::new(name, placeholder))
    }

    /// The values of a binding of kind `kv`; `kv` itself is always there. Whether the document has the
    /// binding shows with the first use.
    #[must_use]
    pub fn kv(&self, binding: &str) -> Kv {
        Kv::new(binding)
    }

    /// The objects of a binding of kind `objects`; `objects` itself is always there. Whether the document
    /// has the binding shows with the first use.
    #[must_use]
    pub fn objects(&self, binding: &str) -> Objects {
        Objects::new(binding)
    }

    /// A constant of the document's `[env]`, as JSON.
    #[must_use]
    pub fn constant_text(&self, name: &str) -> Option<String> {
        context::environment().into_iter().find_map(|(known, binding)| match binding {
            Binding::Constant(json) if known == name => Some(json),
            _ => None,
        })
    }

    /// A constant of the document's `[env]`; `None` where there is none.
    ///
    /// # Errors
    /// It is of another type.
    #[cfg(feature = "json")]
    pub fn constant<T: serde::de::DeserializeOwned>(&self, name: &str) -> Result<Option<T>> {
        let Some(json) = self.constant_text(name) else { return Ok(None) };
        Ok(Some(serde_json::from_str(&json)?))
    }
}
