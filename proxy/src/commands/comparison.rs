//! What another policy would have decided about the requests of a log.
//!
//! Only what the policy decides is compared: a refusal for another reason, such as a malformed
//! request, is no policy's doing, and a refusal stays one whatever its reason. Names are not
//! resolved again, so what an address decided at the time is taken as it was.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};

use http::Method;
use serde::{Deserialize, Serialize, Serializer};
use sluicegate_policy::{Authority, Host, Policy, RequestFacts, Scheme, Verdict};

/// Changes that are told apart; more are only counted. A log may hold a path for every request.
const CHANGES_MAX: usize = 10_000;

/// The refusals that a policy decides by itself, from the request alone.
const POLICY_REASONS: [&str; 6] = [
    "ambiguous_path",
    "denied_by_rule",
    "denied_host",
    "no_rule_matches",
    "not_in_allowed_hosts",
    "not_named",
];

/// The refusal that a handler decides.
const HANDLER_REASON: &str = "denied_by_handler";

/// What becomes of a request.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Outcome {
    /// It is sent on.
    Allowed,
    /// A rule answers it.
    Answered,
    /// It waits for a person.
    Asked,
    /// A handler of this name has it.
    Handled(String),
    /// It is refused, for this reason.
    Refused(String),
}

/// A request and what becomes of it, before and after.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) struct Change {
    pub(crate) method: String,
    pub(crate) scheme: &'static str,
    pub(crate) authority: String,
    pub(crate) path: String,
    pub(crate) before: Outcome,
    pub(crate) after: Outcome,
}

/// Judges a log line by line.
#[derive(Debug)]
pub(crate) struct Comparison<'policy> {
    /// Decides "before" in place of what was recorded.
    old: Option<&'policy Policy>,
    new: &'policy Policy,
    changes: BTreeMap<Change, u64>,
    /// Requests that were judged again.
    pub(crate) judged: u64,
    /// Requests that cannot be: no policy decided them, or their path was cut.
    pub(crate) passed_over: u64,
    /// Requests that change.
    pub(crate) changed: u64,
}

/// The fields of a log line that matter here.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Line {
    kind: String,
    verdict: Option<String>,
    reason: Option<String>,
    handler: Option<String>,
    approval: Option<String>,
    scheme: Option<String>,
    method: Option<String>,
    host: Option<String>,
    port: Option<u16>,
    path: Option<String>,
}

/// What a record says of the request, read back.
struct Recorded {
    scheme: Scheme,
    method: Method,
    authority: Authority,
    path: String,
    /// `None` where no policy decided it.
    outcome: Option<Outcome>,
    handler: Option<String>,
    was_asked: bool,
}

impl<'policy> Comparison<'policy> {
    /// Compares what `new` decides with what `old` does, or else with what was recorded.
    pub(crate) fn new(old: Option<&'policy Policy>, new: &'policy Policy) -> Self {
        Self { old, new, changes: BTreeMap::new(), judged: 0, passed_over: 0, changed: 0 }
    }

    /// Judges one line of a log; what is no record of a request is not counted.
    pub(crate) fn line(&mut self, line: &[u8]) {
        let Some(line) = serde_json::from_slice::<Line>(line).ok().filter(|line| line.kind == "exchange")
        else {
            return;
        };
        let Some((recorded, before)) = Recorded::read(line).and_then(|recorded| {
            let before = match self.old {
                Some(old) => recorded.judged_by(old),
                None => recorded.outcome.clone()?,
            };
            Some((recorded, before))
        }) else {
            self.passed_over += 1;
            return;
        };
        self.judged += 1;
        let after = recorded.judged_by(self.new);
        let is_recorded = self.old.is_none() && recorded.agrees_with(&after);
        if is_recorded || !differ(&before, &after) {
            return;
        }
        self.changed += 1;
        let change = recorded.changed(before, after);
        if self.changes.len() < CHANGES_MAX || self.changes.contains_key(&change) {
            *self.changes.entry(change).or_default() += 1;
        }
    }

    /// The changes with how many requests each stands for, the most frequent first.
    pub(crate) fn changes(&self) -> Vec<(&Change, u64)> {
        let mut changes: Vec<_> = self.changes.iter().map(|(change, count)| (change, *count)).collect();
        changes.sort_by_key(|&(_, count)| std::cmp::Reverse(count));
        changes
    }

    /// Requests that change and are not among [`Self::changes`], which has too many.
    pub(crate) fn untold(&self) -> u64 {
        self.changed - self.changes.values().sum::<u64>()
    }
}

/// Whether it matters; one reason to refuse is as good as another.
fn differ(before: &Outcome, after: &Outcome) -> bool {
    let both_refuse = matches!((before, after), (Outcome::Refused(_), Outcome::Refused(_)));
    !both_refuse && before != after
}

