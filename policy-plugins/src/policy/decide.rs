//! Judges requests, and explains the judgement on the same way.
//!
//! **Invariant:** what is only audited never refuses: after its refusal the request is judged once
//! more by what is enforced, and that alone counts.

use std::cmp::Reverse;
use std::sync::Arc;

use super::explain::Watch;
use super::{Mode, Policy, RequestFacts};
use crate::deny_reason::DenyReason;
use crate::edits::Edits;
use crate::handler::{BoundHandler, HandlerAction};
use crate::host::{Authority, Scheme};
use crate::path::{PathSpecificity, RequestPath};
use crate::pattern::{HostPattern, Specificity};
use crate::rule::{Allowance, Effect, Rule};
use crate::verdict::{Decision, Refusal, Verdict};

/// What makes one matching rule win over another; the greatest wins.
type Rank = (Specificity, Option<PathSpecificity>, bool, bool, Reverse<usize>);

static NO_EDITS: Edits = Edits::NONE;

/// By what a request is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    Everything,
    /// Without what is only audited.
    WhatIsEnforced,
}

/// What a request is to be done with, before it is seen whether that is meant in earnest.
struct Judgement<'policy> {
    decision: Decision<'policy>,
    /// Whether what decided refuses in earnest.
    mode: Mode,
}

/// A rule that names an authority.
#[derive(Clone, Copy)]
pub(super) struct Naming<'policy> {
    pub(super) position: usize,
    pub(super) pattern: &'policy HostPattern,
    pub(super) rule: &'policy Rule,
}

