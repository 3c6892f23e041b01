//! Keeps the workload from acting on processes outside by what it shares with them besides files:
//! its process group and its terminal.

use crate::failure::{Failure, Kind};
use nix::errno::Errno;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

const STEP: &str = "fence";

/// Raises the fence around this process and all that descend from it, for good. Needs
/// `PR_SET_NO_NEW_PRIVS`.
pub(crate) fn raise() -> Result<(), Failure> {
    let failed = |what: &str, errno: Errno| Failure::new(Kind::Privilege, STEP, what).because(errno);
    keep_signals_inside().map_err(|errno| failed("landlock refused the scope of signals", errno))?;
    refuse_terminal_input().map_err(|errno| {
        failed("seccomp refused the filter", errno).hint("the kernel needs CONFIG_SECCOMP_FILTER")
    })
}

/// `kill(0, …)` reaches the whole process group, the gate and its caller included, whatever the PID
/// namespace. Landlock 6 (Linux 6.12) can limit it; on older kernels a workload can end its own
/// gate that way, and so itself.
fn keep_signals_inside() -> Result<(), Errno> {
    /// struct landlock_ruleset_attr.
    #[repr(C)]
    struct Attributes {
        handled_access_fs: u64,
        handled_access_net: u64,
        scoped: u64,
    }
    const CREATE_RULESET_VERSION: u32 = 1;
    const SCOPE_SIGNAL: u64 = 1 << 1;
    const FIRST_WITH_SCOPES: i64 = 6;

    // SAFETY: with this flag the kernel reads no memory and answers a number.
    let version =
        unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, 0_usize, 0_usize, CREATE_RULESET_VERSION) };
    if version < FIRST_WITH_SCOPES {
        return Ok(());
    }
    let attributes = Attributes { handled_access_fs: 0, handled_access_net: 0, scoped: SCOPE_SIGNAL };
    // SAFETY: the kernel reads as many bytes as `attributes` has.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            &raw const attributes,
            size_of::<Attributes>(),
            0_u32,
        )
    };
    let number = i32::try_from(Errno::result(answer)?).map_err(|_| Errno::EBADF)?;
    // SAFETY: the kernel just opened it for us.
    let ruleset = unsafe { OwnedFd::from_raw_fd(number) };
    // SAFETY: takes a descriptor and a number.
    let answer = unsafe { libc::syscall(libc::SYS_landlock_restrict_self, ruleset.as_raw_fd(), 0_u32) };
    Errno::result(answer).map(drop)
}

/// TIOCSTI and TIOCLINUX type into the terminal that we share with the shell outside, which would
/// execute it once we are gone.
fn refuse_terminal_input() -> Result<(), Errno> {
    let filter = filter();
    let program = libc::sock_fprog {
        len: u16::try_from(filter.len()).map_err(|_| Errno::E2BIG)?,
        filter: filter.as_ptr().cast_mut(),
    };
    // SAFETY: the kernel copies `len` instructions from `filter`, which outlives the call.
    let answer = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) };
    Errno::result(answer).map(drop)
}

/// Fails ioctl with one of the two requests, in the native call, in the 32-bit one (54 on every
/// architecture that has it) and in x32's. In another ABI these numbers are calls whose second
/// argument cannot be 0x5412 or 0x541c and succeed.
fn filter() -> [libc::sock_filter; 10] {
    const X32_IOCTL: u32 = 0x4000_0000 + 514;
    const COMPAT_IOCTL: u32 = 54;
    #[expect(clippy::cast_possible_truncation, reason = "system call numbers have 32 bits")]
    const IOCTL: u32 = libc::SYS_ioctl as u32;
    #[expect(clippy::cast_possible_truncation, reason = "terminal requests have 16 bits")]
    const REQUESTS: [u32; 2] = [libc::TIOCSTI as u32, libc::TIOCLINUX as u32];
    /// struct seccomp_data: the call's number, and the half of its second argument that ioctl reads.
    const NUMBER: u32 = 0;
    const REQUEST: u32 = if cfg!(target_endian = "little") { 24 } else { 28 };

    let [type_in, console] = REQUESTS;
    [
        load(NUMBER),
        jump_if(IOCTL, 3),
        jump_if(COMPAT_IOCTL, 2),
        jump_if(X32_IOCTL, 1),
        answer(libc::SECCOMP_RET_ALLOW),
        load(REQUEST),
        jump_if(type_in, 2),
        jump_if(console, 1),
        answer(libc::SECCOMP_RET_ALLOW),
        answer(libc::SECCOMP_RET_ERRNO | libc::EPERM.unsigned_abs()),
    ]
}

fn load(offset: u32) -> libc::sock_filter {
    instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, offset, 0)
}

/// Skips `over` instructions when what was loaded is `value`.
fn jump_if(value: u32, over: u8) -> libc::sock_filter {
    instruction(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, value, over)
}

fn answer(value: u32) -> libc::sock_filter {
    instruction(libc::BPF_RET | libc::BPF_K, value, 0)
}

fn instruction(code: u32, k: u32, jt: u8) -> libc::sock_filter {
    #[expect(clippy::cast_possible_truncation, reason = "BPF codes have 16 bits")]
    let code = code as u16;
    libc::sock_filter { code, jt, jf: 0, k }
}
