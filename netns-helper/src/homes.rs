//! Homes in a container, in which NSS is told of one more database: by a folder with the gate's own, and by the
//! list of modules, both of which are mounted. The user's database is left as it is.
//!
//! **Invariant:** the container is the attacker. What is made in a home, and removed again, is so as the home's
//! owner and without a capability: nothing comes of it that this user could not have done. No link is followed and
//! no other mount is entered, and nothing that is there is read.

use crate::failure::{Failure, Kind};
use crate::file_tree::{FileTree, Found};
use nix::unistd::{Gid, Uid, getegid, geteuid, setfsgid, setfsuid};
use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, ResolveFlags, fstatfs, mkdirat, openat, openat2, statat, unlinkat,
};
use rustix::io::Errno;
use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

const STEP: &str = "trust";
/// Where a user's database is, below the home (`crypto/nss_util.cc` of Chromium).
const DATABASE: [&str; 2] = [".pki", "nssdb"];
/// The folder for the gate's database in there.
const FOLDER: &str = "sluicegate";
/// The list of modules.
const MODULES: &str = "pkcs11.txt";
/// tmpfs (statfs(2)).
const TMPFS: i64 = 0x0102_1994;

/// A home.
#[derive(Debug)]
pub(crate) struct Home {
    path: PathBuf,
    /// The home, and then the folders of [`DATABASE`] as far as they are opened.
    folders: Vec<OwnedFd>,
    /// Which of those below the home we have made.
    made: Vec<bool>,
    mount_id: u64,
    /// Whether it is a folder of the container's own, or one in memory. What else is mounted there is not the
    /// container's alone.
    is_own: bool,
    uid: Uid,
    gid: Gid,
}

impl Home {
    /// The home at this path.
    pub(crate) fn open(files: &FileTree, path: PathBuf) -> Result<Option<Self>, Failure> {
        let Some(folder) = files.folder(&path)? else { return Ok(None) };
        let failed = |errno: Errno| failed(&path, "cannot be looked at").because(errno);
        let root = files.root().try_clone().map_err(|error| failed_io(&path, error))?;
        let (root, _) = Found::of(root).map_err(failed)?;
        let is_in_memory = fstatfs(&folder).map_err(failed)?.f_type == TMPFS;
        let (found, status) = Found::of(folder).map_err(failed)?;
        let (uid, gid) = (Uid::from_raw(status.st_uid), Gid::from_raw(status.st_gid));
        let (mount_id, folders) = (found.mount_id, vec![found.file]);
        let is_own = mount_id == root.mount_id || is_in_memory;
        Ok(Some(Self { path, folders, made: Vec::new(), mount_id, is_own, uid, gid }))
    }