impl Recorded {
    /// `None` where the record does not hold what a policy looks at, or not all of it.
    fn read(line: Line) -> Option<Self> {
        let scheme = match line.scheme.as_deref()? {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            _ => return None,
        };
        // The log marks what it cut.
        let path = line.path.filter(|path| !path.ends_with('…'))?;
        let outcome = outcome(line.verdict.as_deref()?, line.reason, &line.handler, line.approval.is_some());
        Some(Self {
            scheme,
            method: line.method?.parse().ok()?,
            authority: Authority { host: Host::parse(&line.host?).ok()?, port: line.port? },
            path,
            outcome,
            handler: line.handler,
            was_asked: line.approval.is_some(),
        })
    }

    fn judged_by(&self, policy: &Policy) -> Outcome {
        let decision = policy.decide(&RequestFacts {
            scheme: self.scheme,
            authority: &self.authority,
            method: &self.method,
            path: &self.path,
            carries_dns: false,
        });
        match decision.verdict {
            Verdict::Refuse(refusal) => Outcome::Refused(refusal.reason.as_str().to_owned()),
            _ if decision.ask.is_some() => Outcome::Asked,
            Verdict::Forward(_) => Outcome::Allowed,
            Verdict::Respond(_) => Outcome::Answered,
            Verdict::Handle(handler, _) => Outcome::Handled(handler.name.to_string()),
        }
    }

    /// Whether the record is of just this, under another name: a request that a rule had asked about
    /// and a handler then had, or one that a handler refused.
    fn agrees_with(&self, after: &Outcome) -> bool {
        match after {
            Outcome::Asked => self.was_asked,
            Outcome::Handled(name) => self.handler.as_ref() == Some(name),
            _ => false,
        }
    }

    fn changed(self, before: Outcome, after: Outcome) -> Change {
        Change {
            method: self.method.as_str().to_owned(),
            scheme: self.scheme.as_str(),
            authority: self.authority.to_string(),
            path: self.path,
            before,
            after,
        }
    }
}

/// What the policy of the time decided; `None` where something else did.
fn outcome(
    verdict: &str,
    reason: Option<String>,
    handler: &Option<String>,
    was_asked: bool,
) -> Option<Outcome> {
    if let Some(reason) = reason.filter(|_| verdict == "refused") {
        let by_policy = POLICY_REASONS.contains(&reason.as_str()) && handler.is_none();
        if by_policy || reason == HANDLER_REASON {
            return Some(Outcome::Refused(reason));
        }
        return match handler {
            Some(name) => Some(Outcome::Handled(name.clone())),
            None => was_asked.then_some(Outcome::Asked),
        };
    }
    match (verdict, handler) {
        ("allowed" | "failed" | "answered", Some(name)) => Some(Outcome::Handled(name.clone())),
        ("allowed" | "failed" | "answered", None) if was_asked => Some(Outcome::Asked),
        ("allowed" | "failed", None) => Some(Outcome::Allowed),
        ("answered", None) => Some(Outcome::Answered),
        _ => None,
    }
}

impl Display for Outcome {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Allowed => formatter.write_str("allowed"),
            Self::Answered => formatter.write_str("answered by a rule"),
            Self::Asked => formatter.write_str("asks a person"),
            Self::Handled(name) => write!(formatter, "handled by {name}"),
            Self::Refused(reason) => write!(formatter, "refused ({reason})"),
        }
    }
}

impl Serialize for Outcome {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use sluicegate_policy::NoSources;

    use super::*;

    fn policy(text: &str) -> Policy {
        Policy::compile("sluicegate.toml", &format!("version = 1\n{text}"), &NoSources).unwrap().policy
    }

    fn record(method: &str, host: &str, path: &str, rest: &str) -> String {
        format!(
            r#"{{"kind":"exchange","scheme":"https","method":"{method}","host":"{host}","port":443,"path":"{path}",{rest}}}"#
        )
    }

    /// The changes as text, and how many requests were judged and passed over.
    fn compared(old: Option<&Policy>, new: &Policy, log: &[String]) -> (Vec<String>, u64, u64) {
        let mut comparison = Comparison::new(old, new);
        log.iter().for_each(|line| comparison.line(line.as_bytes()));
        let changes = comparison.changes().into_iter().map(|(change, count)| {
            let Change { method, scheme, authority, path, before, after } = change;
            format!("{count} {method} {scheme}://{authority}{path}: {before} -> {after}")
        });
        (changes.collect(), comparison.judged, comparison.passed_over)
    }

    const ALLOWED: &str = r#""verdict":"allowed","status":200"#;

