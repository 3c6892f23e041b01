//! Compiled programs on disk, each checked before it is mapped.
//!
//! What is mapped from here runs as code of the gate's. So the folder belongs to the gate's user alone, and a list of
//! SHA-256 beside the entries tells those that are whole from those that a crash, a full disk or another program has
//! left; these are removed, and compiled again. An entry is compared once for each start of the machine, and again
//! where its inode, length or change time is another.
//!
//! An entry is mapped and not read: 33 MB of an interpreter are there in 3 ms, take memory as they are run, and are
//! in memory once for all gates of the folder.
//!
//! **Invariant:** an entry is never written to. It comes by a rename when it is whole, and goes with its name.

#[cfg(test)]
mod tests;

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::OFlags;
use wasmtime::Engine;
use wasmtime::component::Component;

use crate::sums::{Known, Stamp, Sum, Sums, is_own, is_own_file, write_new};

/// Where the entries are, within the folder.
const ENTRIES: &str = "compiled";
/// The list of them.
const LIST: &str = "compiled.sha256";
/// When they were compared.
const STAMPS: &str = "compiled.stamps";
/// The name of an entry that is being written.
const BEGUN: &str = "begun";
/// What all entries may take, in bytes; the ones that were kept first are removed.
const BYTES_MAX: u64 = 512 << 20;
/// How long another gate may take to write to the folder, until this one does without.
const LOCK_DEADLINE: Duration = Duration::from_secs(10);
/// How often it is looked whether it is done.
const LOCK_INTERVAL: Duration = Duration::from_millis(5);

/// A folder of compiled programs.
#[derive(Debug)]
pub struct CompiledPrograms {
    folder: PathBuf,
    bytes_max: u64,
}

/// What an entry was compiled from, and for: a content, and all that an engine makes of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin(String);

impl Origin {
    /// Of a content with this SHA-256, compiled by `engine`.
    #[must_use]
    pub fn new(engine: &Engine, content: &[u8; 32]) -> Self {
        let mut hasher = DefaultHasher::new();
        engine.precompile_compatibility_hash().hash(&mut hasher);
        Self(format!("{}-{:016x}", Sum::shown(content).as_str(), hasher.finish()))
    }
}

impl CompiledPrograms {
    /// Opens a folder, which is made if it is not there. Without one that can be trusted nothing is kept, and the
    /// log says why.
    #[must_use]
    pub fn open(folder: &Path) -> Option<Self> {
        Self::try_open(folder)
            .inspect_err(|error| {
                let folder = folder.display();
                tracing::warn!(%folder, %error, "compiled handlers are not kept: each start compiles them anew");
            })
            .ok()
    }

    fn try_open(folder: &Path) -> io::Result<Self> {
        let folder = std::path::absolute(folder)?;
        own_folder(&folder)?;
        own_folder(&folder.join(ENTRIES))?;
        Ok(Self { folder, bytes_max: BYTES_MAX })
    }

    /// What was compiled before, if it is there and whole.
    #[must_use]
    pub fn get(&self, engine: &Engine, origin: &Origin) -> Option<Component> {
        let found = self.whole(origin).map_err(wasmtime::Error::from);
        found
            .and_then(|file| file.map(|file| mapped(engine, &file)).transpose())
            .inspect_err(|error| {
                tracing::warn!(
                    error = format!("{error:#}"),
                    "a compiled handler cannot be loaded: it is compiled anew"
                );
                drop(self.remove(origin));
            })
            .ok()
            .flatten()
    }

    /// Compiles a content, and keeps what comes of it. Where it cannot be kept the log says why.
    ///
    /// # Errors
    /// It cannot be compiled.
    pub fn add(&self, engine: &Engine, origin: &Origin, content: &[u8]) -> wasmtime::Result<Component> {
        let compiled = engine.precompile_component(content)?;
        let folder = self.folder.display();
        if let Err(error) = self.keep(origin, &compiled) {
            tracing::warn!(%folder, %error, "a compiled handler is not kept: the next start compiles anew");
        } else if let Some(component) = self.get(engine, origin) {
            return Ok(component);
        }
        copied(engine, &compiled)
    }

    fn list(&self) -> Sums {
        Sums::read(&self.folder.join(LIST), &self.folder.join(STAMPS))
    }

    fn entry(&self, name: &str) -> PathBuf {
        self.folder.join(ENTRIES).join(name)
    }

