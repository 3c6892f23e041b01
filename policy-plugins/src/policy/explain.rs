//! Why a request is decided as it is, step by step: a watcher of the very judgement.

use std::sync::Arc;

use serde::Serialize;

use super::decide::Naming;
use super::{Policy, RequestFacts, Source, Transport};
use crate::handler::BoundHandler;
use crate::host::Authority;
use crate::index::Entry;
use crate::lists::Listed;
use crate::outbound::Route;
use crate::pattern::HostPattern;
use crate::rule::Effect;
use crate::verdict::{Refusal, Verdict};

/// A decision with the way to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// `forward`, `handle`, `ask`, `respond` or `refuse`.
    pub verdict: &'static str,
    /// The stable code of a refusal.
    pub reason: Option<&'static str>,
    /// The same in words; with `ask` what the person is told.
    pub detail: Option<String>,
    /// The rule that decided.
    pub rule: Option<String>,
    /// The handler that the request is given to, or that refuses.
    pub handler: Option<String>,
    /// The code of what would have been refused if it were not for `mode = "audit"`.
    pub would_refuse: Option<&'static str>,
    /// What was asked, in order.
    pub steps: Vec<ExplainedStep>,
}

/// One question on the way to a decision, and its answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ExplainedStep {
    /// What was looked at, such as `denied_hosts`.
    pub step: &'static str,
    /// What came of it, such as `passes` or `refuses`.
    pub outcome: &'static str,
    /// Why, in words.
    pub because: String,
    /// Where that stands, if anywhere.
    pub source: Option<Source>,
}

