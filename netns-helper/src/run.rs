//! `run`: a workload in namespaces of its own, without root, captured before its first instruction.
//!
//! **Invariant:** the gate, this process, the workload's init and the workload are a chain in which
//! the death of each kills the next; nothing of the workload outlives the gate.

use crate::GateOptions;
use crate::attach;
use crate::capture::{Capture, capture};
use crate::failure::{Failure, Kind};
use crate::gate::{Gate, Ready, Started};
use crate::init;
use crate::process;
use crate::signals::{Received, Signals};
use crate::userns;
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::{Pid, getpgrp, tcgetpgrp, tcsetpgrp};
use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

const STEP: &str = "workload";
/// How long the workload's init may take from the plan to the executed program.
const START_DEADLINE: Duration = Duration::from_secs(30);
/// The longest report of an init that behaves is a failure with a path in it.
const REPORT_LIMIT: u64 = 64 << 10;

/// Runs `command` to its end; the answer is its exit code.
pub(crate) fn run(
    gate: &Gate,
    options: GateOptions,
    command: &[OsString],
    began: Instant,
) -> Result<u8, Failure> {
    process::die_with_parent()?;
    process::keep_descriptors_to_ourselves()?;
    userns::enter()?;
    // Entering other credentials may have cleared it (PR_SET_PDEATHSIG(2const)). A parent that died
    // before is noticed by the socket, on which the plan will never come.
    process::die_with_parent()?;
    let door = options.open_door()?;
    let captured = capture().map_err(|failure| match failure.kind() {
        Kind::Privilege => failure.hint(userns::hint()),
        _ => failure,
    })?;
    hand_over(gate, &captured, door.as_ref(), began)?;
    drop((captured, door));
    process::hide_memory()?;
    let plan = gate.plan()?;

    let terminal = Terminal::held_by_us();
    let signals = Signals::open()?;
    let (ours, theirs) = UnixStream::pair()
        .map_err(|error| Failure::new(Kind::Internal, STEP, "no socket pair").because(error))?;
    unshare(CloneFlags::CLONE_NEWPID).map_err(|errno| {
        Failure::new(Kind::Privilege, "PID namespace", "none can be made").because(errno).hint(userns::hint())
    })?;
    let Some(init) = process::fork(STEP)? else {
        drop(ours);
        process::leave(init::run(&plan, command, theirs));
    };
    drop(theirs);
    process::drop_privileges()?;
    drop(plan);
    let proc = report(&ours)?;
    gate.started(&Started { started: true, pid: init.as_raw(), proc })?;
    let code = wait(init, &signals)?;
    if let Some(terminal) = terminal {
        terminal.take_back();
    }
    Ok(code)
}

fn hand_over(gate: &Gate, captured: &Capture, door: Option<&OwnedFd>, began: Instant) -> Result<(), Failure> {
    gate.ready(&Ready::new(captured, attach::current()?, began), captured, &[door])
}

/// Reads what the init says of the start: a line with the kind of its /proc, or its failure.
fn report(init: &UnixStream) -> Result<String, Failure> {
    let failed = |error: std::io::Error| {
        Failure::new(Kind::Internal, STEP, "its init did not start it").because(error)
    };
    init.set_read_timeout(Some(START_DEADLINE)).map_err(failed)?;
    let mut text = String::new();
    let mut init = init;
    (&mut init).take(REPORT_LIMIT).read_to_string(&mut text).map_err(failed)?;
    init::Report::parse(&text)
}

/// Passes signals on until the init ends, and gives its exit code.
fn wait(init: Pid, signals: &Signals) -> Result<u8, Failure> {
    let failed =
        |errno: nix::errno::Errno| Failure::new(Kind::Internal, STEP, "its init is lost").because(errno);
    loop {
        match signals.next()? {
            Received::Child => {
                if let Some(code) =
                    process::exit_code(waitpid(init, Some(WaitPidFlag::WNOHANG)).map_err(failed)?)
                {
                    return Ok(code);
                }
            }
            Received::FromProcess { signal, .. } => kill(init, signal).map_err(failed)?,
        }
    }
}

/// The controlling terminal, when our process group had it: a workload with job control gives it to
/// groups of its own, which are gone afterwards.
struct Terminal {
    device: File,
    group: Pid,
}

impl Terminal {
    fn held_by_us() -> Option<Self> {
        let device = File::open("/dev/tty").ok()?;
        let group = getpgrp();
        (tcgetpgrp(&device) == Ok(group)).then_some(Self { device, group })
    }

    fn take_back(self) {
        let mut stopping = SigSet::empty();
        stopping.add(Signal::SIGTTOU);
        // From the background this would stop us; that it may fail, with the terminal gone, is fine.
        if stopping.thread_block().is_ok() {
            tcsetpgrp(&self.device, self.group).unwrap_or_default();
        }
    }
}
