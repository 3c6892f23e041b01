//! Streams by key.

use crate::bindings::sluicegate::policy::objects;
use crate::{Body, Error, Result};

/// A binding of kind `objects`: streams by key, which outlast the request. Every function fails where the
/// document has no such binding, and where the store does.
#[derive(Clone, Debug)]
pub struct Objects {
    binding: String,
}

/// An object and its content, unread.
#[derive(Debug)]
pub struct Object {
    /// What is known of it.
    pub metadata: Metadata,
    /// Its content.
    pub body: Body,
}

/// What is known of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// Its length in bytes.
    pub length: u64,
    /// Its media type, where one was stored.
    pub content_type: Option<String>,
    /// Its entity tag, where the store gives one.
    pub etag: Option<String>,
}

impl Objects {
    pub(crate) fn new(binding: &str) -> Self {
        Self { binding: binding.to_owned() }
    }

    /// An object, if there is one.
    ///
    /// # Errors
    /// See [`Objects`].
    pub fn get(&self, key: &str) -> Result<Option<Object>> {
        let found = objects::get(&self.binding, key).map_err(Error::from_host)?;
        let object = |(metadata, body)| Object {
            metadata: Metadata::from_host(metadata),
            body: Body::from_host(body),
        };
        Ok(found.map(object))
    }

    /// What is known of an object, if there is one.
    ///
    /// # Errors
    /// See [`Objects`].
    pub fn head(&self, key: &str) -> Result<Option<Metadata>> {
        let found = objects::head(&self.binding, key).map_err(Error::from_host)?;
        Ok(found.map(Metadata::from_host))
    }

    /// Writes an object. The body of a message streams into it, unread.
    ///
    /// # Errors
    /// See [`Objects`]; or the body was begun, or holds the placeholder of a secret.
    pub fn put(&self, key: &str, content: impl Into<Body>, content_type: Option<&str>) -> Result<()> {
        let content = content.into().into_host();
        objects::put(&self.binding, key, content, content_type).map_err(Error::from_host)
    }

    /// Removes an object, there or not.
    ///
    /// # Errors
    /// See [`Objects`].
    pub fn delete(&self, key: &str) -> Result<()> {
        objects::delete(&self.binding, key).map_err(Error::from_host)
    }

    /// The keys that begin with this, in order.
    ///
    /// # Errors
    /// See [`Objects`].
    pub fn keys(&self, prefix: &str) -> Result<Vec<String>> {
        objects::list_keys(&self.binding, prefix).map_err(Error::from_host)
    }
}

impl Metadata {
    fn from_host(metadata: objects::Metadata) -> Self {
        let objects::Metadata { length, content_type, etag } = metadata;
        Self { length, content_type, etag }
    }
}
