//! What a rule changes in a request that it lets through.

use http::HeaderName;

use crate::secret::SecretName;
use crate::template::Template;

/// Changes to a request, to be applied in the order headers, query, basic authentication.
///
/// **Invariant:** no edit touches a header that frames the message or belongs to one hop, and at
/// most one of `headers` and `basic_auth` sets `authorization`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Edits {
    /// Header changes: all removals, then all settings.
    pub headers: Vec<HeaderEdit>,
    /// Query parameters to set.
    pub query: Vec<QueryEdit>,
    /// Credentials for the `authorization` header (RFC 7617).
    pub basic_auth: Option<BasicAuth>,
}

/// One header change. Both kinds first remove every value the workload sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeaderEdit {
    /// Remove the header.
    Remove(HeaderName),
    /// Put exactly this value in place of whatever was there.
    Set(HeaderName, Template),
}

/// One query parameter to put in place of every parameter of that name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueryEdit {
    /// The decoded name.
    pub name: Box<str>,
    /// The value before percent-encoding.
    pub value: Template,
}

/// User name and password of HTTP Basic authentication (RFC 7617).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BasicAuth {
    /// The user name; its literal parts hold no colon.
    pub username: Template,
    /// The password.
    pub password: Template,
}

impl Edits {
    /// No change at all.
    pub const NONE: Self = Self { headers: Vec::new(), query: Vec::new(), basic_auth: None };

    /// Whether a request passes as it came.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.headers.is_empty() && self.query.is_empty() && self.basic_auth.is_none()
    }

    /// Every template, in the order of application.
    pub fn templates(&self) -> impl Iterator<Item = &Template> {
        let headers = self.headers.iter().filter_map(|edit| match edit {
            HeaderEdit::Remove(_) => None,
            HeaderEdit::Set(_, value) => Some(value),
        });
        let query = self.query.iter().map(|edit| &edit.value);
        let basic = self.basic_auth.iter().flat_map(|basic| [&basic.username, &basic.password]);
        headers.chain(query).chain(basic)
    }

    /// Every secret that is put on, in the order of application; one used twice comes twice.
    pub fn secrets(&self) -> impl Iterator<Item = &SecretName> {
        self.templates().flat_map(Template::secrets)
    }
}
