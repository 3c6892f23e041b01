//! Lays what was changed at run time over what the document says.

use std::sync::Arc;

use super::Policy;
use crate::digest::Digest;
use crate::error::nearest;
use crate::handler::{BoundHandler, HandlerAction};
use crate::index::HostIndex;
use crate::lists::{HostList, ListChanges};
use crate::outbound::Routes;
use crate::overrides::{ListOverride, Override, OverrideError, Overrides};
use crate::pattern::{HostPattern, ListedIn};

/// The most bytes of overrides as JSON: as of a document.
const OVERRIDES_BYTES_MAX: usize = 4 * 1024 * 1024;

impl Policy {
    /// The policy with these overrides in place of those that it has.
    ///
    /// # Errors
    /// The first thing that cannot be applied; then nothing is.
    pub fn overridden(&self, overrides: &Overrides) -> Result<Self, OverrideError> {
        let mut in_force = overrides.clone();
        let written = &self.written;
        let denied = self.denied_with(&mut in_force.denied_hosts)?;
        let mut allowed = None;
        let mut passing = HostIndex::default();
        let listed = &mut in_force.allowed_hosts;
        if written.allowed.is_some() || listed.replaced.is_some() {
            allowed = Some(self.allowed_with(listed)?);
        } else {
            listed.removed.clear();
            passing = index(&listed.added, ListedIn::Allowed)?;
        }
        let runtime = self.routes_with(&in_force)?;
        let generation = self.generation_with(&in_force)?;
        Ok(Self {
            generation,
            written: Arc::clone(written),
            overrides: Arc::new(in_force),
            denied,
            allowed,
            passing: Arc::new(passing),
            runtime: Arc::new(runtime),
        })
    }

    /// The policy with as much of these overrides as can be applied, what is in force of them, and
    /// a warning in words for everything that was left out.
    #[must_use]
    pub fn overridden_leniently(&self, overrides: &Overrides) -> (Self, Overrides, Vec<String>) {
        let mut warnings = Vec::new();
        let mut kept = overrides.clone();
        if let Some(error) = kept.outbound.as_ref().and_then(|outbound| self.bind(outbound).err()) {
            warnings.push(left_out("the handler of every host", &error));
            kept.outbound = None;
        }
        kept.outbound_by_host.retain(|pattern, handler| {
            let outcome = self.route(pattern).and_then(|_| self.bind(handler));
            kept_or_warned(&outcome, &format!("the handler of `{pattern}`"), &mut warnings)
        });
        let lists = [
            (&mut kept.allowed_hosts, ListedIn::Allowed, "allowed_hosts"),
            (&mut kept.denied_hosts, ListedIn::Denied, "denied_hosts"),
        ];
        for (list, listed_in, name) in lists {
            for patterns in [Some(&mut list.added), Some(&mut list.removed), list.replaced.as_mut()] {
                let Some(patterns) = patterns else { continue };
                patterns.retain(|text| {
                    let outcome = pattern(text, listed_in);
                    kept_or_warned(&outcome, &format!("a change of `{name}`"), &mut warnings)
                });
            }
        }
        match self.overridden(&kept) {
            Ok(policy) => {
                let in_force = (*policy.overrides).clone();
                (policy, in_force, warnings)
            }
            Err(error) => {
                warnings.push(left_out("everything that was changed at run time", &error));
                (self.without_overrides(), Overrides::default(), warnings)
            }
        }
    }

    /// What was changed at run time and is in force.
    #[must_use]
    pub fn overrides(&self) -> &Overrides {
        &self.overrides
    }

    fn without_overrides(&self) -> Self {
        Self::of_shared(Arc::clone(&self.written))
    }

    fn denied_with(&self, changes: &mut ListOverride) -> Result<HostList, OverrideError> {
        let base = Arc::clone(&self.written.denied);
        let known = (self.overrides.denied_hosts.replaced.as_ref(), self.denied.replacement());
        list(base, changes, known, ListedIn::Denied)
    }

    fn allowed_with(&self, changes: &mut ListOverride) -> Result<HostList, OverrideError> {
        let base = self.written.allowed.clone().unwrap_or_default();
        let replacement = self.allowed.as_ref().and_then(HostList::replacement);
        let known = (self.overrides.allowed_hosts.replaced.as_ref(), replacement);
        list(base, changes, known, ListedIn::Allowed)
    }

    fn routes_with(&self, overrides: &Overrides) -> Result<Routes, OverrideError> {
        let mut routes = Routes::default();
        for (text, handler) in &overrides.outbound_by_host {
            let pattern = self.route(text)?;
            if let Some(other) = routes.same(&pattern) {
                return Err(OverrideError::Twice(other.as_str().into(), text.clone()));
            }
            routes.insert(pattern, self.bind(handler)?);
        }
        routes.catch_all = overrides.outbound.as_ref().map(|outbound| self.bind(outbound)).transpose()?;
        Ok(routes)
    }

