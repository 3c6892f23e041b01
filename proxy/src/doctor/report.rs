//! What the doctor found, line by line, for a terminal and as JSON.
//!
//! **Invariant:** what is printed for a terminal holds no character that it acts upon: names of processes
//! and paths are chosen by who is looked at.

use std::fmt::{self, Display, Formatter};

use serde::Serialize;

use crate::audit::view::Escaped;

/// How one thing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum State {
    /// As it should be.
    Ok,
    /// It works, and is less tight than it could be.
    Warning,
    /// Something is missing, or is a way round the gate.
    Problem,
    /// It could not be looked at; counts as a warning.
    Unknown,
}

/// One thing that was looked at.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Check {
    /// What was looked at; stays the same between versions.
    pub(super) id: String,
    /// How it is.
    pub(super) state: State,
    /// What was seen, or why nothing could be seen.
    pub(super) found: String,
    /// What that means, in one sentence.
    pub(super) meaning: &'static str,
    /// What to do; nothing where all is well.
    pub(super) remedy: Option<String>,
}

impl Check {
    /// All is well.
    pub(super) fn ok(id: impl Into<String>, found: impl Into<String>, meaning: &'static str) -> Self {
        Self { id: id.into(), state: State::Ok, found: found.into(), meaning, remedy: None }
    }

    /// Not all is well, and this can be done about it.
    pub(super) fn not_ok(
        state: State,
        (id, found): (impl Into<String>, impl Into<String>),
        meaning: &'static str,
        remedy: impl Into<String>,
    ) -> Self {
        Self { id: id.into(), state, found: found.into(), meaning, remedy: Some(remedy.into()) }
    }
}

/// Everything that was looked at.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// Whether there is no problem; warnings there may be.
    pub(super) ok: bool,
    /// In the order in which it was looked at.
    pub(super) checks: Vec<Check>,
}

impl Report {
    pub(super) fn new(checks: Vec<Check>) -> Self {
        let ok = checks.iter().all(|check| check.state != State::Problem);
        Self { ok, checks }
    }

    fn count(&self, states: &[State]) -> usize {
        self.checks.iter().filter(|check| states.contains(&check.state)).count()
    }
}

impl Display for State {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Problem => "problem",
            Self::Unknown => "unknown",
        })
    }
}

impl Display for Report {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        let width = self.checks.iter().map(|check| check.id.len()).max().unwrap_or_default();
        for check in &self.checks {
            let Check { id, state, found, meaning, remedy } = check;
            writeln!(formatter, "{state:7}  {id:width$}  {}", Escaped(found))?;
            if let Some(remedy) = remedy {
                let indent = width + 11;
                writeln!(formatter, "{:indent$}{meaning}", "")?;
                writeln!(formatter, "{:indent$}remedy: {}", "", Escaped(remedy))?;
            }
        }
        let problems = counted(self.count(&[State::Problem]), "problem");
        let warnings = counted(self.count(&[State::Warning, State::Unknown]), "warning");
        writeln!(formatter, "{problems}, {warnings}")
    }
}

fn counted(count: usize, what: &str) -> String {
    match count {
        0 => format!("no {what}"),
        1 => format!("1 {what}"),
        count => format!("{count} {what}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_problem_is_not_ok() {
        let check = |state| Check::not_ok(state, ("x", "y"), "z", "r");
        assert!(Report::new(vec![]).ok);
        assert!(Report::new(vec![check(State::Warning), check(State::Unknown)]).ok);
        assert!(!Report::new(vec![check(State::Warning), check(State::Problem)]).ok);
    }

    #[test]
    fn lines_are_aligned_and_cannot_move_the_cursor() {
        let report = Report::new(vec![
            Check::ok("kernel", "6.18", "is new enough"),
            Check::not_ok(
                State::Warning,
                ("no_new_privileges", "off\u{1b}[2J"),
                "it may gain some",
                "set it",
            ),
            Check::not_ok(State::Unknown, ("ipc", "why"), "it is not known", "be root"),
        ]);
        let expected = "\
ok       kernel             6.18
warning  no_new_privileges  off\\u{1b}[2J
                            it may gain some
                            remedy: set it
unknown  ipc                why
                            it is not known
                            remedy: be root
no problem, 2 warnings
";
        assert_eq!(report.to_string(), expected);
    }

    #[test]
    fn json_has_a_remedy_in_every_line() {
        let report = Report::new(vec![Check::ok("kernel", "6.18", "is new enough")]);
        let expected = serde_json::json!({ "ok": true, "checks": [
            { "id": "kernel", "state": "ok", "found": "6.18", "meaning": "is new enough", "remedy": null },
        ]});
        assert_eq!(serde_json::to_value(&report).unwrap(), expected);
    }
}
