//! Values by key.

use std::time::Duration;

use crate::action::whole_seconds;
use crate::bindings::sluicegate::policy::kv;
use crate::{Error, Result};

/// A binding of kind `kv`: values by key, which outlast the request. Every function fails where the
/// document has no such binding, and where the store does.
#[derive(Clone, Debug)]
pub struct Kv {
    binding: String,
}

impl Kv {
    pub(crate) fn new(binding: &str) -> Self {
        Self { binding: binding.to_owned() }
    }

    /// A value, if there is one.
    ///
    /// # Errors
    /// See [`Kv`].
    pub fn get(&self, key: &str) -> Result<Option<Vec<u8>>> {
        kv::get(&self.binding, key).map_err(Error::from_host)
    }

    /// A value as text.
    ///
    /// # Errors
    /// See [`Kv`]; or it is not UTF-8.
    pub fn get_text(&self, key: &str) -> Result<Option<String>> {
        Ok(self.get(key)?.map(String::from_utf8).transpose()?)
    }

    /// Writes a value, for good.
    ///
    /// # Errors
    /// See [`Kv`]; or it is too long, or holds the placeholder of a secret.
    pub fn put(&self, key: &str, value: impl AsRef<[u8]>) -> Result<()> {
        kv::put(&self.binding, key, value.as_ref(), None).map_err(Error::from_host)
    }

    /// Writes a value for a time, in seconds, rounded up.
    ///
    /// # Errors
    /// As [`Self::put`]; or the time is not allowed.
    pub fn put_for(&self, key: &str, value: impl AsRef<[u8]>, time: Duration) -> Result<()> {
        kv::put(&self.binding, key, value.as_ref(), Some(whole_seconds(time))).map_err(Error::from_host)
    }

    /// Removes a value, there or not.
    ///
    /// # Errors
    /// See [`Kv`].
    pub fn delete(&self, key: &str) -> Result<()> {
        kv::delete(&self.binding, key).map_err(Error::from_host)
    }

    /// The keys that begin with this, in order.
    ///
    /// # Errors
    /// See [`Kv`].
    pub fn keys(&self, prefix: &str) -> Result<Vec<String>> {
        kv::list_keys(&self.binding, prefix).map_err(Error::from_host)
    }

    /// Adds to a number, which begins at 0, and gives the sum; nothing comes between.
    ///
    /// # Errors
    /// See [`Kv`]; or what is there is no number.
    pub fn increment(&self, key: &str, by: i64) -> Result<i64> {
        kv::increment(&self.binding, key, by, None).map_err(Error::from_host)
    }

    /// As [`Self::increment`]; the number is kept this long from its first increment, in seconds,
    /// rounded up.
    ///
    /// # Errors
    /// As [`Self::increment`]; or the time is not allowed.
    pub fn increment_for(&self, key: &str, by: i64, time: Duration) -> Result<i64> {
        kv::increment(&self.binding, key, by, Some(whole_seconds(time))).map_err(Error::from_host)
    }
}
