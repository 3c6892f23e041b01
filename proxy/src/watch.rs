//! Follows the document's file and those of its scripts, where nobody but the operator can change them.

use std::collections::BTreeMap;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{Access, access};

use crate::causes::in_words;
use crate::controller::{Actor, Controller};

/// How often the files are looked at. Looking costs a `stat` a file, and sees what no notification
/// tells: network file systems, and folders that are swapped by a symbolic link.
const INTERVAL: Duration = Duration::from_millis(500);

/// What changes when a file is written or replaced.
type Stamp = Option<(u64, u64, u64, i64, i64)>;
type Stamps = BTreeMap<PathBuf, Stamp>;

/// The files as they were at one moment.
#[derive(Debug)]
pub struct Seen(Stamps);

impl Seen {
    /// The files to follow as they are now. To be taken before anybody is told that the gate serves: what is
    /// written from then on is a change.
    pub fn now(controller: &Controller) -> Self {
        Self(followed(controller))
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
        let Some(now) = look(&controller).await else { return };
        know(&mut taken, &now);
        // Taken once it has stopped changing: an editor may be in the middle of it.
        if now != taken && now == seen {
            taken.clone_from(&now);
            let reloading = Arc::clone(&controller);
            let reloaded = tokio::task::spawn_blocking(move || reloading.reset(Actor::Watch)).await;
            if let Ok(Err(error)) = reloaded {
                tracing::warn!(error = in_words(&error), "the changed policy document is not taken");
            }
            let Some(after) = look(&controller).await else { return };
            know(&mut taken, &after);
        }
        seen = now;
    }
}

/// The files to follow as they are now, none where the workload could change one; on a thread that may
/// wait for the controller and the disk.
async fn look(controller: &Arc<Controller>) -> Option<Stamps> {
    let controller = Arc::clone(controller);
    tokio::task::spawn_blocking(move || followed(&controller)).await.ok()
}

fn followed(controller: &Controller) -> Stamps {
    // Asked each time: a later document may name a script that the workload could write.
    if controller.is_watching() { stamps(controller.watched_files()) } else { Stamps::new() }
}

/// Forgets files that are followed no more. Those that are new were read when they came to be.
fn know(taken: &mut Stamps, now: &Stamps) {
    taken.retain(|file, _| now.contains_key(file));
    for (file, stamp) in now {
        taken.entry(file.clone()).or_insert(*stamp);
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
    let stamp = |metadata: Metadata| {
        (metadata.dev(), metadata.ino(), metadata.size(), metadata.mtime(), metadata.mtime_nsec())
    };
    let stamped = |file: PathBuf| {
        let stamp = file.metadata().ok().map(stamp);
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
}
