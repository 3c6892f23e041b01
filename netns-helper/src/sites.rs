//! Places in a container for what is mounted where it has nothing: they are made, empty, and removed again.
//!
//! **Invariant:** the container is the attacker. What is made below a folder, and removed again, is so as that
//! folder's owner and without a capability: nothing comes of it that this user could not have done. No link is
//! followed and no other mount is entered, and nothing that is there is read.

use crate::failure::{Failure, Kind};
use crate::file_tree::{FileTree, Found};
use crate::mount_table::MountTable;
use nix::unistd::{Gid, Uid, getegid, geteuid, setfsgid, setfsuid};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, mkdirat, openat, openat2, statat, unlinkat};
use rustix::io::Errno;
use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

const STEP: &str = "trust";

/// What is to be there below a folder.
#[derive(Debug)]
pub(crate) struct Outline {
    /// The programs that do not trust the gate without it, for a warning.
    pub(crate) programs: &'static str,
    /// Folders, each in the one before.
    pub(crate) folders: &'static [&'static str],
    /// What is to be mounted over, in the last of them: folders and regular files.
    pub(crate) entries: &'static [(&'static str, FileType)],
    /// Whether what is made is for its owner alone.
    pub(crate) is_private: bool,
}

impl Outline {
    /// Of a new folder; a file has of it what files can have.
    fn mode(&self) -> Mode {
        if self.is_private { Mode::RWXU } else { Mode::from_raw_mode(0o755) }
    }
}

/// A folder of the container's, and what is to be below it.
#[derive(Debug)]
pub(crate) struct Site {
    outline: &'static Outline,
    path: PathBuf,
    /// The folder, and then those of the outline as far as they are opened.
    folders: Vec<OwnedFd>,
    /// Which of those we have made.
    made: Vec<bool>,
    mount_id: u64,
    /// Whether it is a folder of the container's own, or one in memory. What else is mounted there is not the
    /// container's alone.
    is_own: bool,
    uid: Uid,
    gid: Gid,
}

impl Site {
    /// The folder at this path.
    pub(crate) fn open(
        files: &FileTree,
        mounts: &MountTable,
        path: PathBuf,
        outline: &'static Outline,
    ) -> Result<Option<Self>, Failure> {
        let Some(folder) = files.folder(&path)? else { return Ok(None) };
        let failed = |cause: io::Error| failed(outline, &path, "cannot be looked at").because(cause);
        let root = files.root().try_clone().map_err(failed)?;
        let (root, _) = Found::of(root).map_err(|errno| failed(errno.into()))?;
        let (found, status) = Found::of(folder).map_err(|errno| failed(errno.into()))?;
        let is_in_memory = mounts.find(found.mount_id).is_some_and(|mount| mount.is_in_memory);
        let (uid, gid) = (Uid::from_raw(status.st_uid), Gid::from_raw(status.st_gid));
        let (mount_id, folders) = (found.mount_id, vec![found.file]);
        let is_own = mount_id == root.mount_id || is_in_memory;
        Ok(Some(Self { outline, path, folders, made: Vec::new(), mount_id, is_own, uid, gid }))
    }

    /// Whether it is this user's.
    pub(crate) fn is_of(&self, uid: u32) -> bool {
        self.uid.as_raw() == uid
    }

