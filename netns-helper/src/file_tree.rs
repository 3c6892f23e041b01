//! Files of a container, looked at from outside.
//!
//! **Invariant:** the container is the attacker. Links are followed within its root only (openat2(2)); a file
//! is opened for reading once it is known to be a regular one, since opening a device or a pipe does something;
//! folders and files are read up to a limit; nothing is written.

use crate::failure::{Failure, Kind};
use nix::errno::Errno;
use rustix::fs::{
    AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, Stat, StatxAttributes, StatxFlags, fstat, openat,
    openat2, readlinkat, statx,
};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

const STEP: &str = "trust";
/// Entries of folders that are looked at in one search. A container has some hundred in the folders that are.
const ENTRIES_MAX: usize = 65_536;
/// How often a path is resolved again that is renamed meanwhile.
const ATTEMPTS_MAX: usize = 8;
/// Everybody may read it (inode(7)).
const READABLE_BY_ALL: u32 = 0o004;

/// The files below one folder, which stands for `/`.
#[derive(Debug)]
pub(crate) struct FileTree {
    root: OwnedFd,
    /// Our own /proc/self/fd, since the container has another /proc, or none.
    descriptors: OwnedFd,
    entries: usize,
}

/// A file or folder, found and not opened.
#[derive(Debug)]
pub(crate) struct Found {
    /// Stands for the file and the mount that it was found by; nothing can be read from it.
    pub(crate) file: OwnedFd,
    /// The mount.
    pub(crate) mount_id: u64,
    /// Whether it is what that mount shows at its own place.
    pub(crate) is_mount: bool,
}

impl Found {
    /// What a descriptor of it is.
    pub(crate) fn of(file: OwnedFd) -> Result<(Self, Stat), rustix::io::Errno> {
        let status = fstat(&file)?;
        let seen = statx(&file, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID)?;
        let is_mount = seen.stx_attributes.contains(StatxAttributes::MOUNT_ROOT);
        Ok((Self { file, mount_id: seen.stx_mnt_id, is_mount }, status))
    }
}

impl FileTree {
    /// The files below `root`. `descriptors` is /proc/self/fd.
    pub(crate) fn new(root: OwnedFd, descriptors: OwnedFd) -> Self {
        Self { root, descriptors, entries: 0 }
    }

    /// The paths that `pattern` can stand for, in order: a `*` stands for any part of a name, of one that does
    /// not begin with a dot. Names without a `*` need not be there.
    pub(crate) fn expand(&mut self, pattern: &Path) -> Result<Vec<PathBuf>, Failure> {
        let mut paths = vec![PathBuf::from("/")];
        for component in pattern.components() {
            let Component::Normal(name) = component else { continue };
            let wild = name.to_str().and_then(|name| name.split_once('*'));
            paths = match wild {
                None => paths.into_iter().map(|path| path.join(name)).collect(),
                Some(ends) => {
                    let mut found = Vec::new();
                    for path in paths {
                        found.extend(self.names(&path, ends)?.into_iter().map(|name| path.join(name)));
                    }
                    found
                }
            };
        }
        Ok(paths)
    }

    /// What a path leads to, if it is a regular file that everybody may read: what is extended becomes readable
    /// by everybody, and a user of the container may have made a link to what only another one can read.
    pub(crate) fn find(&self, path: &Path) -> Result<Option<Found>, Failure> {
        let Some(file) = self.open(path, OFlags::PATH, ResolveFlags::empty())? else { return Ok(None) };
        let (found, status) = Found::of(file).map_err(|errno| unreadable(path, errno))?;
        let is_regular = FileType::from_raw_mode(status.st_mode) == FileType::RegularFile;
        let fits = is_regular && status.st_mode & READABLE_BY_ALL != 0;
        Ok(fits.then_some(found))
    }

    /// The folder at a path that no link leads to.
    pub(crate) fn folder(&self, path: &Path) -> Result<Option<OwnedFd>, Failure> {
        self.open(path, OFlags::PATH | OFlags::DIRECTORY, ResolveFlags::NO_SYMLINKS)
    }

    /// The folder that stands for `/`.
    pub(crate) fn root(&self) -> &OwnedFd {
        &self.root
    }

