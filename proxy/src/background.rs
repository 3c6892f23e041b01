//! A gate in a process of its own, for callers that go on once it serves: a runtime's hook, a CNI plugin.
//!
//! **Invariant:** starting succeeds only when the gate has said that it serves.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::exit;

/// The subcommand that serves; for [`start`] alone.
pub const SUBCOMMAND: &str = "background-gate";

/// How long the caller may take to say what it is about: it has it at hand.
const TOLD_DEADLINE: Duration = Duration::from_secs(10);

/// The longest that a caller says: annotations are in it, of which Kubernetes allows 256 KiB, or all containers
/// of a node.
const TOLD_BYTES_MAX: u64 = 1 << 20;

/// How long the gate may take until it serves. It takes tens of milliseconds, and as many seconds where it
/// compiles handlers for the first time.
pub(crate) const READY_DEADLINE: Duration = Duration::from_secs(60);

/// How long the gate of a container that had the same name may take to end.
const TAKEN_DEADLINE: Duration = Duration::from_secs(10);

/// How often it is looked whether it has.
const TAKEN_PAUSE: Duration = Duration::from_millis(100);

/// What is read of the gate's line, and of its complaint.
pub(crate) const SAID_BYTES_MAX: u64 = 16_384;

/// How long a gate that ended may take to be read to its end.
const COMPLAINT_DEADLINE: Duration = Duration::from_secs(1);

/// Why there is no gate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The gate has no process.
    #[error("the gate cannot be started")]
    Start(#[source] io::Error),
    /// The gate ended before it served.
    #[error("{}", if said.is_empty() { "the gate ended without a word" } else { said })]
    Ended {
        /// Its exit code.
        code: u8,
        /// What it complained about, with what to do.
        said: String,
    },
    /// The gate has not said that it serves.
    #[error("the gate is not ready after {} s", READY_DEADLINE.as_secs())]
    Silent,
}

impl StartError {
    /// What the operator can do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Silent => {
                Some("let `sluicegate policy check` compile large handlers beforehand, with the same --state")
            }
            Self::Start(_) | Self::Ended { .. } => None,
        }
    }

    /// The exit code that fits.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Start(_) | Self::Silent => exit::UNAVAILABLE,
            Self::Ended { code, .. } => *code,
        }
    }
}

/// What the caller says on standard input, to its end.
///
/// # Errors
/// What is wrong with it, in words.
pub fn told() -> Result<Vec<u8>, String> {
    let (sender, receiver) = mpsc::channel();
    // A thread, since a read has no deadline. It ends with the process.
    thread::spawn(move || drop(sender.send(whole(io::stdin()))));
    receiver
        .recv_timeout(TOLD_DEADLINE)
        .unwrap_or_else(|_| Err(format!("it has no end within {} s", TOLD_DEADLINE.as_secs())))
}

fn whole(input: impl Read) -> Result<Vec<u8>, String> {
    let mut text = Vec::new();
    match input.take(TOLD_BYTES_MAX + 1).read_to_end(&mut text) {
        Err(error) => Err(error.to_string()),
        Ok(length) if length as u64 > TOLD_BYTES_MAX => {
            Err(format!("it is longer than {TOLD_BYTES_MAX} bytes"))
        }
        Ok(_) => Ok(text),
    }
}

/// Starts a gate with these arguments, which follow [`SUBCOMMAND`], and waits until it serves. Returns what it
/// said then. Where one of before has the name still, it is waited for.
///
/// # Errors
/// [`StartError`].
pub fn start(arguments: &[OsString]) -> Result<Value, StartError> {
    let began = Instant::now();
    loop {
        match start_once(arguments) {
            // A container that is started again: its gate of before may be writing its last records.
            Err(StartError::Ended { code: exit::TAKEN, .. }) if began.elapsed() < TAKEN_DEADLINE => {
                thread::sleep(TAKEN_PAUSE);
            }
            result => return result,
        }
    }
}