    /// Whether something may be made in it.
    pub(crate) fn is_own(&self) -> bool {
        self.is_own
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Where the last folder is.
    pub(crate) fn last(&self) -> PathBuf {
        self.outline.folders.iter().fold(self.path.clone(), |path, name| path.join(name))
    }

    /// Whether that is there.
    pub(crate) fn has_last(&self, files: &FileTree) -> Result<bool, Failure> {
        Ok(files.folder(&self.last())?.is_some())
    }

    /// What is to be mounted over, by its name in [`Self::last`], and what it has to be.
    pub(crate) fn entries(&self) -> &'static [(&'static str, FileType)] {
        self.outline.entries
    }

    /// Makes what is not there.
    pub(crate) fn make(&mut self) -> Result<(), Failure> {
        if !self.is_own {
            return Err(self.failed("is mounted from elsewhere"));
        }
        let made = self.as_owner().and_then(|_guise| self.make_all());
        made.map_err(|error| self.failed_io(error))
    }

    fn make_all(&mut self) -> io::Result<()> {
        let mode = self.outline.mode();
        for name in self.outline.folders {
            let Some(above) = self.folders.last() else { break };
            self.made.push(is_made(mkdirat(above, *name, mode))?);
            let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            self.folders.push(openat2(above, *name, flags, Mode::empty(), resolve)?);
        }
        let Some(last) = self.opened_last() else { return Ok(()) };
        for (name, kind) in self.outline.entries {
            if *kind == FileType::Directory {
                is_made(mkdirat(last, *name, mode))?;
                continue;
            }
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let file = openat(last, *name, flags, mode - (Mode::XUSR | Mode::XGRP | Mode::XOTH));
            is_made(file.map(drop))?;
        }
        Ok(())
    }

    /// The last folder, once it is made.
    fn opened_last(&self) -> Option<&OwnedFd> {
        self.folders.get(self.outline.folders.len())
    }

    /// One of [`Self::entries`], with whatever is mounted over it.
    pub(crate) fn find(&self, name: &str) -> Result<Option<Found>, Failure> {
        let Some(last) = self.opened_last() else { return Ok(None) };
        let found = self.as_owner().and_then(|_guise| {
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            Ok(Found::of(openat(last, name, flags, Mode::empty())?)?)
        });
        found.map(|(found, _)| Some(found)).map_err(|error| self.failed_io(error))
    }

    /// Fails unless this, which nothing of ours is mounted over, is the folder's owner's own, and of this kind.
    pub(crate) fn check(&self, name: &str, kind: FileType, found: &Found) -> Result<(), Failure> {
        let status = rustix::fs::fstat(&found.file).map_err(|errno| self.failed_io(errno.into()))?;
        let is_right = FileType::from_raw_mode(status.st_mode) == kind
            && status.st_uid == self.uid.as_raw()
            && found.mount_id == self.mount_id;
        is_right
            .then_some(())
            .ok_or_else(|| self.failed(&format!("has {} that is another's", self.below(name).display())))
    }

    /// Removes what was made and has nothing in it.
    pub(crate) fn clear(&self) {
        drop(self.as_owner().map(|_guise| self.remove()));
    }

    fn remove(&self) {
        for (name, kind) in self.outline.entries.iter().rev() {
            let Some(last) = self.opened_last() else { break };
            let is_folder = *kind == FileType::Directory;
            // A file of which something has come since is somebody's.
            let is_empty = |status: rustix::fs::Stat| status.st_size == 0;
            if is_folder || statat(last, *name, AtFlags::SYMLINK_NOFOLLOW).is_ok_and(is_empty) {
                let flags = if is_folder { AtFlags::REMOVEDIR } else { AtFlags::empty() };
                unlinkat(last, *name, flags).unwrap_or_default();
            }
        }
        let folders = self.folders.iter().zip(self.outline.folders).zip(&self.made);
        for ((above, name), _) in folders.rev().filter(|(_, made)| **made) {
            unlinkat(above, *name, AtFlags::REMOVEDIR).unwrap_or_default();
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

    /// A name in the last folder, from the first.
    fn below(&self, name: &str) -> PathBuf {
        self.outline.folders.iter().collect::<PathBuf>().join(name)
    }

    fn failed(&self, what: &str) -> Failure {
        failed(self.outline, &self.path, what)
    }

    fn failed_io(&self, cause: io::Error) -> Failure {
        let missing = self.outline.entries.first().map_or_else(PathBuf::new, |(name, _)| self.below(name));
        self.failed(&format!("cannot have {}", missing.display())).because(cause)
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

fn failed(outline: &Outline, path: &Path, what: &str) -> Failure {
    let what = format!("{} does not trust the gate: {} {what}", outline.programs, path.display());
    Failure::new(Kind::Privilege, STEP, what)
}
