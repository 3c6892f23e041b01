//! `sluicegate-netns`: captures the egress of one network namespace, hands the sockets to the gate,
//! and is gone, or stays behind as the unprivileged parent of the workload that it started.

#![expect(
    unsafe_code,
    reason = "fork, descriptors by number, libnftnl and a few system calls have no safe form"
)]

mod addresses;
mod attach;
mod capture;
mod container;
mod door;
mod failure;
mod fence;
mod file_tree;
mod gate;
mod holders;
mod init;
mod interfaces;
mod kept_ruleset;
mod mount_table;
mod mounts;
mod nft;
mod nft_expressions;
mod plan;
mod process;
mod routes;
mod ruleset;
mod run;
mod settings;
mod sidecar;
mod signals;
mod sites;
mod sockets;
mod trust;
mod userns;

use clap::{Args, Parser, Subcommand};
use failure::{Failure, Kind};
use gate::{Gate, Ready};
use std::ffi::OsString;
use std::os::fd::{OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;
use trust::TrustOptions;

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
        interfaces: InterfaceOptions,
        #[command(flatten)]
        gate: GateOptions,
    },
    /// Moves the interfaces of our own namespace into a private one, captures what is left, hands both over,
    /// and ends.
    Sidecar {
        #[command(flatten)]
        gate: GateOptions,
    },
    /// Has the programs of a container trust the gate, until that ends.
    Trust(TrustOptions),
    /// Makes namespaces for a command, captures, hands over, and runs it to its end.
    Run {
        #[command(flatten)]
        gate: GateOptions,
        /// The command and its arguments.
        #[arg(last = true, required = true)]
        command: Vec<OsString>,
    },
}

/// What may be in an existing namespace besides lo.
#[derive(Args, Clone, Copy, Debug)]
struct InterfaceOptions {
    /// Leaves interfaces there for what comes in; without it a namespace with one is refused.
    #[arg(long)]
    keep_interface: bool,
    /// Begins even where a process could write frames to them.
    #[arg(long, requires = "keep_interface")]
    allow_net_raw: bool,
}

/// What the gate says to all.
#[derive(Args, Clone, Copy, Debug)]
struct GateOptions {
    /// An inherited stream socket to the gate.
    #[arg(long, value_name = "FD")]
    socket: RawFd,
    /// Begins when the gate sends a byte, and ends where it closes the socket before.
    #[arg(long)]
    wait: bool,
    /// Leaves a process in the namespace that makes sockets for connections that come in.
    #[arg(long)]
    door: bool,
}

impl Verb {
    /// The socket to the gate.
    fn socket(&self) -> RawFd {
        match self {
            Self::Attach { gate, .. } | Self::Sidecar { gate } | Self::Run { gate, .. } => gate.socket,
            Self::Trust(options) => options.socket,
        }
    }

    /// Whether nothing is to be done before the gate says so.
    fn waits(&self) -> bool {
        match self {
            Self::Attach { gate, .. } | Self::Sidecar { gate } | Self::Run { gate, .. } => gate.wait,
            Self::Trust(_) => true,
        }
    }
}

impl GateOptions {
    /// The gate's end of the door, where it asked for one. To be called in the namespace, before the
    /// capture.
    fn open_door(self) -> Result<Option<OwnedFd>, Failure> {
        self.door.then(|| door::open(self.socket)).transpose()
    }
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(answer) => {
            // Help and version come this way too; a closed stderr is no reason to do anything else.
            answer.print().unwrap_or_default();
            return ExitCode::from(if answer.use_stderr() { Kind::Usage.exit_code() } else { 0 });
        }
    };
    let gate = match Gate::adopt(cli.verb.socket()) {
        Ok(gate) => gate,
        Err(failure) => return complain(&failure),
    };
    if cli.verb.waits() && !gate.begins() {
        return ExitCode::SUCCESS;
    }
    let began = Instant::now();
    let done = match &cli.verb {
        Verb::Attach { namespace, interfaces, gate: options } => {
            attach(&gate, *options, (namespace, *interfaces), began).map(|()| 0)
        }
        Verb::Sidecar { gate: options } => sidecar::sidecar(&gate, *options, began).map(|()| 0),
        Verb::Trust(options) => trust::keep(&gate, options).map(|()| 0),
        Verb::Run { command, gate: options } => run::run(&gate, *options, command, began),
    };
    match done {
        Ok(code) => ExitCode::from(code),
        Err(failure) => match gate.failed(&failure) {
            Ok(()) => ExitCode::from(failure.kind().exit_code()),
            Err(_) => complain(&failure),
        },
    }
}

fn attach(
    gate: &Gate,
    options: GateOptions,
    (path, interfaces): (&Path, InterfaceOptions),
    began: Instant,
) -> Result<(), Failure> {
    let namespace = attach::open(path)?;
    if interfaces.keep_interface {
        attach::refuse_foreign(&namespace)?;
    }
    attach::enter(&namespace, path)?;
    let door = options.open_door()?;
    let (capture, way_past) = if interfaces.keep_interface {
        let holder = holders::refuse(interfaces.allow_net_raw)?;
        let socket = holders::refuse_packet_sockets(interfaces.allow_net_raw)?;
        (capture::capture_beside_interfaces()?, holder.or(socket))
    } else {
        (capture::capture()?, None)
    };
    let mut ready = Ready::new(&capture, attach::current()?, began);
    ready.way_past = way_past;
    gate.ready(&ready, &capture, &[door.as_ref()])
}

/// Says it to the terminal, when there is no gate to say it to.
fn complain(failure: &Failure) -> ExitCode {
    eprintln!("sluicegate-netns: {}", failure.report());
    ExitCode::from(failure.kind().exit_code())
}
