//! The thread of a sidecar that holds the private namespace, and what was captured, for one gate after another.
//!
//! **Invariant:** it reads nothing that a gate or a workload wrote: what a gate leaves for the next one, the
//! authority's key among it, waits in the kernel, in the queue of a socket.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};
use tokio::signal::unix::{Signal as Signals, SignalKind, signal};
use tokio::time::timeout;

use super::SUPERVISED;
use crate::{exit, handover, workload};

/// How long it is waited before a gate that has ended is started again: doubled each time, up to the second.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_LIMIT: Duration = Duration::from_secs(30);

/// How long a gate has to have served for its end to be the first one again.
const STEADY: Duration = Duration::from_secs(60);

/// How often in a row it is started again: about five minutes of trying, in which a file may be repaired.
const RESTARTS_MAX: u32 = 16;

/// How long a gate may take for its end that was told to end: it drains for 10 s and has 5 s for its last records.
const END_DEADLINE: Duration = Duration::from_secs(20);

/// What goes on when gates end.
pub(super) struct Keeper {
    /// In whose queue the captured sockets wait.
    pub(super) kept: OwnedFd,
    /// To the thread that makes sockets in the sealed namespace, where connections come in.
    pub(super) doors: Option<Sender<UnixStream>>,
}

/// How a gate ended.
struct End {
    status: ExitStatus,
    /// Whether we were told to have it end.
    was_told: bool,
    has_served: bool,
    lasted: Duration,
}

/// How the container is told to end.
struct Told {
    interrupt: Signals,
    terminate: Signals,
}

impl Told {
    fn new() -> io::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    async fn comes(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

impl Keeper {
    /// Keeps a gate running until it ends in order, or the container is told to end, and returns the exit code.
    /// Where the first never served nothing is started again: its operator made a mistake.
    pub(super) async fn keep(mut self) -> io::Result<u8> {
        let mut told = Told::new()?;
        let (mut restarts, mut has_served) = (0, false);
        loop {
            let code = match self.run(&mut told).await {
                Ok(End { status, was_told, .. }) if was_told || status.success() => {
                    return Ok(workload::code(status));
                }
                Ok(end) => {
                    has_served |= end.has_served;
                    if end.has_served && end.lasted >= STEADY {
                        restarts = 0;
                    }
                    let (code, signal) = (end.status.code(), end.status.signal());
                    tracing::error!(code, signal, "the gate has failed; nothing leaves without it");
                    workload::code(end.status)
                }
                Err(error) if has_served => {
                    tracing::error!(%error, "the gate cannot be started");
                    exit::UNAVAILABLE
                }
                Err(error) => return Err(error),
            };
            if !has_served || restarts == RESTARTS_MAX {
                return Ok(code);
            }
            if timeout(pause(restarts), told.comes()).await.is_ok() {
                return Ok(code);
            }
            tracing::warn!("the gate is started again");
            restarts += 1;
        }
    }

    /// Runs a gate to its end, and takes what it leaves.
    async fn run(&mut self, told: &mut Told) -> io::Result<End> {
        let began = Instant::now();
        let (mut gate, line) = self.start()?;
        let (status, was_told) = ended(&mut gate, told).await?;
        let left = handover::take(&line).ok().and_then(|mut left| left.pop());
        let has_served = left.is_some();
        if let Some(queue) = left {
            self.kept = queue;
        }
        Ok(End { status, was_told, has_served, lasted: began.elapsed() })
    }

    /// Starts a gate in the private namespace, which is this thread's. The line to it comes with it.
    fn start(&self) -> io::Result<(Child, UnixDatagram)> {
        let (line, theirs) = UnixDatagram::pair()?;
        let door = self.doors.as_ref().map(open_door).transpose()?;
        let given: Vec<_> =
            [Some(&self.kept), door.as_ref()].into_iter().flatten().map(AsFd::as_fd).collect();
        handover::give(&line, &given)?;
        let mut command = Command::new("/proc/self/exe");
        command.args(own_line()).stdin(Stdio::from(OwnedFd::from(theirs))).kill_on_drop(true);
        Ok((command.spawn()?, line))
    }
}

/// A line to the thread that makes sockets; the other end of it is the gate's.
fn open_door(doors: &Sender<UnixStream>) -> io::Result<OwnedFd> {
    let (ours, theirs) = UnixStream::pair()?;
    doors.send(ours).map_err(io::Error::other)?;
    Ok(theirs.into())
}

/// This process's own command line, for a gate.
fn own_line() -> impl Iterator<Item = OsString> {
    std::env::args_os().skip(1).chain([format!("--{SUPERVISED}").into()])
}

/// Waits for the end of a gate, and has it end where we are told to. Returns whether we were.
async fn ended(gate: &mut Child, told: &mut Told) -> io::Result<(ExitStatus, bool)> {
    tokio::select! {
        status = gate.wait() => return status.map(|status| (status, false)),
        () = told.comes() => {}
    }
    // Nobody has waited for it yet, so that the number is its own.
    let pid = gate.id().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
    if let Some(pid) = pid
        && let Err(error) = kill_process(pid, Signal::TERM)
    {
        tracing::debug!(%error, "the gate cannot be told to end");
    }
    match timeout(END_DEADLINE, gate.wait()).await {
        Ok(status) => status.map(|status| (status, true)),
        Err(_) => {
            gate.start_kill()?;
            gate.wait().await.map(|status| (status, true))
        }
    }
}

fn pause(restarts: u32) -> Duration {
    PAUSE_MIN.saturating_mul(1 << restarts.min(16)).min(PAUSE_LIMIT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_end() {
        let all: Vec<_> = (0..RESTARTS_MAX).map(pause).collect();
        assert_eq!(all[..3], [100, 200, 400].map(Duration::from_millis));
        assert!(all.is_sorted() && all.iter().all(|pause| *pause <= PAUSE_LIMIT), "{all:?}");
        let whole: Duration = all.iter().sum();
        assert!((Duration::from_secs(240)..Duration::from_secs(360)).contains(&whole), "{whole:?}");
        assert_eq!(pause(u32::MAX), PAUSE_LIMIT);
    }
}
