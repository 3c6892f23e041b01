//! Follows the document's file and those of its scripts, where nobody but the operator can change them.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustix::fs::{Access, access};

use crate::causes::in_words;
use crate::controller::{Actor, Controller};

/// How often the files are looked at. Looking costs a `stat` a file, and sees what no notification
/// tells: network file systems, and folders that are swapped by a symbolic link.
const INTERVAL: Duration = Duration::from_millis(500);

/// How much earlier a file system may say that a file was written than it was: it counts the kernel's ticks.
const TICK: Duration = Duration::from_millis(20);

/// What changes when a file is written or replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    length: u64,
    modified: SystemTime,
}

/// Of each file, `None` where it is not there.
type Stamps = BTreeMap<PathBuf, Option<Stamp>>;

/// The files as they were at one moment.
#[derive(Debug)]
pub struct Seen(Stamps);

impl Seen {
    /// The files to follow as they are now. To be taken before anybody is told that the gate serves: what is
    /// written from then on is a change.
    pub fn now(controller: &Controller) -> Self {
        Self(followed(controller).0)
    }
}

/// Puts the document to work again whenever it changed since `begun`, for as long as the gate runs. What does
/// not compile is logged and changes nothing.
pub async fn watch_document(controller: Arc<Controller>, begun: Seen) {
    let Seen(mut taken) = begun;
    let mut seen = taken.clone();
    let mut interval = tokio::time::interval(INTERVAL);
    loop {
        interval.tick().await;
        let Some((now, read)) = look(&controller).await else { return };
        know(&mut taken, &now, read);
        // Taken once it has stopped changing: an editor may be in the middle of it.
        if now != taken && now == seen {
            taken.clone_from(&now);
            let reloading = Arc::clone(&controller);
            let reloaded = tokio::task::spawn_blocking(move || reloading.reset(Actor::Watch)).await;
            if let Ok(Err(error)) = reloaded {
                tracing::warn!(error = in_words(&error), "the changed policy document is not taken");
            }
            let Some((after, read)) = look(&controller).await else { return };
            know(&mut taken, &after, read);
        }
        seen = now;
    }
}

/// The files to follow as they are now, and when they were read; none where the workload could change one. On a
/// thread that may wait for the controller and the disk.
async fn look(controller: &Arc<Controller>) -> Option<(Stamps, SystemTime)> {
    let controller = Arc::clone(controller);
    tokio::task::spawn_blocking(move || followed(&controller)).await.ok()
}

fn followed(controller: &Controller) -> (Stamps, SystemTime) {
    let (files, read) = controller.watched_files();
    // Asked each time: a later document may name a script that the workload could write.
    if controller.is_watching() { (stamps(files), read) } else { (Stamps::new(), read) }
}

/// Forgets files that are followed no more. One that is new is taken as it was `read`, unless it may have been
/// written since.
fn know(taken: &mut Stamps, now: &Stamps, read: SystemTime) {
    taken.retain(|file, _| now.contains_key(file));
    for (file, stamp) in now {
        let was_read = stamp.filter(|stamp| stamp.modified + TICK < read);
        taken.entry(file.clone()).or_insert(was_read);
    }
}

/// Whether a process of this user that has no privilege could change what is found under `path`: by
/// writing it, or by putting something else in its place. A path through a symbolic link counts as
/// one that can be changed.
pub fn is_changeable(path: &Path) -> bool {
    let user = rustix::process::geteuid().as_raw();
    if !path.canonicalize().is_ok_and(|canonical| canonical == path) {
        return true;
    }
    path.ancestors().any(|part| {
        let owned = part.metadata().map_or(true, |metadata| metadata.uid() == user);
        owned || access(part, Access::WRITE_OK).is_ok()
    })
}

fn stamps(files: Vec<PathBuf>) -> Stamps {
    let stamp = |file: &Path| -> io::Result<Stamp> {
        let metadata = file.metadata()?;
        let (device, inode, length) = (metadata.dev(), metadata.ino(), metadata.size());
        Ok(Stamp { device, inode, length, modified: metadata.modified()? })
    };
    let stamped = |file: PathBuf| {
        let stamp = stamp(&file).ok();
        (file, stamp)
    };
    files.into_iter().map(stamped).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_user_owns_is_changeable() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("policy.toml");
        std::fs::write(&file, "version = 1").unwrap();
        assert!(is_changeable(&file));
        assert!(is_changeable(&folder.path().join("not there")));
    }

    #[test]
    fn a_stamp_tells_a_replaced_file_from_the_one_before() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("policy.toml");
        let look = || stamps(vec![file.clone()]);
        let missing = look();
        std::fs::write(&file, "version = 1").unwrap();
        let written = look();
        std::fs::write(folder.path().join("next"), "version = 1").unwrap();
        std::fs::rename(folder.path().join("next"), &file).unwrap();
        let replaced = look();
        assert!(missing != written && written != replaced);
    }

    #[test]
    fn a_new_file_that_may_have_been_written_since_it_was_read_is_to_be_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("new.rhai");
        std::fs::write(&file, "").unwrap();
        let now = stamps(vec![file.clone()]);
        let written = now[&file].unwrap().modified;
        for (read, is_known) in [(written + 2 * TICK, true), (written, false), (written - TICK, false)] {
            let mut taken = Stamps::new();
            know(&mut taken, &now, read);
            assert_eq!(taken == now, is_known, "{read:?}");
        }
    }
}
