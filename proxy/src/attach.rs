//! `sluicegate attach`: an existing namespace, until we are told to stop or its container ends.

use std::fs::File;
use std::future;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::thread;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

use crate::capture::{Captured, Helper, Ready};
use crate::causes::in_words;
use crate::container::{self, Container, ContainerError, ContainerName, Engine};
use crate::controller::Sealing;
use crate::instance::{Instance, InstanceError};
use crate::trust::{Inside, Keeper};
use crate::{handover, service_manager};

/// What to attach to, as the command line names it: a path, `pid:N`, `docker:NAME` or `podman:NAME`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Namespace {
    /// A file that stands for the namespace.
    Path(PathBuf),
    /// The namespace of a process; never 0.
    Process(u32),
    /// The namespace of a container.
    Container(ContainerName),
}

impl Namespace {
    /// Reads a target.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            Some(("pid", pid)) => match pid.parse::<u32>() {
                Ok(pid) if pid > 0 => Ok(Self::Process(pid)),
                _ => Err(format!("{pid:?} is not a process id")),
            },
            Some(("docker", name)) => ContainerName::parse(Engine::Docker, name).map(Self::Container),
            Some(("podman", name)) => ContainerName::parse(Engine::Podman, name).map(Self::Container),
            Some((kind, _)) if !text.contains('/') => Err(format!(
                "{kind:?} is not a kind of target; use a path, pid:N, docker:NAME or podman:NAME"
            )),
            _ => Ok(Self::Path(PathBuf::from(text))),
        }
    }

    /// Finds out where it is; a container's engine is asked for that.
    ///
    /// # Errors
    /// [`ContainerError`].
    pub fn find(&self) -> Result<Found, ContainerError> {
        match self {
            Self::Path(path) => {
                Ok(Found { path: path.clone(), process: None, container: None, inside: None })
            }
            Self::Process(pid) => Ok(Found {
                path: of_process(*pid),
                process: None,
                container: None,
                inside: Some(Inside { pid: *pid, root: None }),
            }),
            Self::Container(name) => {
                let running = name.find()?;
                Ok(Found {
                    path: of_process(running.pid),
                    process: Some(running.process),
                    container: Some(running.container),
                    inside: Some(Inside { pid: running.pid, root: None }),
                })
            }
        }
    }
}

/// A namespace that is there.
#[derive(Debug)]
pub struct Found {
    /// The file that stands for it.
    pub path: PathBuf,
    /// The process with whose end the gate ends (pidfd_open(2)).
    pub process: Option<OwnedFd>,
    /// Whose it is, where a container was named.
    pub container: Option<Container>,
    /// Whose files could be made to trust the gate, where that is known.
    pub inside: Option<Inside>,
}

impl Found {
    /// The namespace of a container's first process, for as long as that runs. Its files begin at `root` where
    /// it has not changed its root yet.
    ///
    /// # Errors
    /// There is no such process.
    pub fn of_container(container: Container, pid: u32, root: Option<PathBuf>) -> io::Result<Self> {
        let process = Some(container::open_process(pid)?);
        let inside = Some(Inside { pid, root });
        Ok(Self { path: of_process(pid), process, container: Some(container), inside })
    }
}

/// How the workload comes to trust the gate.
#[derive(Debug)]
pub struct Trust {
    /// Where the authority's certificate is written to.
    pub file: Option<File>,
    /// What mounts bundles over the container's.
    pub keeper: Option<Keeper>,
}

fn of_process(pid: u32) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}/ns/net"))
}

/// How a namespace comes to be captured.
#[derive(Debug)]
pub enum Capture {
    /// By a helper that waits to be asked for it.
    Begun(Helper),
    /// It is, by an earlier process of the instance.
    Kept(Box<Captured>),
}

/// Has a namespace captured and serves it until SIGINT, SIGTERM or the end of `process`. The rules stay behind:
/// without a gate nothing leaves it, and the next `attach` takes over.
///
/// # Errors
/// [`InstanceError`].
pub fn attach(
    instance: &Instance,
    capture: Capture,
    process: Option<OwnedFd>,
    trust: Trust,
    started: impl FnOnce(&Ready),
) -> Result<(), InstanceError> {
    instance.check_secrets()?;
    let captured = match capture {
        Capture::Begun(mut helper) => {
            let captured = captured(&mut helper)?;
            // The door's process would end with this one; and where interfaces stay, who is in there is to be looked at
            // again.
            if captured.door.is_none()
                && captured.ready.interfaces.is_empty()
                && let Err(error) = handover::leave(&captured, instance.authority())
            {
                tracing::warn!(error = in_words(&error), "the next process will have to attach anew");
            }
            captured
        }
        Capture::Kept(captured) => *captured,
    };
    serve(instance, captured, process, trust, started)
}

