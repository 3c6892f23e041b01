//! Headers of a request or a response, as scripts read and write them.
//!
//! A value is shown with each byte above 0x7f as the Latin-1 character of that number, and written
//! back the same way, so that what a script does not touch comes out as it went in.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue};
use rhai::{Array, Dynamic};

use crate::compile::belongs_to_one_hop;
use crate::handler::failure::{Fallible, thrown};

/// The most header values of a message that a script has written to.
const VALUES_MAX: usize = 256;
/// The longest value that a script writes, in bytes.
const VALUE_BYTES_MAX: usize = 16 * 1024;

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
        let value = value(&name, text)?;
        let headers = self.writable()?;
        headers.try_insert(name, value).map(drop).map_err(|_| too_many())
    }

    /// Adds a value.
    ///
    /// # Errors
    /// As [`Self::set`].
    pub(super) fn add(&mut self, name: HeaderName, text: &str) -> Fallible<()> {
        let value = value(&name, text)?;
        let headers = self.writable()?;
        headers.try_append(name, value).map(drop).map_err(|_| too_many())
    }

    /// Removes all values of that name.
    pub(super) fn remove(&mut self, name: &HeaderName) {
        if self.0.contains_key(name) {
            Arc::make_mut(&mut self.0).remove(name);
        }
    }

    fn writable(&mut self) -> Fallible<&mut HeaderMap> {
        if self.0.len() >= VALUES_MAX {
            return Err(too_many());
        }
        Ok(Arc::make_mut(&mut self.0))
    }
}

/// The name of a header that a script may write.
///
/// # Errors
/// It is no header name, or one that the gate writes itself.
pub(super) fn writable_name(text: &str) -> Fallible<HeaderName> {
    let name = HeaderName::from_bytes(text.as_bytes())
        .map_err(|_| thrown(format!("bad header name {:?}", text.chars().take(64).collect::<String>())))?;
    if belongs_to_one_hop(&name) {
        return Err(thrown(format!(
            "header {name} cannot be written: the gate writes it for each connection"
        )));
    }
    Ok(name)
}

fn shown(value: &HeaderValue) -> String {
    value.as_bytes().iter().copied().map(char::from).collect()
}

fn value(name: &HeaderName, text: &str) -> Fallible<HeaderValue> {
    if text.len() > VALUE_BYTES_MAX {
        return Err(thrown(format!("the value of header {name} is longer than {VALUE_BYTES_MAX} bytes")));
    }
    let bytes = text.chars().map(|c| u8::try_from(u32::from(c))).collect::<Result<Vec<u8>, _>>();
    bytes.ok().and_then(|bytes| HeaderValue::from_bytes(&bytes).ok()).ok_or_else(|| {
        thrown(format!("header {name} cannot have this value: no control characters, nothing above U+00FF"))
    })
}

fn too_many() -> Box<rhai::EvalAltResult> {
    thrown(format!("more than {VALUES_MAX} headers"))
}
