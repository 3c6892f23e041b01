//! The commands that ask and change a running instance, or judge a policy document.
//!
//! `select` finds the instance, `client` speaks with it, `table` and `error` put the answers on the
//! terminal; every other file is one word of the command line.

mod approval;
mod ca;
mod client;
mod comparison;
mod compiled;
mod error;
mod handler;
mod host;
mod instance;
mod kv;
mod policy;
mod policy_build;
mod policy_check;
mod policy_diff;
mod policy_get;
mod policy_set;
mod policy_test;
mod program;
mod select;
mod status;
mod table;

use std::fmt::Display;
use std::io::{self, Read, Write};
use std::time::Duration;

use clap::Subcommand;
use serde::Serialize;

use crate::exit;
use error::CommandError;

/// The commands that have a file here.
#[derive(Debug, Subcommand)]
pub(crate) enum ControlCommand {
    /// See which instances run
    #[command(subcommand)]
    Instance(instance::InstanceCommand),
    /// See how an instance is
    #[command(subcommand)]
    Status(status::StatusCommand),
    /// Check, try, compare and publish policies
    #[command(subcommand)]
    Policy(policy::PolicyCommand),
    /// Allow and deny hosts of a running instance
    #[command(subcommand)]
    Host(host::HostCommand),
    /// Set the handlers of a running instance
    #[command(subcommand)]
    Handler(handler::HandlerCommand),
    /// Answer requests that wait for a person
    #[command(subcommand)]
    Approval(approval::ApprovalCommand),
    /// Read and write what handlers keep
    #[command(subcommand)]
    Kv(kv::KvCommand),
    /// Get an instance's CA certificate
    #[command(subcommand)]
    Ca(ca::CaCommand),
}

/// Does what was asked for, prints what came of it, and returns the exit code.
pub(crate) fn run(command: &ControlCommand) -> u8 {
    let result = match command {
        ControlCommand::Instance(command) => instance::run(command),
        ControlCommand::Status(command) => status::run(command),
        ControlCommand::Policy(command) => policy::run(command),
        ControlCommand::Host(command) => host::run(command),
        ControlCommand::Handler(command) => handler::run(command),
        ControlCommand::Approval(command) => approval::run(command),
        ControlCommand::Kv(command) => kv::run(command),
        ControlCommand::Ca(command) => ca::run(command),
    };
    match result {
        Ok(code) => code,
        // A reader that went away has seen enough.
        Err(CommandError::Print(error)) if error.kind() == io::ErrorKind::BrokenPipe => exit::OK,
        Err(error) => {
            error.report();
            error.exit_code()
        }
    }
}

/// Prints text that ends with its own line break.
fn print(text: impl Display) -> Result<(), CommandError> {
    let mut out = io::stdout().lock();
    write!(out, "{text}").and_then(|()| out.flush()).map_err(CommandError::Print)
}

/// Prints one JSON value on a line of its own.
fn print_json(value: &impl Serialize) -> Result<(), CommandError> {
    let text = serde_json::to_string(value).map_err(|error| CommandError::Print(error.into()))?;
    print(format_args!("{text}\n"))
}

/// Prints bytes as they are.
fn print_bytes(bytes: &[u8]) -> Result<(), CommandError> {
    let mut out = io::stdout().lock();
    out.write_all(bytes).and_then(|()| out.flush()).map_err(CommandError::Print)
}

/// Says something beside the result, to standard error.
fn note(text: &str) {
    drop(writeln!(io::stderr(), "{text}"));
}

/// Everything that a reader gives, which is no more than `limit` bytes.
///
/// # Errors
/// When it cannot be read, or is more.
pub(crate) fn read_limited(reader: impl Read, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    reader.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("longer than {limit} bytes")));
    }
    Ok(bytes)
}

/// A span of whole seconds, at least one.
fn parse_span(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .ok()
        .filter(|span| span.as_secs() > 0 && span.subsec_nanos() == 0)
        .ok_or_else(|| "expected a span of whole seconds such as 30s, 10m or 1h".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_long_is_not_read() {
        assert_eq!(read_limited(b"12345".as_slice(), 5).unwrap(), b"12345");
        let error = read_limited(b"12345".as_slice(), 4).unwrap_err();
        assert_eq!(error.to_string(), "longer than 4 bytes");
    }

    #[test]
    fn a_span_has_whole_seconds_and_a_unit() {
        for (text, seconds) in [("30s", 30), ("10m", 600), ("1h", 3600), ("1h 30m", 5400), ("2days", 172_800)]
        {
            assert_eq!(parse_span(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "0s", "30", "1500ms", "soon", "-1s"] {
            assert!(parse_span(text).is_err(), "{text}");
        }
    }
}