    /// An entry, if it is there, is nobody else's, and is what was kept.
    fn whole(&self, origin: &Origin) -> io::Result<Option<File>> {
        let Some(known) = self.list().get(&origin.0).cloned() else {
            return Ok(None);
        };
        let mut options = OpenOptions::new();
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
        options.read(true).custom_flags(flags.bits().cast_signed());
        let file = match options.open(self.entry(&origin.0)) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        let metadata = file.metadata()?;
        if !is_own_file(&metadata) {
            return Err(io::Error::other("others may write to it"));
        }
        let stamp = Stamp::of(&metadata);
        if known.stamp != Some(stamp) {
            if Sum::of_rest(&file)? != known.sum {
                return Err(io::Error::other("it is not what was kept"));
            }
            // Without the stamp it is compared once more.
            drop(self.change(|sums| {
                let entries =
                    sums.0.iter_mut().filter(|(name, entry)| *name == origin.0 && entry.sum == known.sum);
                entries.for_each(|(_, known)| known.stamp = Some(stamp));
                Ok(())
            }));
        }
        Ok(Some(file))
    }

    fn keep(&self, origin: &Origin, compiled: &[u8]) -> io::Result<()> {
        let path = self.entry(&origin.0);
        let new = self.entry(BEGUN);
        self.change(|sums| {
            let written = write_new(&new, compiled).and_then(|()| fs::rename(&new, &path));
            if written.is_err() {
                drop(fs::remove_file(&new));
            }
            written?;
            let stamp = Some(Stamp::of(&fs::symlink_metadata(&path)?));
            sums.0.retain(|(name, _)| *name != origin.0);
            sums.0.push((origin.0.clone(), Known { sum: Sum::of(compiled), stamp }));
            self.clean(sums)
        })
    }

    fn remove(&self, origin: &Origin) -> io::Result<()> {
        self.change(|sums| {
            sums.0.retain(|(name, _)| *name != origin.0);
            drop(fs::remove_file(self.entry(&origin.0)));
            Ok(())
        })
    }

    /// Removes what is not listed, and from the list what is too much or not there.
    fn clean(&self, sums: &mut Sums) -> io::Result<()> {
        let length = |name: &str| fs::symlink_metadata(self.entry(name)).map_or(0, |metadata| metadata.len());
        let mut left = self.bytes_max;
        let mut kept = Vec::new();
        for (name, known) in std::mem::take(&mut sums.0).into_iter().rev() {
            let bytes = length(&name);
            // The newest is kept whatever it takes.
            if bytes > 0 && (kept.is_empty() || bytes <= left) {
                left = left.saturating_sub(bytes);
                kept.push((name, known));
            }
        }
        kept.reverse();
        sums.0 = kept;
        for entry in fs::read_dir(self.folder.join(ENTRIES))? {
            let entry = entry?;
            if !sums.0.iter().any(|(name, _)| entry.file_name() == name.as_str()) {
                fs::remove_file(entry.path()).or_else(|_| fs::remove_dir_all(entry.path()))?;
            }
        }
        Ok(())
    }

    /// Changes the entries or the list while no other process does.
    fn change(&self, change: impl FnOnce(&mut Sums) -> io::Result<()>) -> io::Result<()> {
        let folder = File::open(&self.folder)?;
        let deadline = Instant::now() + LOCK_DEADLINE;
        while let Err(error) = folder.try_lock() {
            match error {
                TryLockError::Error(error) => return Err(error),
                TryLockError::WouldBlock if Instant::now() > deadline => {
                    return Err(io::Error::new(ErrorKind::TimedOut, "another process holds the folder"));
                }
                TryLockError::WouldBlock => thread::sleep(LOCK_INTERVAL),
            }
        }
        let mut sums = self.list();
        change(&mut sums)?;
        sums.write(&self.folder.join(LIST), &self.folder.join(STAMPS))
    }
}

/// Maps a file that was found whole. Where the file system forbids code, it is copied.
fn mapped(engine: &Engine, file: &File) -> wasmtime::Result<Component> {
    // The file that was looked at, whatever its name has become.
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    #[expect(unsafe_code, reason = "compiled code is run as it is")]
    // SAFETY: the file holds what `Engine::precompile_component` returned in `CompiledPrograms::add` (its SHA-256 is
    // that of these bytes), and stays so while it is mapped: it belongs to this user alone in a folder that is this
    // user's alone, and is never written to after its rename. The engine compares its own version and settings.
    let mapped = unsafe { Component::deserialize_file(engine, &path) };
    mapped.or_else(|_| copied(engine, &fs::read(&path)?))
}

/// Loads what was compiled from memory.
fn copied(engine: &Engine, compiled: &[u8]) -> wasmtime::Result<Component> {
    #[expect(unsafe_code, reason = "compiled code is run as it is")]
    // SAFETY: the bytes are what `Engine::precompile_component` returned: just now, or as `mapped` says.
    unsafe {
        Component::deserialize(engine, compiled)
    }
}

/// Makes a folder, or checks that it is ours alone.
fn own_folder(path: &Path) -> io::Result<()> {
    if fs::symlink_metadata(path).is_err() {
        DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    }
    let metadata = fs::symlink_metadata(path)?;
    if metadata.is_dir() && is_own(&metadata) && metadata.mode() & 0o077 == 0 {
        return Ok(());
    }
    let shown = path.display();
    Err(io::Error::other(format!("{shown} must be a folder of this user's with mode 0700")))
}
