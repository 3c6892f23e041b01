//! `sluicegate oci-hook`: a gate for a container that an OCI runtime is about to start.
//!
//! **Invariant:** it succeeds only when the gate has said that it serves. The runtime starts nothing in a
//! container whose hook failed, and the container's own first instruction comes after.

use std::env;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::{Value, json};

use crate::attach::Found;
use crate::causes::in_words;
use crate::container::Container;
use crate::exit;
use crate::instance::InstanceError;

/// The subcommand that serves; for the hook alone.
pub const SUBCOMMAND: &str = "oci-gate";

/// How long the runtime may take to say which container: it has it at hand.
const STATE_DEADLINE: Duration = Duration::from_secs(10);

/// The longest state: annotations are in it, of which Kubernetes allows 256 KiB.
const STATE_BYTES_MAX: u64 = 1 << 20;

/// How long the gate may take until it serves. It takes tens of milliseconds, and as many seconds where it
/// compiles handlers for the first time.
const READY_DEADLINE: Duration = Duration::from_secs(60);

/// What the runtime is told to wait for the hook: longer than the hook itself waits for anything.
const HOOK_DEADLINE: Duration = Duration::from_secs(90);

/// How long the gate of a container that had the same name may take to end.
const TAKEN_DEADLINE: Duration = Duration::from_secs(10);

/// How often it is looked whether it has.
const TAKEN_PAUSE: Duration = Duration::from_millis(100);

/// What is read of the gate's line, and of its complaint.
const SAID_BYTES_MAX: u64 = 16_384;

/// How long a gate that ended may take to be read to its end.
const COMPLAINT_DEADLINE: Duration = Duration::from_secs(1);

/// Why there is no gate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HookError {
    /// The state did not come, or is something else (OCI runtime specification, "State").
    #[error("the state of a container on standard input is not understood ({0})")]
    State(String),
    /// The container runs already, or has ended.
    #[error("the container {id:?} is {status}, and a gate has to be there before it starts")]
    Stage {
        /// Which container.
        id: String,
        /// What the runtime says of it.
        status: String,
    },
    /// The log was to go to standard output.
    #[error("a hook has no standard output for the log")]
    Log,
    /// The folder that we are in is gone, or our program is.
    #[error("a path cannot be made absolute")]
    Folder(#[source] io::Error),
    /// JSON has text only.
    #[error("{0:?} cannot stand in the configuration, since it is not UTF-8")]
    NotText(OsString),
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

impl HookError {
    /// What the operator can do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::State(_) => {
                Some("an OCI runtime calls this; `sluicegate oci-hook --print` prints how to have it called")
            }
            Self::Stage { .. } => Some("configure it for the stage createRuntime"),
            Self::Silent => {
                Some("let `sluicegate policy check` compile large handlers beforehand, with the same --state")
            }
            Self::Log => Some("name a file with --log, or leave it out"),
            Self::Folder(_) | Self::NotText(_) | Self::Start(_) | Self::Ended { .. } => None,
        }
    }

    /// The exit code that fits.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::State(_) | Self::Stage { .. } | Self::Log | Self::NotText(_) => exit::USAGE,
            Self::Folder(_) | Self::Start(_) | Self::Silent => exit::UNAVAILABLE,
            Self::Ended { code, .. } => *code,
        }
    }
}

/// What a runtime says of a container, as far as it is needed.
#[derive(Debug, Deserialize, PartialEq, Eq)]
struct State {
    id: String,
    status: String,
    /// Of the container's first process, as the runtime sees it; missing where there is none.
    #[serde(default)]
    pid: u32,
}

/// Reads which container it is about, starts a gate for it with these arguments, and waits until it serves.
/// Returns the exit code; what went wrong is on standard error, where runtimes show it.
pub fn run(arguments: &[OsString]) -> u8 {
    match read_state().and_then(|state| seal(&state, arguments)) {
        Ok(()) => exit::OK,
        Err(error) => failed(&error),
    }
}

/// Says what went wrong and returns the exit code.
pub fn failed(error: &HookError) -> u8 {
    // The gate has said already that it is sluicegate who speaks.
    let begin = if matches!(error, HookError::Ended { .. }) { "" } else { "sluicegate: " };
    let hint = error.hint().map(|hint| format!("\n  hint: {hint}")).unwrap_or_default();
    drop(writeln!(io::stderr(), "{begin}{}{hint}", in_words(error)));
    error.exit_code()
}