impl Policy {
    /// Judges one request. Takes no memory from the heap unless it refuses or decodes a path.
    #[must_use]
    pub fn decide(&self, request: &RequestFacts<'_>) -> Decision<'_> {
        self.judge(request, &mut ())
    }

    /// Judges one request while somebody watches.
    pub(super) fn judge<W: Watch>(&self, request: &RequestFacts<'_>, watch: &mut W) -> Decision<'_> {
        let Judgement { decision, mode } = self.judge_by(By::Everything, request, watch);
        match decision {
            Decision { rule, verdict: Verdict::Refuse(refusal), .. } if mode == Mode::Audit => {
                watch.only_audited(&refusal);
                let enforced = self.judge_by(By::WhatIsEnforced, request, watch).decision;
                if matches!(enforced.verdict, Verdict::Refuse(_)) {
                    return enforced;
                }
                Decision { would_refuse: Some(named(rule, refusal)), ..enforced }
            }
            decision => decision,
        }
    }

    fn judge_by<W: Watch>(&self, by: By, request: &RequestFacts<'_>, watch: &mut W) -> Judgement<'_> {
        let document = self.written.mode;
        if !by.skips(document)
            && let Err(refusal) = self
                .ask_lists(request.scheme, request.authority, watch)
                .and_then(|()| watch.encrypted_dns(self.refuses_dns_message(request)))
        {
            return Judgement::refused(None, refusal, document);
        }
        let path = match self.read_path(by, request) {
            Ok(path) => path,
            Err((rule, refusal)) => {
                watch.ambiguous_path(&refusal);
                return Judgement::refused(None, refusal, rule.mode);
            }
        };
        if let Some(naming) = self.winner(by, request, path.as_ref()) {
            watch.rule(self, &naming);
            return self.obey(by, naming, request, watch);
        }
        if let Some((naming, refusal)) = self.closed_by_rule(by, request) {
            watch.closed(self, &naming, &refusal);
            return Judgement::refused(Some(&naming.rule.name), refusal, naming.rule.mode);
        }
        watch.no_rule();
        if let Some(handler) = self.handler_for(request, None, watch) {
            return self.hand_over(by, handler, &NO_EDITS, None);
        }
        if self.passes_unhandled(request, watch) || by.skips(document) {
            return Judgement::reached(None, Verdict::Forward(&NO_EDITS));
        }
        let detail = format!("nothing in the policy names {}, and the internet is off", request.authority);
        Judgement::refused(None, Refusal { reason: DenyReason::NotNamed, detail }, document)
    }

    /// What the winning rule says.
    fn obey<'policy, W: Watch>(
        &'policy self,
        by: By,
        naming: Naming<'policy>,
        request: &RequestFacts<'_>,
        watch: &mut W,
    ) -> Judgement<'policy> {
        let rule = naming.rule;
        let name = Some(&*rule.name);
        let allowance = match &rule.effect {
            Effect::Allow(allowance) => allowance,
            Effect::Respond(answer) => return Judgement::reached(name, Verdict::Respond(answer)),
            Effect::Deny(why) => {
                let refusal = Refusal { reason: DenyReason::DeniedByRule, detail: String::from(&**why) };
                return Judgement::refused(name, refusal, rule.mode);
            }
            // A splicing rule matches no request; flows pass unopened before there is one.
            Effect::Splice => return Judgement::refused(name, not_for_requests(rule), rule.mode),
        };
        let Allowance { edits, ask, handler } = allowance;
        let own = handler.as_ref().map(|handler| (naming, handler));
        let mut judgement = match self.handler_for(request, own, watch) {
            Some(handler) => self.hand_over(by, handler, edits, name),
            None => Judgement::reached(name, Verdict::Forward(edits)),
        };
        if matches!(judgement.decision.verdict, Verdict::Refuse(_)) {
            return judgement;
        }
        match ask {
            Some(ask) if rule.is_enforced() => judgement.decision.ask = Some(ask),
            Some(ask) => {
                let detail = format!("rule \"{}\" asks: {}", rule.name, ask.reason);
                judgement.decision.would_refuse =
                    Some(Refusal { reason: DenyReason::ApprovalRequired, detail });
            }
            None => {}
        }
        judgement
    }

    /// Gives the request to a handler; one that only refuses needs no running.
    fn hand_over<'policy>(
        &self,
        by: By,
        handler: &'policy Arc<BoundHandler>,
        edits: &'policy Edits,
        rule: Option<&'policy str>,
    ) -> Judgement<'policy> {
        match &handler.action {
            HandlerAction::Script(_) | HandlerAction::Program(_) => {
                Judgement::reached(rule, Verdict::Handle(handler, edits))
            }
            HandlerAction::Deny(_) if by.skips(self.written.mode) => {
                Judgement::reached(rule, Verdict::Forward(edits))
            }
            HandlerAction::Deny(why) => {
                let refusal = Refusal { reason: DenyReason::DeniedByHandler, detail: String::from(&**why) };
                Judgement::refused(rule, refusal, self.written.mode)
            }
        }
    }

    /// The handler that a request is given to once nothing has refused it: set at run time for the
    /// host, the rule's own, the document's for the host, set at run time for all, `outbound`.
    fn handler_for<'policy, W: Watch>(
        &'policy self,
        request: &RequestFacts<'_>,
        own: Option<(Naming<'policy>, &'policy Arc<BoundHandler>)>,
        watch: &mut W,
    ) -> Option<&'policy Arc<BoundHandler>> {
        let RequestFacts { scheme, authority, .. } = *request;
        let written = &self.written.outbound;
        let found = if let Some(route) = self.runtime.for_host(scheme, authority) {
            watch.route(self, &route, true);
            route.handler
        } else if let Some((naming, own)) = own {
            watch.own_handler(self, &naming, own);
            own
        } else if let Some(route) = written.for_host(scheme, authority) {
            watch.route(self, &route, false);
            route.handler
        } else if let Some(all) = &self.runtime.catch_all {
            watch.catch_all(self, all, true);
            all
        } else if let Some(all) = &written.catch_all {
            watch.catch_all(self, all, false);
            all
        } else {
            watch.no_handler();
            return None;
        };
        Some(found)
    }

    /// Whether a request that no rule names and no handler takes is let through.
    fn passes_unhandled<W: Watch>(&self, request: &RequestFacts<'_>, watch: &mut W) -> bool {
        if self.allowed.is_some() {
            watch.passes_as_allowed();
            return true;
        }
        let RequestFacts { scheme, authority, .. } = *request;
        let mut passing = self.passing.naming(&authority.host);
        if let Some(entry) = passing.find(|entry| entry.pattern.admits(scheme, authority)) {
            watch.passes_at_run_time(&entry.pattern);
            return true;
        }
        watch.internet(self);
        self.written.internet
    }

    /// Every rule that names the authority.
    pub(super) fn rules_for<'policy>(
        &'policy self,
        scheme: Scheme,
        authority: &Authority,
    ) -> impl Iterator<Item = Naming<'policy>> {
        self.written.rule_hosts.naming(&authority.host).filter_map(move |entry| {
            let rule = self.written.rules.get(entry.owner)?;
            let naming = Naming { position: entry.owner, pattern: &entry.pattern, rule };
            rule.names(&entry.pattern, scheme, authority).then_some(naming)
        })
    }

    fn rules_by<'policy>(
        &'policy self,
        by: By,
        request: &RequestFacts<'_>,
    ) -> impl Iterator<Item = Naming<'policy>> {
        let rules = self.rules_for(request.scheme, request.authority);
        rules.filter(move |naming| !by.skips(naming.rule.mode))
    }

    /// The path, where a rule of this authority limits paths; other hosts do not pay for it.
    fn read_path<'request>(
        &self,
        by: By,
        request: &RequestFacts<'request>,
    ) -> Result<Option<RequestPath<'request>>, (&Rule, Refusal)> {
        let limited = self.rules_by(by, request).find(|naming| !naming.rule.paths.is_empty());
        let Some(Naming { rule, .. }) = limited else {
            return Ok(None);
        };
        RequestPath::read(request.path).map(Some).map_err(|ambiguous| {
            let detail = format!("{ambiguous}; rule \"{}\" limits the paths of this host", rule.name);
            (rule, Refusal { reason: DenyReason::AmbiguousPath, detail })
        })
    }

    fn winner(
        &self,
        by: By,
        request: &RequestFacts<'_>,
        path: Option<&RequestPath<'_>>,
    ) -> Option<Naming<'_>> {
        self.rules_by(by, request)
            .filter_map(|naming| {
                let Naming { position, pattern, rule } = naming;
                let (path, method) = rule.matches(request.method, path)?;
                let rank: Rank = (pattern.specificity(), path, method, rule.denies(), Reverse(position));
                Some((rank, naming))
            })
            .max_by_key(|&(rank, _)| rank)
            .map(|(_, naming)| naming)
    }

    /// The refusal of a request that no rule matches, to a host that some rule allows in part.
    fn closed_by_rule(&self, by: By, request: &RequestFacts<'_>) -> Option<(Naming<'_>, Refusal)> {
        let naming = self
            .rules_by(by, request)
            .filter(|naming| naming.rule.closes())
            .max_by_key(|naming| (naming.pattern.specificity(), Reverse(naming.position)))?;
        Some((naming, not_for_requests(naming.rule)))
    }
}

