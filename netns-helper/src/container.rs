//! A container, entered from outside: what its programs trust, found and mounted over.
//!
//! **Invariant:** called before any thread exists, since user and mount namespaces are entered by a process with
//! one thread only (setns(2)).

mod node;
mod nss;
mod placement;

use crate::attach;
use crate::failure::{Failure, Kind};
use crate::file_tree::{FileTree, Found, unreadable};
use crate::mount_table::MountTable;
use crate::process;
use crate::sites::Site;
use crate::trust::{Bundle, Inventory, Search, TrustOptions};
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use rustix::fs::{CWD, Mode, OFlags, openat, readlinkat};
use rustix::thread::CapabilitySet;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

const STEP: &str = "trust";
const BY_HAND: &str = "mount the CA certificate yourself (--ca-file)";
/// The longest bundle read; the usual one is 220 KiB.
const BUNDLE_LIMIT: u64 = 4 << 20;
/// All bundles of a container: a plan, which has them again, can have 8 MiB.
const BUNDLES_LIMIT: usize = 6 << 20;
/// Files that are mounted over in one container.
const FILES_MAX: usize = 128;
/// Gates of which something may still be mounted over one file, each over the one of before.
const LAYERS_MAX: usize = 16;
/// The longest list of mounts; a container has some dozen, of 100 bytes each.
const MOUNT_TABLE_LIMIT: u64 = 4 << 20;
/// What a bundle has in it (RFC 7468 section 5).
const CERTIFICATE: &[u8] = b"-----BEGIN CERTIFICATE-----";
/// How Java's stores begin: JKS, and PKCS #12 with a long length (RFC 7292 section 4, X.690 section 8.1.3).
const JAVA_STORES: [&[u8]; 4] = [b"\xfe\xed\xfe\xed", b"\x30\x80", b"\x30\x82", b"\x30\x83"];

/// A file of the container's that can be mounted over.
pub(crate) struct Target {
    over: PathBuf,
    found: Found,
}

/// What can be mounted over.
pub(crate) struct Targets {
    files: Vec<Target>,
    parts: Vec<Part>,
}

/// What some programs need all of: where one thing cannot be had, the rest is of no use.
pub(crate) struct Part {
    sites: Vec<Site>,
    files: Vec<Target>,
}

/// A container of which we have entered the mount namespace.
pub(crate) struct Container {
    /// Its process, as a folder of our /proc.
    process: OwnedFd,
    namespace: File,
    /// A mount namespace that nobody else has, where files are made ready.
    workshop: File,
    /// What is mounted on one of these is mounted outside of the container too.
    shared_outside: BTreeSet<u64>,
    files: FileTree,
}

