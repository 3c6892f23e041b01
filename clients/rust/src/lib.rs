//! A client of sluicegate's control socket: start instances, change them while they run, answer what they ask.
//!
//! Answers are JSON as docs/control.md has it. Each request is a connection of its own, bounded in time and length;
//! the futures want a runtime of tokio's with I/O and time.
#![doc = concat!("```no_run\n", include_str!("../examples/platform.rs"), "```")]

mod error;
mod operations;
mod routes;
mod wire;

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;

pub use self::error::{Refused, SandboxError};
pub use self::routes::{ROUTES, Route};
pub use self::wire::Events;
use self::wire::READY_DEADLINE;

/// How long a gate that was told to end may take: it has 5 s for its last records.
const END_DEADLINE: Duration = Duration::from_secs(10);

/// The longest line of a gate that is ready, in bytes: paths are in it.
const READY_BYTES_MAX: u64 = 16_384;

/// How an instance is started.
#[derive(Clone, Debug)]
pub struct Attach {
    /// The policy document; without one everything is refused.
    pub policy: Option<PathBuf>,
    /// The program `sluicegate`; looked for in `PATH` where it has no folder.
    pub program: PathBuf,
    /// Further options of `sluicegate attach`, such as `--state=/var/lib/platform`.
    pub flags: Vec<OsString>,
}

impl Default for Attach {
    fn default() -> Self {
        Self { policy: None, program: "sluicegate".into(), flags: Vec::new() }
    }
}

/// A handler of `[outbound_handlers]` by its name, and what it finds in `ctx.params`.
#[derive(Clone, Debug, PartialEq)]
pub struct Handler {
    name: String,
    params: Option<Value>,
}

impl From<&str> for Handler {
    fn from(name: &str) -> Self {
        Self { name: name.to_owned(), params: None }
    }
}

impl From<(&str, Value)> for Handler {
    fn from((name, params): (&str, Value)) -> Self {
        Self { name: name.to_owned(), params: Some(params) }
    }
}

impl Handler {
    fn written(self) -> Value {
        match self.params {
            Some(params) => json!({ "handler": self.name, "params": params }),
            None => json!({ "handler": self.name }),
        }
    }
}

/// For how long an answer counts for the same question again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remember {
    /// Not at all.
    Not,
    /// For so many seconds.
    Seconds(u64),
    /// Until it is forgotten.
    Always,
}

/// A running instance, by its control socket. One that was started here is told to end when this is dropped;
/// [`Sandbox::close`] waits for that too.
#[derive(Debug)]
pub struct Sandbox {
    socket: PathBuf,
    gate: Option<Child>,
}

/// What an operation gives, or why it was not done.
pub type Result<T> = std::result::Result<T, SandboxError>;

impl Sandbox {
    /// The instance with this control socket.
    pub fn at(socket: impl Into<PathBuf>) -> Self {
        Self { socket: socket.into(), gate: None }
    }

    /// The instance of this name, which this user has started.
    pub fn named(name: &str) -> Self {
        Self::at(socket_of(name))
    }

    /// Seals a namespace with a new instance of this name; the target is such as `/run/netns/NAME`, `pid:N` or
    /// `docker:NAME`. Returns once nothing leaves the namespace any more but by the gate.
    ///
    /// # Errors
    /// [`SandboxError::Start`], [`SandboxError::Ended`], whose message is on standard error,
    /// [`SandboxError::NotReady`] and [`SandboxError::Unreadable`].
    pub async fn attach(target: &str, name: &str, options: &Attach) -> Result<Self> {
        let mut command = Command::new(&options.program);
        command.args(["attach", target, "--name", name, "--json"]).args(&options.flags);
        if let Some(policy) = &options.policy {
            command.arg("--policy").arg(policy);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let failed = |source| SandboxError::Start { program: options.program.clone(), source };
        let mut gate = command.spawn().map_err(failed)?;
        let pipe = gate.stdout.take();
        // From here on it is told to end where something fails.
        let mut sandbox = Self { socket: PathBuf::new(), gate: Some(gate) };
        let line = timeout(READY_DEADLINE, first_line(pipe)).await.map_err(|_| SandboxError::NotReady)?;
        let line = line.map_err(failed)?;
        if line.is_empty() {
            let ended = timeout(END_DEADLINE, sandbox.end()).await.map_err(|_| SandboxError::NotReady)?;
            return Err(ended.map_err(failed)?.map_or(SandboxError::NotReady, SandboxError::Ended));
        }
        let ready = wire::read(line.as_bytes())?;
        let socket = ready.get("control").and_then(Value::as_str);
        sandbox.socket =
            socket.ok_or_else(|| SandboxError::Unreadable("it has no control socket".into()))?.into();
        Ok(sandbox)
    }

    /// Its control socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Ends the instance, if it was started here, and waits until its log is closed. Its rules stay: nothing leaves
    /// the namespace any more.
    ///
    /// # Errors
    /// [`SandboxError::Late`] where it did not end, and was killed.
    pub async fn close(mut self) -> Result<()> {
        self.tell_to_end();
        if timeout(END_DEADLINE, self.end()).await.is_ok() {
            return Ok(());
        }
        if let Some(Err(error)) = self.gate.as_mut().map(Child::start_kill) {
            return Err(SandboxError::Request(format!("the gate cannot be killed: {error}")));
        }
        Err(SandboxError::Late)
    }

    /// Waits for the end of the gate that was started here.
    async fn end(&mut self) -> io::Result<Option<ExitStatus>> {
        let Some(gate) = &mut self.gate else { return Ok(None) };
        let status = gate.wait().await?;
        self.gate = None;
        Ok(Some(status))
    }

    fn tell_to_end(&self) {
        let pid = self.gate.as_ref().and_then(Child::id).and_then(|pid| i32::try_from(pid).ok());
        if let Some(pid) = pid.and_then(Pid::from_raw) {
            // It may have ended by itself, which is as good.
            kill_process(pid, Signal::TERM).unwrap_or_default();
        }
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.tell_to_end();
    }
}

/// The first line of what comes; empty when nothing does.
async fn first_line(pipe: Option<ChildStdout>) -> io::Result<String> {
    let mut line = String::new();
    if let Some(pipe) = pipe {
        BufReader::new(pipe.take(READY_BYTES_MAX)).read_line(&mut line).await?;
    }
    Ok(line)
}

/// Where the gate made its socket: see docs/control.md.
#[expect(clippy::disallowed_methods, reason = "the runtime folder is named by the environment")]
fn socket_of(name: &str) -> PathBuf {
    let user = rustix::process::geteuid().as_raw();
    let usual = if user == 0 { PathBuf::from("/run") } else { format!("/run/user/{user}").into() };
    let named = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    let folders = named.into_iter().chain([usual]).map(|folder| folder.join("sluicegate"));
    let temporary = std::env::temp_dir().join(format!("sluicegate-{user}"));
    let mut sockets = folders.chain([temporary.clone()]).map(|folder| folder.join(format!("{name}.sock")));
    sockets.find(|socket| socket.exists()).unwrap_or_else(|| temporary.join(format!("{name}.sock")))
}

#[cfg(test)]
mod tests;