    /// The pattern of a handler, if a handler for it could ever run.
    fn route(&self, text: &str) -> Result<HostPattern, OverrideError> {
        let pattern = pattern(text, ListedIn::Rule)?;
        let splice = self.written.rule_hosts.around(pattern.hosts()).find_map(|entry| {
            let rule = self.written.rules.get(entry.owner).filter(|rule| rule.is_splice())?;
            (entry.pattern.hosts() == pattern.hosts() && entry.pattern.overlaps(&pattern)).then_some(rule)
        });
        match splice {
            Some(rule) => Err(OverrideError::Spliced { pattern: text.into(), rule: rule.name.to_string() }),
            None => Ok(pattern),
        }
    }

    /// The handler of that name, with the override's parameters if it has some.
    fn bind(&self, handler: &Override) -> Result<Arc<BoundHandler>, OverrideError> {
        let Some(named) = self.written.handlers.get(handler.handler.as_str()) else {
            let names: Vec<&str> = self.written.handlers.keys().map(|name| &**name).collect();
            let help = match nearest(&handler.handler, names.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None if names.is_empty() => String::from("name handlers in [outbound_handlers]"),
                None => format!("there are: {}", names.join(", ")),
            };
            return Err(OverrideError::UnknownHandler { name: handler.handler.clone(), help });
        };
        match (&handler.params, &named.action) {
            (serde_json::Value::Null, _) => Ok(Arc::clone(named)),
            (_, HandlerAction::Deny(_)) => Err(OverrideError::ParamsOfDeny(handler.handler.clone())),
            (serde_json::Value::Object(_), _) => {
                let params = Arc::new(handler.params.clone());
                Ok(Arc::new(BoundHandler { params, ..(**named).clone() }))
            }
            _ => Err(OverrideError::ParamsNoTable(handler.handler.clone())),
        }
    }

    fn generation_with(&self, overrides: &Overrides) -> Result<Box<str>, OverrideError> {
        let digest = self.written.digest.clone();
        if *overrides == Overrides::default() {
            return Ok(digest.short());
        }
        // Maps are ordered by their keys, so equal overrides have equal texts.
        let text = serde_json::to_vec(overrides).map_err(|_| OverrideError::TooLarge)?;
        if text.len() > OVERRIDES_BYTES_MAX {
            return Err(OverrideError::TooLarge);
        }
        Ok(digest.and([("overrides", &Digest::of(&text))]).short())
    }
}

/// A list in force. What was removed and does not stand in the document is forgotten. `known` is the
/// replacement that is in force, as texts and compiled.
fn list(
    base: Arc<HostIndex>,
    changes: &mut ListOverride,
    known: (Option<&Vec<String>>, Option<&Arc<HostIndex>>),
    listed_in: ListedIn,
) -> Result<HostList, OverrideError> {
    let replaced = match (&changes.replaced, known) {
        (None, _) => None,
        (Some(wanted), (Some(texts), Some(compiled))) if wanted == texts => Some(Arc::clone(compiled)),
        (Some(wanted), _) => Some(Arc::new(index(wanted, listed_in)?)),
    };
    let below = replaced.as_ref().unwrap_or(&base);
    let mut removed = HostIndex::default();
    let mut kept = Vec::new();
    for text in std::mem::take(&mut changes.removed) {
        let pattern = pattern(&text, listed_in)?;
        if below.contains(&pattern) && !removed.contains(&pattern) {
            removed.insert(pattern, kept.len());
            kept.push(text);
        }
    }
    changes.removed = kept;
    // What the list has anyway is no change.
    let mut added = Vec::new();
    for text in std::mem::take(&mut changes.added) {
        let pattern = pattern(&text, listed_in)?;
        if !below.contains(&pattern) || removed.contains(&pattern) {
            added.push(text);
        }
    }
    changes.added = added;
    let added = index(&changes.added, listed_in)?;
    Ok(HostList::changed(base, ListChanges { replaced, removed, added }))
}

fn index(patterns: &[String], listed_in: ListedIn) -> Result<HostIndex, OverrideError> {
    let mut index = HostIndex::default();
    for (position, text) in patterns.iter().enumerate() {
        index.insert(pattern(text, listed_in)?, position);
    }
    Ok(index)
}

fn pattern(text: &str, listed_in: ListedIn) -> Result<HostPattern, OverrideError> {
    HostPattern::parse(text, listed_in)
        .map_err(|error| OverrideError::Pattern { pattern: text.to_owned(), error })
}

fn kept_or_warned<T>(outcome: &Result<T, OverrideError>, what: &str, warnings: &mut Vec<String>) -> bool {
    match outcome {
        Ok(_) => true,
        Err(error) => {
            warnings.push(left_out(what, error));
            false
        }
    }
}

fn left_out(what: &str, error: &OverrideError) -> String {
    format!("{what} was set at run time and is ignored: {error}")
}

#[cfg(test)]
mod tests;
