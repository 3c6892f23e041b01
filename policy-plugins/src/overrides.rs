//! What is changed while an instance runs, apart from its document.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::pattern::{HostPattern, ListedIn, PatternError};

/// Everything that was changed at run time and is in force. Kept across restarts; a policy with it
/// is [`Policy::overridden`](crate::Policy::overridden).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Overrides {
    /// In place of `outbound`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outbound: Option<Override>,
    /// Before `outbound_by_host`, by pattern.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub outbound_by_host: BTreeMap<String, Override>,
    /// To `allowed_hosts`.
    pub allowed_hosts: ListOverride,
    /// To `denied_hosts`.
    pub denied_hosts: ListOverride,
}

/// A handler that was set at run time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Override {
    /// A name of `[outbound_handlers]`.
    pub handler: String,
    /// `ctx.params`, in place of those of the document.
    #[serde(default, skip_serializing_if = "serde_json::Value::is_null")]
    pub params: serde_json::Value,
}

/// What was changed in a list of hosts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ListOverride {
    /// The whole list, in place of the document's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replaced: Option<Vec<String>>,
    /// Patterns added.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub added: Vec<String>,
    /// Patterns taken out.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub removed: Vec<String>,
}

/// One change at run time. What it names is checked when it is applied to a policy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "change", rename_all = "snake_case", deny_unknown_fields)]
pub enum Change {
    /// Set the catch-all handler.
    SetOutbound(Override),
    /// Go back to the document's `outbound`.
    ClearOutbound,
    /// Set the handler of a host pattern.
    SetOutboundByHost {
        /// The pattern.
        pattern: String,
        /// The handler.
        #[serde(flatten)]
        handler: Override,
    },
    /// Take the handler of a host pattern away; the document's own stays.
    RemoveOutboundByHost {
        /// The pattern.
        pattern: String,
    },
    /// Set all handlers of host patterns at once.
    ReplaceOutboundByHost {
        /// By pattern.
        handlers: BTreeMap<String, Override>,
    },
    /// Add to `allowed_hosts`; where there is no such list, let the host pass.
    AllowHost {
        /// The pattern.
        pattern: String,
    },
    /// Add to `denied_hosts`.
    DenyHost {
        /// The pattern.
        pattern: String,
    },
    /// Take a pattern out of `allowed_hosts`, whoever put it there.
    RemoveAllowedHost {
        /// The pattern.
        pattern: String,
    },
    /// Take a pattern out of `denied_hosts`, whoever put it there.
    RemoveDeniedHost {
        /// The pattern.
        pattern: String,
    },
    /// Set `allowed_hosts` as a whole; an empty list allows nothing.
    ReplaceAllowedHosts {
        /// The patterns.
        patterns: Vec<String>,
    },
    /// Set `denied_hosts` as a whole.
    ReplaceDeniedHosts {
        /// The patterns.
        patterns: Vec<String>,
    },
    /// Forget every change: only the document counts.
    Reset,
}

/// Why overrides cannot be applied to a policy. Nothing of them is.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum OverrideError {
    /// The document has no handler of this name.
    #[error("no handler is named `{}`; {help}", .name.escape_debug())]
    UnknownHandler {
        /// The name.
        name: String,
        /// What to write instead.
        help: String,
    },
    /// A pattern cannot be read.
    #[error("bad host pattern `{}`: {error}; {}", .pattern.escape_debug(), .error.hint())]
    Pattern {
        /// The pattern as given.
        pattern: String,
        /// What is wrong with it.
        error: PatternError,
    },
    /// Two patterns of handlers mean the same.
    #[error("`{0}` and `{1}` mean the same; keep one of the two")]
    Twice(String, String),
    /// Parameters for a handler that only refuses.
    #[error("handler `{0}` only refuses and takes no parameters; leave them out")]
    ParamsOfDeny(String),
    /// Parameters that are no table.
    #[error("the parameters of handler `{0}` are no JSON object; write them as {{\"key\": \"value\"}}")]
    ParamsNoTable(String),
    /// A handler for a host whose TLS flows pass unopened.
    #[error(
        "a handler of `{pattern}` would never run: rule \"{rule}\" passes TLS to it on unopened; drop `intercept = false` there first"
    )]
    Spliced {
        /// The pattern.
        pattern: String,
        /// The rule.
        rule: String,
    },
    /// Altogether too much.
    #[error("more is changed at run time than can be kept; write it into the document")]
    TooLarge,
}

impl Overrides {
    /// Takes a change down. Whether it means anything to a policy is seen when the overrides are
    /// applied to one.
    pub fn apply(&mut self, change: &Change) {
        match change {
            Change::SetOutbound(handler) => self.outbound = Some(handler.clone()),
            Change::ClearOutbound => self.outbound = None,
            Change::SetOutboundByHost { pattern, handler } => {
                self.outbound_by_host.insert(canonical(pattern, ListedIn::Rule), handler.clone());
            }
            Change::RemoveOutboundByHost { pattern } => {
                self.outbound_by_host.remove(&canonical(pattern, ListedIn::Rule));
            }
            Change::ReplaceOutboundByHost { handlers } => {
                let one_way = handlers
                    .iter()
                    .map(|(pattern, handler)| (canonical(pattern, ListedIn::Rule), handler.clone()));
                self.outbound_by_host = one_way.collect();
                if self.outbound_by_host.len() < handlers.len() {
                    // Two that mean the same stay two, to be refused as such.
                    self.outbound_by_host.clone_from(handlers);
                }
            }
            Change::AllowHost { pattern } => self.allowed_hosts.add(canonical(pattern, ListedIn::Allowed)),
            Change::DenyHost { pattern } => self.denied_hosts.add(canonical(pattern, ListedIn::Denied)),
            Change::RemoveAllowedHost { pattern } => {
                self.allowed_hosts.remove(canonical(pattern, ListedIn::Allowed));
            }
            Change::RemoveDeniedHost { pattern } => {
                self.denied_hosts.remove(canonical(pattern, ListedIn::Denied));
            }
            Change::ReplaceAllowedHosts { patterns } => {
                self.allowed_hosts = ListOverride::replaced(patterns, ListedIn::Allowed);
            }
            Change::ReplaceDeniedHosts { patterns } => {
                self.denied_hosts = ListOverride::replaced(patterns, ListedIn::Denied);
            }
            Change::Reset => *self = Self::default(),
        }
    }
}

