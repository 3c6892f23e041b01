//! The folder of one process in `/proc`, held open: its number may become another's meanwhile.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Mode, OFlags, open, openat, statat};

use super::Identity;
use crate::commands::read_limited;
use crate::doctor::subject::Status;
use crate::doctor::subject::capabilities::Capabilities;

/// The longest file of `/proc` that is read, in bytes: some ten thousand mounts.
const FILE_BYTES_MAX: u64 = 2 * 1024 * 1024;

/// One process.
#[derive(Debug)]
pub(super) struct ProcFolder {
    pid: u32,
    folder: OwnedFd,
}

impl ProcFolder {
    /// Opens it.
    ///
    /// # Errors
    /// There is no such process, or it may not be seen.
    pub(super) fn open(pid: u32) -> io::Result<Self> {
        let folder =
            open(format!("/proc/{pid}"), OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        Ok(Self { pid, folder })
    }

    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    /// The name of its program, as it chose it.
    pub(super) fn name(&self) -> String {
        self.text("comm").map(|name| name.trim_end().to_owned()).unwrap_or_default()
    }

    /// A file below it.
    ///
    /// # Errors
    /// It may not be read, or is too long.
    pub(super) fn text(&self, name: &str) -> io::Result<String> {
        let file = openat(&self.folder, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        let bytes = read_limited(File::from(file), FILE_BYTES_MAX)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// What a link below it leads to.
    ///
    /// # Errors
    /// It may not be followed.
    pub(super) fn identity(&self, name: &str) -> io::Result<Identity> {
        let found = statat(&self.folder, name, AtFlags::empty())?;
        Ok((found.st_dev, found.st_ino))
    }

    /// The root of its file system.
    ///
    /// # Errors
    /// It may not be entered.
    pub(super) fn root(&self) -> io::Result<OwnedFd> {
        Ok(openat(self, "root", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
    }

    /// What it may do; none where it has ended or says something else than the kernel's manual.
    pub(super) fn status(&self) -> Option<Status> {
        parse(&self.text("status").ok()?)
    }
}

impl AsFd for ProcFolder {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.folder.as_fd()
    }
}

/// Reads `/proc/PID/status` (proc_pid_status(5)).
fn parse(text: &str) -> Option<Status> {
    let field =
        |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim);
    // Real, effective, saved, file system.
    let effective = |name| field(name)?.split_whitespace().nth(1)?.parse::<u32>().ok();
    let set = |name| Capabilities::parse(field(name)?);
    let mut groups: Vec<u32> = field("Groups")?.split_whitespace().filter_map(|id| id.parse().ok()).collect();
    groups.push(effective("Gid")?);
    Some(Status {
        uid: effective("Uid")?,
        groups,
        effective: set("CapEff")?,
        permitted: set("CapPrm")?,
        bounding: set("CapBnd")?,
        no_new_privileges: field("NoNewPrivs")? != "0",
        // A kernel without seccomp does not say so.
        seccomp: field("Seccomp").map_or(Some(0), |mode| mode.parse().ok())?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str = "Name:\tsleep\nUid:\t1000\t1001\t1000\t1000\nGid:\t7\t8\t7\t7\nGroups:\t4 24 \n\
        CapInh:\t0000000000000000\nCapPrm:\t0000000000000001\nCapEff:\t0000000000000002\n\
        CapBnd:\t00000000a80425fb\nCapAmb:\t0000000000000000\nNoNewPrivs:\t1\nSeccomp:\t2\nSeccomp_filters:\t1\n";

    #[test]
    fn a_status_is_read() {
        let status = parse(STATUS).unwrap();
        let expected = Status {
            uid: 1001,
            groups: vec![4, 24, 8],
            effective: Capabilities(2),
            permitted: Capabilities(1),
            bounding: Capabilities(0xa804_25fb),
            no_new_privileges: true,
            seccomp: 2,
        };
        assert_eq!(status, expected);
    }

    #[test]
    fn a_status_that_is_not_understood_is_none() {
        for line in ["Uid", "Gid", "CapEff", "CapBnd", "NoNewPrivs"] {
            let without: String =
                STATUS.lines().filter(|text| !text.starts_with(line)).collect::<Vec<_>>().join("\n");
            assert_eq!(parse(&without), None, "{line}");
        }
    }

    #[test]
    fn this_process_can_be_looked_at() {
        let own = ProcFolder::open(std::process::id()).unwrap();
        assert_eq!(own.status().unwrap().uid, rustix::process::geteuid().as_raw());
        assert!(own.root().is_ok() && own.identity("ns/net").is_ok() && !own.name().is_empty());
        assert!(ProcFolder::open(u32::MAX).is_err());
    }
}
