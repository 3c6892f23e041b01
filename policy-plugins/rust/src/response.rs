//! Responses: an upstream's, and those of the handler's own.

use crate::bindings::sluicegate::policy::http;
use crate::message::message_methods;
use crate::{Body, Error, Result};

/// A response: an upstream's, or one of the handler's own. No secret can be put into one.
#[derive(Debug)]
pub struct Response(http::Response);

impl Response {
    /// A response with this body, without headers. `status` is 200 to 599.
    ///
    /// # Errors
    /// The status is none.
    pub fn new(status: u16, body: impl Into<Body>) -> Result<Self> {
        Self::create(status, &[], Some(body.into()))
    }

    /// A response without a body.
    ///
    /// # Errors
    /// The status is none.
    pub fn empty(status: u16) -> Result<Self> {
        Self::create(status, &[], None)
    }

    /// A text, as `text/plain; charset=utf-8`.
    ///
    /// # Errors
    /// The status is none.
    pub fn text(status: u16, text: &str) -> Result<Self> {
        let content_type = ("content-type".to_owned(), "text/plain; charset=utf-8".to_owned());
        Self::create(status, &[content_type], Some(text.into()))
    }

    /// A value as JSON, as `application/json`.
    ///
    /// # Errors
    /// The status is none, or the value cannot be written as JSON.
    #[cfg(feature = "json")]
    pub fn json(status: u16, value: &impl serde::Serialize) -> Result<Self> {
        let content = serde_json::to_vec(value)?;
        let content_type = ("content-type".to_owned(), "application/json".to_owned());
        Self::create(status, &[content_type], Some(content.into()))
    }

    fn create(status: u16, headers: &[(String, String)], body: Option<Body>) -> Result<Self> {
        http::Response::create(status, headers, body.map(Body::into_host)).map(Self).map_err(Error::from_host)
    }

    /// The same with one header more.
    ///
    /// # Errors
    /// As [`Self::set_header`].
    pub fn with_header(mut self, name: &str, value: impl AsRef<str>) -> Result<Self> {
        self.set_header(name, value)?;
        Ok(self)
    }

    /// The status.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.0.status()
    }

    /// Puts another status, 200 to 599.
    ///
    /// # Errors
    /// It is none.
    pub fn set_status(&mut self, status: u16) -> Result<()> {
        self.0.set_status(status).map_err(Error::from_host)
    }

    message_methods!();

    pub(crate) fn from_host(response: http::Response) -> Self {
        Self(response)
    }

    pub(crate) fn into_host(self) -> http::Response {
        self.0
    }
}