impl ListOverride {
    fn replaced(patterns: &[String], listed_in: ListedIn) -> Self {
        let patterns = patterns.iter().map(|pattern| canonical(pattern, listed_in)).collect();
        Self { replaced: Some(patterns), ..Self::default() }
    }

    fn add(&mut self, pattern: String) {
        self.removed.retain(|own| *own != pattern);
        let replaced = self.replaced.iter().flatten();
        if !self.added.iter().chain(replaced).any(|own| *own == pattern) {
            self.added.push(pattern);
        }
    }

    fn remove(&mut self, pattern: String) {
        self.added.retain(|own| *own != pattern);
        if let Some(replaced) = &mut self.replaced {
            replaced.retain(|own| *own != pattern);
        } else if !self.removed.contains(&pattern) {
            self.removed.push(pattern);
        }
    }
}

/// The one way to write a pattern; a text that is none stays, to be refused.
fn canonical(text: &str, listed_in: ListedIn) -> String {
    HostPattern::parse(text, listed_in).map_or_else(|_| text.to_owned(), |pattern| pattern.canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(changes: &[&str]) -> Overrides {
        let mut overrides = Overrides::default();
        for change in changes {
            overrides.apply(&serde_json::from_str(change).unwrap());
        }
        overrides
    }

    fn json(overrides: &Overrides) -> serde_json::Value {
        serde_json::to_value(overrides).unwrap()
    }

    #[test]
    fn each_change_has_its_undo() {
        let table: [(&[&str], &[&str]); 4] = [
            (
                &[r#"{"change":"set_outbound","handler":"a","params":{"x":1}}"#],
                &[r#"{"change":"clear_outbound"}"#],
            ),
            (
                &[r#"{"change":"set_outbound_by_host","pattern":"A.test","handler":"a"}"#],
                &[r#"{"change":"remove_outbound_by_host","pattern":"a.test."}"#],
            ),
            (
                &[
                    r#"{"change":"remove_allowed_host","pattern":"a.test"}"#,
                    r#"{"change":"deny_host","pattern":"b.test"}"#,
                ],
                &[r#"{"change":"reset"}"#],
            ),
            (
                &[
                    r#"{"change":"replace_allowed_hosts","patterns":["a.test"]}"#,
                    r#"{"change":"deny_host","pattern":"*.b.test"}"#,
                ],
                &[r#"{"change":"reset"}"#],
            ),
        ];
        for (changes, undo) in table {
            let overrides = changed(changes);
            assert_ne!(overrides, Overrides::default(), "{changes:?}");
            let undone = changed(&[changes, undo].concat());
            assert_eq!(undone, Overrides::default(), "{changes:?} {undo:?}");
            let again: Overrides = serde_json::from_value(json(&overrides)).unwrap();
            assert_eq!(again, overrides);
        }
    }

    #[test]
    fn lists_hold_each_pattern_once_and_in_one_spelling() {
        let overrides = changed(&[
            r#"{"change":"allow_host","pattern":"A.Test."}"#,
            r#"{"change":"allow_host","pattern":"a.test"}"#,
            r#"{"change":"deny_host","pattern":"b.test"}"#,
            r#"{"change":"remove_denied_host","pattern":"B.test"}"#,
            r#"{"change":"remove_denied_host","pattern":"b.test"}"#,
        ]);
        assert_eq!(overrides.allowed_hosts.added, ["a.test"]);
        assert_eq!(overrides.denied_hosts.added, [""; 0]);
        assert_eq!(overrides.denied_hosts.removed, ["b.test"]);
        let overrides = changed(&[
            r#"{"change":"replace_denied_hosts","patterns":["A.test","b.test"]}"#,
            r#"{"change":"deny_host","pattern":"a.test"}"#,
            r#"{"change":"remove_denied_host","pattern":"B.test"}"#,
            r#"{"change":"deny_host","pattern":"google.*"}"#,
        ]);
        assert_eq!(overrides.denied_hosts.replaced.unwrap(), ["a.test"]);
        assert_eq!(overrides.denied_hosts.added, ["google.*"]);
    }

    #[test]
    fn an_unknown_change_or_key_is_none() {
        for text in [
            r#"{"change":"open_everything"}"#,
            r#"{"change":"deny_host"}"#,
            r#"{"change":"set_outbound","handler":"a","parms":{}}"#,
        ] {
            assert!(serde_json::from_str::<Change>(text).is_err(), "{text}");
        }
        assert!(serde_json::from_str::<Overrides>(r#"{"internet":true}"#).is_err());
    }
}