/// Has the namespace captured by a helper that then ends.
///
/// # Errors
/// [`InstanceError`].
pub fn captured(helper: &mut Helper) -> Result<Captured, InstanceError> {
    let captured = helper.captured().map_err(InstanceError::Capture)?;
    if let Some(mut child) = helper.take_child() {
        child.wait().map_err(|error| InstanceError::System("wait for the helper", error))?;
    }
    Ok(captured)
}

/// Serves a captured namespace until SIGINT, SIGTERM or the end of `process`.
///
/// # Errors
/// [`InstanceError`].
pub fn serve(
    instance: &Instance,
    captured: Captured,
    process: Option<OwnedFd>,
    mut trust: Trust,
    started: impl FnOnce(&Ready),
) -> Result<(), InstanceError> {
    if let Some(file) = trust.file {
        instance.write_authority(file)?;
    }
    if let Some(keeper) = &mut trust.keeper {
        keeper.place(&captured.ready.namespace, instance.authority_pem())?;
    }
    let serving = instance.serve(captured, Sealing::Apart)?;
    started(&serving.ready);
    let end = serving.runtime.block_on(until_the_end(process));
    match end {
        // Another process may follow, for which connections wait.
        Ok(End::Told) if service_manager::is_there() => serving.drain(),
        Ok(End::Told) | Err(_) => {}
        Ok(End::Gone) => {
            if let Err(error) = handover::forget() {
                tracing::warn!(error = in_words(&error), "the service manager keeps what was captured");
            }
        }
    }
    serving.stop();
    drop(trust.keeper);
    instance.close()?;
    end.map(drop).map_err(|error| InstanceError::System("wait for signals", error))
}

/// Why a gate ends.
#[derive(Debug)]
enum End {
    /// It was told to.
    Told,
    /// What it serves is gone.
    Gone,
}

async fn until_the_end(process: Option<OwnedFd>) -> io::Result<End> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = interrupt.recv() => Ok(End::Told),
        _ = terminate.recv() => Ok(End::Told),
        ended = end_of(process) => ended.map(|()| End::Gone),
    }
}

/// A descriptor of a process can be read from when the process has ended (pidfd_open(2)).
async fn end_of(process: Option<OwnedFd>) -> io::Result<()> {
    let Some(process) = process else { return future::pending().await };
    let (sender, receiver) = oneshot::channel();
    // Not one of the runtime's, which would wait for it when we are told to stop.
    thread::Builder::new().name("container".into()).spawn(move || {
        let ended = loop {
            match poll(&mut [PollFd::new(process.as_fd(), PollFlags::POLLIN)], PollTimeout::NONE) {
                Err(Errno::EINTR) => {}
                result => break result.map(drop).map_err(io::Error::from),
            }
        };
        drop(sender.send(ended));
    })?;
    receiver.await.map_err(io::Error::other)?
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::time::Duration;

    use super::*;

    #[test]
    fn targets_are_paths_processes_or_containers() {
        assert_eq!(Namespace::parse("/run/netns/a"), Ok(Namespace::Path("/run/netns/a".into())));
        assert_eq!(Namespace::parse("./a:b"), Ok(Namespace::Path("./a:b".into())));
        assert_eq!(Namespace::parse("pid:12"), Ok(Namespace::Process(12)));
        let container = |engine| ContainerName::parse(engine, "jail-1").map(Namespace::Container);
        assert_eq!(Namespace::parse("docker:jail-1"), container(Engine::Docker));
        assert_eq!(Namespace::parse("podman:jail-1"), container(Engine::Podman));
        for bad in ["pid:0", "pid:x", "pid:-1", "vm:x", "docker:", "docker:-v", "podman:/etc/passwd"] {
            assert!(Namespace::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_end_of_a_process_is_noticed_and_nothing_before() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let mut child = Command::new("sleep").arg("600").spawn().unwrap();
        let process = container::open_process(child.id()).unwrap();
        let again = process.try_clone().unwrap();
        let waiting = |process, limit| {
            runtime.block_on(async { tokio::time::timeout(limit, end_of(Some(process))).await })
        };
        assert!(waiting(process, Duration::from_millis(50)).is_err(), "it has not ended");
        // Not reaped yet: an end is an end where the parent does not look.
        child.kill().unwrap();
        waiting(again, Duration::from_secs(10)).unwrap().unwrap();
        child.wait().unwrap();
    }
}