    /// Where a file is, links resolved; it tells files apart and is not to be opened.
    pub(crate) fn place(&self, found: &Found) -> Result<Vec<u8>, Failure> {
        let link = readlinkat(&self.descriptors, number(&found.file), Vec::new());
        link.map(std::ffi::CString::into_bytes).map_err(|errno| {
            Failure::new(Kind::Internal, STEP, "/proc/self/fd cannot be read").because(errno)
        })
    }

    /// The content, which is at most `limit` bytes; `None` where it is longer.
    pub(crate) fn read(&self, found: &Found, limit: u64) -> io::Result<Option<Vec<u8>>> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = File::from(openat(&self.descriptors, number(&found.file), flags, Mode::empty())?);
        let mut content = Vec::new();
        file.take(limit + 1).read_to_end(&mut content)?;
        Ok((content.len() as u64 <= limit).then_some(content))
    }

    /// The first bytes.
    pub(crate) fn begins_with(&self, found: &Found, length: u64) -> io::Result<Vec<u8>> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = File::from(openat(&self.descriptors, number(&found.file), flags, Mode::empty())?);
        let mut begin = Vec::new();
        file.take(length).read_to_end(&mut begin)?;
        Ok(begin)
    }

    /// Takes off a mount that `mounted` stands for: that one, and nothing that is at its place by now.
    pub(crate) fn unmount(&self, mounted: &OwnedFd) -> Result<(), Errno> {
        nix::unistd::fchdir(&self.descriptors)?;
        nix::mount::umount2(number(mounted).as_str(), nix::mount::MntFlags::MNT_DETACH)
    }

    /// The names in a folder that begin and end so.
    fn names(&mut self, folder: &Path, (begin, end): (&str, &str)) -> Result<Vec<String>, Failure> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let Some(opened) = self.open(folder, flags, ResolveFlags::empty())? else {
            return Ok(Vec::new());
        };
        let mut names = Vec::new();
        for entry in Dir::new(opened).map_err(|errno| unreadable(folder, errno))? {
            self.entries += 1;
            if self.entries > ENTRIES_MAX {
                return Err(Failure::new(Kind::Usage, STEP, "the container's folders have too many entries")
                    .hint(format!(
                        "{ENTRIES_MAX} are looked at; mount the CA certificate yourself (--ca-file)"
                    )));
            }
            let entry = entry.map_err(|errno| unreadable(folder, errno))?;
            let Ok(name) = entry.file_name().to_str() else { continue };
            let fits =
                name.len() >= begin.len() + end.len() && name.starts_with(begin) && name.ends_with(end);
            if fits && (!name.starts_with('.') || begin.starts_with('.')) {
                names.push(name.to_owned());
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    /// Opens what is there; `None` where there is nothing that can be reached.
    fn open(&self, path: &Path, flags: OFlags, resolve: ResolveFlags) -> Result<Option<OwnedFd>, Failure> {
        use rustix::io::Errno;
        let flags = flags | OFlags::CLOEXEC;
        let resolve = resolve | ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        for _ in 0..ATTEMPTS_MAX {
            match openat2(&self.root, path, flags, Mode::empty(), resolve) {
                Ok(opened) => return Ok(Some(opened)),
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::ACCESS | Errno::NAMETOOLONG) => {
                    return Ok(None);
                }
                // Something above it was renamed; what is right is not known then (openat2(2)).
                Err(Errno::AGAIN) => {}
                Err(Errno::NOSYS) => {
                    return Err(unreadable(path, Errno::NOSYS).hint(
                        "openat2 is needed: Linux 5.6, and a unit of systemd without RestrictSUIDSGID=",
                    ));
                }
                Err(errno) => return Err(unreadable(path, errno)),
            }
        }
        Err(unreadable(path, Errno::AGAIN))
    }
}

fn number(file: &OwnedFd) -> String {
    file.as_raw_fd().to_string()
}

