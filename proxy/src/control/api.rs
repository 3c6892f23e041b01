//! The JSON of the control socket, the same for the server and its clients.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sluicegate_policy::Effective;
use utoipa::ToSchema;

use crate::approvals::{Pending, Remembered};

/// How an instance is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Status {
    /// Its name.
    pub instance: String,
    /// The container that it serves; the instance's name unless it was told another.
    pub container_id: String,
    /// What it was told to tell handlers.
    pub labels: BTreeMap<String, String>,
    /// The gate's process.
    pub pid: u32,
    /// The program's version.
    pub version: String,
    /// The policy in force.
    pub generation: String,
    /// `enforce`, or `audit` where refusals are only logged.
    pub mode: String,
    /// Where the policy comes from.
    pub policy: PolicyOrigin,
    /// When the instance began.
    #[serde(with = "rfc3339")]
    #[schema(value_type = String, format = DateTime)]
    pub started: SystemTime,
    /// Requests begun so far.
    pub requests: u64,
    /// The audit log; none on standard output.
    #[schema(value_type = Option<String>)]
    pub log_file: Option<PathBuf>,
    /// Whether the log can be written; while it cannot, requests are refused.
    pub log_healthy: bool,
    /// Whether something was changed at run time that is not in the document.
    pub overridden: bool,
    /// Requests that wait for a person.
    pub approvals_pending: usize,
    /// Whether changes to the document's file are followed.
    pub watching: bool,
}

/// Where the policy in force comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PolicyOrigin {
    /// What it is.
    pub source: PolicySource,
    /// The document's file; of an upload, the file it was read from by who uploaded it.
    #[schema(value_type = Option<String>)]
    pub file: Option<PathBuf>,
}

/// What a policy in force is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum PolicySource {
    /// The document that the instance was started with.
    Document,
    /// One that was uploaded since.
    Upload,
    /// There is none, so everything is refused.
    None,
}

/// What came of a change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Published {
    /// The policy in force now.
    pub generation: String,
    /// The one before.
    pub previous: String,
    /// Whether they differ.
    pub changed: bool,
    /// What is legal and probably not meant.
    pub warnings: Vec<String>,
}

/// The whole policy in force, line by line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EffectivePolicy {
    /// Its generation.
    pub generation: String,
    /// What it says.
    pub entries: Vec<EffectiveEntry>,
}

/// One thing that the policy in force says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EffectiveEntry {
    /// What it is about, such as `allowed_hosts` or `rules.read`.
    pub key: String,
    /// What it says, in words of the document; never a secret's value.
    pub value: String,
    /// Where it comes from.
    pub source: Source,
}

/// Where something in force comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// The document.
    Document {
        /// Its name.
        file: String,
        /// The line, from 1.
        line: usize,
    },
    /// A change at run time.
    Runtime,
    /// Nobody said so.
    Default,
}

/// The handlers that can be set, and those that are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Handlers {
    /// Those of `outbound_handlers`, which can be set by name.
    pub available: Vec<EffectiveEntry>,
    /// What is set: `outbound` and `outbound_by_host`, by the document or at run time.
    pub bound: Vec<EffectiveEntry>,
}

impl Handlers {
    /// What `effective` says of handlers.
    pub fn of(effective: Effective) -> Self {
        let mut handlers = Self::default();
        for entry in effective.entries.into_iter().map(EffectiveEntry::from) {
            let part = entry.key.split('.').next().unwrap_or_default();
            match part {
                "outbound_handlers" => handlers.available.push(entry),
                "outbound" | "outbound_by_host" => handlers.bound.push(entry),
                _ => {}
            }
        }
        handlers
    }
}

impl From<sluicegate_policy::EffectiveEntry> for EffectiveEntry {
    fn from(entry: sluicegate_policy::EffectiveEntry) -> Self {
        let source = match entry.source {
            sluicegate_policy::Source::Document { file, line } => {
                Source::Document { file: file.into(), line }
            }
            sluicegate_policy::Source::Runtime => Source::Runtime,
            sluicegate_policy::Source::Default => Source::Default,
        };
        Self { key: entry.key, value: entry.value, source }
    }
}

/// A policy document with the files it names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UploadedPolicy {
    /// The document's absolute path, for messages; relative paths of secrets and certificates begin in
    /// its folder. The gate does not read it.
    #[schema(value_type = String)]
    pub file: PathBuf,
    /// Its text.
    pub document: String,
    /// The text of each script and JavaScript file, by its path as the document writes it.
    #[serde(default)]
    pub scripts: BTreeMap<String, String>,
    /// The SHA-256 of each WebAssembly component, likewise, in hexadecimal. The gate has those that were sent to
    /// `/v1/components` in the last ten minutes, those of policies in force in that time, and the document's.
    #[serde(default)]
    pub components: BTreeMap<String, String>,
}

/// A request to judge, which is not made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TestQuestion {
    /// The method.
    #[serde(default = "get")]
    pub method: String,
    /// The full URL, `http` or `https`; `tcp://host:port` or `udp://host:port` for a flow.
    pub url: String,
}

fn get() -> String {
    "GET".to_owned()
}

