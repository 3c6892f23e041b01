//! The closed lists that records are sorted by: what they are about, and what became of it.

use serde::Serialize;

/// What became of an exchange, a flow, a connection that came in or a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It went to the upstream, and an answer of the upstream's came back.
    Allowed,
    /// The gate refused it.
    Refused,
    /// The gate answered it by itself, as the policy says.
    Answered,
    /// It was allowed and did not work: the upstream was not found, not reached or not verified.
    Failed,
}

/// What a record is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A request and its response.
    Exchange,
    /// An opaque flow: bytes that were passed on, or refused, unread.
    Flow,
    /// A connection that came in by a published port, passed on unread.
    Inbound,
    /// A request that a handler sent, and its response.
    Fetch,
    /// A question to the resolver.
    Dns,
    /// A line that a handler logged.
    Handler,
    /// Something done to the gate or by it.
    Control,
}

impl Kind {
    /// Every kind there is.
    pub const ALL: [Self; 7] =
        [Self::Exchange, Self::Flow, Self::Inbound, Self::Fetch, Self::Dns, Self::Handler, Self::Control];

    /// The word that stands in the log.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Exchange => "exchange",
            Self::Flow => "flow",
            Self::Inbound => "inbound",
            Self::Fetch => "fetch",
            Self::Dns => "dns",
            Self::Handler => "handler",
            Self::Control => "control",
        }
    }
}

/// The transport of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}