/// Leaves the session of who started this gate, and with it what ends that.
pub fn leave_session() {
    if let Err(error) = rustix::process::setsid() {
        tracing::debug!(%error, "it leads a process group already, as one that is started by hand");
    }
}

/// Lets go of the standard streams: who reads them waits for their end, and that is the runtime.
///
/// # Errors
/// There is no /dev/null.
pub fn let_go() -> io::Result<()> {
    let nothing = File::options().read(true).write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdin(&nothing)?;
    rustix::stdio::dup2_stdout(&nothing)?;
    rustix::stdio::dup2_stderr(&nothing)?;
    Ok(())
}

/// Starts a gate and waits until it serves or has ended.
fn start_once(arguments: &[OsString]) -> Result<Value, StartError> {
    let mut command = Command::new("/proc/self/exe");
    command.arg(SUBCOMMAND).args(arguments).current_dir("/");
    // Those of the runtime's own service.
    for variable in ["NOTIFY_SOCKET", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"] {
        command.env_remove(variable);
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut gate = command.spawn().map_err(StartError::Start)?;
    let line = gate.stdout.take().map(first_line);
    let complaint = gate.stderr.take().map(beginning);
    let line = line.map(|line| line.recv_timeout(READY_DEADLINE));
    if let Some(Ok(line)) = &line
        && let Some(ready) = ready(line)
    {
        return Ok(ready);
    }
    // It may have ended by itself, which is as good.
    drop(gate.kill());
    let status = gate.wait().map_err(StartError::Start)?;
    if matches!(line, Some(Err(_))) {
        return Err(StartError::Silent);
    }
    let said = complaint.and_then(|complaint| complaint.recv_timeout(COMPLAINT_DEADLINE).ok());
    let code = status.code().and_then(|code| u8::try_from(code).ok()).filter(|code| *code != exit::OK);
    Err(StartError::Ended {
        code: code.unwrap_or(exit::BUG),
        said: said.unwrap_or_default().trim_end().to_owned(),
    })
}

/// What a gate says when it serves, if that is what it says.
pub(crate) fn ready(line: &str) -> Option<Value> {
    let line: Value = serde_json::from_str(line).ok()?;
    line.get("event").is_some_and(|event| event == "ready").then_some(line)
}

/// The first line of what comes; empty when nothing does.
fn first_line(pipe: impl Read + Send + 'static) -> Receiver<String> {
    heard(move || {
        let mut line = String::new();
        drop(BufReader::new(pipe.take(SAID_BYTES_MAX)).read_line(&mut line));
        line
    })
}

/// The beginning of what comes. The rest is read too: a gate whose complaints nobody reads would stand still.
fn beginning(mut pipe: impl Read + Send + 'static) -> Receiver<String> {
    heard(move || {
        let mut said = Vec::new();
        drop(pipe.by_ref().take(SAID_BYTES_MAX).read_to_end(&mut said));
        drop(io::copy(&mut pipe, &mut io::sink()));
        String::from_utf8_lossy(&said).into_owned()
    })
}

fn heard(listen: impl FnOnce() -> String + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || drop(sender.send(listen())));
    receiver
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_caller_says_has_a_length() {
        assert_eq!(whole(&b"{}"[..]), Ok(b"{}".to_vec()));
        assert_eq!(whole(io::repeat(b'x').take(TOLD_BYTES_MAX)).unwrap().len() as u64, TOLD_BYTES_MAX);
        assert!(whole(io::repeat(b'x')).unwrap_err().contains("longer than"));
    }

    #[test]
    fn only_the_line_of_a_gate_that_serves_is_ready() {
        assert!(ready("{\"event\":\"ready\",\"instance\":\"box\"}\n").is_some());
        for line in ["", "ready\n", "{\"event\":\"other\"}\n", "{\"ready\":true}\n", "{\"event\":\"rea"] {
            assert!(ready(line).is_none(), "{line:?}");
        }
    }
}
