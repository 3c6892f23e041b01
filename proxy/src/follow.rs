//! `attach --follow`: a gate for a container each time that it runs, until it is removed.
//!
//! This process keeps the privileges that each capture needs, and does nothing else with them: it starts gates
//! and asks the engine. Between two of them the container has no way out, since it has no interface.

use std::ffi::OsString;
use std::io;
use std::process::{Child, Command, ExitStatus};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::container::{ContainerError, ContainerName};
use crate::exit;
use crate::instance::InstanceError;
use crate::workload;

/// How often it is looked whether the gate has ended, or we are told to.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// How often the engine is asked whether the container runs again, in looks.
const LOOKS_EACH_QUESTION: u32 = 20;

/// Runs this program with `arguments`, which attach to the container, whenever it runs. Returns the exit code
/// once the container is gone, a gate failed, or we were told to end.
///
/// # Errors
/// [`InstanceError::Container`] and [`InstanceError::System`].
pub fn follow(container: &ContainerName, arguments: &[OsString]) -> Result<u8, InstanceError> {
    let system = |what| move |error| InstanceError::System(what, error);
    let mut signals = Signals::new([SIGINT, SIGTERM]).map_err(system("catch signals"))?;
    let mut is_told = move || signals.pending().next().is_some();
    // Whom nobody knows at first is a mistake, and later one that was removed.
    let mut is_known = false;
    loop {
        if !runs(container, is_known)? {
            if is_known && is_gone(container) {
                return Ok(exit::OK);
            }
        } else {
            let child = Command::new("/proc/self/exe").args(arguments).spawn();
            let (status, was_told) = ended(child.map_err(system("start a gate"))?, &mut is_told)
                .map_err(system("wait for a gate"))?;
            // One that came too late says so by itself.
            if was_told || (!status.success() && runs(container, true)?) {
                return Ok(workload::code(status));
            }
        }
        is_known = true;
        for _ in 0..LOOKS_EACH_QUESTION {
            if is_told() {
                return Ok(exit::OK);
            }
            thread::sleep(LOOK_INTERVAL);
        }
    }
}

/// Whether the container runs. An engine that does not answer for once says nothing about one that is known.
fn runs(container: &ContainerName, is_known: bool) -> Result<bool, InstanceError> {
    match container.find() {
        Ok(_) => Ok(true),
        Err(ContainerError::NotRunning { .. }) => Ok(false),
        Err(_) if is_known => Ok(false),
        Err(error) => Err(InstanceError::Container(error)),
    }
}

/// Whether the engine answers that there is no such container.
fn is_gone(container: &ContainerName) -> bool {
    let Err(ContainerError::Unknown { complaint, .. }) = container.find() else { return false };
    complaint.to_ascii_lowercase().contains("no such")
}

/// Waits for the end of a gate, which is told to end where we are. Returns whether it was.
fn ended(mut gate: Child, mut is_told: impl FnMut() -> bool) -> io::Result<(ExitStatus, bool)> {
    let mut was_told = false;
    loop {
        if let Some(status) = gate.try_wait()? {
            return Ok((status, was_told));
        }
        if is_told() {
            was_told = true;
            kill_process(Pid::from_child(&gate), Signal::TERM)?;
        }
        thread::sleep(LOOK_INTERVAL);
    }
}