impl Container {
    /// Enters the mount namespace of a process, which has to be in this network namespace, `net:[INODE]`.
    pub(crate) fn enter(options: &TrustOptions, network: &str) -> Result<Self, Failure> {
        let process = open_process(options.process, network)?;
        let namespace = openat(&process, "ns/mnt", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .map(File::from)
            .map_err(|errno| {
                privilege("the container's mount namespace cannot be opened")
                    .because(errno)
                    .hint("another user's process needs CAP_SYS_PTRACE")
            })?;
        // A gate that runs as a service may have another one than the machine.
        let is_first = attach::same(&namespace, "/proc/1/ns/mnt").unwrap_or(false);
        if is_first || attach::same(&namespace, "/proc/self/ns/mnt")? {
            return Err(Failure::new(
                Kind::Usage,
                STEP,
                format!("process {} has no mount namespace of its own", options.process),
            )
            .hint(format!("this machine itself would trust the gate; start it with one, or {BY_HAND}")));
        }
        let shared_outside = read_mount_table(CWD, "/proc/self/mountinfo")?.groups();
        enter_owner(&namespace)?;
        let workshop = open_workshop()?;
        let descriptors = open_folder(CWD, "/proc/self/fd")?;
        let own_root = open_root(&process)?;
        process::hide_memory()?;
        enter(&namespace)?;
        let root = options.root.as_ref().map_or(Ok(own_root), |path| open_folder(CWD, path))?;
        let files = FileTree::new(root, descriptors);
        Ok(Self { process, namespace, workshop, shared_outside, files })
    }

    /// Finds what is there to be mounted over. What another gate has left there is taken off before.
    pub(crate) fn search(&mut self, search: &Search) -> Result<(Inventory, Targets), Failure> {
        let mut inventory = Inventory::default();
        let targets = self.files_of_certificates(search, &mut inventory)?;
        let mounts = read_mount_table(&self.process, "mountinfo")?;
        let mut parts = self.databases(search, &mounts, &mut inventory.databases)?;
        if let Some((node, part)) = self.node(search, &mounts)? {
            inventory.node = Some(node);
            parts.push(part);
        }
        Ok((inventory, Targets { files: targets, parts }))
    }

    /// Finds bundles and Java's stores.
    fn files_of_certificates(
        &mut self,
        search: &Search,
        inventory: &mut Inventory,
    ) -> Result<Vec<Target>, Failure> {
        let mut targets = Vec::new();
        let mut length = 0;
        for target in self.candidates(&search.bundles)? {
            let Some(text) = self.bundle(&target)? else { continue };
            length += text.len();
            if length > BUNDLES_LIMIT {
                let what = format!("certificate bundles are longer than {BUNDLES_LIMIT} bytes together");
                return Err(too_much(&what));
            }
            inventory.bundles.push(Bundle { over: target.over.clone(), text });
            targets.push(target);
        }
        for target in self.candidates(&search.java_stores)? {
            let begin = self.files.begins_with(&target.found, 4);
            let begin = begin.map_err(|error| unreadable(&target.over, error))?;
            if JAVA_STORES.iter().any(|magic| begin.starts_with(magic)) {
                inventory.java_stores.push(target.over.clone());
                targets.push(target);
            }
        }
        Ok(targets)
    }

    /// Whether there is a file that one of the patterns leads to.
    fn has_any(&mut self, patterns: &[PathBuf]) -> Result<bool, Failure> {
        for pattern in patterns {
            for path in self.files.expand(pattern)? {
                if self.files.find(&path)?.is_some() {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// The files that the patterns lead to, each once.
    fn candidates(&mut self, patterns: &[PathBuf]) -> Result<Vec<Target>, Failure> {
        let mut targets = Vec::new();
        let mut places = BTreeSet::new();
        for pattern in patterns {
            for over in self.files.expand(pattern)? {
                let Some(found) = self.uncover(&over, || self.files.find(&over))? else { continue };
                if !places.insert(self.files.place(&found)?) {
                    continue;
                }
                if targets.len() == FILES_MAX {
                    return Err(too_much(&format!("files of certificates are more than {FILES_MAX}")));
                }
                targets.push(Target { over, found });
            }
        }
        Ok(targets)
    }

    /// The container's own file at this path, without what gates have mounted over it.
    fn uncover(
        &self,
        path: &Path,
        find: impl Fn() -> Result<Option<Found>, Failure>,
    ) -> Result<Option<Found>, Failure> {
        for _ in 0..LAYERS_MAX {
            let Some(found) = find()? else { return Ok(None) };
            let table = read_mount_table(&self.process, "mountinfo")?;
            let mount = table.find(found.mount_id);
            if found.is_mount && mount.is_some_and(|mount| mount.is_ours) {
                // Its own keeper may be faster.
                match self.files.unmount(&found.file) {
                    Ok(()) | Err(Errno::EINVAL) => continue,
                    Err(errno) => return Err(covered(path).because(errno)),
                }
            }
            if let Some(group) = mount.and_then(|mount| mount.shared)
                && self.shared_outside.contains(&group)
            {
                return Err(Failure::new(
                    Kind::Usage,
                    STEP,
                    format!(
                        "what is mounted over the container's {} is mounted outside of it too",
                        path.display()
                    ),
                )
                .hint(format!("make its mounts private or slaves (mount --make-rslave /), or {BY_HAND}")));
            }
            return Ok(Some(found));
        }
        Err(covered(path))
    }

    /// The files, for who takes mounts off them.
    pub(crate) fn into_files(self) -> FileTree {
        self.files
    }

    /// A file's content, if it is a bundle.
    fn bundle(&self, target: &Target) -> Result<Option<String>, Failure> {
        let read = self.files.read(&target.found, BUNDLE_LIMIT);
        let Some(content) = read.map_err(|error| unreadable(&target.over, error))? else {
            return Err(too_much(&format!("{} is longer than {BUNDLE_LIMIT} bytes", target.over.display())));
        };
        let is_bundle = content.windows(CERTIFICATE.len()).any(|part| part == CERTIFICATE);
        Ok(is_bundle.then(|| String::from_utf8_lossy(&content).into_owned()))
    }
}

/// The folder of a process, which stands for that process and no later one.
fn open_process(pid: u32, network: &str) -> Result<OwnedFd, Failure> {
    let gone = |errno: rustix::io::Errno| {
        Failure::new(Kind::Usage, STEP, format!("process {pid} cannot be looked at"))
            .because(errno)
            .hint("it has to run, and another user's process needs CAP_SYS_PTRACE")
    };
    let process = openat(
        CWD,
        format!("/proc/{pid}"),
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .map_err(gone)?;
    let found = readlinkat(&process, "ns/net", Vec::new()).map_err(gone)?;
    if found.to_bytes() != network.as_bytes() {
        return Err(Failure::new(
            Kind::Usage,
            STEP,
            format!("process {pid} is not in the namespace that was captured"),
        )
        .hint("it has ended, perhaps, and its number is another's now: attach again"));
    }
    Ok(process)
}

/// Enters the user namespace that the mount namespace belongs to, where we may do nothing in ours. Root stays:
/// its id may mean nothing in there, and then it could make no file.
fn enter_owner(namespace: &File) -> Result<(), Failure> {
    let needed = [(CapabilitySet::SYS_ADMIN, "CAP_SYS_ADMIN"), (CapabilitySet::SYS_CHROOT, "CAP_SYS_CHROOT")];
    let held = attach::require(&needed);
    if held.is_ok() {
        return Ok(());
    }
    let owner = attach::owner(namespace)?;
    if attach::same(&owner, "/proc/self/ns/user")? {
        return held;
    }
    setns(&owner, CloneFlags::CLONE_NEWUSER).map_err(|errno| {
        privilege("the container's user namespace cannot be entered")
            .because(errno)
            .hint("run as the uid that started the container, or as root")
    })
}

fn open_workshop() -> Result<File, Failure> {
    let failed = |errno: Errno| privilege("no mount namespace can be made").because(errno);
    unshare(CloneFlags::CLONE_NEWNS).map_err(failed)?;
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
        .map_err(failed)?;
    File::open("/proc/self/ns/mnt")
        .map_err(|error| internal("/proc/self/ns/mnt cannot be opened").because(error))
}

fn open_root(process: &OwnedFd) -> Result<OwnedFd, Failure> {
    openat(process, "root", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).map_err(
        |errno| {
            privilege("the container's root cannot be opened")
                .because(errno)
                .hint("another user's process needs CAP_SYS_PTRACE")
        },
    )
}

fn open_folder(from: impl AsFd, path: impl AsRef<Path>) -> Result<OwnedFd, Failure> {
    let path = path.as_ref();
    openat(from, path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| internal(format!("{} cannot be opened", path.display())).because(errno))
}

fn enter(namespace: &File) -> Result<(), Failure> {
    setns(namespace, CloneFlags::CLONE_NEWNS).map_err(|errno| {
        privilege("the container's mount namespace cannot be entered").because(errno).hint(
            "run as the uid that started the container, or as root with CAP_SYS_ADMIN and CAP_SYS_CHROOT",
        )
    })
}

fn read_mount_table(from: impl AsFd, path: &str) -> Result<MountTable, Failure> {
    let failed = |error: io::Error| privilege("the container's mounts cannot be listed").because(error);
    let file = openat(from, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
    let mut text = Vec::new();
    let file = File::from(file.map_err(|errno| failed(errno.into()))?);
    let length = file.take(MOUNT_TABLE_LIMIT).read_to_end(&mut text).map_err(failed)?;
    if length as u64 == MOUNT_TABLE_LIMIT {
        return Err(failed(io::ErrorKind::FileTooLarge.into()));
    }
    Ok(MountTable::parse(&String::from_utf8_lossy(&text)))
}

fn covered(path: &Path) -> Failure {
    privilege(format!(
        "what a gate of before has left over the container's {} cannot be taken off",
        path.display()
    ))
}

fn too_much(what: &str) -> Failure {
    Failure::new(Kind::Usage, STEP, format!("the container's {what}")).hint(BY_HAND)
}

fn privilege(what: impl Into<String>) -> Failure {
    Failure::new(Kind::Privilege, STEP, what)
}

fn internal(what: impl Into<String>) -> Failure {
    Failure::new(Kind::Internal, STEP, what)
}
