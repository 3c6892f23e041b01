//! What a handler is told when a binding did not do what it was asked.

use super::{CONTENT_TYPE_BYTES_MAX, KEY_BYTES_MAX, OBJECT_BYTES_MAX, TTL_MAX, VALUE_BYTES_MAX};

/// An operation of a binding that failed; the words are for the handler.
///
/// **Invariant:** they hold neither a secret nor an address nor anything that a store said.
#[derive(Debug, thiserror::Error)]
#[error("binding {binding}")]
pub struct BindingError {
    /// The binding's name.
    pub binding: Box<str>,
    /// What is wrong.
    #[source]
    pub fault: Fault,
}

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// The policy declares no such binding of this kind.
    #[error("there is no binding of this name and kind")]
    Unknown,
    /// The declaration does not say where the store is.
    #[error("the policy's declaration cannot be used: {0}")]
    Declaration(&'static str),
    /// Empty, or longer than 512 bytes.
    #[error("a key has 1 to {KEY_BYTES_MAX} bytes")]
    Key,
    /// Longer than 1 MiB.
    #[error("a value has at most {VALUE_BYTES_MAX} bytes")]
    ValueTooLong,
    /// Shorter than a millisecond, or longer than ten years.
    #[error("a time to live is more than 0 and at most {} seconds", TTL_MAX.as_secs())]
    Ttl,
    /// What is to be incremented is not a number.
    #[error("the value is not a whole number of 64 bits in decimal")]
    NotANumber,
    /// The sum does not fit.
    #[error("the number would not fit into 64 bits")]
    Overflow,
    /// The key holds something that is not a text value, such as a list of Redis's.
    #[error("the key holds something that is not a value")]
    NotAValue,
    /// Not printable, or longer than 255 bytes.
    #[error("a content type is printable ASCII of 1 to {CONTENT_TYPE_BYTES_MAX} bytes")]
    ContentType,
    /// Larger than 5 GiB.
    #[error("an object has at most {OBJECT_BYTES_MAX} bytes")]
    ObjectTooLong,
    /// What was to be stored broke off; nothing is stored.
    #[error("the content ended before its end, so nothing is stored")]
    Cut,
    /// The content holds secrets.
    #[error("a secret cannot be stored")]
    HoldsSecrets,
    /// A secret of the declaration has no value now.
    #[error("a secret that the binding needs has no usable value")]
    Secret,
    /// Nobody answers there.
    #[error("the store cannot be reached")]
    Unreachable,
    /// The credentials are wrong, or do not suffice.
    #[error("the store refuses access")]
    Denied,
    /// The time is up.
    #[error("the store did not answer in time")]
    Timeout,
    /// The object was replaced again and again while it was opened.
    #[error("the object changes too quickly to be read")]
    Restless,
    /// Anything else: a full disk, an answer that makes no sense.
    #[error("the store failed")]
    Failed,
}

impl From<opendal_core::Error> for Fault {
    /// OpenDAL's own words may quote requests and answers, so only the kind is kept.
    fn from(error: opendal_core::Error) -> Self {
        use opendal_core::ErrorKind;
        let fault = match error.kind() {
            ErrorKind::PermissionDenied => Self::Denied,
            ErrorKind::ConfigInvalid => Self::Declaration("the store's settings are refused"),
            _ => std::error::Error::source(&error)
                .and_then(|source| source.downcast_ref::<Self>())
                .copied()
                .unwrap_or(Self::Failed),
        };
        tracing::debug!(kind = %error.kind(), operation = "store", %fault, "a store failed");
        fault
    }
}

impl From<redis::RedisError> for Fault {
    /// The server's own words may quote commands, so only what they mean is kept.
    fn from(error: redis::RedisError) -> Self {
        let kind = error.kind();
        let fault = match kind {
            redis::ErrorKind::Io => Self::Unreachable,
            _ => error
                .into_server_errors()
                .and_then(|errors| errors.first().map(|(_, error)| Self::of_redis(error)))
                .unwrap_or(Self::Failed),
        };
        tracing::debug!(?kind, operation = "store", %fault, "a store failed");
        fault
    }
}

impl Fault {
    fn of_redis(error: &redis::ServerError) -> Self {
        let says = |words: &str| error.details().is_some_and(|details| details.contains(words));
        match error.code() {
            "NOAUTH" | "WRONGPASS" | "NOPERM" | "DENIED" => Self::Denied,
            "WRONGTYPE" => Self::NotAValue,
            "ERR" if says("would overflow") => Self::Overflow,
            "ERR" if says("not an integer") => Self::NotANumber,
            "ERR" if says("AUTH") || says("invalid password") => Self::Denied,
            _ => Self::Failed,
        }
    }
}
