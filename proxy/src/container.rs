//! What `docker:NAME` and `podman:NAME` stand for, as the engine's own program tells it.

use std::env;
use std::ffi::OsStr;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::process::Command;

use crate::exit;

/// How long the engine's program may take for one answer. It takes a tenth of a second; a busy engine more.
const DEADLINE: Duration = Duration::from_secs(10);

/// The longest answer, and the longest complaint: a process id, an id and a name; a line or two.
const ANSWER_BYTES_MAX: u64 = 4_096;

/// How much of an engine's complaint is shown, in characters.
const COMPLAINT_CHARACTERS_MAX: usize = 300;

/// As many digits as an id has.
const ID_DIGITS: usize = 64;

/// What is read of a process's control groups: a path for each of a dozen hierarchies.
const GROUPS_BYTES_MAX: u64 = 65_536;

/// As many digits of an id as the engines show.
const SHORT_ID_DIGITS: usize = 12;

/// What the engine answers: process id, id, name. Docker's name begins with a slash.
const FORMAT: &str = "{{.State.Pid}} {{.Id}} {{.Name}}";

/// What runs containers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// Docker.
    Docker,
    /// Podman, by root or rootless.
    Podman,
}

impl Engine {
    /// Its program, which finds the engine by the environment and has nothing else of it.
    pub(crate) fn command(self) -> Command {
        let mut command = Command::new(self.to_string());
        command.env_clear().envs(env::vars_os().filter(|(name, _)| is_for_engines(name)));
        command
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Docker => "docker",
            Self::Podman => "podman",
        })
    }
}

/// A container as an operator names it: by name or by id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerName {
    engine: Engine,
    name: String,
}

/// A container as its engine knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    /// Its id; 64 hexadecimal digits with Docker and Podman.
    pub id: String,
    /// Its name.
    pub name: String,
}

impl Container {
    /// The id as engines show it: the first digits of a long hexadecimal one, any other whole.
    pub fn short_id(&self) -> &str {
        let is_long = self.id.len() == 64 && self.id.bytes().all(|byte| byte.is_ascii_hexdigit());
        self.id.get(..SHORT_ID_DIGITS).filter(|_| is_long).unwrap_or(&self.id)
    }
}

/// A container that runs.
#[derive(Debug)]
pub struct Running {
    /// The id of its first process, here.
    pub pid: u32,
    /// That process, whatever becomes of the number.
    pub process: OwnedFd,
    /// Which container.
    pub container: Container,
}

/// Why a container was not found.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ContainerError {
    /// The engine's program is not there, or cannot be started.
    #[error("cannot ask {engine} for a container")]
    Start {
        /// Whose.
        engine: Engine,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The engine's program ended badly: there is no such container, or no engine.
    #[error("{engine} does not find the container {name:?}: {complaint}")]
    Unknown {
        /// Whose.
        engine: Engine,
        /// Which.
        name: String,
        /// What it said, made fit to print.
        complaint: String,
    },
    /// It did not answer in time.
    #[error("{engine} has said nothing of the container {name:?} within {} s", DEADLINE.as_secs())]
    Silent {
        /// Whose.
        engine: Engine,
        /// Which.
        name: String,
    },
    /// It answered something else than was asked.
    #[error("what {engine} says of the container {name:?} is not understood")]
    Answer {
        /// Whose.
        engine: Engine,
        /// Which.
        name: String,
    },
    /// There is such a container, and it has no process; or none on this machine.
    #[error("the container {name:?} of {engine} does not run here")]
    NotRunning {
        /// Whose.
        engine: Engine,
        /// Which.
        name: String,
    },
}

impl ContainerError {
    /// What the operator can do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Start { .. } => {
                "see that its program is installed and in PATH, or name the process with pid:N"
            }
            Self::Unknown { .. } => {
                "see that the engine runs and lists it with `ps`; a rootless container is its user's only"
            }
            Self::Silent { .. } => "see that the engine answers, or name the process with pid:N",
            Self::Answer { .. } => "name the process with pid:N",
            Self::NotRunning { .. } => "start it first, with --network none",
        }
    }

    /// The exit code that fits.
    pub fn exit_code(&self) -> u8 {
        exit::UNAVAILABLE
    }
}

