//! What the policy answers: a verdict is data, and only the proxy acts on it.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue, StatusCode};

use crate::deny_reason::DenyReason;
use crate::edits::Edits;
use crate::handler::BoundHandler;

/// The answer to one request, and the rule that gave it.
#[derive(Clone, Debug)]
pub struct Decision<'policy> {
    /// The name of the rule that decided; `None` where a list, `internet` or nothing did.
    pub rule: Option<&'policy str>,
    /// What is to be done.
    pub verdict: Verdict<'policy>,
    /// Whether a person has to agree before the verdict is acted on.
    pub ask: Option<&'policy Ask>,
    /// What would have been refused if it were not for `mode = "audit"`; for the log.
    pub would_refuse: Option<Refusal>,
}

impl<'policy> Decision<'policy> {
    pub(crate) fn by(rule: Option<&'policy str>, verdict: Verdict<'policy>) -> Self {
        Self { rule, verdict, ask: None, would_refuse: None }
    }
}

/// The question that a rule with `ask` has for a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// What the person is told.
    pub reason: Box<str>,
    /// How long the request waits for an answer.
    pub patience: Duration,
}

/// What is to be done with one request.
#[derive(Clone, Debug)]
pub enum Verdict<'policy> {
    /// Send it on, with these edits (often none).
    Forward(&'policy Edits),
    /// Give it to this handler, with these edits: those without a secret before, those with one last
    /// of all, on what the handler sends to the same authority.
    Handle(&'policy Arc<BoundHandler>, &'policy Edits),
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
