//! `sluicegate oci-hook`: a gate for a container that an OCI runtime is about to start.
//!
//! **Invariant:** it succeeds only when the gate has said that it serves. The runtime starts nothing in a
//! container whose hook failed, and the container's own first instruction comes after.

use std::env;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::background::{self, StartError};
use crate::causes::in_words;
use crate::exit;

/// What the runtime is told to wait for the hook: longer than the hook itself waits for anything.
const HOOK_DEADLINE: Duration = Duration::from_secs(90);

/// The longest configuration of a container; with all of a service's variables it has some ten KiB.
const CONFIGURATION_BYTES_MAX: u64 = 8 << 20;

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
    /// It is not known where the container's files are (OCI runtime specification, "Root").
    #[error("the configuration of the container's bundle {} is not understood", bundle.display())]
    Bundle {
        /// The folder that has it.
        bundle: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// There is no gate.
    #[error(transparent)]
    Gate(#[from] StartError),
}

impl HookError {
    /// What the operator can do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::State(_) => {
                Some("an OCI runtime calls this; `sluicegate oci-hook --print` prints how to have it called")
            }
            Self::Stage { .. } => Some("configure it for the stage createRuntime"),
            Self::Log => Some("name a file with --log, or leave it out"),
            Self::Gate(error) => error.hint(),
            Self::Folder(_) | Self::NotText(_) | Self::Bundle { .. } => None,
        }
    }

    /// The exit code that fits.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::State(_) | Self::Stage { .. } | Self::Log | Self::NotText(_) => exit::USAGE,
            Self::Folder(_) | Self::Bundle { .. } => exit::UNAVAILABLE,
            Self::Gate(error) => error.exit_code(),
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
    /// The folder of the container's configuration.
    #[serde(default)]
    bundle: PathBuf,
}

/// Reads which container it is about, starts a gate for it with these arguments, and waits until it serves.
/// `with_root` says whether the gate needs the container's files. Returns the exit code; what went wrong is on
/// standard error, where runtimes show it.
pub fn run(arguments: &[OsString], with_root: bool) -> u8 {
    match read_state().and_then(|state| seal(&state, arguments, with_root)) {
        Ok(()) => exit::OK,
        Err(error) => failed(&error),
    }
}

/// Says what went wrong and returns the exit code.
pub fn failed(error: &HookError) -> u8 {
    // The gate has said already that it is sluicegate who speaks.
    let begin = if matches!(error, HookError::Gate(StartError::Ended { .. })) { "" } else { "sluicegate: " };
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

fn read_state() -> Result<State, HookError> {
    parse_state(&background::told().map_err(HookError::State)?)
}

fn parse_state(text: &[u8]) -> Result<State, HookError> {
    let state: State = serde_json::from_slice(text).map_err(|error| HookError::State(error.to_string()))?;
    // The specification has it "creating" at this stage; some runtimes say "created".
    match &*state.status {
        "creating" | "created" if state.pid > 0 => Ok(state),
        "creating" | "created" => Err(HookError::State("it has no pid".into())),
        _ => Err(HookError::Stage { id: state.id, status: state.status }),
    }
}

fn seal(state: &State, arguments: &[OsString], with_root: bool) -> Result<(), HookError> {
    let mut line = vec![format!("--pid={}", state.pid).into(), format!("--id={}", state.id).into()];
    if with_root {
        let bundle = state.bundle.clone();
        let root = root(&bundle).map_err(|source| HookError::Bundle { bundle, source })?;
        line.extend(["--root".into(), root.into_os_string()]);
    }
    line.extend_from_slice(arguments);
    background::start(&line)?;
    Ok(())
}

/// Where a container's files begin: at this stage its process still has the runtime's root.
fn root(bundle: &Path) -> io::Result<PathBuf> {
    #[derive(Deserialize)]
    struct Configuration {
        root: Root,
    }
    #[derive(Deserialize)]
    struct Root {
        path: PathBuf,
    }
    let mut text = Vec::new();
    File::open(bundle.join("config.json"))?.take(CONFIGURATION_BYTES_MAX).read_to_end(&mut text)?;
    let Configuration { root } = serde_json::from_slice(&text)?;
    Ok(bundle.join(root.path))
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
        assert_eq!(
            found,
            Ok(State { id: "box".into(), status: "creating".into(), pid: 4711, bundle: "/b".into() })
        );
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
}
