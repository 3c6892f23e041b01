//! What the kernel keeps this process from, once it has what it needs: it judges what attackers send.
//!
//! No capability and none to be gained; Landlock (landlock(7)): nothing is written but what an instance keeps,
//! nothing is listened on, no program is executed but this one; seccomp(2): no namespaces, mounts, tracing,
//! raw packets or kernel interfaces that a gate has no use for. Reading is not limited, since a policy that comes
//! later may name a file anywhere.
//!
//! **Invariant:** all of this is a thread's own and goes on to those that it starts, so it comes before the first.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, AccessFs, AccessNet, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError, RulesetStatus,
    path_beneath_rules,
};
use nix::libc;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};

use crate::process;

/// What an instance writes.
#[derive(Debug)]
pub struct Writable {
    /// Everything in these.
    pub folders: Vec<PathBuf>,
}

/// Why a process could not be confined.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfinementError {
    /// Capabilities remain.
    #[error("privileges cannot be given up")]
    Privileges(#[source] io::Error),
    /// Landlock is there and does not take the rules.
    #[error("Landlock refused the rules")]
    Landlock(#[source] RulesetError),
    /// The filter of system calls is not in force.
    #[error("seccomp refused the filter")]
    Seccomp(#[source] seccompiler::Error),
}

/// The newest rules of Landlock that are asked for; an older kernel enforces those that it knows.
const LANDLOCK: ABI = ABI::V5;

/// What starts this program, where it is not linked statically, and is executed with it.
const LOADERS: [&str; 4] = ["/lib", "/lib64", "/usr/lib", "/usr/lib64"];

/// Confines this thread, and those that it starts from now on. A kernel without Landlock (before 5.13, or
/// switched off) is warned of.
///
/// # Errors
/// [`ConfinementError`].
pub fn confine(writable: &Writable) -> Result<(), ConfinementError> {
    process::drop_privileges().map_err(ConfinementError::Privileges)?;
    limit_files(&writable.folders).map_err(ConfinementError::Landlock)?;
    limit_calls()
}

/// Confines this thread as far as those that it starts can be confined by themselves: they have files to open.
///
/// # Errors
/// [`ConfinementError`].
pub fn confine_parent() -> Result<(), ConfinementError> {
    process::drop_privileges().map_err(ConfinementError::Privileges)?;
    limit_calls()
}

fn limit_calls() -> Result<(), ConfinementError> {
    for (calls, errno) in [(forbidden_calls(), libc::EPERM), (unknown_calls(), libc::ENOSYS)] {
        filter(calls, errno).map_err(ConfinementError::Seccomp)?;
    }
    Ok(())
}

fn limit_files(folders: &[PathBuf]) -> Result<(), RulesetError> {
    let own = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("/proc/self/exe"));
    let executed = LOADERS.map(Path::new).into_iter().chain([&*own]);
    let written = AccessFs::from_write(LANDLOCK);
    let status = Ruleset::default()
        .handle_access(written | AccessFs::Execute)?
        .handle_access(AccessNet::BindTcp)?
        .create()?
        .add_rules(path_beneath_rules(executed, AccessFs::Execute))?
        // What a program that is compiled apart has for its standard streams.
        .add_rules(path_beneath_rules(["/dev/null"], AccessFs::WriteFile))?
        .add_rules(path_beneath_rules(folders, written))?
        .restrict_self()?;
    if status.ruleset == RulesetStatus::NotEnforced {
        tracing::warn!("this kernel has no Landlock: what the gate may write is limited by its user alone");
    }
    Ok(())
}

type Calls = BTreeMap<i64, Vec<SeccompRule>>;

fn filter(calls: Calls, errno: i32) -> Result<(), seccompiler::Error> {
    let architecture = std::env::consts::ARCH.try_into()?;
    let refused = SeccompAction::Errno(errno.unsigned_abs());
    let filter = SeccompFilter::new(calls, SeccompAction::Allow, refused, architecture)?;
    seccompiler::apply_filter(&BpfProgram::try_from(filter)?)
}

/// System calls that a gate never makes. An empty list of rules is all uses of one.
fn forbidden_calls() -> Calls {
    let mut calls: Calls = FORBIDDEN.into_iter().map(|call| (call, Vec::new())).collect();
    // Neither packets below IP nor the kernel's configuration.
    let other_family =
        [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6].map(|family| condition(SeccompCmpOp::Ne, family));
    calls.insert(libc::SYS_socket, rules([other_family.into_iter().flatten().collect()]));
    let namespaces =
        NAMESPACES.map(|flag| condition(SeccompCmpOp::MaskedEq(flag.unsigned_abs().into()), flag));
    calls.insert(libc::SYS_clone, rules(namespaces.map(|one| one.into_iter().collect())));
    calls
}

/// What stands for [`libc::SYS_clone`] with its flags where no filter sees them. C libraries take the other where
/// the kernel knows no such call.
fn unknown_calls() -> Calls {
    [(libc::SYS_clone3, Vec::new())].into()
}

/// A comparison of a call's first argument.
fn condition(operator: SeccompCmpOp, value: i32) -> Option<SeccompCondition> {
    SeccompCondition::new(0, SeccompCmpArgLen::Dword, operator, value.unsigned_abs().into()).ok()
}

fn rules<const COUNT: usize>(conditions: [Vec<SeccompCondition>; COUNT]) -> Vec<SeccompRule> {
    conditions.into_iter().filter_map(|all| SeccompRule::new(all).ok()).collect()
}

/// Flags of clone(2) that make a namespace.
const NAMESPACES: [i32; 7] = [
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWNET,
    libc::CLONE_NEWNS,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWUTS,
    libc::CLONE_NEWCGROUP,
];

/// By what they are for: namespaces and mounts, other processes, the kernel's code, kernel memory and events,
/// keys, other ways to make calls, the machine.
const FORBIDDEN: [i64; 53] = [
    libc::SYS_setns,
    libc::SYS_unshare,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_open_tree,
    libc::SYS_move_mount,
    libc::SYS_mount_setattr,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mknodat,
    libc::SYS_name_to_handle_at,
    libc::SYS_open_by_handle_at,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_fanotify_init,
    libc::SYS_syslog,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_execveat,
    libc::SYS_personality,
    libc::SYS_setuid,
    libc::SYS_setgid,
    libc::SYS_setresuid,
    libc::SYS_setresgid,
    libc::SYS_setgroups,
    libc::SYS_acct,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_quotactl,
    libc::SYS_sethostname,
    libc::SYS_clock_settime,
    libc::SYS_settimeofday,
    libc::SYS_adjtimex,
];

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::net::UnixStream;
    use std::process::Command;

    use rustix::io::Errno;
    use rustix::net::{AddressFamily, SocketType, socket};

    use super::*;

    #[test]
    fn every_condition_is_one_that_the_kernel_takes() {
        let calls = forbidden_calls();
        assert_eq!(calls.len(), FORBIDDEN.len() + 2, "a call stands there twice");
        assert_eq!(calls[&libc::SYS_socket].len(), 1);
        assert_eq!(calls[&libc::SYS_clone].len(), NAMESPACES.len());
    }

    /// Whoever tries it is a thread of its own, which is confined alone.
    #[test]
    #[expect(clippy::disallowed_methods, reason = "what a gate may still do is tried, and dialling is that")]
    fn what_is_forbidden_fails_and_what_a_gate_does_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let (ours, others) = (folder.path().join("ours"), folder.path().join("others"));
        fs::create_dir(&ours).unwrap();
        fs::create_dir(&others).unwrap();
        fs::write(others.join("there"), "as it was").unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let tried = std::thread::spawn(move || {
            confine(&Writable { folders: vec![ours.clone()] }).unwrap();

            fs::write(ours.join("new"), "ours").unwrap();
            fs::rename(ours.join("new"), ours.join("newer")).unwrap();
            fs::remove_file(ours.join("newer")).unwrap();
            assert_eq!(fs::read_to_string(others.join("there")).unwrap(), "as it was");
            TcpStream::connect(address).unwrap();
            UnixStream::pair().unwrap();
            std::thread::spawn(|| ()).join().unwrap();
            File::options().write(true).open("/dev/null").unwrap();

            for (what, result) in [
                ("to make a file", fs::write(others.join("new"), "not ours")),
                ("to write a file", fs::write(others.join("there"), "not ours")),
                ("to remove a file", fs::remove_file(others.join("there"))),
                ("to make a folder", fs::create_dir(others.join("folder"))),
                ("to listen", TcpListener::bind("127.0.0.1:0").map(drop)),
                ("to run a program", Command::new(env!("CARGO")).arg("-V").status().map(drop)),
            ] {
                assert_eq!(result.unwrap_err().kind(), io::ErrorKind::PermissionDenied, "{what}");
            }
            for family in [AddressFamily::PACKET, AddressFamily::NETLINK, AddressFamily::VSOCK] {
                let made = socket(family, SocketType::RAW, None);
                assert_eq!(made.unwrap_err(), Errno::PERM, "{family:?}");
            }
            // No namespace is asked for: even that is refused, where it would do nothing.
            assert_eq!(
                rustix::thread::move_into_link_name_space(rustix::fs::CWD, None).unwrap_err(),
                Errno::PERM
            );
            assert_eq!(rustix::process::chroot("/").unwrap_err(), Errno::PERM);
            let status = fs::read_to_string("/proc/thread-self/status").unwrap();
            for line in
                ["CapEff:\t0000000000000000", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"]
            {
                assert!(status.contains(line), "{line} in {status}");
            }
        });
        tried.join().unwrap();
    }
}
