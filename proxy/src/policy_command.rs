//! `sluicegate policy`: check a document, print its schema. Starts nothing and reads no secret.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::Subcommand;
use serde_json::json;
use sluicegate_policy::{Problem, Severity, document_schema};

use crate::causes::in_words;
use crate::exit;
use crate::instance::{InstanceError, Loaded};
use crate::report;

/// The commands below `sluicegate policy`.
#[derive(Debug, Subcommand)]
pub enum PolicyCommand {
    /// Check a policy document without starting anything
    #[command(after_help = "Exits with 0 when the document compiles and 78 when it does not.\n\n\
        Examples:\n  sluicegate policy check sluicegate.toml\n  \
        sluicegate policy check --json sluicegate.toml | jq .problems")]
    Check {
        /// The document
        file: PathBuf,
        /// Print the result as one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Print the JSON Schema of the policy document, for editors
    #[command(after_help = "Example:\n  sluicegate policy schema > sluicegate.schema.json")]
    Schema,
}

/// Runs a policy command and returns its exit code.
///
/// # Errors
/// When the result cannot be printed.
pub fn run(command: &PolicyCommand) -> io::Result<u8> {
    match command {
        PolicyCommand::Check { file, json } => check(file, *json),
        PolicyCommand::Schema => {
            let schema = serde_json::to_string_pretty(&document_schema())?;
            writeln!(io::stdout(), "{schema}")?;
            Ok(exit::OK)
        }
    }
}

fn check(file: &PathBuf, as_json: bool) -> io::Result<u8> {
    let loaded = match Loaded::read(Some(file)) {
        Ok(loaded) => loaded,
        Err(error) if as_json => {
            let problems = match &error {
                InstanceError::Policy(error) => error.problems().iter().map(problem).collect(),
                other => vec![json!({ "severity": "error", "message": in_words(other) })],
            };
            writeln!(io::stdout(), "{}", json!({ "ok": false, "file": file, "problems": problems }))?;
            return Ok(error.exit_code());
        }
        Err(error) => {
            report::error(&error);
            return Ok(error.exit_code());
        }
    };
    let summary = loaded.policy.summary();
    if as_json {
        let problems: Vec<_> = loaded.warnings.iter().map(problem).collect();
        let generation = loaded.policy.generation();
        let result = json!({ "ok": true, "file": file, "generation": generation, "problems": problems });
        writeln!(io::stdout(), "{result}")?;
    } else {
        report::warnings(file, &loaded.warnings);
        writeln!(io::stdout(), "{}: ok ({})", file.display(), report::summary(&summary))?;
    }
    Ok(exit::OK)
}

fn problem(problem: &Problem) -> serde_json::Value {
    let severity = match problem.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    };
    json!({
        "severity": severity,
        "message": problem.message,
        "line": problem.line,
        "column": problem.column,
        "help": problem.help,
    })
}
