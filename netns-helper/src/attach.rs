//! `attach`: enters an existing network namespace, to capture it.
//!
//! **Invariant:** called before any thread exists, since a user namespace is entered by a process
//! with one thread only (setns(2)).

use crate::failure::{Failure, Kind};
use nix::sched::{CloneFlags, setns};
use nix::sys::statfs::{FsType, fstatfs};
use rustix::thread::CapabilitySet;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

const STEP: &str = "network namespace";

/// Enters the namespace that was opened at `path`, for good. Where it belongs to another user
/// namespace, that one is entered first: there the uid that made it has every capability, and
/// nobody needs to be root.
pub(crate) fn enter(namespace: &File, path: &Path) -> Result<(), Failure> {
    if same(namespace, "/proc/self/ns/net")? {
        return Err(Failure::new(
            Kind::Usage,
            STEP,
            format!("{} is our own network namespace", path.display()),
        )
        .hint("capturing it would cut the host off; name the container's namespace"));
    }
    let owner = owner(namespace)?;
    if same(&owner, "/proc/self/ns/user")? {
        require_capabilities()?;
    } else {
        setns(&owner, CloneFlags::CLONE_NEWUSER).map_err(|errno| {
            Failure::new(
                Kind::Privilege,
                "user namespace",
                "the namespace's user namespace cannot be entered",
            )
            .because(errno)
            .hint("run as the uid that started the container, or as root with CAP_SYS_ADMIN")
        })?;
    }
    setns(namespace, CloneFlags::CLONE_NEWNET).map_err(|errno| {
        Failure::new(Kind::Privilege, STEP, "the namespace cannot be entered")
            .because(errno)
            .hint("setns needs CAP_SYS_ADMIN")
    })
}

/// Refuses a namespace that belongs to another user namespace than ours: what its processes may do is told by their
/// capabilities in that one, and not by those that /proc shows of processes outside of it.
pub(crate) fn refuse_foreign(namespace: &File) -> Result<(), Failure> {
    if same(&owner(namespace)?, "/proc/self/ns/user")? {
        return Ok(());
    }
    Err(Failure::new(
        Kind::Usage,
        STEP,
        "it belongs to another user namespace, as those of rootless containers do",
    )
    .hint("--keep-interface is for containers of root's; start this one with --network none"))
}

/// The current network namespace's name as the kernel writes it, `net:[INODE]`.
pub(crate) fn current() -> Result<String, Failure> {
    fs::read_link("/proc/self/ns/net").map(|link| link.to_string_lossy().into_owned()).map_err(|error| {
        Failure::new(Kind::Internal, STEP, "/proc/self/ns/net cannot be read").because(error)
    })
}

/// Opens the network namespace at `path`.
pub(crate) fn open(path: &Path) -> Result<File, Failure> {
    // Not blocking, should it be a pipe.
    let opened = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path);
    let file = opened.map_err(|error| {
        let kind = if error.kind() == io::ErrorKind::PermissionDenied { Kind::Privilege } else { Kind::Usage };
        Failure::new(kind, STEP, format!("{} cannot be opened", path.display()))
            .because(error)
            .hint("name /proc/PID/ns/net, /run/netns/NAME or docker's SandboxKey; another user's process needs CAP_SYS_PTRACE")
    })?;
    let in_nsfs = fstatfs(&file).is_ok_and(|found| found.filesystem_type() == FsType(libc::NSFS_MAGIC));
    // SAFETY: the request takes no argument, and a file of nsfs knows it.
    if in_nsfs && unsafe { request::kind(file.as_raw_fd()) } == Ok(libc::CLONE_NEWNET) {
        Ok(file)
    } else {
        Err(Failure::new(Kind::Usage, STEP, format!("{} is not a network namespace", path.display()))
            .hint("name /proc/PID/ns/net, /run/netns/NAME or docker's SandboxKey"))
    }
}

/// The user namespace that owns `namespace`.
pub(crate) fn owner(namespace: &File) -> Result<File, Failure> {
    // SAFETY: the request takes no argument; its answer is a new descriptor, owned by nobody yet.
    let opened = unsafe { request::owner(namespace.as_raw_fd()).map(|fd| OwnedFd::from_raw_fd(fd)) };
    opened.map(File::from).map_err(|errno| {
        Failure::new(Kind::Privilege, "user namespace", "the namespace's owner cannot be found")
            .because(errno)
            .hint("it belongs to a user namespace outside ours; run where the container was started")
    })
}

pub(crate) fn same(namespace: &File, path: &str) -> Result<bool, Failure> {
    let identity = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
    let compare = || Ok(identity(namespace.metadata()?) == identity(fs::metadata(path)?));
    compare().map_err(|error: io::Error| {
        Failure::new(Kind::Internal, STEP, format!("{path} cannot be compared")).because(error)
    })
}

/// In our own user namespace nothing is gained by entering, so everything must be there already.
pub(crate) fn require_capabilities() -> Result<(), Failure> {
    require(&[
        (CapabilitySet::SYS_ADMIN, "CAP_SYS_ADMIN"),
        (CapabilitySet::NET_ADMIN, "CAP_NET_ADMIN"),
        (CapabilitySet::NET_RAW, "CAP_NET_RAW"),
    ])
}

/// Fails unless we have these capabilities in our own user namespace.
pub(crate) fn require(needed: &[(CapabilitySet, &str)]) -> Result<(), Failure> {
    let held = rustix::thread::capabilities(None)
        .map_err(|errno| {
            Failure::new(Kind::Internal, "privilege", "capabilities cannot be read").because(errno)
        })?
        .effective;
    let missing: Vec<&str> =
        needed.iter().filter(|(set, _)| !held.contains(*set)).map(|(_, name)| *name).collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(Failure::new(Kind::Privilege, "privilege", format!("{} missing", missing.join(", ")))
        .hint("run as root, or let the container be started rootless by the same user"))
}

/// Requests of ioctl_nsfs(2).
mod request {
    nix::ioctl_none!(owner, 0xb7, 1);
    nix::ioctl_none!(kind, 0xb7, 3);
}
