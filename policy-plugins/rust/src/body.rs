//! Bodies, which stay with the gate until a handler reads them.

use crate::bindings::sluicegate::policy::http;
use crate::{Error, Result};

/// A body. The bytes stay with the gate until the handler reads them; one that is passed on unread
/// streams, whatever its length.
#[derive(Debug)]
pub struct Body(http::Body);

impl Body {
    /// A body of these bytes. The placeholder of a [`Secret`](crate::Secret) may stand in one that is
    /// sent with a request.
    #[must_use]
    pub fn new(content: &[u8]) -> Self {
        Self(http::Body::new(content))
    }

    /// All of it, if it is no longer than `limit` bytes. It can still be sent.
    ///
    /// # Errors
    /// It is longer, or was begun chunk by chunk, or did not come.
    pub fn read(&mut self, limit: u32) -> Result<Vec<u8>> {
        self.0.read(limit).map_err(Error::from_host)
    }

    /// Its first bytes: `limit` of them, or all if it is shorter. It can still be sent, whole.
    ///
    /// # Errors
    /// It was begun chunk by chunk, or did not come.
    pub fn peek(&mut self, limit: u32) -> Result<Vec<u8>> {
        self.0.peek(limit).map_err(Error::from_host)
    }

    /// The next bytes as they come, or `None` at its end. A body that was begun so cannot be sent.
    ///
    /// # Errors
    /// The rest did not come.
    pub fn next_chunk(&mut self) -> Result<Option<Vec<u8>>> {
        self.0.next_chunk().map_err(Error::from_host)
    }

    /// A second body with the same bytes, to be read while this one is sent. This one waits for it once
    /// it is a few hundred kilobytes ahead, and goes on alone when the second is dropped.
    ///
    /// # Errors
    /// It was begun chunk by chunk.
    pub fn tee(&mut self) -> Result<Self> {
        self.0.tee().map(Self).map_err(Error::from_host)
    }

    pub(crate) fn from_host(body: http::Body) -> Self {
        Self(body)
    }

    pub(crate) fn into_host(self) -> http::Body {
        self.0
    }
}

impl From<&[u8]> for Body {
    fn from(content: &[u8]) -> Self {
        Self::new(content)
    }
}

impl From<Vec<u8>> for Body {
    fn from(content: Vec<u8>) -> Self {
        Self::new(&content)
    }
}

impl From<&str> for Body {
    fn from(content: &str) -> Self {
        Self::new(content.as_bytes())
    }
}

impl From<String> for Body {
    fn from(content: String) -> Self {
        Self::new(content.as_bytes())
    }
}
