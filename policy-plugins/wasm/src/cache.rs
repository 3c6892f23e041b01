//! Compiled programs on disk: wasmtime's own cache, in a folder where every entry is checked before it
//! can be loaded.
//!
//! What is loaded from it runs as code of the gate's. So the folder belongs to the gate alone, and a
//! list of SHA-256 beside the entries tells those that are whole from those that a crash, a full disk
//! or another program has left; these are removed, and compiled again. An entry is compared once, and again
//! where its inode, length or change time is another.
//!
//! An entry is read and copied, which takes 0.1 s for the 18 MB of an interpreter. Mapping it would take a
//! tenth, and is `unsafe` in wasmtime; its cache loads what it wrote itself, and has that behind a safe call.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, Metadata, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use aws_lc_rs::digest::{Context, SHA256};
use wasmtime::{Cache, CacheConfig};

/// Where the entries are, within the folder.
const ENTRIES: &str = "compiled";
/// The list of them: a line for each with its sum, its origin, and its path within [`ENTRIES`].
const SUMS: &str = "compiled.sha256";
/// The longest list that is read, in bytes.
const SUMS_BYTES_MAX: u64 = 1 << 20;
/// How many folders deep entries are: `modules/VERSION/NAME`.
const DEPTH: u8 = 2;
/// What all entries may take, in bytes; the ones that were not used for longest are removed.
const BYTES_MAX: u64 = 512 << 20;
/// How often that is looked at, when something is compiled.
const CLEANING: Duration = Duration::from_secs(60);

/// The cache, and what is known of its entries.
pub(crate) struct Compiled {
    entries: PathBuf,
    sums: PathBuf,
    cache: Cache,
    /// Entries that were found whole, by their path within [`ENTRIES`].
    whole: BTreeMap<String, Whole>,
}

/// What an entry was compiled from, and for. Tells only whether compiling is worth preparing for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Origin(pub(crate) u64);

/// What the list says of an entry.
#[derive(Clone, PartialEq, Eq)]
struct Listed {
    sum: String,
    origin: Origin,
}

/// An entry as it was when its sum was right.
#[derive(Clone)]
struct Whole {
    listed: Listed,
    stamp: Stamp,
}

/// What changes when a file is written to: device, inode, length, change time in seconds and nanoseconds.
type Stamp = (u64, u64, u64, i64, i64);

impl Compiled {
    /// Opens a folder, which is made if it is not there. Without one that can be trusted there is no
    /// cache, and the log says why.
    pub(crate) fn open(folder: &Path) -> Option<Self> {
        let opened = Self::try_open(folder);
        opened
            .inspect_err(|error| {
                let folder = folder.display();
                tracing::warn!(%folder, %error, "compiled handlers are not kept: each start compiles them anew");
            })
            .ok()
    }

    fn try_open(folder: &Path) -> io::Result<Self> {
        let folder = std::path::absolute(folder)?;
        let entries = folder.join(ENTRIES);
        own_folder(&folder)?;
        own_folder(&entries)?;
        let mut config = CacheConfig::new();
        config
            .with_directory(&entries)
            // An entry stays as it was written: it is never compressed again.
            .with_optimized_compression_usage_counter_threshold(u64::MAX)
            .with_cleanup_interval(CLEANING)
            .with_files_total_size_soft_limit(BYTES_MAX);
        let cache = Cache::new(config).map_err(io::Error::other)?;
        let mut compiled = Self { entries, sums: folder.join(SUMS), cache, whole: BTreeMap::new() };
        compiled.check()?;
        Ok(compiled)
    }

    /// What an engine is given.
    pub(crate) fn cache(&self) -> &Cache {
        &self.cache
    }

    /// Removes what is not whole. To be called before anything is compiled, or found compiled.
    ///
    /// # Errors
    /// An entry can neither be read nor removed: nothing may be loaded then.
    pub(crate) fn check(&mut self) -> io::Result<()> {
        let listed = self.listed();
        let mut whole = BTreeMap::new();
        for (name, path) in files(&self.entries)? {
            let metadata = match fs::symlink_metadata(&path) {
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                metadata => metadata?,
            };
            if is_statistics(&name) && is_own_file(&metadata) {
                continue;
            }
            match self.recheck(&name, &path, &metadata, listed.get(&name))? {
                Some(found) => drop(whole.insert(name, found)),
                None => remove(&path)?,
            }
        }
        self.whole = whole;
        Ok(())
    }