/// What would happen to a request, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Explained {
    /// `forward`, `handle`, `ask`, `respond` or `refuse`.
    pub verdict: String,
    /// Of a refusal, the reason that the log would name.
    pub reason: Option<String>,
    /// The same in words.
    pub detail: Option<String>,
    /// The rule that decides.
    pub rule: Option<String>,
    /// The handler that the request is given to, or that refuses.
    pub handler: Option<String>,
    /// The reason of what would be refused if it were not for `mode = "audit"`.
    pub would_refuse: Option<String>,
    /// What was looked at, in order.
    pub steps: Vec<ExplainedStep>,
}

/// One thing that was looked at to judge a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ExplainedStep {
    /// What was looked at, such as `denied_hosts`.
    pub step: String,
    /// What came of it, such as `passes` or `refuses`.
    pub outcome: String,
    /// Why, in words.
    pub because: String,
    /// Where that stands.
    pub source: Option<Source>,
}

/// A handler to set at run time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct HandlerSetting {
    /// A name of `outbound_handlers`.
    pub handler: String,
    /// What the handler finds in `ctx.params`, in place of what the document says.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub params: Value,
}

/// A list of hosts, as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct HostPatterns {
    /// The patterns, written as in the document.
    pub patterns: Vec<String>,
}

/// A person's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ApprovalAnswer {
    /// Whether the request may go on.
    pub allow: bool,
    /// For how long the same question is answered the same, in seconds: 1 to 31,536,000, a year.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 31_536_000)]
    pub remember_seconds: Option<u64>,
    /// Whether it is answered the same for good; not together with `remember_seconds`.
    #[serde(default)]
    pub always: bool,
}

/// Keys of a binding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Keys {
    /// In order.
    pub keys: Vec<String>,
}

/// Something that has happened, as `GET /v1/events` tells it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// A request waits for a person.
    ApprovalAsked(Pending),
    /// A person has answered.
    ApprovalDecided {
        /// Which question.
        id: String,
        /// What.
        allow: bool,
        /// Who.
        by: String,
    },
    /// Nobody has answered in time, or the workload no longer waits.
    ApprovalLapsed {
        /// Which question.
        id: String,
    },
    /// Another policy is in force.
    PolicyPublished {
        /// It.
        generation: String,
        /// The one before.
        previous: String,
        /// Who changed it.
        by: String,
    },
    /// A policy was to be put in force and was refused; the one before stays.
    PolicyRefused {
        /// Why, in words.
        error: String,
    },
    /// The reader was too slow, and what happened in between is not told.
    Lagged {
        /// How many events were left out.
        missed: u64,
    },
}

impl Event {
    /// The name under which it is told; the same as in the JSON.
    pub fn name(&self) -> &'static str {
        match self {
            Self::ApprovalAsked(_) => "approval_asked",
            Self::ApprovalDecided { .. } => "approval_decided",
            Self::ApprovalLapsed { .. } => "approval_lapsed",
            Self::PolicyPublished { .. } => "policy_published",
            Self::PolicyRefused { .. } => "policy_refused",
            Self::Lagged { .. } => "lagged",
        }
    }
}

/// Why something was not done: problem details of RFC 9457, sent as `application/problem+json`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProblemAnswer {
    /// What kind of problem it is: `sluicegate:` and a stable word.
    #[serde(rename = "type")]
    pub kind: String,
    /// The kind in words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// This case in words.
    pub detail: String,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// The SHA-256 of the components that the gate does not have: send them and ask again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<String>,
    /// Of a policy that was refused, what is wrong with it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<PolicyProblem>,
    /// The same as a picture of the lines with carets below, without colours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rendered: Option<String>,
}

/// One thing that is wrong with a policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PolicyProblem {
    /// The document or the script.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub help: Option<String>,
    /// `error` or `warning`.
    pub severity: String,
}

/// What was answered before and still counts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RememberedAnswers {
    /// In the order in which they were given.
    pub remembered: Vec<Remembered>,
}

/// What waits for an answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PendingApprovals {
    /// In the order in which they were asked.
    pub pending: Vec<Pending>,
}

/// A point in time as text: RFC 3339, UTC, milliseconds.
pub mod rfc3339 {
    use std::time::SystemTime;

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    /// Writes the time.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&humantime::format_rfc3339_millis(*time))
    }

    /// Reads the time.
    ///
    /// # Errors
    /// When the text is no time.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SystemTime, D::Error> {
        let text = String::deserialize(deserializer)?;
        humantime::parse_rfc3339(&text).map_err(D::Error::custom)
    }

    /// The same for a time that may be missing.
    pub mod option {
        use std::time::SystemTime;

        use serde::{Deserialize, Deserializer, Serializer, de::Error};

        /// Writes the time or null.
        ///
        /// # Errors
        /// Those of the serializer.
        pub fn serialize<S: Serializer>(time: &Option<SystemTime>, serializer: S) -> Result<S::Ok, S::Error> {
            match time {
                Some(time) => super::serialize(time, serializer),
                None => serializer.serialize_none(),
            }
        }

        /// Reads the time or null.
        ///
        /// # Errors
        /// When the text is no time.
        pub fn deserialize<'de, D: Deserializer<'de>>(
            deserializer: D,
        ) -> Result<Option<SystemTime>, D::Error> {
            let text = Option::<String>::deserialize(deserializer)?;
            text.map(|text| humantime::parse_rfc3339(&text).map_err(D::Error::custom)).transpose()
        }
    }
}
