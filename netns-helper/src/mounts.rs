//! What the workload sees of the file system: our trust files, nothing where a secret lies.
//!
//! **Invariant:** runs with the capabilities of the workload's own mount namespace and before the
//! workload exists; without them nobody inside can undo a mount (mount_namespaces(7), locked mounts).

use crate::failure::{Failure, Kind};
use crate::plan::Plan;
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sys::statvfs::{FsFlags, statvfs};
use std::path::{Path, PathBuf};
use std::{env, fs, io};

const STEP: &str = "mounts";
/// Far above a merged bundle and a Java store; memory that only we can fill.
const TRUST_OPTIONS: &str = "mode=0755,size=32m,nr_inodes=256";
const HIDDEN_OPTIONS: &str = "mode=0755,size=4k,nr_inodes=2";
/// A file in the trust folder that stands in for those that are hidden.
const EMPTY: &str = ".empty";

/// Which /proc the workload sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Proc {
    /// That of its own PID namespace.
    Fresh,
    /// The caller's: the kernel makes no new one where parts of the old one are masked.
    Inherited,
}

impl Proc {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Fresh => "fresh",
            Self::Inherited => "inherited",
        }
    }
}

/// Carries out the plan's part in the file system, in the PID namespace of the workload.
pub(crate) fn prepare(plan: &Plan) -> Result<Proc, Failure> {
    let here = env::current_dir();
    let proc = fresh_proc()?;
    let trust_dir = trust_folder(plan)?;
    for mount in &plan.mounts {
        let over = resolve(&mount.over)?.ok_or_else(|| failed(&mount.over, "is not there"))?;
        bind_read_only(&trust_dir.join(&mount.file), &over)?;
    }
    for file in &plan.hide_files {
        if let Some(file) = resolve(file)? {
            bind_read_only(&trust_dir.join(EMPTY), &file)?;
        }
    }
    for folder in &plan.hide_dirs {
        if let Some(folder) = resolve(folder)? {
            tmpfs(&folder, MsFlags::MS_NOEXEC, HIDDEN_OPTIONS)?;
            make_read_only(&folder)?;
        }
    }
    for path in &plan.read_only {
        if let Some(path) = resolve(path)? {
            bind_read_only(&path, &path)?;
        }
    }
    // Entered anew by its name: a folder that was hidden just now would stay open as ours.
    if let Ok(here) = here {
        env::set_current_dir(&here)
            .map_err(|error| failed(&here, "is the current folder, and is hidden").because(error))?;
    }
    Ok(proc)
}

/// A /proc of the new PID namespace. Kernel settings are read-only in it: files there belong to uid 0,
/// which a workload started by root still is, and some of them start programs outside.
fn fresh_proc() -> Result<Proc, Failure> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    let proc = match mount(Some("proc"), "/proc", Some("proc"), flags, None::<&str>) {
        Ok(()) => Proc::Fresh,
        Err(Errno::EPERM | Errno::EACCES) => Proc::Inherited,
        Err(errno) => return Err(failed(Path::new("/proc"), "cannot be mounted").because(errno)),
    };
    for path in ["/proc/sys", "/proc/sysrq-trigger", "/proc/irq", "/proc/bus", "/sys"] {
        if let Some(path) = resolve(Path::new(path))? {
            bind_read_only(&path, &path)?;
        }
    }
    Ok(proc)
}

/// Covers the plan's trust folder with one that has the plan's files; the answer is where it is.
pub(crate) fn trust_folder(plan: &Plan) -> Result<PathBuf, Failure> {
    let folder = resolve(&plan.trust_dir)?.ok_or_else(|| failed(&plan.trust_dir, "is not there"))?;
    // Node.js loads one of the files, which takes that it may be executed.
    tmpfs(&folder, MsFlags::empty(), TRUST_OPTIONS)?;
    let empty = (EMPTY.to_owned(), Vec::new());
    for (name, content) in plan.files.iter().chain([&empty]) {
        let path = folder.join(name);
        let above = path.parent().unwrap_or(&folder);
        fs::create_dir_all(above)
            .and_then(|()| fs::write(&path, content))
            .map_err(|error| failed(&path, "cannot be written").because(error))?;
    }
    make_read_only(&folder)?;
    Ok(folder)
}

fn tmpfs(folder: &Path, flags: MsFlags, options: &str) -> Result<(), Failure> {
    let flags = flags | MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Some("sluicegate"), folder, Some("tmpfs"), flags, Some(options))
        .map_err(|errno| failed(folder, "cannot be covered").because(errno))
}

fn bind_read_only(source: &Path, over: &Path) -> Result<(), Failure> {
    // Recursive, since mounts inherited from outside are locked onto what lies beneath them.
    mount(Some(source), over, None::<&str>, MsFlags::MS_BIND | MsFlags::MS_REC, None::<&str>)
        .map_err(|errno| failed(over, "cannot be covered").because(errno))?;
    make_read_only(over)
}

/// Remounts read-only. The flags that the mount came with are locked and must be given again.
fn make_read_only(path: &Path) -> Result<(), Failure> {
    let refused = |errno: Errno| failed(path, "cannot be made read-only").because(errno);
    let had = statvfs(path).map_err(refused)?.flags();
    let mut flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
    for (flag, again) in [
        (FsFlags::ST_NOSUID, MsFlags::MS_NOSUID),
        (FsFlags::ST_NODEV, MsFlags::MS_NODEV),
        (FsFlags::ST_NOEXEC, MsFlags::MS_NOEXEC),
        (FsFlags::ST_NOATIME, MsFlags::MS_NOATIME),
        (FsFlags::ST_NODIRATIME, MsFlags::MS_NODIRATIME),
        (FsFlags::ST_RELATIME, MsFlags::MS_RELATIME),
    ] {
        if had.contains(flag) {
            flags |= again;
        }
    }
    mount(None::<&str>, path, None::<&str>, flags, None::<&str>).map_err(refused)
}

/// The path without symbolic links, or `None` where there is nothing that the workload, with fewer
/// rights than ours, could reach.
fn resolve(path: &Path) -> Result<Option<PathBuf>, Failure> {
    match fs::canonicalize(path) {
        Ok(path) => Ok(Some(path)),
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory | io::ErrorKind::PermissionDenied
            ) =>
        {
            Ok(None)
        }
        Err(error) => Err(failed(path, "cannot be resolved").because(error)),
    }
}

fn failed(path: &Path, what: &str) -> Failure {
    Failure::new(Kind::Internal, STEP, format!("{} {what}", path.display()))
}
