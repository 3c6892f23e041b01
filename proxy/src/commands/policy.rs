//! `sluicegate policy`: documents on disk, and the policy of a running instance.
//!
//! `check`, `build` and `schema` ask no instance and read no secret.

use std::io::{self, Write};

use clap::Subcommand;
use sluicegate_policy::document_schema;

use super::error::CommandError;
use super::{policy_build, policy_check, policy_diff, policy_get, policy_set, policy_test};
use crate::exit;

/// The commands below `sluicegate policy`.
#[derive(Debug, Subcommand)]
pub(crate) enum PolicyCommand {
    /// Show the policy in force, with where each line comes from
    #[command(after_help = "Examples:\n  sluicegate policy get\n  \
        sluicegate policy get --json | jq -r '.entries[] | select(.source == \"runtime\")'")]
    Get(policy_get::GetOptions),
    /// Put a document in force in place of the one of the start, without a restart
    #[command(
        after_help = "The document and the handlers that it names are read here and sent; it is all put in force, or\n\
        nothing is. What `host` and `handler` have changed stays. Requests under way end under the policy\n\
        they began with.\n\n\
        Examples:\n  sluicegate policy set --check new.toml\n  sluicegate policy set new.toml"
    )]
    Set(policy_set::SetOptions),
    /// Go back to the document that the instance was started with, read anew
    #[command(after_help = "Examples:\n  sluicegate policy reset\n  sluicegate policy reset --all")]
    Reset(policy_set::ResetOptions),
    /// Check a policy document and its handlers, or one handler, without starting anything
    #[command(
        after_help = "Of a handler it says what it offers and what it can reach: a component reaches what it imports, and\n\
        nothing else. Exits with 0 when the gate would take the file and 78 when it would not.\n\n\
        Examples:\n  sluicegate policy check sluicegate.toml\n  sluicegate policy check handlers/github.wasm\n  \
        sluicegate policy check --json sluicegate.toml | jq .problems"
    )]
    Check(policy_check::CheckOptions),
    /// Build a handler: a component from JavaScript, Python or Rust
    #[command(
        after_help = "What comes out is checked as the gate would, and only kept if it passes. `policy check` says what it\n\
        can reach.\n\n\
        github.js     needs no build: the gate runs the text. It is checked; -o makes a component of it\n\
        github.py     needs componentize-py: pip install componentize-py==0.25.1\n\
        github/       the folder of a Rust crate: needs cargo and rustup target add wasm32-unknown-unknown\n\
        module.wasm   a core module that another compiler made for policy.wit; needs -o\n\n\
        Examples:\n  sluicegate policy build handlers/github.py\n  \
        sluicegate policy build handlers/github -o handlers/github.wasm\n  \
        sluicegate policy build handlers/github.js -o github.wasm --json | jq -r .sha256"
    )]
    Build(policy_build::BuildOptions),
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

pub(crate) fn run(command: &PolicyCommand) -> Result<u8, CommandError> {
    match command {
        PolicyCommand::Get(options) => policy_get::run(options),
        PolicyCommand::Set(options) => policy_set::set(options),
        PolicyCommand::Reset(options) => policy_set::reset(options),
        PolicyCommand::Check(options) => policy_check::run(options),
        PolicyCommand::Build(options) => policy_build::run(options),
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
