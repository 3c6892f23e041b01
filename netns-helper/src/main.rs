//! `sluicegate-netns`: captures the egress of one network namespace, hands the sockets to the gate,
//! and is gone, or stays behind as the unprivileged parent of the workload that it started.

#![expect(
    unsafe_code,
    reason = "fork, descriptors by number, libnftnl and a few system calls have no safe form"
)]

mod attach;
mod capture;
mod failure;
mod fence;
mod gate;
mod init;
mod mounts;
mod nft;
mod plan;
mod process;
mod routes;
mod ruleset;
mod run;
mod signals;
mod sockets;
mod userns;

use clap::{Parser, Subcommand};
use failure::{Failure, Kind};
use gate::{Gate, Ready};
use std::ffi::OsString;
use std::os::fd::RawFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

/// Captures the egress of a network namespace for sluicegate, which starts this program itself.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Captures an existing namespace that has nothing but lo, hands over, and ends.
    Attach {
        /// The namespace: /proc/PID/ns/net, /run/netns/NAME, or docker's SandboxKey.
        #[arg(long)]
        namespace: PathBuf,
        /// An inherited stream socket to the gate.
        #[arg(long, value_name = "FD")]
        socket: RawFd,
    },
    /// Makes namespaces for a command, captures, hands over, and runs it to its end.
    Run {
        /// An inherited stream socket to the gate.
        #[arg(long, value_name = "FD")]
        socket: RawFd,
        /// The command and its arguments.
        #[arg(last = true, required = true)]
        command: Vec<OsString>,
    },
}

fn main() -> ExitCode {
    let began = Instant::now();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(answer) => {
            // Help and version come this way too; a closed stderr is no reason to do anything else.
            answer.print().unwrap_or_default();
            return ExitCode::from(if answer.use_stderr() { Kind::Usage.exit_code() } else { 0 });
        }
    };
    let (Verb::Attach { socket, .. } | Verb::Run { socket, .. }) = &cli.verb;
    let gate = match Gate::adopt(*socket) {
        Ok(gate) => gate,
        Err(failure) => return complain(&failure),
    };
    let done = match &cli.verb {
        Verb::Attach { namespace, .. } => attach(&gate, namespace, began).map(|()| 0),
        Verb::Run { command, .. } => run::run(&gate, command, began),
    };
    match done {
        Ok(code) => ExitCode::from(code),
        Err(failure) => match gate.failed(&failure) {
            Ok(()) => ExitCode::from(failure.kind().exit_code()),
            Err(_) => complain(&failure),
        },
    }
}

fn attach(gate: &Gate, namespace: &Path, began: Instant) -> Result<(), Failure> {
    let attached = attach::attach(namespace)?;
    let ready = Ready::new(&attached.capture, attached.namespace, began);
    gate.ready(&ready, &attached.capture.descriptors)
}

/// Says it to the terminal, when there is no gate to say it to.
fn complain(failure: &Failure) -> ExitCode {
    eprintln!("sluicegate-netns: {}", failure.report());
    ExitCode::from(failure.kind().exit_code())
}