    /// Whether it is this user's.
    pub(crate) fn is_of(&self, uid: u32) -> bool {
        self.uid.as_raw() == uid
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Where the database is.
    pub(crate) fn database(&self) -> PathBuf {
        DATABASE.iter().fold(self.path.clone(), |path, name| path.join(name))
    }

    /// Whether there is one, or a folder for one.
    pub(crate) fn has_database(&self, files: &FileTree) -> Result<bool, Failure> {
        Ok(files.folder(&self.database())?.is_some())
    }

    /// What is to be mounted over, in [`Self::database`].
    pub(crate) fn names() -> [&'static str; 2] {
        [FOLDER, MODULES]
    }

    /// Makes what is not there.
    pub(crate) fn make(&mut self) -> Result<(), Failure> {
        if !self.is_own {
            return Err(failed(&self.path, "is mounted from elsewhere"));
        }
        let made = self.as_owner().and_then(|_guise| self.make_folders());
        made.map_err(|error| failed_io(&self.path, error))
    }

    fn make_folders(&mut self) -> io::Result<()> {
        for name in DATABASE {
            let Some(above) = self.folders.last() else { break };
            self.made.push(is_made(mkdirat(above, name, Mode::RWXU))?);
            let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            self.folders.push(openat2(above, name, flags, Mode::empty(), resolve)?);
        }
        let Some(database) = self.folders.get(DATABASE.len()) else { return Ok(()) };
        is_made(mkdirat(database, FOLDER, Mode::RWXU))?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        is_made(openat(database, MODULES, flags, Mode::RUSR | Mode::WUSR).map(drop))?;
        Ok(())
    }

    /// One of [`Self::names`], with whatever is mounted over it.
    pub(crate) fn find(&self, name: &str) -> Result<Option<Found>, Failure> {
        let Some(database) = self.folders.get(DATABASE.len()) else { return Ok(None) };
        let found = self.as_owner().and_then(|_guise| {
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            Ok(Found::of(openat(database, name, flags, Mode::empty())?)?)
        });
        found.map(|(found, _)| Some(found)).map_err(|error| failed_io(&self.path, error))
    }

    /// Fails unless this, which nothing of ours is mounted over, is the user's own, and of the right kind.
    pub(crate) fn check(&self, name: &str, found: &Found) -> Result<(), Failure> {
        let status = rustix::fs::fstat(&found.file);
        let status = status.map_err(|errno| failed_io(&self.path, errno.into()))?;
        let kind = if name == FOLDER { FileType::Directory } else { FileType::RegularFile };
        let is_right = FileType::from_raw_mode(status.st_mode) == kind
            && status.st_uid == self.uid.as_raw()
            && found.mount_id == self.mount_id;
        is_right.then_some(()).ok_or_else(|| {
            failed(&self.path, &format!("has a {name} in {} that is another's", DATABASE.join("/")))
        })
    }

    /// Removes what was made and has nothing in it.
    pub(crate) fn clear(&self) {
        drop(self.as_owner().map(|_guise| self.remove()));
    }

    fn remove(&self) {
        if let Some(database) = self.folders.get(DATABASE.len()) {
            // A list of modules without any is none.
            let is_empty = |status: rustix::fs::Stat| status.st_size == 0;
            if statat(database, MODULES, AtFlags::SYMLINK_NOFOLLOW).is_ok_and(is_empty) {
                unlinkat(database, MODULES, AtFlags::empty()).unwrap_or_default();
            }
            unlinkat(database, FOLDER, AtFlags::REMOVEDIR).unwrap_or_default();
        }
        for ((above, name), _) in
            self.folders.iter().zip(DATABASE).zip(&self.made).rev().filter(|(_, made)| **made)
        {
            unlinkat(above, name, AtFlags::REMOVEDIR).unwrap_or_default();
        }
    }

    /// What [`Self::clear`] needs besides.
    pub(crate) fn needed(&self) -> CapabilitySet {
        let mut needed = CapabilitySet::empty();
        if self.uid != geteuid() {
            needed |= CapabilitySet::SETUID;
        }
        if self.gid != getegid() {
            needed |= CapabilitySet::SETGID;
        }
        needed
    }

    fn as_owner(&self) -> io::Result<Guise> {
        Guise::of(self.uid, self.gid)
    }
}

/// Whether something was made that was not there.
fn is_made(result: Result<(), Errno>) -> io::Result<bool> {
    match result {
        Ok(()) => Ok(true),
        Err(Errno::EXIST) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

/// Has files be made and opened as a user does who has no capability, until it is dropped.
struct Guise {
    held: CapabilitySets,
}

impl Guise {
    fn of(uid: Uid, gid: Gid) -> io::Result<Self> {
        let guise = Self { held: capabilities(None)? };
        // What they return is what was before, and so the second time whether it has been done (setfsuid(2)).
        setfsgid(gid);
        setfsuid(uid);
        if setfsgid(gid) != gid || setfsuid(uid) != uid {
            return Err(Errno::PERM.into());
        }
        set_capabilities(None, CapabilitySets { effective: CapabilitySet::empty(), ..guise.held })?;
        Ok(guise)
    }
}

impl Drop for Guise {
    fn drop(&mut self) {
        setfsuid(geteuid());
        setfsgid(getegid());
        // What is permitted can be had again.
        set_capabilities(None, self.held).unwrap_or_default();
    }
}

fn failed(home: &Path, what: &str) -> Failure {
    let home = home.display();
    Failure::new(
        Kind::Privilege,
        STEP,
        format!("NSS, and so Chromium, does not trust the gate: {home} {what}"),
    )
}

fn failed_io(home: &Path, cause: io::Error) -> Failure {
    failed(home, &format!("cannot have a folder {}", DATABASE.join("/"))).because(cause)
}
