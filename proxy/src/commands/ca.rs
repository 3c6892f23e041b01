//! `sluicegate ca`: the certificate that a workload has to trust.

use clap::{Args, Subcommand};
use serde_json::json;

use super::error::CommandError;
use super::select::InstanceChoice;
use super::{print_bytes, print_json};
use crate::exit;

/// The commands below `sluicegate ca`.
#[derive(Debug, Subcommand)]
pub(crate) enum CaCommand {
    /// Print the certificate of a running instance's CA, as PEM
    #[command(
        after_help = "A workload under `run` trusts it already. Every instance has its own, for as long as it runs.\n\n\
        Example:\n  sluicegate ca get > /srv/jail-trust/ca.pem"
    )]
    Get(GetOptions),
}

/// The options of `ca get`.
#[derive(Args, Debug)]
pub(crate) struct GetOptions {
    #[command(flatten)]
    choice: InstanceChoice,
    /// Print it as the member `certificate` of one JSON object
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(command: &CaCommand) -> Result<u8, CommandError> {
    let CaCommand::Get(options) = command;
    let pem = options.choice.client()?.get_bytes("/v1/ca")?;
    if options.json {
        print_json(&json!({ "certificate": String::from_utf8_lossy(&pem) }))?;
    } else {
        print_bytes(&pem)?;
    }
    Ok(exit::OK)
}