/// Sees what a judgement looks at. The one that only judges sees nothing and costs nothing.
pub(super) trait Watch {
    fn denied_hosts(&mut self, _policy: &Policy, _denial: Option<Listed<'_>>) {}
    fn allowed_hosts(&mut self, _policy: &Policy, _admission: Option<Listed<'_>>) {}
    fn encrypted_dns(&mut self, refusal: Option<Refusal>) -> Result<(), Refusal> {
        refusal.map_or(Ok(()), Err)
    }
    fn flow(&mut self, _policy: &Policy, _transport: Transport, _listed: Option<&Entry>) {}
    fn ambiguous_path(&mut self, _refusal: &Refusal) {}
    fn rule(&mut self, _policy: &Policy, _naming: &Naming<'_>) {}
    fn closed(&mut self, _policy: &Policy, _naming: &Naming<'_>, _refusal: &Refusal) {}
    fn no_rule(&mut self) {}
    fn route(&mut self, _policy: &Policy, _route: &Route<'_>, _at_run_time: bool) {}
    fn own_handler(&mut self, _policy: &Policy, _naming: &Naming<'_>, _handler: &Arc<BoundHandler>) {}
    fn catch_all(&mut self, _policy: &Policy, _handler: &Arc<BoundHandler>, _at_run_time: bool) {}
    fn no_handler(&mut self) {}
    fn passes_as_allowed(&mut self) {}
    fn passes_at_run_time(&mut self, _pattern: &HostPattern) {}
    fn internet(&mut self, _policy: &Policy) {}
    fn only_audited(&mut self, _refusal: &Refusal) {}
}

impl Watch for () {}

/// Writes down what it sees.
#[derive(Default)]
struct Steps {
    steps: Vec<ExplainedStep>,
    /// The name of the handler that was found last.
    handler: Option<String>,
}

impl Policy {
    /// Why a request is decided as it is. Takes the same way as [`Policy::decide`].
    #[must_use]
    pub fn explain(&self, request: &RequestFacts<'_>) -> Explanation {
        let mut watch = Steps::default();
        let decision = self.judge(request, &mut watch);
        let (mut verdict, refusal) = match &decision.verdict {
            Verdict::Forward(_) => ("forward", None),
            Verdict::Handle(..) => ("handle", None),
            Verdict::Respond(_) => ("respond", None),
            Verdict::Refuse(refusal) => ("refuse", Some(refusal)),
        };
        let mut detail = refusal.map(|refusal| refusal.detail.clone());
        if let Some(ask) = decision.ask {
            verdict = "ask";
            detail = Some(ask.reason.to_string());
        }
        Explanation {
            verdict,
            reason: refusal.map(|refusal| refusal.reason.as_str()),
            detail,
            rule: decision.rule.map(String::from),
            handler: watch.handler,
            would_refuse: decision.would_refuse.as_ref().map(|refusal| refusal.reason.as_str()),
            steps: watch.steps,
        }
    }
}

impl Policy {
    /// Why a flow whose bytes nobody reads passes or not. Takes the same way as [`Policy::decide_flow`].
    #[must_use]
    pub fn explain_flow(&self, transport: Transport, authority: &Authority) -> Explanation {
        let mut watch = Steps::default();
        let (verdict, refusal, would_refuse) = match self.judge_flow(transport, authority, &mut watch) {
            Ok(passage) => ("forward", None, passage.would_refuse),
            Err(refusal) => ("refuse", Some(refusal), None),
        };
        Explanation {
            verdict,
            reason: refusal.as_ref().map(|refusal| refusal.reason.as_str()),
            detail: refusal.map(|refusal| refusal.detail),
            rule: None,
            handler: None,
            would_refuse: would_refuse.map(|refusal| refusal.reason.as_str()),
            steps: watch.steps,
        }
    }
}

impl Steps {
    fn saw(&mut self, step: &'static str, outcome: &'static str, because: String, source: Option<Source>) {
        self.steps.push(ExplainedStep { step, outcome, because, source });
    }

    fn found(&mut self, step: &'static str, handler: &BoundHandler, because: String, source: Source) {
        self.handler = Some(handler.name.to_string());
        let because = format!("{because} is bound to handler `{}`", handler.name);
        self.saw(step, "handles", because, Some(source));
    }
}

impl Watch for Steps {
    fn denied_hosts(&mut self, policy: &Policy, denial: Option<Listed<'_>>) {
        let Some(Listed { pattern, position }) = denial else {
            return self.saw("denied_hosts", "passes", String::from("no pattern names it"), None);
        };
        let places = &policy.written.places;
        let source = places.entry(&places.denied, position);
        self.saw("denied_hosts", "refuses", format!("`{pattern}` names it"), Some(source));
    }

    fn allowed_hosts(&mut self, policy: &Policy, admission: Option<Listed<'_>>) {
        let Some(Listed { pattern, position }) = admission else {
            let source = policy.source_of_allowed_hosts();
            return self.saw("allowed_hosts", "refuses", String::from("no pattern names it"), Some(source));
        };
        let places = &policy.written.places;
        let source = places.entry(&places.allowed, position);
        self.saw("allowed_hosts", "passes", format!("`{pattern}` names it"), Some(source));
    }

    fn encrypted_dns(&mut self, refusal: Option<Refusal>) -> Result<(), Refusal> {
        let Some(refusal) = refusal else { return Ok(()) };
        self.saw("dns", "refuses", refusal.detail.clone(), None);
        Err(refusal)
    }

    fn flow(&mut self, policy: &Policy, transport: Transport, listed: Option<&Entry>) {
        let key = transport.key();
        let Some(Entry { pattern, owner }) = listed else {
            return self.saw(key, "refuses", String::from("no pattern names it"), None);
        };
        let places = &policy.written.places;
        let source = places.entry(places.flows(transport), Some(*owner));
        self.saw(key, "allows", format!("`{pattern}` names it"), Some(source));
    }

    fn ambiguous_path(&mut self, refusal: &Refusal) {
        self.saw("path", "refuses", refusal.detail.clone(), None);
    }

    fn rule(&mut self, policy: &Policy, naming: &Naming<'_>) {
        let places = &policy.written.places;
        let source = places.entry(&places.rules, Some(naming.position));
        let outcome = match &naming.rule.effect {
            Effect::Allow(allowance) if allowance.ask.is_some() => "asks",
            Effect::Allow(_) => "allows",
            Effect::Deny(_) | Effect::Splice => "refuses",
            Effect::Respond(_) => "answers",
        };
        let because = format!("rule \"{}\" matches by `{}`", naming.rule.name, naming.pattern);
        self.saw("rules", outcome, because, Some(source));
    }

    fn closed(&mut self, policy: &Policy, naming: &Naming<'_>, refusal: &Refusal) {
        let places = &policy.written.places;
        let source = places.entry(&places.rules, Some(naming.position));
        self.saw("rules", "refuses", refusal.detail.clone(), Some(source));
    }

    fn no_rule(&mut self) {
        self.saw("rules", "passes", String::from("no rule names it"), None);
    }

    fn route(&mut self, policy: &Policy, route: &Route<'_>, at_run_time: bool) {
        let places = &policy.written.places;
        let source = places.entry(&places.by_host, (!at_run_time).then_some(route.position));
        self.found("outbound_by_host", route.handler, format!("`{}`", route.pattern), source);
    }

    fn own_handler(&mut self, policy: &Policy, naming: &Naming<'_>, handler: &Arc<BoundHandler>) {
        let places = &policy.written.places;
        let source = places.entry(&places.rules, Some(naming.position));
        self.found("rules", handler, format!("rule \"{}\"", naming.rule.name), source);
    }

    fn catch_all(&mut self, policy: &Policy, handler: &Arc<BoundHandler>, at_run_time: bool) {
        let source = if at_run_time { Source::Runtime } else { policy.written.places.of("outbound") };
        self.found("outbound", handler, String::from("every host"), source);
    }

    fn no_handler(&mut self) {
        self.saw("outbound", "passes", String::from("no handler is bound to it"), None);
    }

    fn passes_as_allowed(&mut self) {
        self.saw("allowed_hosts", "allows", String::from("the list names it"), None);
    }

    fn passes_at_run_time(&mut self, pattern: &HostPattern) {
        let because = format!("`{pattern}` was allowed");
        self.saw("allowed_hosts", "allows", because, Some(Source::Runtime));
    }

    fn internet(&mut self, policy: &Policy) {
        let (outcome, is) = if policy.written.internet { ("allows", "on") } else { ("refuses", "off") };
        let source = policy.written.places.of("internet");
        self.saw("internet", outcome, format!("the internet is {is}"), Some(source));
    }

    fn only_audited(&mut self, refusal: &Refusal) {
        self.handler = None;
        let because = format!("{} is only audited; without what is audited:", refusal.reason);
        self.saw("mode", "audits", because, None);
    }
}

#[cfg(test)]
mod tests;
