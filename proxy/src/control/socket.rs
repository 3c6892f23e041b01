//! The socket's file: one for each instance, its owner's alone, gone when the instance is.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use rustix::process::Pid;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 32;

/// How often a lock is taken anew that was removed while it was taken; each time another instance of
/// this name has just ended.
const LOCK_ATTEMPTS_MAX: usize = 16;

/// A bound control socket. Its file is removed when it is dropped.
#[derive(Debug)]
pub struct ControlSocket {
    pub(super) listener: UnixListener,
    path: PathBuf,
    /// The process from whose network namespace it may be used, as a folder of /proc.
    pub(super) home: String,
    /// Locked as long as the instance lives, and unlocked by the kernel however it ends: whether a
    /// socket's file is a dead instance's is known and not guessed.
    _lock: File,
}

impl ControlSocket {
    /// Binds `path`, which must be in a folder that nobody else may write to, such as that of
    /// [`crate::folders::runtime`]. What a dead instance has left there is replaced. Beside it stands a
    /// lock, `PATH.lock`, which is removed with it.
    ///
    /// # Errors
    /// [`io::ErrorKind::AddrInUse`] when a living instance has the path; [`io::ErrorKind::AlreadyExists`]
    /// when something stands there that is no socket; else what the system says.
    pub fn bind(path: &Path) -> io::Result<Self> {
        let lock = lock(&lock_path(path))?;
        remove_stale(path)?;
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        rustix::net::bind(&socket, &SocketAddrUnix::new(path)?)?;
        // Nobody can connect before it listens, and then the mode stands.
        fs::set_permissions(path, Permissions::from_mode(0o600))?;
        rustix::net::listen(&socket, BACKLOG)?;
        Ok(Self { listener: socket.into(), path: path.to_owned(), home: "self".to_owned(), _lock: lock })
    }

    /// Has it used from the network namespace of another process instead of from ours.
    pub fn asked_from(&mut self, process: Pid) {
        self.home = process.as_raw_nonzero().to_string();
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        // The lock is still held, so both files are ours. What remains is replaced by the next instance.
        drop(fs::remove_file(&self.path));
        drop(fs::remove_file(lock_path(&self.path)));
    }
}

fn lock_path(path: &Path) -> PathBuf {
    let mut lock = path.as_os_str().to_owned();
    lock.push(".lock");
    lock.into()
}

fn lock(path: &Path) -> io::Result<File> {
    for _ in 0..LOCK_ATTEMPTS_MAX {
        let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => break,
            Err(error) => return Err(error.into()),
        }
        // Its holder removes it at its end: what was locked here may be a file that has no name any more.
        let locked = file.metadata()?;
        if fs::metadata(path).is_ok_and(|named| (named.dev(), named.ino()) == (locked.dev(), locked.ino())) {
            return Ok(file);
        }
    }
    Err(io::Error::new(io::ErrorKind::AddrInUse, "another instance has this name"))
}

fn remove_stale(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.file_type().is_socket() => fs::remove_file(path),
        Ok(_) => Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            "what stands at the socket's path is no socket; remove it",
        )),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;
    use std::sync::Barrier;

    use super::*;

    #[test]
    fn the_file_is_the_owners_alone_and_goes_with_the_instance() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.sock");
        let socket = ControlSocket::bind(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        UnixStream::connect(socket.path()).unwrap();
        drop(socket);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_living_instance_keeps_its_name_and_a_dead_one_loses_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.sock");
        let first = ControlSocket::bind(&path).unwrap();
        let error = ControlSocket::bind(&path).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        UnixStream::connect(&path).unwrap();
        drop(first);
        // As after a SIGKILL: the file is there and nobody listens.
        drop(UnixListener::bind(&path).unwrap());
        assert!(UnixStream::connect(&path).is_err());
        let second = ControlSocket::bind(&path).unwrap();
        UnixStream::connect(second.path()).unwrap();
    }

    #[test]
    fn of_many_at_once_one_gets_the_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.sock");
        for _ in 0..50 {
            let start = Barrier::new(4);
            let bind = || {
                start.wait();
                let bound = ControlSocket::bind(&path);
                start.wait();
                bound.is_ok()
            };
            let bound = std::thread::scope(|scope| {
                let threads: Vec<_> = (0..4).map(|_| scope.spawn(bind)).collect();
                threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
            });
            assert_eq!(bound.into_iter().filter(|bound| *bound).count(), 1);
            assert!(!path.exists());
        }
    }

    #[test]
    fn what_is_no_socket_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.sock");
        fs::write(&path, "precious").unwrap();
        assert_eq!(ControlSocket::bind(&path).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).unwrap(), b"precious");
    }

    #[test]
    fn a_path_that_is_too_long_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        assert!(ControlSocket::bind(&folder.path().join("a".repeat(120))).is_err());
    }
}
