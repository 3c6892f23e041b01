//! Who asks, and by which handler.

use std::cell::OnceCell;

use crate::bindings::sluicegate::policy::context::{self, RequestContext};

/// Who asks, and by which handler. All of it comes from the gate, and nothing from the workload; it is
/// asked for with the first use.
#[derive(Clone, Debug)]
pub struct Context(OnceCell<RequestContext>);

impl Context {
    pub(crate) fn new() -> Self {
        Self(OnceCell::new())
    }

    fn current(&self) -> &RequestContext {
        self.0.get_or_init(context::current)
    }

    /// The container, or what stands for it.
    #[must_use]
    pub fn container_id(&self) -> &str {
        &self.current().container_id
    }

    /// The instance's name.
    #[must_use]
    pub fn instance_id(&self) -> &str {
        &self.current().instance_id
    }

    /// The labels that the operator gave, names and values.
    #[must_use]
    pub fn labels(&self) -> &[(String, String)] {
        &self.current().labels
    }

    /// One label.
    #[must_use]
    pub fn label(&self, name: &str) -> Option<&str> {
        self.labels().iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The request's id in the log.
    #[must_use]
    pub fn request_id(&self) -> &str {
        &self.current().request_id
    }

    /// Where the workload dialled, such as `198.18.0.2:443`.
    #[must_use]
    pub fn original_destination(&self) -> &str {
        &self.current().original_destination
    }

    /// The server name in its TLS.
    #[must_use]
    pub fn sni(&self) -> Option<&str> {
        self.current().sni.as_deref()
    }

    /// Its TLS version, such as `TLSv1_3`.
    #[must_use]
    pub fn tls(&self) -> Option<&str> {
        self.current().tls.as_deref()
    }

    /// `HTTP/1.1` or `HTTP/2`.
    #[must_use]
    pub fn protocol(&self) -> &str {
        &self.current().protocol
    }

    /// The handler's name.
    #[must_use]
    pub fn handler(&self) -> &str {
        &self.current().handler
    }

    /// The first 12 hexadecimal digits of the SHA-256 of the component.
    #[must_use]
    pub fn handler_version(&self) -> &str {
        &self.current().handler_version
    }

    /// What the document, or the command that set the handler, gave it: JSON.
    #[must_use]
    pub fn params_text(&self) -> &str {
        &self.current().params
    }

    /// The same as a value.
    ///
    /// # Errors
    /// It is of another type.
    #[cfg(feature = "json")]
    pub fn params<T: serde::de::DeserializeOwned>(&self) -> crate::Result<T> {
        Ok(serde_json::from_str(self.params_text())?)
    }
}