/// The hook's configuration for a folder of hooks (oci-hooks(5)): for every container, or for those with the
/// annotation `sluicegate=VALUE`.
///
/// # Errors
/// [`HookError::Folder`] and [`HookError::NotText`].
pub fn configuration(arguments: Vec<OsString>, annotation: Option<&str>) -> Result<Value, HookError> {
    let program = env::current_exe().map_err(HookError::Folder)?;
    let text = |words: OsString| words.into_string().map_err(HookError::NotText);
    let mut command = vec!["sluicegate".to_owned(), "oci-hook".to_owned()];
    for argument in arguments {
        command.push(text(argument)?);
    }
    let when = match annotation {
        // Both are regular expressions, which are looked for anywhere.
        Some(value) => json!({"annotations": {"^sluicegate$": format!("^{}$", value.replace('.', "\\."))}}),
        None => json!({"always": true}),
    };
    Ok(json!({
        "version": "1.0.0",
        "hook": {"path": text(program.into_os_string())?, "args": command, "timeout": HOOK_DEADLINE.as_secs()},
        "when": when,
        "stages": ["createRuntime"],
    }))
}

/// The namespace of a container that does not run yet, for the gate that [`run`] started. The gate leaves
/// the session and the folder of the runtime.
///
/// # Errors
/// [`InstanceError::System`].
pub fn adopt(id: &str, pid: u32) -> Result<Found, InstanceError> {
    if let Err(error) = rustix::process::setsid() {
        tracing::debug!(%error, "it leads a process group already, as one that is started by hand");
    }
    let container = Container { id: id.to_owned(), name: id.to_owned() };
    let container = Container { name: container.short_id().to_owned(), ..container };
    Found::of_container(container, pid)
        .map_err(|error| InstanceError::System("hold on to the container's process", error))
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

fn read_state() -> Result<State, HookError> {
    let (sender, receiver) = mpsc::channel();
    // A thread, since a read has no deadline. It ends with the process.
    thread::spawn(move || {
        let mut text = Vec::new();
        let read = io::stdin().take(STATE_BYTES_MAX + 1).read_to_end(&mut text);
        drop(sender.send(read.map(|_| text)));
    });
    match receiver.recv_timeout(STATE_DEADLINE) {
        Ok(Ok(text)) => parse_state(&text),
        Ok(Err(error)) => Err(HookError::State(error.to_string())),
        Err(_) => Err(HookError::State(format!("it has no end within {} s", STATE_DEADLINE.as_secs()))),
    }
}

fn parse_state(text: &[u8]) -> Result<State, HookError> {
    if text.len() as u64 > STATE_BYTES_MAX {
        return Err(HookError::State(format!("it is longer than {STATE_BYTES_MAX} bytes")));
    }
    let state: State = serde_json::from_slice(text).map_err(|error| HookError::State(error.to_string()))?;
    // The specification has it "creating" at this stage; some runtimes say "created".
    match &*state.status {
        "creating" | "created" if state.pid > 0 => Ok(state),
        "creating" | "created" => Err(HookError::State("it has no pid".into())),
        _ => Err(HookError::Stage { id: state.id, status: state.status }),
    }
}

fn seal(state: &State, arguments: &[OsString]) -> Result<(), HookError> {
    let began = Instant::now();
    loop {
        match start(state, arguments) {
            // A container that is started again: its gate of before may be writing its last records.
            Err(HookError::Ended { code: exit::TAKEN, .. }) if began.elapsed() < TAKEN_DEADLINE => {
                thread::sleep(TAKEN_PAUSE);
            }
            result => return result,
        }
    }
}

/// Starts a gate and waits until it serves or has ended.
fn start(state: &State, arguments: &[OsString]) -> Result<(), HookError> {
    let mut command = Command::new("/proc/self/exe");
    command.arg(SUBCOMMAND).arg(format!("--pid={}", state.pid)).arg(format!("--id={}", state.id));
    command.args(arguments).current_dir("/");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut gate = command.spawn().map_err(HookError::Start)?;
    let line = gate.stdout.take().map(first_line);
    let complaint = gate.stderr.take().map(beginning);
    let line = line.map(|line| line.recv_timeout(READY_DEADLINE));
    if matches!(&line, Some(Ok(line)) if is_ready(line)) {
        return Ok(());
    }
    // It may have ended by itself, which is as good.
    drop(gate.kill());
    let status = gate.wait().map_err(HookError::Start)?;
    if matches!(line, Some(Err(_))) {
        return Err(HookError::Silent);
    }
    let said = complaint.and_then(|complaint| complaint.recv_timeout(COMPLAINT_DEADLINE).ok());
    let code = status.code().and_then(|code| u8::try_from(code).ok()).filter(|code| *code != exit::OK);
    Err(HookError::Ended {
        code: code.unwrap_or(exit::BUG),
        said: said.unwrap_or_default().trim_end().to_owned(),
    })
}

/// What `attach --json` says when it serves.
fn is_ready(line: &str) -> bool {
    serde_json::from_str::<Value>(line)
        .is_ok_and(|line| line.get("event").is_some_and(|event| event == "ready"))
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
    use std::os::unix::ffi::OsStringExt;

    use super::*;

    fn state(text: &str) -> Result<State, String> {
        parse_state(text.as_bytes()).map_err(|error| error.to_string())
    }

    #[test]
    fn the_state_of_a_container_that_does_not_run_yet_is_taken() {
        let found = state(
            r#"{"ociVersion":"1.0.2","id":"box","status":"creating","pid":4711,"bundle":"/b","annotations":{"a":"b"}}"#,
        );
        assert_eq!(found, Ok(State { id: "box".into(), status: "creating".into(), pid: 4711 }));
        assert!(state(r#"{"id":"box","status":"created","pid":1}"#).is_ok());
    }

    #[test]
    fn what_does_not_lead_to_a_container_before_its_start_is_refused() {
        for status in ["running", "stopped", "paused", ""] {
            let refused = state(&format!(r#"{{"id":"box","status":"{status}","pid":4711}}"#)).unwrap_err();
            assert!(refused.contains("has to be there before"), "{refused}");
        }
        for text in [
            "",
            "{}",
            "[]",
            r#"{"id":"box","status":"creating"}"#,
            r#"{"id":"box","status":"creating","pid":0}"#,
            r#"{"id":"box","status":"creating","pid":-1}"#,
            r#"{"id":"box","status":"creating","pid":4294967296}"#,
            r#"{"status":"creating","pid":1}"#,
            r#"{"id":"box","status":"creating","pid":1} more"#,
        ] {
            assert!(state(text).unwrap_err().contains("is not understood"), "{text}");
        }
        let long = format!(r#"{{"id":"{}","status":"creating","pid":1}}"#, "x".repeat(1 << 20));
        assert!(state(&long).unwrap_err().contains("longer than"));
    }

    #[test]
    fn the_configuration_names_stage_command_and_containers() {
        let arguments = vec!["--policy=/etc/a.toml".into(), "--no-control".into()];
        let all = configuration(arguments, None).unwrap();
        assert!(all["hook"]["path"].as_str().unwrap().starts_with('/'), "{all}");
        assert_eq!(
            all["hook"]["args"],
            json!(["sluicegate", "oci-hook", "--policy=/etc/a.toml", "--no-control"])
        );
        assert_eq!((&all["stages"], &all["when"]), (&json!(["createRuntime"]), &json!({"always": true})));
        let some = configuration(Vec::new(), Some("v1.2")).unwrap();
        assert_eq!(some["when"], json!({"annotations": {"^sluicegate$": "^v1\\.2$"}}));
        let odd = OsString::from_vec(b"--policy=/\xff".to_vec());
        assert!(matches!(configuration(vec![odd], None), Err(HookError::NotText(_))));
    }

    #[test]
    fn only_the_line_of_a_gate_that_serves_is_ready() {
        assert!(is_ready("{\"event\":\"ready\",\"instance\":\"box\"}\n"));
        for line in ["", "ready\n", "{\"event\":\"other\"}\n", "{\"ready\":true}\n", "{\"event\":\"rea"] {
            assert!(!is_ready(line), "{line:?}");
        }
    }
}
