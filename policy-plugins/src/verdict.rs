//! What the policy answers: a verdict is data, and only the proxy acts on it.

use http::{HeaderName, HeaderValue, StatusCode};

use crate::deny_reason::DenyReason;
use crate::edits::Edits;

/// The answer to one request, and the rule that gave it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision<'policy> {
    /// The name of the rule that decided; `None` where a list, `internet` or nothing did.
    pub rule: Option<&'policy str>,
    /// What is to be done.
    pub verdict: Verdict<'policy>,
}

/// What is to be done with one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict<'policy> {
    /// Send it on, with these edits (often none).
    Forward(&'policy Edits),
    /// Do not send it, and say why.
    Refuse(Refusal),
    /// Do not send it; give this answer instead.
    Respond(&'policy FixedAnswer),
}

/// Why a request is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The stable code.
    pub reason: DenyReason,
    /// The same in words, about this request.
    pub detail: String,
}

/// A response that a rule gives by itself, without an upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FixedAnswer {
    /// A final status, 200 to 599.
    pub status: StatusCode,
    /// Headers in the order of their names; never one that frames the message.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The whole body; empty where the status has none.
    pub body: Box<str>,
}
