//! The command line of the gate that hooks and plugins start.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::Args;
use rustix::process::Signal;

use super::{SealOptions, keeper, ready_line, seal};
use crate::attach::Found;
use crate::background;
use crate::capture::Interfaces;
use crate::container::Container;
use crate::instance::InstanceError;

#[derive(Args, Debug)]
pub(super) struct GateOptions {
    /// The container's first process; the gate ends with it
    #[arg(long, required_unless_present = "namespace")]
    pub(super) pid: Option<u32>,
    /// The container's namespace, where it has no process yet; the gate ends by SIGTERM
    #[arg(long, conflicts_with = "pid")]
    namespace: Option<PathBuf>,
    /// The container's id
    #[arg(long)]
    pub(super) id: String,
    /// Where the container's files begin, where its process has not changed its root yet
    #[arg(long, requires = "pid")]
    root: Option<PathBuf>,
    #[command(flatten)]
    pub(super) seal: SealOptions,
}

/// Serves the container that a hook or a plugin was told of, in a session of its own.
pub(super) fn serve(options: &GateOptions) -> Result<u8, InstanceError> {
    background::leave_session();
    let found = found(options)?;
    let keeper = if options.seal.trust { Some(keeper(&found, None)?) } else { None };
    seal(&options.seal, (found, Interfaces::Refused), keeper, |instance, ready| {
        let said =
            writeln!(io::stdout(), "{}", ready_line(instance, ready)).and_then(|()| io::stdout().flush());
        if said.is_err() {
            end_this();
        }
        if let Err(error) = background::let_go() {
            tracing::error!(%error, "the runtime's streams stay open");
        }
    })
}

/// Ends this gate as its operator would: who started it has gone, and nobody would end it.
pub(super) fn end_this() {
    if let Err(error) = rustix::process::kill_process(rustix::process::getpid(), Signal::TERM) {
        tracing::error!(%error, "a gate that nobody waits for goes on");
    }
}

fn found(options: &GateOptions) -> Result<Found, InstanceError> {
    let container = Container { id: options.id.clone(), name: options.id.clone() };
    let container = Container { name: container.short_id().to_owned(), ..container };
    match (options.pid, &options.namespace) {
        (Some(pid), _) => Found::of_container(container, pid, options.root.clone())
            .map_err(|error| InstanceError::System("hold on to the container's process", error)),
        (None, path) => {
            let path = path.clone().unwrap_or_default();
            Ok(Found { path, process: None, container: Some(container), inside: None })
        }
    }
}