/// A file of the container's that is there and cannot be used.
pub(crate) fn unreadable(path: &Path, cause: impl Into<io::Error>) -> Failure {
    Failure::new(Kind::Privilege, STEP, format!("the container's {} cannot be read", path.display()))
        .because(cause)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::stat::Mode as NixMode;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::time::{Duration, Instant};

    fn tree(root: &Path) -> FileTree {
        let open = |path: &Path| OwnedFd::from(File::open(path).unwrap());
        FileTree::new(open(root), open(Path::new("/proc/self/fd")))
    }

    fn content(tree: &FileTree, path: &str) -> Option<String> {
        let found = tree.find(Path::new(path)).unwrap()?;
        Some(String::from_utf8(tree.read(&found, 100).unwrap()?).unwrap())
    }

    #[test]
    fn links_stay_inside_and_what_is_no_file_is_not_opened() {
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("host"), "of the host").unwrap();
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        fs::create_dir_all(root.join("etc/ssl")).unwrap();
        fs::write(root.join("etc/ssl/real"), "inside").unwrap();
        symlink("/etc/ssl/real", root.join("absolute")).unwrap();
        symlink("../../../../etc/ssl/real", root.join("etc/upwards")).unwrap();
        symlink(outside.path().join("host"), root.join("out")).unwrap();
        symlink("/loop", root.join("loop")).unwrap();
        symlink("/proc/self/root/etc/passwd", root.join("magic")).unwrap();
        nix::unistd::mkfifo(&root.join("pipe"), NixMode::S_IRWXU | NixMode::S_IROTH).unwrap();
        let tree = tree(root);
        for path in ["/etc/ssl/real", "/absolute", "/etc/upwards", "absolute"] {
            assert_eq!(content(&tree, path).as_deref(), Some("inside"), "{path}");
        }
        let began = Instant::now();
        for path in ["/out", "/loop", "/magic", "/pipe", "/etc", "/nothing", "/etc/ssl/real/below"] {
            assert_eq!(content(&tree, path), None, "{path}");
        }
        assert!(began.elapsed() < Duration::from_secs(5), "a pipe without a writer was waited for");
        let same = |one: &str, other: &str| {
            let [one, other] = [one, other].map(|path| tree.find(Path::new(path)).unwrap().unwrap());
            tree.place(&one).unwrap() == tree.place(&other).unwrap()
        };
        assert!(same("/absolute", "/etc/upwards"));
        symlink("etc", root.join("linked")).unwrap();
        let is_folder = |path: &str| tree.folder(Path::new(path)).unwrap().is_some();
        assert!(is_folder("/etc/ssl") && !is_folder("/linked/ssl") && !is_folder("/linked"));
        assert!(!is_folder("/absolute") && !is_folder("/nothing"));
    }

    #[test]
    fn what_is_long_or_private_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("long"), "x".repeat(101)).unwrap();
        fs::write(folder.path().join("fits"), "x".repeat(100)).unwrap();
        fs::write(folder.path().join("private"), "secret").unwrap();
        fs::set_permissions(folder.path().join("private"), Permissions::from_mode(0o640)).unwrap();
        let tree = tree(folder.path());
        assert_eq!(content(&tree, "/long"), None);
        assert_eq!(content(&tree, "/fits"), Some("x".repeat(100)));
        assert!(tree.find(Path::new("/private")).unwrap().is_none());
        let found = tree.find(Path::new("/long")).unwrap().unwrap();
        assert_eq!(tree.begins_with(&found, 4).unwrap(), b"xxxx");
    }

    #[test]
    fn a_star_is_part_of_one_name() {
        let folder = tempfile::tempdir().unwrap();
        for path in
            ["usr/lib/python3.11/site-packages", "usr/lib/python3", "usr/lib/python2.7", "usr/lib/.python3x"]
        {
            fs::create_dir_all(folder.path().join(path)).unwrap();
        }
        let mut tree = tree(folder.path());
        let mut expand = |pattern: &str| tree.expand(Path::new(pattern)).unwrap();
        assert_eq!(expand("/usr/x"), [Path::new("/usr/x")]);
        assert_eq!(
            expand("/usr/lib/python3*/certifi"),
            [Path::new("/usr/lib/python3/certifi"), Path::new("/usr/lib/python3.11/certifi")]
        );
        assert_eq!(
            expand("/*/lib/python3*/*-packages/x"),
            [Path::new("/usr/lib/python3.11/site-packages/x")]
        );
        assert!(expand("/usr/lib/python33*").is_empty() && expand("/none/*/x").is_empty());
        assert!(expand("/usr/*/").iter().all(|path| path == Path::new("/usr/lib")));
    }

    #[test]
    fn folders_without_end_are_not_read_to_the_end() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("one"), "").unwrap();
        let mut tree = tree(folder.path());
        tree.entries = ENTRIES_MAX;
        assert!(tree.expand(Path::new("/*")).is_err());
    }
}
