//! Reads handlers' files, and those that somebody has and that did not change not again: a component with an
//! interpreter in it has 18 MB, and a policy is often changed beside it.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sluicegate_policy::{Content, WeakContent};

use crate::document::{open_at_once, read_rest};

/// How long a file must have been left alone for its stamp to tell: times of files are as coarse as the clock of the
/// kernel's that they are taken from, and on some file systems as a second.
const SETTLED: Duration = Duration::from_secs(2);

/// What changes when a file is written or replaced: device, inode, length, change time in seconds and nanoseconds.
type Stamp = (u64, u64, u64, i64, i64);

/// What was read, as long as somebody has it.
static READ: Mutex<Vec<(PathBuf, Stamp, WeakContent)>> = Mutex::new(Vec::new());

/// A regular file of at most `limit` bytes.
///
/// # Errors
/// Those of the file system, and where it is something else or longer.
pub(crate) fn read(path: &Path, limit: u64) -> io::Result<Content> {
    let file = open_at_once(path)?;
    let metadata = file.metadata()?;
    let stamp = (metadata.dev(), metadata.ino(), metadata.size(), metadata.ctime(), metadata.ctime_nsec());
    let mut known = READ.lock().unwrap_or_else(PoisonError::into_inner);
    known.retain(|(_, _, content)| content.upgrade().is_some());
    let found = known.iter().find(|(known, at, _)| known == path && *at == stamp);
    if let Some(content) = found.and_then(|(_, _, content)| content.upgrade()) {
        return Ok(content);
    }
    let content = Content::from(read_rest(file, limit)?);
    if is_settled(&stamp, SystemTime::now()) {
        known.retain(|(known, _, _)| known != path);
        known.push((path.to_owned(), stamp, content.downgrade()));
    }
    Ok(content)
}

fn is_settled(&(_, _, _, seconds, _): &Stamp, now: SystemTime) -> bool {
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(seconds).is_ok_and(|seconds| Duration::from_secs(seconds) + SETTLED < now)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::thread;

    use super::*;

    /// Waits until a file that was written now is settled.
    fn settle(path: &Path) {
        while !is_settled(&(0, 0, 0, fs::metadata(path).unwrap().ctime(), 0), SystemTime::now()) {
            thread::sleep(Duration::from_millis(100));
        }
    }

    fn is_same(one: &Content, other: &Content) -> bool {
        std::ptr::eq(one.as_ptr(), other.as_ptr())
    }

    #[test]
    fn a_file_is_read_once_while_somebody_has_it_and_it_does_not_change() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.wasm");
        let read = || read(&path, 100).unwrap();
        fs::write(&path, "one").unwrap();
        settle(&path);
        let first = read();
        assert!(is_same(&first, &read()));
        // The same length, in the same file.
        fs::write(&path, "two").unwrap();
        assert_eq!(&*read(), b"two");
        settle(&path);
        let second = read();
        fs::write(folder.path().join("new"), "333").unwrap();
        fs::rename(folder.path().join("new"), &path).unwrap();
        assert_eq!(&*read(), b"333");
        assert_eq!(&*second, b"two");
    }

    #[test]
    fn what_is_no_regular_file_is_refused() {
        assert!(read(Path::new("/dev/zero"), 10).is_err());
        assert!(read(Path::new("/"), 10).is_err());
        let folder = tempfile::tempdir().unwrap();
        let long = folder.path().join("long");
        fs::write(&long, "12345678901").unwrap();
        assert_eq!(read(&long, 10).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
    }
}