impl ContainerName {
    /// Reads a name or an id.
    ///
    /// # Errors
    /// What it is made of, in words: as the engines themselves have it, so that it is never an option.
    pub fn parse(engine: Engine, name: &str) -> Result<Self, String> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if name.starts_with(|first: char| first.is_ascii_alphanumeric()) && name.bytes().all(plain) {
            return Ok(Self { engine, name: name.to_owned() });
        }
        Err(format!(
            "{name:?} is not a container: its name or id has letters, digits, `-`, `_` and `.`, and begins with a letter or a digit"
        ))
    }

    /// Finds the container's first process.
    ///
    /// # Errors
    /// [`ContainerError`].
    pub fn find(&self) -> Result<Running, ContainerError> {
        let (pid, container) = self.look()?;
        let process = open_process(pid).map_err(|_| self.not_running())?;
        // The number could have been another process's by the time it was opened. The engine is asked again only
        // where the system does not say whose it is, since each question takes its program's start.
        if !is_named_by(&container.id, pid) && self.look()? != (pid, container.clone()) {
            return Err(self.not_running());
        }
        Ok(Running { pid, process, container })
    }

    /// Asks the engine once.
    fn look(&self) -> Result<(u32, Container), ContainerError> {
        let Self { engine, name } = self.clone();
        let failed = |source| ContainerError::Start { engine, source };
        // One thread, which is this one: privileges are dropped later, thread by thread.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let answered =
            runtime.block_on(async { tokio::time::timeout(DEADLINE, answer(self.inspect(), &[])).await });
        let Ok(answered) = answered else { return Err(ContainerError::Silent { engine, name }) };
        let Answer { status, said, complaint } = answered.map_err(failed)?;
        if !status.success() {
            return Err(ContainerError::Unknown { engine, name, complaint: printable(&complaint) });
        }
        match read(&said) {
            Some((0, _)) => Err(self.not_running()),
            Some(found) => Ok(found),
            None => Err(ContainerError::Answer { engine, name }),
        }
    }

    fn inspect(&self) -> Command {
        let mut command = self.engine.command();
        command.args(["inspect", "--type", "container", "--format", FORMAT, "--", &self.name]);
        command
    }

    fn not_running(&self) -> ContainerError {
        ContainerError::NotRunning { engine: self.engine, name: self.name.clone() }
    }
}

/// Holds on to a process by something else than its number (pidfd_open(2)).
///
/// # Errors
/// There is none with this number.
pub fn open_process(pid: u32) -> io::Result<OwnedFd> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidInput)?;
    Ok(pidfd_open(pid, PidfdFlags::empty())?)
}

/// Whether the process is in a control group that is called after a container's whole id, as engines call them.
fn is_named_by(id: &str, pid: u32) -> bool {
    let mut groups = String::new();
    let read = File::open(format!("/proc/{pid}/cgroup"))
        .and_then(|file| file.take(GROUPS_BYTES_MAX).read_to_string(&mut groups));
    read.is_ok() && is_group_of(id, &groups)
}

/// The last part of a path is meant (cgroups(7)): those before it are of containers that this one is in.
fn is_group_of(id: &str, groups: &str) -> bool {
    let is_whole = id.len() == ID_DIGITS && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_whole && groups.lines().filter_map(|line| line.rsplit('/').next()).any(|name| name.contains(id))
}

/// Whether the engine's program may need the variable. It does not get the others: the values of secrets
/// are among them.
fn is_for_engines(name: &OsStr) -> bool {
    const NAMES: [&str; 6] = ["DBUS_SESSION_BUS_ADDRESS", "HOME", "LOGNAME", "PATH", "TMPDIR", "USER"];
    const BEGINNINGS: [&str; 4] = ["CONTAINER", "DOCKER_", "PODMAN_", "XDG_"];
    name.to_str().is_some_and(|name| {
        NAMES.contains(&name) || BEGINNINGS.iter().any(|beginning| name.starts_with(beginning))
    })
}

/// What a program answered.
pub(crate) struct Answer {
    /// How it ended.
    pub(crate) status: ExitStatus,
    /// The beginning of its standard output.
    pub(crate) said: String,
    /// The beginning of its standard error.
    pub(crate) complaint: String,
}

/// Runs a program to its end, with this on its standard input; it is killed when this is dropped.
pub(crate) async fn answer(mut command: Command, input: &[u8]) -> io::Result<Answer> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn()?;
    let (pipe, said, complaint) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (said, complaint, ()) = tokio::try_join!(beginning(said), beginning(complaint), told(pipe, input))?;
    Ok(Answer { status: child.wait().await?, said, complaint })
}

/// Writes all of it, and its end. A program that does not read it has its reasons.
async fn told(pipe: Option<impl AsyncWrite + Unpin>, input: &[u8]) -> io::Result<()> {
    let Some(mut pipe) = pipe else { return Ok(()) };
    match pipe.write_all(input).await {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error),
        _ => Ok(()),
    }
}

