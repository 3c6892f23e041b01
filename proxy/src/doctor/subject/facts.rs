//! Looks at a namespace and at those in it.

mod files;
mod proc_folder;

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use thiserror::Error;
use tokio::process::Command;

use super::{Found, Inhabitants, Namespaces, Subject};
use crate::attach::Namespace;
use crate::container::ContainerError;
use crate::doctor::child;
use crate::doctor::machine::offers_vsock;
use crate::exit;
use proc_folder::ProcFolder;

/// How long the list of interfaces may take.
const INTERFACES_DEADLINE: Duration = Duration::from_secs(10);
/// The magic number of the file system that namespaces are files of (`NSFS_MAGIC`, linux/magic.h).
const NSFS_MAGIC: u64 = 0x6e73_6673;

/// Why a container or process cannot be looked at.
#[derive(Debug, Error)]
pub(in crate::doctor) enum SubjectError {
    /// The container is not found.
    #[error(transparent)]
    Container(#[from] ContainerError),
    /// There is nothing there.
    #[error("there is no {}", .0.display())]
    Absent(PathBuf),
    /// It may not be looked at.
    #[error("{} may not be looked at", .path.display())]
    Forbidden {
        /// What.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// It is something else.
    #[error("{} is not a network namespace", .0.display())]
    Other(PathBuf),
}

impl SubjectError {
    /// What the operator can do about it.
    pub(in crate::doctor) fn hint(&self) -> &'static str {
        match self {
            Self::Container(error) => error.hint(),
            Self::Absent(_) => "see that it runs, or name another with pid:N",
            Self::Forbidden { .. } => "ask as root, or as the user who started the container",
            Self::Other(_) => "name /proc/PID/ns/net, /run/netns/NAME, pid:N, docker:NAME or podman:NAME",
        }
    }

    /// The exit code that fits.
    pub(in crate::doctor) fn exit_code(&self) -> u8 {
        match self {
            Self::Container(error) => error.exit_code(),
            Self::Absent(_) => exit::UNAVAILABLE,
            Self::Forbidden { .. } => exit::PRIVILEGE,
            Self::Other(_) => exit::USAGE,
        }
    }
}

/// What tells namespaces apart (namespaces(7)): device and inode.
type Identity = (u64, u64);

/// Looks at the namespace that is named, and at those in it.
///
/// # Errors
/// [`SubjectError`], where it is not there or may not be looked at. What else may not is told line by line.
pub(in crate::doctor) async fn gather(path: &Path) -> Result<Subject, SubjectError> {
    let network = network(path)?;
    let own_network = identity(Path::new("/proc/self/ns/net")).ok() == Some(network);
    let named = process_of(path);
    let mut pids = if own_network { Vec::new() } else { inhabitants(network) };
    // The one that was named is the first; where none was, the oldest is.
    pids.retain(|pid| Some(*pid) != named);
    let folders = named.into_iter().chain(pids).filter_map(|pid| ProcFolder::open(pid).ok());
    let mut seen = folders.filter_map(|folder| Some((folder.status()?, folder)));
    let Some((status, first)) = seen.next() else {
        return Ok(Subject { own_network, interfaces: listed(path).await, inhabitants: None });
    };
    let statuses = [status].into_iter().chain(seen.map(|(status, _)| status)).collect();
    let interfaces = first.text("net/dev").map(|text| interfaces(&text)).map_err(|error| error.to_string());
    Ok(Subject { own_network, interfaces, inhabitants: Some(look_at(&first, statuses)) })
}

/// Finds the file of the namespace that is named.
///
/// # Errors
/// [`SubjectError::Container`].
pub(in crate::doctor) fn find(namespace: &Namespace) -> Result<PathBuf, SubjectError> {
    Ok(namespace.find()?.path)
}

fn look_at(first: &ProcFolder, statuses: Vec<super::Status>) -> Inhabitants {
    let shared = |name: &str| {
        let path = format!("ns/{name}");
        let ours = identity(&Path::new("/proc/self").join(&path)).map_err(|error| error.to_string())?;
        Ok(first.identity(&path).map_err(|error| error.to_string())? == ours)
    };
    let mounts = files::mounts(first);
    let machine = ProcFolder::open(std::process::id()).map_err(|error| error.to_string());
    let machine_root = machine
        .and_then(|own| files::mounts(&own))
        .ok()
        .and_then(|mounts| mounts.into_iter().find(|mount| mount.point == "/").map(|mount| mount.device));
    Inhabitants {
        first: (first.pid(), first.name()),
        statuses,
        namespaces: Namespaces {
            pid: shared("pid"),
            ipc: shared("ipc"),
            uts: shared("uts"),
            mount: shared("mnt"),
            user: shared("user"),
        },
        // Without the list of mounts, not all can be found.
        sockets: mounts.as_ref().map_err(Clone::clone).and_then(|mounts| files::sockets(first, mounts)),
        devices: files::devices(first),
        mounts,
        machine_root,
        machine_vsock: offers_vsock(),
    }
}

fn network(path: &Path) -> Result<Identity, SubjectError> {
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::PermissionDenied => SubjectError::Forbidden { path: path.to_owned(), source: error },
        _ => SubjectError::Absent(path.to_owned()),
    };
    let found = identity(path).map_err(failed)?;
    let kind = rustix::fs::statfs(path).map_err(|errno| failed(errno.into()))?.f_type;
    if u64::try_from(kind) != Ok(NSFS_MAGIC) {
        return Err(SubjectError::Other(path.to_owned()));
    }
    Ok(found)
}

