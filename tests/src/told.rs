//! What a client was told, and what the log says of it.

use serde_json::Value;

use crate::job::Outcome;

/// A curl that prints the body, a line end, the status and the reason of a refusal.
pub fn curl<'a>(arguments: &[&'a str]) -> Vec<&'a str> {
    let own = ["curl", "-sS", "--max-time", "50", "-w", "\n%{http_code} %header{x-sluicegate-reason}"];
    [&own, arguments].concat()
}

/// What [`curl`] printed: the body, and the rest.
#[track_caller]
pub fn answer(outcome: &Outcome) -> (&str, &str) {
    outcome.assert_success();
    outcome.stdout.rsplit_once('\n').unwrap_or_else(|| panic!("not from curl: {outcome:?}"))
}

/// Fails unless the record has these fields; null stands for one that is not there.
#[track_caller]
pub fn assert_line(record: &Value, fields: &Value) {
    for (name, value) in fields.as_object().expect("an object of fields") {
        assert_eq!(&record[name], value, "{name} in {record:#}");
    }
}

/// The lines of one kind.
pub fn of_kind<'a>(log: &'a [Value], kind: &str) -> Vec<&'a Value> {
    log.iter().filter(|line| line["kind"] == kind).collect()
}