/// What comes first, and no more of it: the pipe breaks then.
async fn beginning(pipe: Option<impl AsyncRead + Unpin>) -> io::Result<String> {
    let mut bytes = Vec::new();
    if let Some(pipe) = pipe {
        pipe.take(ANSWER_BYTES_MAX).read_to_end(&mut bytes).await?;
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Reads what [`FORMAT`] made.
fn read(said: &str) -> Option<(u32, Container)> {
    let mut words = said.split_whitespace();
    let (pid, id, name) = (words.next()?.parse().ok()?, words.next()?, words.next()?);
    let name = name.strip_prefix('/').unwrap_or(name);
    words.next().is_none().then(|| (pid, Container { id: id.to_owned(), name: name.to_owned() }))
}

/// The last line that was said, where programs put what matters, without what would move a terminal's cursor. Some
/// put a reference to their help behind it.
pub(crate) fn printable(complaint: &str) -> String {
    let line = complaint.lines().rfind(|line| says_why(line)).unwrap_or("it does not say why");
    line.chars().filter(|character| !character.is_control()).take(COMPLAINT_CHARACTERS_MAX).collect()
}

fn says_why(line: &str) -> bool {
    !line.trim().is_empty() && !["Run '", "See '"].iter().any(|reference| line.starts_with(reference))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "4f2c8a1b9d3e4f2c8a1b9d3e4f2c8a1b9d3e4f2c8a1b9d3e4f2c8a1b9d3e0123";

    #[test]
    fn a_name_is_never_an_option_or_another_object() {
        for name in ["jail", "a", "web_1.x-y", ID] {
            assert!(ContainerName::parse(Engine::Docker, name).is_ok(), "{name}");
        }
        for name in ["", "-", "--help", ".x", "_x", "a b", "a/b", "a:b", "a\n", "ü", "{{.}}"] {
            assert!(ContainerName::parse(Engine::Podman, name).is_err(), "{name:?}");
        }
    }

    #[test]
    fn answers_of_both_engines_are_read() {
        let container = Container { id: ID.into(), name: "jail".into() };
        assert_eq!(read(&format!("4711 {ID} /jail\n")), Some((4711, container.clone())));
        assert_eq!(read(&format!("4711 {ID} jail\n")), Some((4711, container.clone())));
        assert_eq!(container.short_id(), "4f2c8a1b9d3e");
        for wrong in ["", "4711", "4711 id", "-1 id name", "x id name", "1 id name more", "1 a b\n2 a b"] {
            assert_eq!(read(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn a_process_is_a_containers_by_the_end_of_its_control_groups_path() {
        for group in [
            format!("4:memory:/docker/{ID}\n0::/"),
            format!("0::/system.slice/docker-{ID}.scope\n"),
            format!("0::/../../user.slice/libpod-{ID}.scope"),
        ] {
            assert!(is_group_of(ID, &group), "{group}");
        }
        let other = ID.replace('4', "5");
        for group in [
            String::new(),
            "0::/\n".to_owned(),
            format!("0::/docker/{other}"),
            format!("0::/docker/{ID}/docker/{other}"),
        ] {
            assert!(!is_group_of(ID, &group), "{group}");
        }
        assert!(!is_group_of("docker", "0::/docker"), "no id");
        assert!(!is_named_by(ID, std::process::id()));
    }

    #[test]
    fn only_ids_of_engines_are_shortened() {
        for id in ["box", "0123456789abcdef", &"x".repeat(64), &"é".repeat(32)] {
            assert_eq!(Container { id: id.into(), name: "n".into() }.short_id(), id);
        }
    }

    #[test]
    fn secrets_do_not_go_to_the_engine() {
        for name in ["PATH", "HOME", "DOCKER_HOST", "CONTAINERS_CONF", "CONTAINER_HOST", "XDG_RUNTIME_DIR"] {
            assert!(is_for_engines(OsStr::new(name)), "{name}");
        }
        for name in ["API_TOKEN", "AWS_SECRET_ACCESS_KEY", "SLUICEGATE_POLICY", "LD_PRELOAD"] {
            assert!(!is_for_engines(OsStr::new(name)), "{name}");
        }
    }

    #[test]
    fn a_complaint_is_one_short_line() {
        assert_eq!(printable("[]\nError: no such \u{1b}[31mthing\n\n"), "Error: no such [31mthing");
        assert_eq!(printable(&"x".repeat(5000)).len(), COMPLAINT_CHARACTERS_MAX);
        assert_eq!(printable(""), "it does not say why");
        assert_eq!(printable("docker: no.\n\nRun 'docker run --help' for more information\n"), "docker: no.");
    }

    #[test]
    fn a_program_without_end_is_ended_and_no_more_is_read_than_fits() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let shell = |script: &str| {
            let mut command = Command::new("/bin/sh");
            command.args(["-c", script]);
            answer(command, &[])
        };
        let limited =
            |script, limit| runtime.block_on(async { tokio::time::timeout(limit, shell(script)).await });
        assert!(limited("exec sleep 600", Duration::from_millis(100)).is_err());
        let endless = limited("exec yes", DEADLINE).unwrap().unwrap();
        assert_eq!(endless.said.len() as u64, ANSWER_BYTES_MAX);
        assert!(!endless.status.success(), "the pipe broke");
    }
}
