//! Compiling programs in a process of its own, which gives back all the memory that a compiler takes.

use std::fmt;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use sluicegate_policy::{Program, ProgramKind};
use sluicegate_wasm::Programs;

use crate::exit;

/// The subcommand that compiles; for the gate alone.
pub const SUBCOMMAND: &str = "compile-program";

/// How long compiling may take, with handing over the program: ten times what the longest component takes
/// here.
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
    let mut command = Command::new("/proc/self/exe");
    command.args([SUBCOMMAND, &Kind::from(kind).to_string()]).arg(folder);
    run_with(command, content, DEADLINE)
}

/// Runs a command to its end with this on its standard input. The deadline is for all of it.
fn run_with(mut command: Command, content: &[u8], deadline: Duration) -> io::Result<()> {
    let mut child =
        command.env_clear().stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    let stdin = child.stdin.take();
    thread::scope(|scope| {
        // Beside the deadline: whoever does not read is ended, and the pipe breaks with that.
        let written = scope.spawn(|| stdin.map_or(Ok(()), |mut stdin| stdin.write_all(content)));
        let status = ended(&mut child, Instant::now() + deadline)?;
        written.join().map_err(|_| io::Error::other("the thread that wrote to it panicked"))??;
        if status.success() { Ok(()) } else { Err(io::Error::other(format!("it ended with {status}"))) }
    })
}

/// Waits for a child to end, and ends it at the deadline, or where it cannot be waited for.
fn ended(child: &mut Child, deadline: Instant) -> io::Result<ExitStatus> {
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Ok(status),
            Ok(None) if Instant::now() <= deadline => thread::sleep(LOOK_INTERVAL),
            Ok(None) => {
                child.kill()?;
                child.wait()?;
                let message = "it did not end within its time";
                return Err(io::Error::new(io::ErrorKind::TimedOut, message));
            }
            Err(error) => {
                child.kill()?;
                return Err(error);
            }
        }
    }
}

/// Compiles the program on standard input into the folder; returns the exit code.
pub fn compile(kind: Kind, folder: PathBuf) -> u8 {
    let kind = ProgramKind::from(kind);
    let mut content = Vec::new();
    let bounded = io::stdin().take(kind.bytes_max() as u64 + 1).read_to_end(&mut content);
    if bounded.is_err() {
        return exit::IO;
    }
    let program = Program::new("standard input", kind, content.into());
    match Programs::new(Some(folder)).load(&program) {
        Ok(_) => exit::OK,
        Err(_) => exit::CONFIGURATION,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        command
    }

    /// More than a pipe holds.
    const LARGE: &[u8] = &[0; 1 << 20];

    #[test]
    fn a_child_that_reads_nothing_is_ended_at_the_deadline() {
        let began = Instant::now();
        let error = run_with(shell("exec sleep 60"), LARGE, Duration::from_millis(100)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut, "{error}");
        assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    }

    #[test]
    fn a_child_gets_all_of_it_and_says_whether_it_succeeded() {
        let counts = "test $(wc -c) = 1048576";
        run_with(shell(counts), LARGE, DEADLINE).unwrap();
        assert!(run_with(shell(counts), b"short", DEADLINE).is_err());
        assert!(run_with(shell("exit 3"), b"", DEADLINE).unwrap_err().to_string().contains('3'));
    }
}
