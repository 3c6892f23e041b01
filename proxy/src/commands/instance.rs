//! `sluicegate instance`: which instances run.

use clap::{Args, Subcommand};

use super::client::Client;
use super::error::CommandError;
use super::table::Table;
use super::{note, print, print_json, select};
use crate::causes::in_words;
use crate::control::api::Status;
use crate::exit;

/// The commands below `sluicegate instance`.
#[derive(Debug, Subcommand)]
pub(crate) enum InstanceCommand {
    /// Show the instances that this user runs
    #[command(after_help = "Examples:\n  sluicegate instance list\n  \
        sluicegate instance list --json | jq -r '.[].instance'")]
    List(ListOptions),
}

/// The options of `instance list`.
#[derive(Args, Debug)]
pub(crate) struct ListOptions {
    /// Print the status of each, as one JSON array
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(command: &InstanceCommand) -> Result<u8, CommandError> {
    let InstanceCommand::List(options) = command;
    let mut found: Vec<Status> = Vec::new();
    for (name, socket) in select::running(&select::folder()?)? {
        match Client::new(socket)?.get("/v1/status") {
            Ok(status) => found.push(status),
            // Its neighbours are shown all the same.
            Err(error) => note(&format!("sluicegate: {name}: {}", in_words(&error))),
        }
    }
    if options.json {
        print_json(&found)?;
    } else if !found.is_empty() {
        print(table(&found))?;
    }
    Ok(exit::OK)
}

fn table(found: &[Status]) -> Table<6> {
    let mut table = Table::new(["INSTANCE", "PID", "STARTED", "GENERATION", "MODE", "REQUESTS"]);
    for status in found {
        table.row([
            &status.instance,
            &status.pid.to_string(),
            &humantime::format_rfc3339_seconds(status.started).to_string(),
            &status.generation,
            &status.mode,
            &status.requests.to_string(),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::status::tests::status;

    #[test]
    fn an_instance_is_one_line() {
        let text = table(&[status()]).to_string();
        assert_eq!(
            text,
            "INSTANCE  PID  STARTED               GENERATION    MODE     REQUESTS\n\
             box       42   2026-01-31T12:00:00Z  d2f891751a97  enforce  7\n"
        );
    }
}
