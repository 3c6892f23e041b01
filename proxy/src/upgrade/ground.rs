//! By what a connection was let out of HTTP, to be held against a newer policy. Pure.

use std::sync::Arc;

use http::Method;
use sluicegate_policy::{
    Authority, BoundHandler, Decision, FlowsOnPublish, Policy, RequestFacts, Scheme, Verdict,
};

/// What the request was judged by, and what let it through.
#[derive(Debug)]
pub struct Ground {
    scheme: Scheme,
    authority: Authority,
    method: Method,
    path: Box<str>,
    carries_dns: bool,
    handler: Option<Arc<BoundHandler>>,
    was_asked: bool,
}

impl Ground {
    /// Of a request and what was decided about it.
    pub fn new(facts: &RequestFacts<'_>, decision: &Decision<'_>) -> Self {
        let handler = match &decision.verdict {
            Verdict::Handle(handler, _) => Some(Arc::clone(handler)),
            _ => None,
        };
        Self {
            scheme: facts.scheme,
            authority: facts.authority.clone(),
            method: facts.method.clone(),
            path: facts.path.into(),
            carries_dns: facts.carries_dns,
            handler,
            was_asked: decision.ask.is_some(),
        }
    }

    /// Whether the connection may go on under this policy to where it was made.
    pub(super) fn lasts(&self, policy: &Policy, (scheme, authority): (Scheme, &Authority)) -> bool {
        policy.flows_on_publish() == FlowsOnPublish::Keep
            || (self.holds(policy) && policy.admits_fetch(scheme, authority).is_ok())
    }

    /// The handler that let the connection through, as this policy binds it; none where another one, or nobody,
    /// is in charge.
    pub(super) fn handler_in<'policy>(&self, policy: &'policy Policy) -> Option<&'policy Arc<BoundHandler>> {
        match policy.decide(&self.facts()).verdict {
            Verdict::Handle(new, _) => {
                self.handler.as_ref().is_some_and(|old| old.is_same_as(new)).then_some(new)
            }
            Verdict::Forward(_) | Verdict::Refuse(_) | Verdict::Respond(_) => None,
        }
    }

    fn facts(&self) -> RequestFacts<'_> {
        let Self { scheme, authority, method, path, carries_dns, .. } = self;
        RequestFacts { scheme: *scheme, authority, method, path, carries_dns: *carries_dns }
    }

    /// Whether the same request would be let through without a word from anybody who was not asked: a
    /// handler that is another one now, or a person.
    fn holds(&self, policy: &Policy) -> bool {
        let decision = policy.decide(&self.facts());
        if decision.ask.is_some() && !self.was_asked {
            return false;
        }
        match decision.verdict {
            Verdict::Forward(_) => true,
            Verdict::Handle(new, _) => self.handler.as_ref().is_some_and(|old| old.is_same_as(new)),
            Verdict::Refuse(_) | Verdict::Respond(_) => false,
        }
    }
}
