//! Connections: what a handler is told of one before there is a request, and what it can say.

/// What is known of a connection that has sent its first bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FlowFacts {
    /// Whether it begins with TLS.
    pub is_tls: bool,
    /// The protocols that its ClientHello offers (ALPN, RFC 7301), in the workload's order; those that
    /// are no UTF-8 are left out. Empty without TLS.
    pub alpn: Vec<Box<str>>,
}

/// What a handler says of a connection that it does not refuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlowDecision {
    /// What the document says, as without the handler.
    Judge,
    /// It is passed on unopened, where the lists of hosts admit that.
    Pass,
}

impl FlowDecision {
    /// The decision of this name: `judge` or `pass`.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "judge" => Some(Self::Judge),
            "pass" => Some(Self::Pass),
            _ => None,
        }
    }
}
