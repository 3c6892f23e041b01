//! One rule: what it matches and what it does with that.

use std::sync::Arc;

use http::Method;

use crate::edits::Edits;
use crate::handler::BoundHandler;
use crate::host::{Authority, Scheme};
use crate::path::{PathPattern, PathSpecificity, RequestPath};
use crate::pattern::HostPattern;
use crate::policy::Mode;
use crate::verdict::{Ask, FixedAnswer};

/// One `[[rules]]` entry.
#[derive(Clone, Debug)]
pub(crate) struct Rule {
    pub(crate) name: Box<str>,
    /// Empty means every method.
    pub(crate) methods: Vec<Method>,
    /// Empty means every path.
    pub(crate) paths: Vec<PathPattern>,
    pub(crate) effect: Effect,
    /// Whether it refuses and asks in earnest.
    pub(crate) mode: Mode,
}

/// What a rule does with what it matches.
#[derive(Clone, Debug)]
pub(crate) enum Effect {
    Allow(Allowance),
    Deny(Box<str>),
    Respond(FixedAnswer),
    Splice,
}

/// How a rule lets something through.
#[derive(Clone, Debug)]
pub(crate) struct Allowance {
    pub(crate) edits: Edits,
    pub(crate) ask: Option<Ask>,
    /// The handler that the rule names itself.
    pub(crate) handler: Option<Arc<BoundHandler>>,
}

impl Rule {
    /// Denial is wide and everything else narrow; only TLS can be passed on unopened.
    pub(crate) fn names(&self, pattern: &HostPattern, scheme: Scheme, authority: &Authority) -> bool {
        match self.effect {
            Effect::Deny(_) => pattern.catches(scheme, authority),
            Effect::Allow(_) | Effect::Respond(_) => pattern.admits(scheme, authority),
            Effect::Splice => scheme == Scheme::Https && pattern.admits(scheme, authority),
        }
    }

    /// How narrowly the rule matches by path and method; `None` where it does not.
    pub(crate) fn matches(
        &self,
        method: &Method,
        path: Option<&RequestPath<'_>>,
    ) -> Option<(Option<PathSpecificity>, bool)> {
        if self.is_splice() {
            return None;
        }
        if !self.methods.is_empty() && !self.methods.contains(method) {
            return None;
        }
        if self.paths.is_empty() {
            return Some((None, !self.methods.is_empty()));
        }
        let path = path?;
        let fits = |pattern: &&PathPattern| {
            if self.denies() { pattern.catches(path) } else { pattern.admits(path) }
        };
        let best = self.paths.iter().filter(fits).map(PathPattern::specificity).max()?;
        Some((Some(best), !self.methods.is_empty()))
    }

    /// Whether the rule leaves its hosts closed for what no rule matches.
    pub(crate) fn closes(&self) -> bool {
        matches!(self.effect, Effect::Allow(_) | Effect::Splice)
    }

    pub(crate) fn denies(&self) -> bool {
        matches!(self.effect, Effect::Deny(_))
    }

    pub(crate) fn is_enforced(&self) -> bool {
        self.mode == Mode::Enforce
    }

    pub(crate) fn is_splice(&self) -> bool {
        matches!(self.effect, Effect::Splice)
    }

    pub(crate) fn is_unconditional(&self) -> bool {
        self.methods.is_empty() && self.paths.is_empty()
    }

    /// `GET, HEAD on /v1/**`, for the detail of a refusal.
    pub(crate) fn what_it_matches(&self) -> String {
        let methods: Vec<&str> = self.methods.iter().map(Method::as_str).collect();
        let paths: Vec<&str> = self.paths.iter().map(PathPattern::as_str).collect();
        match (methods.is_empty(), paths.is_empty()) {
            (_, true) => methods.join(", "),
            (true, false) => paths.join(", "),
            (false, false) => format!("{} on {}", methods.join(", "), paths.join(", ")),
        }
    }
}
