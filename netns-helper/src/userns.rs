//! The workload's own user, network and mount namespace, in which its uid and gid stay what they are.

use crate::failure::{Failure, Kind};
use crate::process;
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::wait::waitpid;
use nix::unistd::{Gid, Pid, Uid};
use std::fs;
use std::io::{self, Read, Write};

const STEP: &str = "user namespace";

/// Moves this process into fresh namespaces. Mounts made later stay in there, and mounts made outside
/// later do not come in.
pub(crate) fn enter() -> Result<(), Failure> {
    let (uid, gid) = (Uid::effective(), Gid::effective());
    if uid.is_root() {
        // Only a process that stayed outside may map more ids than its own.
        let maps = [fs::read_to_string("/proc/self/uid_map"), fs::read_to_string("/proc/self/gid_map")];
        let [uids, gids] = maps.map(|map| map.map(|text| identity_map(&text)));
        mapped_from_outside(&uids.map_err(mapping)?, &gids.map_err(mapping)?)?;
    } else {
        unshare_all()?;
        // The kernel asks for this before it lets an unprivileged process map its gid.
        fs::write("/proc/self/setgroups", "deny").map_err(mapping)?;
        fs::write("/proc/self/gid_map", format!("{gid} {gid} 1")).map_err(mapping)?;
        fs::write("/proc/self/uid_map", format!("{uid} {uid} 1")).map_err(mapping)?;
    }
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>).map_err(
        |errno| {
            Failure::new(Kind::Privilege, "mount namespace", "mounts cannot be made private")
                .because(errno)
                .hint(hint())
        },
    )
}

/// What to do where user namespaces are forbidden: the setting of this machine that forbids them.
pub(crate) fn hint() -> String {
    let forbidding = [
        ("kernel.apparmor_restrict_unprivileged_userns", "1", "0"),
        ("kernel.unprivileged_userns_clone", "0", "1"),
        ("user.max_user_namespaces", "0", "16384"),
    ];
    let wrong = forbidding.iter().find(|(name, bad, _)| {
        fs::read_to_string(format!("/proc/sys/{}", name.replace('.', "/")))
            .is_ok_and(|value| value.trim() == *bad)
    });
    match wrong {
        Some((name, bad, good)) => format!("{name} is {bad}: `sysctl -w {name}={good}`, or an AppArmor profile that allows userns to sluicegate-netns"),
        None => "something forbids user namespaces: kernel.apparmor_restrict_unprivileged_userns, kernel.unprivileged_userns_clone, \
                 user.max_user_namespaces, or the seccomp profile of the container that we are in"
            .into(),
    }
}

fn unshare_all() -> Result<(), Failure> {
    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).map_err(|errno| {
        Failure::new(Kind::Privilege, STEP, "no user namespace can be made").because(errno).hint(hint())
    })
}

/// Unshares, and has a child that stayed outside write the maps.
fn mapped_from_outside(uids: &str, gids: &str) -> Result<(), Failure> {
    let us = Pid::this();
    let (mut go, ready) = io::pipe().map_err(mapping)?;
    let Some(child) = process::fork(STEP)? else {
        drop(ready);
        let written = go.read_exact(&mut [0]).and_then(|()| {
            fs::write(format!("/proc/{us}/gid_map"), gids)?;
            fs::write(format!("/proc/{us}/uid_map"), uids)
        });
        process::leave(
            written.err().map_or(0, |error| {
                u8::try_from(error.raw_os_error().unwrap_or(libc::EIO)).unwrap_or(u8::MAX)
            }),
        );
    };
    drop(go);
    let unshared = unshare_all().and_then(|()| (&ready).write_all(&[1]).map_err(mapping));
    drop(ready);
    let status = waitpid(child, None).map_err(|errno| mapping(errno.into()))?;
    unshared?;
    match process::exit_code(status) {
        Some(0) => Ok(()),
        code => Err(mapping(Errno::from_raw(code.map_or(libc::EIO, i32::from)).into())),
    }
}

/// A map that gives every id of the namespace that `map` belongs to its own number.
fn identity_map(map: &str) -> String {
    let identity = |line: &str| {
        let mut words = line.split_whitespace();
        let (first, count) = (words.next()?, words.nth(1)?);
        Some(format!("{first} {first} {count}\n"))
    };
    map.lines().filter_map(identity).collect()
}

fn mapping(error: io::Error) -> Failure {
    Failure::new(Kind::Privilege, STEP, "uid and gid cannot be mapped").because(error).hint(hint())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_id_keeps_its_number() {
        assert_eq!(identity_map("         0          0 4294967295\n"), "0 0 4294967295\n");
        assert_eq!(identity_map("0 1000 1\n1 100000 65536\n"), "0 0 1\n1 1 65536\n");
    }
}
