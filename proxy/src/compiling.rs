//! Compiling programs in a process of its own, which gives back all the memory that a compiler takes.

use std::fmt;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use sluicegate_policy::ProgramKind;
use sluicegate_wasm::Programs;

use crate::exit;

/// The subcommand that compiles; for the gate alone.
pub const SUBCOMMAND: &str = "compile-program";

/// How long compiling may take: ten times what the longest component takes here.
const DEADLINE: Duration = Duration::from_secs(180);
/// How often it is looked whether it is done.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);

/// How a program is written, on the command line.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Kind {
    /// A JavaScript module.
    Javascript,
    /// A component.
    Component,
}

impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Javascript => "javascript",
            Self::Component => "component",
        })
    }
}

impl From<ProgramKind> for Kind {
    fn from(kind: ProgramKind) -> Self {
        match kind {
            ProgramKind::JavaScript => Self::Javascript,
            ProgramKind::Component => Self::Component,
        }
    }
}

impl From<Kind> for ProgramKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Javascript => Self::JavaScript,
            Kind::Component => Self::Component,
        }
    }
}

/// What runs programs, and keeps what they were compiled to in this folder.
pub fn programs(cache: PathBuf) -> Arc<Programs> {
    let folder = cache.clone();
    Programs::with_compiler(cache, Box::new(move |kind, content| compile_apart(&folder, kind, content)))
}

/// Has a program compiled into the folder.
fn compile_apart(folder: &Path, kind: ProgramKind, content: &[u8]) -> io::Result<()> {
    let mut child = Command::new("/proc/self/exe")
        .args([SUBCOMMAND, &Kind::from(kind).to_string()])
        .arg(folder)
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    // The other end reads all of it first, and compiles then.
    let written = child.stdin.take().map_or(Ok(()), |mut stdin| stdin.write_all(content));
    let deadline = Instant::now() + DEADLINE;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if Instant::now() > deadline {
            child.kill()?;
            break child.wait()?;
        }
        std::thread::sleep(LOOK_INTERVAL);
    };
    written?;
    if status.success() { Ok(()) } else { Err(io::Error::other(format!("it ended with {status}"))) }
}

/// Compiles the program on standard input into the folder; returns the exit code.
pub fn compile(kind: Kind, folder: PathBuf) -> u8 {
    let kind = ProgramKind::from(kind);
    let mut content = Vec::new();
    let bounded = io::stdin().take(kind.bytes_max() as u64 + 1).read_to_end(&mut content);
    if bounded.is_err() {
        return exit::IO;
    }
    match Programs::new(Some(folder)).load(kind, "standard input", &content) {
        Ok(_) => exit::OK,
        Err(_) => exit::CONFIGURATION,
    }
}