    #[test]
    fn requests_that_are_decided_otherwise_are_grouped_and_counted() {
        let new = policy("allowed_hosts = ['kept.test', 'opened.test']");
        let log = [
            record("GET", "kept.test", "/", ALLOWED),
            record("GET", "lost.test", "/a", ALLOWED),
            record("GET", "opened.test", "/", r#""verdict":"refused","reason":"not_named""#),
            record("GET", "lost.test", "/a", ALLOWED),
            record("POST", "2001:db8::1", "/", r#""verdict":"failed","reason":"connect_failed""#),
        ];
        let (changes, judged, passed_over) = compared(None, &new, &log);
        assert_eq!(
            changes,
            [
                "2 GET https://lost.test:443/a: allowed -> refused (not_in_allowed_hosts)",
                "1 GET https://opened.test:443/: refused (not_named) -> allowed",
                "1 POST https://[2001:db8::1]:443/: allowed -> refused (not_in_allowed_hosts)",
            ]
        );
        assert_eq!((judged, passed_over), (5, 0));
    }

    #[test]
    fn another_reason_to_refuse_is_no_change() {
        let new = policy("denied_hosts = ['a.test']");
        let log = [record("GET", "a.test", "/", r#""verdict":"refused","reason":"not_named""#)];
        assert_eq!(compared(None, &new, &log), (vec![], 1, 0));
    }

    #[test]
    fn what_no_policy_decided_is_passed_over() {
        let new = policy("internet = true");
        let log = [
            record("GET", "a.test", "/", r#""verdict":"refused","reason":"malformed_request""#),
            record("GET", "a.test", "/", r#""verdict":"refused","reason":"abandoned""#),
            record("GET", "a.test", "/x…", ALLOWED),
            r#"{"kind":"exchange","verdict":"refused","reason":"not_named"}"#.to_owned(),
            r#"{"kind":"dns","verdict":"refused","host":"a.test"}"#.to_owned(),
            "no json".to_owned(),
        ];
        assert_eq!(compared(None, &new, &log), (vec![], 0, 4));
    }

    #[test]
    fn an_old_policy_stands_in_for_the_record() {
        let (old, new) = (policy("internet = true"), policy("allowed_hosts = ['a.test']"));
        let log = [
            record("GET", "a.test", "/", r#""verdict":"refused","reason":"not_named""#),
            record("GET", "b.test", "/", r#""verdict":"refused","reason":"malformed_request""#),
        ];
        let (changes, judged, passed_over) = compared(Some(&old), &new, &log);
        assert_eq!(changes, ["1 GET https://b.test:443/: allowed -> refused (not_in_allowed_hosts)"]);
        assert_eq!((judged, passed_over), (2, 0));
    }

    #[test]
    fn a_rule_that_answers_or_asks_is_told() {
        let new = policy(
            "[[rules]]\nhost = 'fixed.test'\nrespond = { status = 204 }\n\
             [[rules]]\nhost = 'asked.test'\nask = 'really?'\n",
        );
        let log = [
            record("GET", "fixed.test", "/", ALLOWED),
            record("GET", "asked.test", "/new", ALLOWED),
            record("GET", "asked.test", "/", r#""verdict":"allowed","approval":"a1""#),
            record(
                "GET",
                "asked.test",
                "/",
                r#""verdict":"refused","reason":"approval_denied","approval":"a2""#,
            ),
        ];
        let (changes, ..) = compared(None, &new, &log);
        assert_eq!(
            changes,
            [
                "1 GET https://asked.test:443/new: allowed -> asks a person",
                "1 GET https://fixed.test:443/: allowed -> answered by a rule",
            ]
        );
    }

    #[test]
    fn a_handler_of_another_name_is_a_change() {
        let recorded = |handler: &str, rest: &str| {
            let line: Line = serde_json::from_str(&record(
                "GET",
                "a.test",
                "/",
                &format!(r#""handler":"{handler}",{rest}"#),
            ))
            .unwrap();
            Recorded::read(line).unwrap()
        };
        let same = Outcome::Handled("h.rhai".to_owned());
        let table = [
            ("h.rhai", ALLOWED, false),
            ("h.rhai", r#""verdict":"answered""#, false),
            ("h.rhai", r#""verdict":"refused","reason":"denied_by_handler""#, false),
            ("h.rhai", r#""verdict":"refused","reason":"handler_failed""#, false),
            ("other.rhai", ALLOWED, true),
            ("other.rhai", r#""verdict":"refused","reason":"denied_by_handler""#, true),
        ];
        for (handler, rest, changes) in table {
            let recorded = recorded(handler, rest);
            let before = recorded.outcome.clone().unwrap();
            let changed = !recorded.agrees_with(&same) && differ(&before, &same);
            assert_eq!(changed, changes, "{handler} {rest}");
        }
    }

    #[test]
    fn too_many_changes_are_only_counted() {
        let new = policy("");
        let mut comparison = Comparison::new(None, &new);
        for number in 0..CHANGES_MAX + 5 {
            comparison.line(record("GET", "a.test", &format!("/{number}"), ALLOWED).as_bytes());
        }
        assert_eq!(comparison.changes().len(), CHANGES_MAX);
        assert_eq!((comparison.changed, comparison.untold()), (CHANGES_MAX as u64 + 5, 5));
    }
}
