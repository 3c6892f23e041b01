//! Headers of a request or a response, as scripts read and write them.
//!
//! A value is shown with each byte above 0x7f as the Latin-1 character of that number, and written
//! back the same way, so that what a script does not touch comes out as it went in.

use std::sync::Arc;

use http::{HeaderMap, HeaderName};
use rhai::{Array, Dynamic};

use crate::handler::failure::Fallible;
use crate::handler::message::{HEADER_VALUES_MAX, header_value, shown, too_many_headers};

/// The headers of a message; copied when first written to.
#[derive(Clone, Debug, Default)]
pub(in crate::handler) struct Headers(pub(in crate::handler) Arc<HeaderMap>);

impl Headers {
    /// The first value, as text.
    pub(super) fn first(&self, name: &str) -> Option<String> {
        self.0.get(name).map(shown)
    }

    /// All values, as text.
    pub(super) fn all(&self, name: &str) -> Array {
        self.0.get_all(name).iter().map(|value| Dynamic::from(shown(value))).collect()
    }

    /// The names, in lower case.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(HeaderName::as_str)
    }

    /// Puts this value in place of all of that name.
    ///
    /// # Errors
    /// The value is none, or there are too many.
    pub(super) fn set(&mut self, name: HeaderName, text: &str) -> Fallible<()> {
        let value = header_value(&name, text)?;
        let headers = self.writable()?;
        headers.try_insert(name, value).map_err(|_| too_many_headers())?;
        Ok(())
    }

    /// Adds a value.
    ///
    /// # Errors
    /// As [`Self::set`].
    pub(super) fn add(&mut self, name: HeaderName, text: &str) -> Fallible<()> {
        let value = header_value(&name, text)?;
        let headers = self.writable()?;
        headers.try_append(name, value).map_err(|_| too_many_headers())?;
        Ok(())
    }

    /// Removes all values of that name.
    pub(super) fn remove(&mut self, name: &HeaderName) {
        if self.0.contains_key(name) {
            Arc::make_mut(&mut self.0).remove(name);
        }
    }

    fn writable(&mut self) -> Fallible<&mut HeaderMap> {
        if self.0.len() >= HEADER_VALUES_MAX {
            return Err(too_many_headers().into());
        }
        Ok(Arc::make_mut(&mut self.0))
    }
}
