//! `sluicegate policy diff`: a log, judged again by another document.

use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::{Value, json};
use sluicegate_policy::Policy;

use super::comparison::{Change, Comparison};
use super::compiled::CompiledChoice;
use super::error::CommandError;
use super::select::InstanceChoice;
use super::table::Table;
use super::{note, print, print_json};

use crate::audit::view::LineReader;
use crate::control::api::Status;
use crate::document::Bundle;
use crate::exit;

/// How often a terminal is told how far the work is.
const PROGRESS_PAUSE: Duration = Duration::from_millis(250);

/// The options of `policy diff`.
#[derive(Args, Debug)]
pub(crate) struct DiffOptions {
    /// The document that may come
    new: PathBuf,
    /// The log; if not given, that of the running instance
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
    /// Compare with what this document decides, and not with what was recorded
    #[arg(long, value_name = "FILE")]
    old: Option<PathBuf>,
    #[command(flatten)]
    compiled: CompiledChoice,
    #[command(flatten)]
    choice: InstanceChoice,
    /// Print the changes with their counts as one JSON object
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(options: &DiffOptions) -> Result<u8, CommandError> {
    let programs = options.compiled.programs();
    let policy = |file: &PathBuf| Bundle::read(file, &programs).map(|(_, compiled)| compiled.policy);
    let new = policy(&options.new)?;
    let old = options.old.as_ref().map(policy).transpose()?;
    let log = match &options.log {
        Some(log) => log.clone(),
        None => instance_log(&options.choice)?,
    };
    let comparison = compare(log, old.as_ref(), &new)?;
    if options.json {
        print_json(&as_json(&comparison))?;
    } else {
        if comparison.changed > 0 {
            print(table(&comparison.changes()))?;
        }
        print(format_args!("{}\n", summary(&comparison)))?;
    }
    Ok(if comparison.changed > 0 { exit::NO } else { exit::OK })
}

fn instance_log(choice: &InstanceChoice) -> Result<PathBuf, CommandError> {
    let status: Status = choice.client()?.get("/v1/status")?;
    status.log_file.ok_or_else(|| {
        CommandError::Usage("the instance logs to standard output; name the log with --log FILE".into())
    })
}

fn compare<'policy>(
    log: PathBuf,
    old: Option<&'policy Policy>,
    new: &'policy Policy,
) -> Result<Comparison<'policy>, CommandError> {
    let failed = |source| CommandError::File { path: log.clone(), source };
    let mut lines = LineReader::new(File::open(&log).map_err(failed)?);
    let mut comparison = Comparison::new(old, new);
    let mut progress = Progress::begin();
    while let Some(line) = lines.next_line().map_err(failed)? {
        comparison.line(line);
        progress.at(comparison.judged);
    }
    progress.end();
    Ok(comparison)
}

fn table(changes: &[(&Change, u64)]) -> Table<4> {
    let mut table = Table::new(["COUNT", "REQUEST", "BEFORE", "AFTER"]);
    for (change, count) in changes {
        let Change { method, scheme, authority, path, before, after } = change;
        table.row([
            &count.to_string(),
            &format!("{method} {scheme}://{authority}{path}"),
            &before.to_string(),
            &after.to_string(),
        ]);
    }
    table
}

fn summary(comparison: &Comparison<'_>) -> String {
    let Comparison { judged, passed_over, changed, .. } = comparison;
    let mut text = format!("{changed} of {judged} requests change");
    if *passed_over > 0 {
        text.push_str(&format!("; {passed_over} were decided by no policy and are passed over"));
    }
    if comparison.untold() > 0 {
        text.push_str(&format!("; {} of the changes are only counted", comparison.untold()));
    }
    text
}

fn as_json(comparison: &Comparison<'_>) -> Value {
    let changes = comparison.changes().into_iter().map(|(change, count)| {
        let Change { method, scheme, authority, path, before, after } = change;
        json!({
            "count": count, "method": method, "scheme": scheme, "authority": authority, "path": path,
            "before": before, "after": after,
        })
    });
    json!({
        "judged": comparison.judged,
        "changed": comparison.changed,
        "passed_over": comparison.passed_over,
        "untold": comparison.untold(),
        "changes": changes.collect::<Vec<_>>(),
    })
}

/// A line on the terminal that is written over again and again; nothing where there is none.
struct Progress {
    is_shown: bool,
    last: Instant,
    was_told: bool,
}

impl Progress {
    fn begin() -> Self {
        Self { is_shown: io::stderr().is_terminal(), last: Instant::now(), was_told: false }
    }

    fn at(&mut self, judged: u64) {
        if self.is_shown && self.last.elapsed() >= PROGRESS_PAUSE {
            self.last = Instant::now();
            self.was_told = true;
            drop(write!(io::stderr(), "\r{judged} requests "));
        }
    }

    fn end(self) {
        if self.was_told {
            note("");
        }
    }
}

#[cfg(test)]
mod tests {
    use sluicegate_policy::NoSources;

    use super::*;

    #[test]
    fn a_log_is_read_and_summed_up() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log.jsonl");
        let record = |host: &str| {
            format!(
                r#"{{"kind":"exchange","verdict":"allowed","scheme":"https","method":"GET","host":"{host}","port":443,"path":"/"}}"#
            )
        };
        let torn = r#"{"kind":"exch"#;
        let malformed = r#"{"kind":"exchange","verdict":"refused","reason":"malformed_request"}"#;
        let text =
            [&*record("a.test"), &*record("b.test"), &*record("b.test"), malformed, torn].map(String::from);
        std::fs::write(&log, text.join("\n")).unwrap();
        let document = "version = 1\nallowed_hosts = [\"a.test\"]\n";
        let new = Policy::compile("new.toml", document, &NoSources).unwrap().policy;
        let comparison = compare(log, None, &new).unwrap();
        assert_eq!(
            table(&comparison.changes()).to_string(),
            "COUNT  REQUEST                  BEFORE   AFTER\n\
             2      GET https://b.test:443/  allowed  refused (not_in_allowed_hosts)\n"
        );
        assert_eq!(
            summary(&comparison),
            "2 of 3 requests change; 1 were decided by no policy and are passed over"
        );
        assert_eq!(
            as_json(&comparison),
            json!({
                "judged": 3, "changed": 2, "passed_over": 1, "untold": 0,
                "changes": [{
                    "count": 2, "method": "GET", "scheme": "https", "authority": "b.test:443", "path": "/",
                    "before": "allowed", "after": "refused (not_in_allowed_hosts)",
                }],
            })
        );
    }
}