fn identity(path: &Path) -> io::Result<Identity> {
    fs::metadata(path).map(|metadata| (metadata.dev(), metadata.ino()))
}

/// The process whose namespace a path names, if it is of the form `/proc/PID/ns/net`.
fn process_of(path: &Path) -> Option<u32> {
    path.to_str()?.strip_prefix("/proc/")?.strip_suffix("/ns/net")?.parse().ok()
}

/// The processes of a network namespace, as far as they can be seen, in the order of their numbers.
fn inhabitants(network: Identity) -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let numbers = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let is_in = |pid: &u32| identity(Path::new(&format!("/proc/{pid}/ns/net"))).ok() == Some(network);
    let mut found: Vec<_> = numbers.filter(is_in).collect();
    found.sort_unstable();
    found
}

/// The interfaces of a namespace in which no process is seen: one is sent there for a moment.
async fn listed(path: &Path) -> Found<Vec<String>> {
    let mut command = Command::new("nsenter");
    let mut net = std::ffi::OsString::from("--net=");
    net.push(path);
    command.arg(net).args(["--", "cat", "/proc/self/net/dev"]);
    match child::finish(command, INTERFACES_DEADLINE).await {
        Ok(ended) if ended.code == Some(0) => Ok(interfaces(&ended.stdout)),
        Ok(ended) => Err(ended.stderr.lines().next().unwrap_or("nsenter failed").to_owned()),
        Err(error) => Err(format!("nsenter: {error}")),
    }
}

/// The names in `/proc/net/dev`: two lines of heads, then each name before a colon.
fn interfaces(text: &str) -> Vec<String> {
    let names = text.lines().skip(2).filter_map(|line| line.rsplit_once(':'));
    names.map(|(name, _)| name.trim().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_interfaces_are_read() {
        let text = "Inter-|   Receive\n face |bytes\n    lo: 1 2 3\n  eth0: 4 5\n a:b: 1 2\n";
        assert_eq!(interfaces(text), ["lo", "eth0", "a:b"]);
        assert!(interfaces("").is_empty());
    }

    #[test]
    fn a_path_of_a_process_names_it() {
        assert_eq!(process_of(Path::new("/proc/42/ns/net")), Some(42));
        for other in ["/run/netns/a", "/proc/self/ns/net", "/proc/42/ns/mnt"] {
            assert_eq!(process_of(Path::new(other)), None, "{other}");
        }
    }

    #[test]
    fn what_is_no_namespace_is_told_from_what_is_not_there() {
        let code = |path: &str| network(Path::new(path)).unwrap_err().exit_code();
        assert_eq!(code("/proc/self/status"), exit::USAGE);
        assert_eq!(code("/proc/4294967295/ns/net"), exit::UNAVAILABLE);
        assert!(network(Path::new("/proc/self/ns/net")).is_ok());
    }
}
