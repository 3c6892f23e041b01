//! The few things about processes that the standard library does not offer.

use crate::failure::{Failure, Kind};
use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::sys::wait::WaitStatus;
use nix::unistd::{ForkResult, Pid};
use rustix::thread::{CapabilitySet, CapabilitySets};
use std::os::fd::RawFd;

/// Forks. `None` in the child.
pub(crate) fn fork(step: &'static str) -> Result<Option<Pid>, Failure> {
    // SAFETY: this program never has a second thread, so the child holds no lock of another one.
    match unsafe { nix::unistd::fork() } {
        Ok(ForkResult::Parent { child }) => Ok(Some(child)),
        Ok(ForkResult::Child) => Ok(None),
        Err(errno) => Err(Failure::new(Kind::Internal, step, "no process could be forked").because(errno)),
    }
}

/// Closes a descriptor that a forked child has of its parent and has no use for.
pub(crate) fn close(number: RawFd) {
    // SAFETY: the child is the only thread of its process, and uses the number no more.
    unsafe { libc::close(number) };
}

/// Ends a forked child without running what the parent registered for its own end.
pub(crate) fn leave(code: u8) -> ! {
    // SAFETY: ends the process; nothing runs after it.
    unsafe { libc::_exit(i32::from(code)) }
}

/// Asks the kernel to kill this process when its parent dies. A parent that died before is for the
/// caller to notice.
pub(crate) fn die_with_parent() -> Result<(), Failure> {
    prctl::set_pdeathsig(Signal::SIGKILL)
        .map_err(|errno| Failure::new(Kind::Internal, "process", "PR_SET_PDEATHSIG failed").because(errno))
}

/// Keeps every descriptor but the standard ones out of the programs that are executed later, also
/// those that the caller left open by mistake.
pub(crate) fn keep_descriptors_to_ourselves() -> Result<(), Failure> {
    // SAFETY: sets a flag on descriptors and touches no memory.
    let result = unsafe { libc::syscall(libc::SYS_close_range, 3_u32, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    Errno::result(result).map(drop).map_err(|errno| {
        Failure::new(Kind::Privilege, "process", "close_range failed")
            .because(errno)
            .hint("Linux 5.11 or later is needed")
    })
}

/// Gives up every capability for good: bounding, ambient, inheritable, permitted, effective. No
/// program executed later gains one, by uid 0 or by a set-uid bit.
pub(crate) fn drop_privileges() -> Result<(), Failure> {
    limit_privileges(CapabilitySet::empty())
}

/// Gives up every capability but `kept`, which no program executed later has.
pub(crate) fn limit_privileges(kept: CapabilitySet) -> Result<(), Failure> {
    let failed = |what: &str| {
        let what = what.to_owned();
        move |cause: std::io::Error| Failure::new(Kind::Internal, "privilege", what).because(cause)
    };
    // First, since it is what keeps programs from gaining any where the bounding set cannot be emptied.
    prctl::set_no_new_privs().map_err(|errno| failed("PR_SET_NO_NEW_PRIVS failed")(errno.into()))?;
    for bit in 0..u64::BITS {
        match rustix::thread::remove_capability_from_bounding_set(CapabilitySet::from_bits_retain(1 << bit)) {
            Ok(()) => {}
            // Past the last capability that this kernel knows.
            Err(rustix::io::Errno::INVAL) if bit > 0 => break,
            // That takes CAP_SETPCAP, which a container may have been started without.
            Err(rustix::io::Errno::PERM) => break,
            Err(errno) => {
                return Err(failed("the bounding set could not be emptied")(errno.into()));
            }
        }
    }
    rustix::thread::clear_ambient_capability_set()
        .map_err(|errno| failed("ambient capabilities remain")(errno.into()))?;
    let sets = CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() };
    rustix::thread::set_capabilities(None, sets).map_err(|errno| failed("capabilities remain")(errno.into()))
}

/// Keeps this process's memory from others of the same uid.
pub(crate) fn hide_memory() -> Result<(), Failure> {
    prctl::set_dumpable(false)
        .map_err(|errno| Failure::new(Kind::Internal, "process", "PR_SET_DUMPABLE failed").because(errno))
}

/// The exit code that stands for a process's end, 128 + N for signal N; `None` while it lives.
pub(crate) fn exit_code(status: WaitStatus) -> Option<u8> {
    match status {
        WaitStatus::Exited(_, code) => Some(u8::try_from(code & 0xff).unwrap_or(u8::MAX)),
        WaitStatus::Signaled(_, signal, _) => Some(u8::try_from(128 + signal as i32).unwrap_or(u8::MAX)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_the_shell_s() {
        let pid = Pid::from_raw(1);
        assert_eq!(exit_code(WaitStatus::Exited(pid, 7)), Some(7));
        assert_eq!(exit_code(WaitStatus::Signaled(pid, Signal::SIGTERM, false)), Some(143));
        assert_eq!(exit_code(WaitStatus::Stopped(pid, Signal::SIGTSTP)), None);
    }
}
