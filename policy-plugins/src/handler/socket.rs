//! Messages of WebSockets: what a handler is told of one, and what it can say.

use std::sync::Arc;

use bytes::Bytes;

/// A message, whole, of a WebSocket that the handler let through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocketMessage {
    /// Which way it goes.
    pub direction: MessageDirection,
    /// What it holds.
    pub content: MessageContent,
    /// The subprotocol that the two sides agreed on (RFC 6455 section 1.9).
    pub subprotocol: Option<Box<str>>,
}

/// Which way a message goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageDirection {
    /// The workload sent it.
    Sent,
    /// The upstream sent it; the workload is to receive it.
    Received,
}

/// What a message holds. Cheap to copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MessageContent {
    /// Text.
    Text(Arc<str>),
    /// Bytes.
    Binary(Bytes),
}

/// What a handler says of a message that it does not refuse.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MessageVerdict {
    /// It goes on as it is.
    Pass,
    /// It is left out, and nobody is told.
    Drop,
    /// This goes on in its place.
    Replace(MessageContent),
}

impl MessageDirection {
    /// As handlers have it: `sent` or `received`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::Received => "received",
        }
    }
}

impl MessageContent {
    /// The bytes that it consists of: of a text, its UTF-8.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Text(text) => text.as_bytes(),
            Self::Binary(bytes) => bytes,
        }
    }
}
