//! `trust`: has the programs of a container trust the gate, by files that are mounted over the container's own,
//! and takes them off when the gate ends. Nothing is written to the container's file systems, but for empty folders
//! and files for what it has nothing of ([`crate::sites`]).
//!
//! It is a process of its own that stays: taking a mount off takes a privilege, which the gate has not. Once
//! they are there it does nothing but wait for the gate's end.

use crate::container::Container;
use crate::failure::{Failure, Kind};
use crate::gate::Gate;
use crate::process;
use clap::Args;
use nix::sys::signal::SigSet;
use nix::unistd::setsid;
use serde::{Deserialize, Serialize};
use std::os::fd::RawFd;
use std::path::PathBuf;

/// Whose files are meant.
#[derive(Args, Debug)]
pub(crate) struct TrustOptions {
    /// An inherited stream socket to the gate.
    #[arg(long, value_name = "FD")]
    pub(crate) socket: RawFd,
    /// A process of the container.
    #[arg(long, value_name = "PID")]
    pub(crate) process: u32,
    /// Where the container's files begin, as its mount namespace has it: for a process that has not changed its
    /// root yet.
    #[arg(long, value_name = "DIR")]
    pub(crate) root: Option<PathBuf>,
}

/// What the gate wants to be looked for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Search {
    /// The network namespace that the process has to be in, `net:[INODE]`.
    pub(crate) namespace: String,
    /// Where bundles may be, in the order of their worth.
    pub(crate) bundles: Vec<PathBuf>,
    /// Where Java's stores may be.
    pub(crate) java_stores: Vec<PathBuf>,
    /// Where the library of NSS may be.
    pub(crate) nss_libraries: Vec<PathBuf>,
    /// Where users' homes may be.
    pub(crate) homes: Vec<PathBuf>,
    /// Where Node.js may be.
    pub(crate) node_programs: Vec<PathBuf>,
}

/// What the gate is told: what there is to be mounted over.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Inventory {
    pub(crate) bundles: Vec<Bundle>,
    pub(crate) java_stores: Vec<PathBuf>,
    pub(crate) databases: Vec<Database>,
    pub(crate) node: Option<Node>,
}

/// A bundle, and where it is.
#[derive(Debug, Serialize)]
pub(crate) struct Bundle {
    pub(crate) over: PathBuf,
    pub(crate) text: String,
}

/// Where a user of NSS has a database, or will have one.
#[derive(Debug, Serialize)]
pub(crate) struct Database {
    pub(crate) folder: PathBuf,
    pub(crate) is_there: bool,
}

/// Where Node.js is told what to trust.
#[derive(Debug, Serialize)]
pub(crate) struct Node {
    /// A folder for the gate's own files.
    pub(crate) folder: PathBuf,
    /// OpenSSL's settings, and what they say.
    pub(crate) settings: PathBuf,
    pub(crate) text: String,
    /// Whether Node.js was found, and not only settings that it would read.
    pub(crate) is_there: bool,
}

/// What the gate is told when all is mounted.
#[derive(Debug, Serialize)]
struct Done<'a> {
    placed: usize,
    warnings: &'a [String],
}

/// Mounts what the gate plans, and takes it off when the gate ends.
pub(crate) fn keep(gate: &Gate, options: &TrustOptions) -> Result<(), Failure> {
    let search = gate.search()?;
    // A terminal's signals are for others, and whoever ends the gate's process group means the gate: we have
    // something to do after it. Failing to lead a session means that we do already.
    setsid().map(drop).unwrap_or_default();
    SigSet::all()
        .thread_block()
        .map_err(|errno| Failure::new(Kind::Internal, "signals", "they cannot be blocked").because(errno))?;
    let mut container = Container::enter(options, &search.namespace)?;
    let (inventory, targets) = container.search(&search)?;
    gate.say(&inventory)?;
    let plan = gate.plan()?;
    let placed = container.place(&plan, targets)?;
    drop(plan);
    let files = container.into_files();
    let done = Done { placed: placed.count(), warnings: &placed.warnings };
    let told = process::limit_privileges(placed.needed()).and_then(|()| gate.say(&done));
    if told.is_ok() {
        gate.wait_for_end();
    }
    placed.take_off(&files);
    told
}
