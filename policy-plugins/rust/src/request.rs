//! Requests: the workload's, and those of the handler's own.

use crate::bindings::sluicegate::policy::http;
use crate::message::message_methods;
use crate::{Error, Result, base64, query};

/// A request: the workload's, or one of the handler's own.
#[derive(Debug)]
pub struct Request(http::Request);

impl Request {
    /// A request of the handler's own, without headers and body. What a rule of the document puts on
    /// does not go onto it.
    ///
    /// # Errors
    /// The method or the URL is none.
    pub fn new(method: &str, url: &str) -> Result<Self> {
        http::Request::create(method, url).map(Self).map_err(Error::from_host)
    }

    /// As [`Self::new`] with `GET`.
    ///
    /// # Errors
    /// The URL is none.
    pub fn get(url: &str) -> Result<Self> {
        Self::new("GET", url)
    }

    /// Another request with the same head, without a body.
    #[must_use]
    pub fn copy(&self) -> Self {
        Self(self.0.copy())
    }

    /// The method, in upper case.
    #[must_use]
    pub fn method(&self) -> String {
        self.0.method()
    }

    /// Puts another method, in upper case.
    ///
    /// # Errors
    /// It is none.
    pub fn set_method(&mut self, method: &str) -> Result<()> {
        self.0.set_method(method).map_err(Error::from_host)
    }

    /// The whole URL, without the port that its scheme means anyway.
    #[must_use]
    pub fn url(&self) -> String {
        self.0.url()
    }

    /// Puts another URL; it may be of another host.
    ///
    /// # Errors
    /// It is none.
    pub fn set_url(&mut self, url: &str) -> Result<()> {
        self.0.set_url(url).map_err(Error::from_host)
    }

    /// `https` or `http`.
    #[must_use]
    pub fn scheme(&self) -> String {
        self.0.scheme()
    }

    /// The host in its one normal form: compare this, and not text cut from the URL.
    #[must_use]
    pub fn host(&self) -> String {
        self.0.host()
    }

    /// The port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.0.port()
    }

    /// The path as it is written, without the query.
    #[must_use]
    pub fn path(&self) -> String {
        self.0.path()
    }

    /// Puts another path; the query stays. See [`encode_uri`](crate::encode_uri) for text of others.
    ///
    /// # Errors
    /// It does not begin with `/`, holds a `?` or `#`, or what else no path can hold.
    pub fn set_path(&mut self, path: &str) -> Result<()> {
        let url = query::with_path(&self.url(), path).ok_or_else(|| {
            Error::Invalid("a path begins with / and holds no ? or #: see encode_uri".to_owned())
        })?;
        self.set_url(&url)
    }

    /// What stands after `?`.
    #[must_use]
    pub fn query(&self) -> Option<String> {
        self.0.query()
    }

    /// Puts another query, or none; the path stays.
    ///
    /// # Errors
    /// It holds what no query can hold.
    pub fn set_query(&mut self, text: Option<&str>) -> Result<()> {
        self.set_url(&query::with_query(&self.url(), text))
    }

    /// The first value of a parameter of the query, decoded.
    #[must_use]
    pub fn query_param(&self, name: &str) -> Option<String> {
        query::param(&self.query()?, name)
    }

    /// Puts one parameter in place of all of that name. The value is encoded; it may be a
    /// [`Secret`](crate::Secret).
    ///
    /// # Errors
    /// The URL is too long with it.
    pub fn set_query_param(&mut self, name: &str, value: impl AsRef<str>) -> Result<()> {
        let query = query::with_param(self.query().as_deref(), name, value.as_ref());
        self.set_query(Some(&query))
    }

    /// Removes every parameter of that name.
    ///
    /// # Errors
    /// None of its own.
    pub fn remove_query_param(&mut self, name: &str) -> Result<()> {
        let Some(before) = self.query() else { return Ok(()) };
        self.set_query(query::without_param(&before, name).as_deref())
    }

    /// The header `authorization: Bearer …`; a [`Secret`](crate::Secret) or a text.
    ///
    /// # Errors
    /// No header can have this value.
    pub fn set_bearer(&mut self, token: impl AsRef<str>) -> Result<()> {
        self.set_header("authorization", format!("Bearer {}", token.as_ref()))
    }

    /// The header `authorization: Basic …`; the password is a [`Secret`](crate::Secret) or a text.
    ///
    /// # Errors
    /// The gate does not take it.
    pub fn set_basic_auth(&mut self, user: &str, password: impl AsRef<str>) -> Result<()> {
        let credentials = format!("{user}:{}", password.as_ref());
        self.set_header("authorization", format!("Basic {}", base64(credentials)))
    }

    /// Puts the fields of a form in place of the body, and says so in `content-type`
    /// (`application/x-www-form-urlencoded`); a value may be a [`Secret`](crate::Secret), by its
    /// `as_ref()`.
    ///
    /// # Errors
    /// None of its own.
    pub fn set_form(&mut self, fields: &[(&str, &str)]) -> Result<()> {
        self.set_header("content-type", "application/x-www-form-urlencoded")?;
        self.set_body(query::form(fields));
        Ok(())
    }

    /// Leaves the request without a body.
    pub fn remove_body(&mut self) {
        self.0.set_body(None);
    }

    message_methods!();

    pub(crate) fn from_host(request: http::Request) -> Self {
        Self(request)
    }

    pub(crate) fn into_host(self) -> http::Request {
        self.0
    }
}
