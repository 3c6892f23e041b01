//! Why a handler was not built: what is missing, and what to do.

use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;

use thiserror::Error;

use crate::exit;

/// Why there is no component.
#[derive(Debug, Error)]
pub(crate) enum BuildError {
    /// A tool cannot be started.
    #[error("cannot start {}", .tool.display())]
    NoTool {
        /// Which.
        tool: PathBuf,
        /// How to get it.
        hint: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A tool said no; it has said why on standard error.
    #[error("{} failed ({status})", .tool.display())]
    Failed {
        /// Which.
        tool: PathBuf,
        /// How it ended.
        status: ExitStatus,
        /// What is often the reason.
        hint: &'static str,
    },
    /// What a tool said cannot be read.
    #[error("cannot read what {} says: {what}", .tool.display())]
    Unreadable {
        /// Which.
        tool: PathBuf,
        /// Why.
        what: String,
    },
    /// A crate that makes no library for others.
    #[error("the crate in {} makes no module", .0.display())]
    NoModule(PathBuf),
    /// A core module that is not made for `policy.wit`.
    #[error("no component can be made of the module: {0}")]
    NoComponent(String),
    /// A file of Python whose name cannot be imported.
    #[error("{} cannot be imported by its name", .0.display())]
    ModuleName(PathBuf),
    /// Something cannot be read or written.
    #[error("cannot {what} {}", .path.display())]
    File {
        /// What was to be done.
        what: &'static str,
        /// With what.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl BuildError {
    /// The exit code that fits.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::NoTool { .. } => exit::UNAVAILABLE,
            Self::Failed { .. } | Self::NoModule(_) | Self::NoComponent(_) => exit::CONFIGURATION,
            Self::ModuleName(_) => exit::USAGE,
            Self::Unreadable { .. } | Self::File { .. } => exit::IO,
        }
    }

    /// What to do about it.
    pub(crate) fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::NoTool { hint, .. } | Self::Failed { hint, .. } => *hint,
            Self::NoModule(_) => "write in its Cargo.toml: [lib] and crate-type = [\"cdylib\"]",
            Self::NoComponent(_) => {
                "compile it for wasm32-unknown-unknown or another target without WASI, with the bindings of \
                 policy.wit"
            }
            Self::ModuleName(_) => {
                "a module's name has letters, digits and `_`, and is not the name of a module of the gate's"
            }
            Self::Unreadable { .. } | Self::File { .. } => return None,
        };
        (!hint.is_empty()).then(|| hint.to_owned())
    }
}
