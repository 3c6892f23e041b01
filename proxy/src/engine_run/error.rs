//! Why a sealed container was not started, or its end is not known.

use std::io;

use super::arguments::RefusedOption;
use crate::background::READY_DEADLINE;
use crate::container::Engine;
use crate::exit;
use crate::trust::TrustError;

/// What went wrong around a container; where it was before its start, it did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineRunError {
    /// An option that a sealed container cannot have.
    #[error(transparent)]
    Option(#[from] RefusedOption),
    /// There are options only.
    #[error("{engine} is not told which image to run")]
    NoImage {
        /// Whose arguments they are.
        engine: Engine,
    },
    /// The log was to go to standard output.
    #[error("the standard output is the container's, and the log cannot go there")]
    Log,
    /// There is no program for this machine that holds a namespace.
    #[error("no container can be made here that holds a namespace: only on x86_64 and aarch64")]
    Architecture,
    /// The engine's program is not there, or cannot be started.
    #[error("cannot ask {engine} to {what}")]
    Start {
        /// Whose.
        engine: Engine,
        /// What for.
        what: &'static str,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The engine did not do it.
    #[error("{engine} cannot {what}: {complaint}")]
    Engine {
        /// Which.
        engine: Engine,
        /// What it was to do.
        what: &'static str,
        /// What it said, made fit to print.
        complaint: String,
    },
    /// The engine did not do it in time.
    #[error("{engine} has not managed to {what} in time")]
    Silent {
        /// Which.
        engine: Engine,
        /// What it was to do.
        what: &'static str,
    },
    /// The gate ended before it served. It has said why.
    #[error("the gate has not started")]
    Gate {
        /// Its exit code.
        code: u8,
    },
    /// The gate has not said that it serves.
    #[error("the gate is not ready after {} s", READY_DEADLINE.as_secs())]
    GateSilent,
    /// The container cannot be made to trust the gate.
    #[error("the container cannot be made to trust the gate")]
    Trust(#[source] TrustError),
    /// The operating system did not do what it was asked for.
    #[error("cannot {0}")]
    System(&'static str, #[source] io::Error),
    /// A signal came before the container's start.
    #[error("told to stop before the container was started")]
    Interrupted {
        /// Its number.
        signal: u8,
    },
}

impl EngineRunError {
    /// What the operator can do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Option(option) => Some(option.hint),
            Self::NoImage { .. } => Some("write [OPTIONS] IMAGE [COMMAND] behind --docker or --podman"),
            Self::Log => Some("name a file with --log, or leave it out"),
            Self::Start { .. } => Some("see that the engine's program is installed and in PATH"),
            Self::Engine { .. } | Self::Silent { .. } => Some(
                "see that the engine runs; a container `sluicegate-NAME` that an earlier run left is removed with `rm -f`",
            ),
            Self::GateSilent => {
                Some("let `sluicegate policy check` compile large handlers beforehand, with the same --state")
            }
            Self::Architecture => Some("make such a container by hand, and use `sluicegate attach`"),
            Self::Gate { .. } | Self::Trust(_) | Self::System(..) | Self::Interrupted { .. } => None,
        }
    }

    /// The exit code that fits.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Option(_) | Self::NoImage { .. } | Self::Log => exit::USAGE,
            Self::Gate { code } => *code,
            Self::Interrupted { signal } => signal.saturating_add(128),
            _ => exit::UNAVAILABLE,
        }
    }
}
