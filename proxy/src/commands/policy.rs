//! `sluicegate policy`: documents on disk, and the policy of a running instance.
//!
//! `check` and `schema` start nothing, ask nobody and read no secret.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::json;
use sluicegate_policy::{Problem, document_schema};

use super::error::CommandError;
use super::{policy_diff, policy_get, policy_set, policy_test, print, print_json};
use crate::causes::in_words;
use crate::document::{Bundle, DocumentError};
use crate::{exit, report};

/// The commands below `sluicegate policy`.
#[derive(Debug, Subcommand)]
pub(crate) enum PolicyCommand {
    /// Show the policy in force, with where each line comes from
    #[command(after_help = "Examples:\n  sluicegate policy get\n  \
        sluicegate policy get --json | jq -r '.entries[] | select(.source == \"runtime\")'")]
    Get(policy_get::GetOptions),
    /// Put a document in force in place of the one of the start, without a restart
    #[command(
        after_help = "The document and the scripts that it names are read here and sent; it is all put in force, or\n\
        nothing is. What `host` and `handler` have changed stays. Requests under way end under the policy\n\
        they began with.\n\n\
        Examples:\n  sluicegate policy set --check new.toml\n  sluicegate policy set new.toml"
    )]
    Set(policy_set::SetOptions),
    /// Go back to the document that the instance was started with, read anew
    #[command(after_help = "Examples:\n  sluicegate policy reset\n  sluicegate policy reset --all")]
    Reset(policy_set::ResetOptions),
    /// Check a policy document and its scripts without starting anything
    #[command(after_help = "Exits with 0 when the document compiles and 78 when it does not.\n\n\
        Examples:\n  sluicegate policy check sluicegate.toml\n  \
        sluicegate policy check --json sluicegate.toml | jq .problems")]
    Check(CheckOptions),
    /// Tell what would happen to a request, without sending it
    #[command(
        after_help = "Exits with 0 when the request would pass, be answered, handled or asked about, and with 1 when it\n\
        would be refused.\n\n\
        Examples:\n  sluicegate policy test https://api.example.org/v1/me\n  \
        sluicegate policy test --policy new.toml --method DELETE --explain https://api.example.org/v1/me"
    )]
    Test(policy_test::TestOptions),
    /// Tell which requests of a log another document would decide otherwise
    #[command(
        after_help = "Compares what NEW decides with what was recorded, or with what --old decides. Names are not\n\
        resolved, no secret is read, nothing is sent. Exits with 0 when nothing changes and 1 when something\n\
        does.\n\n\
        Examples:\n  sluicegate policy diff new.toml\n  \
        sluicegate policy diff new.toml --old sluicegate.toml --log box.jsonl"
    )]
    Diff(policy_diff::DiffOptions),
    /// Print the JSON Schema of the policy document, for editors
    #[command(after_help = "Example:\n  sluicegate policy schema > sluicegate.schema.json")]
    Schema,
}

/// The options of `policy check`.
#[derive(Args, Debug)]
pub(crate) struct CheckOptions {
    /// The document
    file: PathBuf,
    /// Print the result as one JSON object
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(command: &PolicyCommand) -> Result<u8, CommandError> {
    match command {
        PolicyCommand::Get(options) => policy_get::run(options),
        PolicyCommand::Set(options) => policy_set::set(options),
        PolicyCommand::Reset(options) => policy_set::reset(options),
        PolicyCommand::Check(options) => check(&options.file, options.json),
        PolicyCommand::Test(options) => policy_test::run(options),
        PolicyCommand::Diff(options) => policy_diff::run(options),
        PolicyCommand::Schema => schema(),
    }
}

fn schema() -> Result<u8, CommandError> {
    let schema = serde_json::to_string_pretty(&document_schema())
        .map_err(|error| CommandError::Print(error.into()))?;
    writeln!(io::stdout(), "{schema}").map_err(CommandError::Print)?;
    Ok(exit::OK)
}

fn check(file: &Path, as_json: bool) -> Result<u8, CommandError> {
    let compiled = match Bundle::read(file) {
        Ok((_, compiled)) => compiled,
        Err(error) if as_json => {
            let problems = match &error {
                DocumentError::Policy(error) => json!(error.problems()),
                other => json!([{ "severity": "error", "message": in_words(other) }]),
            };
            print_json(&json!({ "ok": false, "file": file, "problems": problems }))?;
            return Ok(exit::CONFIGURATION);
        }
        Err(error) => return Err(error.into()),
    };
    if as_json {
        let problems: &[Problem] = &compiled.warnings;
        let generation = compiled.policy.generation();
        print_json(&json!({ "ok": true, "file": file, "generation": generation, "problems": problems }))?;
    } else {
        report::warnings(&compiled.warnings);
        let summary = report::summary(&compiled.policy.summary());
        print(format_args!("{}: ok ({summary})\n", file.display()))?;
    }
    Ok(exit::OK)
}
