//! Signals that somebody sends to us and means for the workload.

use crate::failure::{Failure, Kind};
use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

const STEP: &str = "signals";
/// What is passed on. A terminal sends its own to the whole process group, workload included.
const RELAYED: [Signal; 6] =
    [Signal::SIGTERM, Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGUSR1, Signal::SIGUSR2];

/// A queue of the relayed signals and of the ends of children.
#[derive(Debug)]
pub(crate) struct Signals {
    queue: SignalFd,
}

/// What came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Received {
    /// One or more children ended.
    Child,
    /// A process sent this one.
    FromProcess {
        signal: Signal,
        /// Whether the sender is outside our PID namespace.
        outside: bool,
    },
}

impl Signals {
    /// Blocks the signals in this process, so that none is lost from now on, and queues them. A forked
    /// child has them blocked too and opens its own queue.
    pub(crate) fn open() -> Result<Self, Failure> {
        let failed = |errno: Errno| Failure::new(Kind::Internal, STEP, "no signal queue").because(errno);
        let mut set = SigSet::from_iter(RELAYED);
        set.add(Signal::SIGCHLD);
        set.thread_block().map_err(failed)?;
        SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC).map(|queue| Self { queue }).map_err(failed)
    }

    /// Waits for the next one; signals of the kernel, such as a terminal's, are passed over.
    pub(crate) fn next(&self) -> Result<Received, Failure> {
        loop {
            let information = match self.queue.read_signal() {
                Ok(Some(information)) => information,
                Ok(None) | Err(Errno::EINTR) => continue,
                Err(errno) => {
                    return Err(Failure::new(Kind::Internal, STEP, "the signal queue broke").because(errno));
                }
            };
            let number = i32::try_from(information.ssi_signo).unwrap_or_default();
            if let Some(received) = understand(number, information.ssi_code, information.ssi_pid) {
                return Ok(received);
            }
        }
    }
}

/// Unblocks everything, for a program about to be executed.
pub(crate) fn unblock() -> Result<(), Failure> {
    SigSet::empty()
        .thread_set_mask()
        .map_err(|errno| Failure::new(Kind::Internal, STEP, "signals remain blocked").because(errno))
}

/// `code` is si_code of sigaction(2); the kernel shows a sender outside our PID namespace as pid 0.
fn understand(number: i32, code: i32, sender: u32) -> Option<Received> {
    let signal = Signal::try_from(number).ok()?;
    if signal == Signal::SIGCHLD {
        return Some(Received::Child);
    }
    let by_process = matches!(code, libc::SI_USER | libc::SI_TKILL | libc::SI_QUEUE);
    by_process.then_some(Received::FromProcess { signal, outside: sender == 0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_process_sent_is_passed_on() {
        let sent = Received::FromProcess { signal: Signal::SIGINT, outside: false };
        assert_eq!(understand(libc::SIGINT, libc::SI_USER, 5), Some(sent));
        assert_eq!(understand(libc::SIGINT, libc::SI_KERNEL, 0), None);
        assert_eq!(understand(libc::SIGCHLD, libc::CLD_EXITED, 5), Some(Received::Child));
    }
}