    /// What is known of an entry, if it is whole.
    fn recheck(
        &self,
        name: &str,
        path: &Path,
        metadata: &Metadata,
        listed: Option<&Listed>,
    ) -> io::Result<Option<Whole>> {
        let stamp = stamp(metadata);
        match (self.whole.get(name), listed) {
            _ if !is_own_file(metadata) => Ok(None),
            (Some(known), _) if known.stamp == stamp => Ok(Some(known.clone())),
            (_, Some(listed)) if sum_of(path)? == listed.sum => {
                Ok(Some(Whole { listed: listed.clone(), stamp }))
            }
            (_, _) => Ok(None),
        }
    }

    /// Whether something of this origin is there, as of [`Self::check`].
    pub(crate) fn has(&self, origin: Origin) -> bool {
        self.whole.values().any(|whole| whole.listed.origin == origin)
    }

    /// Lists what has been compiled since [`Self::check`].
    pub(crate) fn note(&mut self, origin: Origin) {
        if let Err(error) = self.try_note(origin) {
            tracing::warn!(%error, "the list of compiled handlers is not written: the next start compiles anew");
        }
    }

    fn try_note(&mut self, origin: Origin) -> io::Result<()> {
        let mut whole = BTreeMap::new();
        let mut list = String::new();
        for (name, path) in files(&self.entries)? {
            if !is_entry(&name) {
                continue;
            }
            let known = match self.whole.remove(&name) {
                Some(known) => known,
                None => {
                    fs::set_permissions(&path, Permissions::from_mode(0o600))?;
                    let listed = Listed { sum: sum_of(&path)?, origin };
                    Whole { listed, stamp: stamp(&fs::symlink_metadata(&path)?) }
                }
            };
            list.push_str(&format!("{} {:016x} {name}\n", known.listed.sum, known.listed.origin.0));
            whole.insert(name, known);
        }
        self.whole = whole;
        self.write_list(&list)
    }

    fn write_list(&self, list: &str) -> io::Result<()> {
        let new = self.sums.with_extension("new");
        remove(&new)?;
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        file.write_all(list.as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, &self.sums)
    }

    /// The list by path; empty where there is none that can be trusted.
    fn listed(&self) -> BTreeMap<String, Listed> {
        let trusted = fs::symlink_metadata(&self.sums)
            .is_ok_and(|metadata| is_own_file(&metadata) && metadata.len() <= SUMS_BYTES_MAX);
        let list = if trusted { fs::read_to_string(&self.sums).unwrap_or_default() } else { String::new() };
        list.lines().filter_map(read_line).collect()
    }
}

fn read_line(line: &str) -> Option<(String, Listed)> {
    let (sum, rest) = line.split_once(' ')?;
    let (origin, name) = rest.split_once(' ')?;
    let origin = Origin(u64::from_str_radix(origin, 16).ok()?);
    Some((name.to_owned(), Listed { sum: sum.to_owned(), origin }))
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

/// A file that nobody else can write to.
fn is_own_file(metadata: &Metadata) -> bool {
    metadata.is_file() && is_own(metadata) && metadata.mode() & 0o022 == 0
}

fn is_own(metadata: &Metadata) -> bool {
    metadata.uid() == rustix::process::geteuid().as_raw()
}

/// Whether this is the name of an entry, and not of what stands beside one.
fn is_entry(name: &str) -> bool {
    name.rsplit('/').next().is_some_and(|name| !name.contains('.'))
}

/// Whether wasmtime counts here how often an entry is used. It is never run.
fn is_statistics(name: &str) -> bool {
    name.ends_with(".stats")
}

/// The files of a folder and of the folders in it, by their path within. What is neither file nor
/// folder is taken for a file.
fn files(folder: &Path) -> io::Result<Vec<(String, PathBuf)>> {
    let mut found = Vec::new();
    collect(folder, "", DEPTH, &mut found)?;
    found.sort();
    Ok(found)
}

fn collect(folder: &Path, within: &str, depth: u8, found: &mut Vec<(String, PathBuf)>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = format!("{within}{}", entry.file_name().to_string_lossy());
        if !entry.file_type()?.is_dir() {
            found.push((name, entry.path()));
        } else if depth > 0 {
            collect(&entry.path(), &format!("{name}/"), depth - 1, found)?;
        }
    }
    Ok(())
}

fn stamp(metadata: &Metadata) -> Stamp {
    (metadata.dev(), metadata.ino(), metadata.size(), metadata.ctime(), metadata.ctime_nsec())
}

fn sum_of(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut context = Context::new(&SHA256);
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        context.update(buffer.get(..read).unwrap_or_default());
    }
    Ok(context.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect())
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