impl By {
    fn skips(self, mode: Mode) -> bool {
        self == Self::WhatIsEnforced && mode == Mode::Audit
    }
}

impl<'policy> Judgement<'policy> {
    fn refused(rule: Option<&'policy str>, refusal: Refusal, mode: Mode) -> Self {
        Self { decision: Decision::by(rule, Verdict::Refuse(refusal)), mode }
    }

    /// For what is not refused the mode does not matter.
    fn reached(rule: Option<&'policy str>, verdict: Verdict<'policy>) -> Self {
        Self { decision: Decision::by(rule, verdict), mode: Mode::Enforce }
    }
}

/// Why a rule that names the host does not let the request through.
fn not_for_requests(rule: &Rule) -> Refusal {
    let detail = match &rule.effect {
        Effect::Splice => format!("rule \"{}\" passes TLS flows on unopened and no request", rule.name),
        _ => format!("rule \"{}\" allows {} only", rule.name, rule.what_it_matches()),
    };
    Refusal { reason: DenyReason::NoRuleMatches, detail }
}

/// A refusal that comes to nothing, for the log, where its rule is named nowhere else.
fn named(rule: Option<&str>, refusal: Refusal) -> Refusal {
    match rule {
        Some(rule) if refusal.reason == DenyReason::DeniedByRule => {
            Refusal { detail: format!("rule \"{rule}\": {}", refusal.detail), ..refusal }
        }
        _ => refusal,
    }
}

#[cfg(test)]
mod tests;
