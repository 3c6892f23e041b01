//! `sluicegate-netns`: captures the egress of one network namespace, hands the sockets to the gate,
//! and is gone, or stays behind as the unprivileged parent of the workload that it started.

#![expect(
    unsafe_code,
    reason = "fork, descriptors by number, libnftnl and a few system calls have no safe form"
)]

mod attach;
mod capture;
mod door;
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

use clap::{Args, Parser, Subcommand};
use failure::{Failure, Kind};
use gate::{Gate, Ready};
use std::ffi::OsString;
use std::os::fd::{OwnedFd, RawFd};
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
        #[command(flatten)]
        gate: GateOptions,
    },
    /// Makes namespaces for a command, captures, hands over, and runs it to its end.
    Run {
        #[command(flatten)]
        gate: GateOptions,
        /// The command and its arguments.
        #[arg(last = true, required = true)]
        command: Vec<OsString>,
    },
}

/// What the gate says to both.
#[derive(Args, Clone, Copy, Debug)]
struct GateOptions {
    /// An inherited stream socket to the gate.
    #[arg(long, value_name = "FD")]
    socket: RawFd,
    /// Leaves a process in the namespace that makes sockets for connections that come in.
    #[arg(long)]
    door: bool,
}

impl GateOptions {
    /// The gate's end of the door, where it asked for one. To be called in the namespace, before the
    /// capture.
    fn open_door(self) -> Result<Option<OwnedFd>, Failure> {
        self.door.then(|| door::open(self.socket)).transpose()
    }
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
    let (Verb::Attach { gate: options, .. } | Verb::Run { gate: options, .. }) = &cli.verb;
    let gate = match Gate::adopt(options.socket) {
        Ok(gate) => gate,
        Err(failure) => return complain(&failure),
    };
    let done = match &cli.verb {
        Verb::Attach { namespace, .. } => attach(&gate, *options, namespace, began).map(|()| 0),
        Verb::Run { command, .. } => run::run(&gate, *options, command, began),
    };
    match done {
        Ok(code) => ExitCode::from(code),
        Err(failure) => match gate.failed(&failure) {
            Ok(()) => ExitCode::from(failure.kind().exit_code()),
            Err(_) => complain(&failure),
        },
    }
}

fn attach(gate: &Gate, options: GateOptions, namespace: &Path, began: Instant) -> Result<(), Failure> {
    attach::enter(namespace)?;
    let door = options.open_door()?;
    let capture = capture::capture()?;
    gate.ready(&Ready::new(&capture, attach::current()?, began), &capture, door.as_ref())
}

/// Says it to the terminal, when there is no gate to say it to.
fn complain(failure: &Failure) -> ExitCode {
    eprintln!("sluicegate-netns: {}", failure.report());
    ExitCode::from(failure.kind().exit_code())
}
