//! `sluicegate attach`: an existing namespace, until we are told to stop.

use std::io;
use std::path::{Path, PathBuf};

use tokio::signal::unix::{SignalKind, signal};

use crate::capture::{Helper, Ready, Target};
use crate::controller::Sealing;
use crate::instance::{Instance, InstanceError};
use crate::process;

/// What to attach to, as the command line names it: a path, or `pid:N`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Namespace(PathBuf);

impl Namespace {
    /// Reads a target.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            Some(("pid", pid)) => match pid.parse::<u32>() {
                Ok(pid) if pid > 0 => Ok(Self(PathBuf::from(format!("/proc/{pid}/ns/net")))),
                _ => Err(format!("{pid:?} is not a process id")),
            },
            Some((kind, _)) if !text.contains('/') => {
                Err(format!("{kind:?} is not a kind of target; use a path or pid:N"))
            }
            _ => Ok(Self(PathBuf::from(text))),
        }
    }
}

/// Captures `namespace` and serves it until SIGINT or SIGTERM. Its rules stay behind: without a gate
/// nothing leaves it, and the next `attach` takes over.
///
/// # Errors
/// [`InstanceError`].
pub fn attach(
    instance: &Instance,
    namespace: &Namespace,
    authority_file: Option<&Path>,
    started: impl FnOnce(&Ready),
) -> Result<(), InstanceError> {
    process::harden().map_err(|error| InstanceError::System("protect this process", error))?;
    let mut helper = Helper::start(&Target::Attach(namespace.0.clone()), instance.is_published())
        .map_err(InstanceError::Capture)?;
    let captured = helper.captured().map_err(InstanceError::Capture)?;
    let mut child = helper.into_child();
    child.wait().map_err(|error| InstanceError::System("wait for the helper", error))?;
    if let Some(file) = authority_file {
        instance.write_authority(file)?;
    }
    process::drop_privileges().map_err(|error| InstanceError::System("drop privileges", error))?;
    instance.check_secrets()?;
    let serving = instance.serve(captured, Sealing::Apart)?;
    started(&serving.ready);
    let told = serving.runtime.block_on(until_told_to_stop());
    serving.stop();
    instance.close()?;
    told.map_err(|error| InstanceError::System("wait for signals", error))
}

async fn until_told_to_stop() -> io::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_paths_or_processes() {
        let path = |text: &str| Namespace::parse(text).map(|namespace| namespace.0);
        assert_eq!(path("/run/netns/a"), Ok("/run/netns/a".into()));
        assert_eq!(path("pid:12"), Ok("/proc/12/ns/net".into()));
        assert_eq!(path("./a:b"), Ok("./a:b".into()));
        for bad in ["pid:0", "pid:x", "pid:-1", "vm:x"] {
            assert!(path(bad).is_err(), "{bad}");
        }
    }
}
