//! Opens a log file for one writer, finds where its chain ends, and cuts off what a crash left torn.

use std::fs::{DirBuilder, File, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::AuditError;
use super::chain::{Chain, LINE_LIMIT};

/// How every line begins: by this a torn line is told from somebody else's file.
const LINE_START: &[u8] = b"{\"sequence\":";

/// A log file that is ours alone for as long as `file` is open.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) file: File,
    pub(super) chain: Chain,
    pub(super) torn_bytes: u64,
}

/// Opens the log at `path`, making it and its folder if they are not there.
pub(super) fn open(path: &Path) -> Result<Opened, AuditError> {
    let cannot_open = |source| AuditError::Open { path: path.to_owned(), source };
    let not_regular = || AuditError::NotARegularFile { path: path.to_owned() };
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(cannot_open)?;
    }
    // No symbolic link, so that nobody who can write to the folder has us append elsewhere; without
    // blocking, so that a pipe put there does not hold us up.
    let flags = OFlags::RDWR
        | OFlags::APPEND
        | OFlags::CREATE
        | OFlags::NOFOLLOW
        | OFlags::NONBLOCK
        | OFlags::CLOEXEC;
    let file = match rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR) {
        Ok(descriptor) => File::from(descriptor),
        Err(Errno::LOOP | Errno::ISDIR | Errno::NXIO) => return Err(not_regular()),
        Err(errno) => return Err(cannot_open(errno.into())),
    };
    if !file.metadata().map_err(cannot_open)?.is_file() {
        return Err(not_regular());
    }
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            return Err(AuditError::InUse { path: path.to_owned() });
        }
        Err(TryLockError::Error(source)) => return Err(cannot_open(source)),
    }
    let length = file.metadata().map_err(cannot_open)?.len();
    let tail = read_tail(&file, length).map_err(cannot_open)?;
    let end = find_end(&tail, tail.len() as u64 == length)
        .ok_or_else(|| AuditError::NotALog { path: path.to_owned() })?;
    if end.torn_bytes > 0 {
        file.set_len(length - end.torn_bytes).map_err(cannot_open)?;
    }
    Ok(Opened { file, chain: end.chain, torn_bytes: end.torn_bytes })
}

/// The log file as the writer sees it. A flush has it on disk.
pub(super) struct FileSink {
    file: File,
}

impl FileSink {
    pub(super) fn new(file: File) -> Self {
        Self { file }
    }
}

impl Write for FileSink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // A deleted file takes bytes as if nothing had happened, and nobody will ever read them.
        if self.file.metadata()?.nlink() == 0 {
            return Err(io::Error::new(io::ErrorKind::NotFound, "the file was deleted while in use"));
        }
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.sync_all()
    }
}

/// Where a log goes on.
struct End {
    chain: Chain,
    torn_bytes: u64,
}

/// Reads the end of the file: room for the longest line and the longest torn one after it.
fn read_tail(file: &File, length: u64) -> io::Result<Vec<u8>> {
    let start = length.saturating_sub(2 * LINE_LIMIT as u64);
    let mut tail = vec![0; usize::try_from(length - start).unwrap_or(2 * LINE_LIMIT)];
    file.read_exact_at(&mut tail, start)?;
    Ok(tail)
}

/// Finds the last whole line of a log in its `tail`; `None` when it is not a log of ours.
fn find_end(tail: &[u8], is_whole_file: bool) -> Option<End> {
    let newline = tail.iter().rposition(|byte| *byte == b'\n');
    let (lines, torn) = tail.split_at(newline.map_or(0, |at| at + 1));
    let torn_bytes = torn.len() as u64;
    let Some(lines) = lines.strip_suffix(b"\n") else {
        // Not one whole line. Only what can be the start of our first one is cut off.
        let is_ours = torn.starts_with(LINE_START) || LINE_START.starts_with(torn);
        return (is_whole_file && is_ours).then(|| End { chain: Chain::genesis(), torn_bytes });
    };
    let start = lines.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let chain = Chain::after(lines.get(start..)?)?;
    Some(End { chain, torn_bytes })
}
