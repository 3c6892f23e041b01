//! The list of what is whole: a file with a SHA-256 for each entry, as sha256sum(1) writes and checks it, and
//! beside it the stamps of entries that were compared since the machine was started.

use std::collections::BTreeMap;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use aws_lc_rs::digest::{Context, SHA256, digest};

/// The longest list that is read, in bytes.
const LIST_BYTES_MAX: u64 = 1 << 20;
/// What changes when the machine is started (Documentation/admin-guide/sysctl/kernel.rst).
const BOOT: &str = "/proc/sys/kernel/random/boot_id";

/// What changes when a file is written to: device, inode, length, change time in seconds and nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp([i128; 5]);

impl Stamp {
    pub(crate) fn of(metadata: &Metadata) -> Self {
        Self([
            metadata.dev().into(),
            metadata.ino().into(),
            metadata.size().into(),
            metadata.ctime().into(),
            metadata.ctime_nsec().into(),
        ])
    }

    fn read(text: &str) -> Option<Self> {
        let mut numbers = text.split(' ').map(|number| number.parse().ok());
        let mut next = || numbers.next().flatten();
        let stamp = Self([next()?, next()?, next()?, next()?, next()?]);
        numbers.next().is_none().then_some(stamp)
    }

    fn text(&self) -> String {
        self.0.map(|number| number.to_string()).join(" ")
    }
}

/// SHA-256, in hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sum(String);

impl Sum {
    pub(crate) fn of(bytes: &[u8]) -> Self {
        Self::shown(digest(&SHA256, bytes).as_ref())
    }

    /// Of all that is left to read.
    pub(crate) fn of_rest(mut file: &File) -> io::Result<Self> {
        let mut context = Context::new(&SHA256);
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let read = file.read(&mut buffer)?;
            if read == 0 {
                return Ok(Self::shown(context.finish().as_ref()));
            }
            context.update(buffer.get(..read).unwrap_or_default());
        }
    }

    pub(crate) fn shown(sum: &[u8]) -> Self {
        Self(sum.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// What is known of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) sum: Sum,
    /// As it was when its sum was right, since the machine was started.
    pub(crate) stamp: Option<Stamp>,
}

/// The entries by their names, in the order in which they were kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sums(pub(crate) Vec<(String, Known)>);

impl Sums {
    /// Reads a list with its stamps; empty where there is none that can be trusted.
    pub(crate) fn read(list: &Path, stamps: &Path) -> Self {
        let stamps = trusted(stamps).unwrap_or_default();
        let (boot, stamps) = stamps.split_once('\n').unwrap_or_default();
        // What was not on disk yet when the machine stopped may be lost, and the stamp does not show it.
        let is_of_this_boot = !boot.is_empty() && this_boot().is_some_and(|this| this == boot);
        let stamps: BTreeMap<&str, Stamp> = stamps
            .lines()
            .filter_map(|line| line.split_once(' '))
            .filter_map(|(name, stamp)| Some((name, Stamp::read(stamp)?)))
            .collect();
        let known = |line: &str| {
            let (sum, name) = line.split_once("  ")?;
            let stamp = stamps.get(name).copied().filter(|_| is_of_this_boot);
            Some((name.to_owned(), Known { sum: Sum(sum.to_owned()), stamp }))
        };
        Self(trusted(list).unwrap_or_default().lines().filter_map(known).collect())
    }

    /// Writes both. They are whole at any time, and agree where nobody writes.
    pub(crate) fn write(&self, list: &Path, stamps: &Path) -> io::Result<()> {
        let line = |(name, known): &(String, Known)| format!("{}  {name}\n", known.sum.as_str());
        replace(list, &self.0.iter().map(line).collect::<String>())?;
        let stamp = |(name, known): &(String, Known)| Some(format!("{name} {}\n", known.stamp?.text()));
        let boot = this_boot().unwrap_or_default();
        replace(stamps, &format!("{boot}\n{}", self.0.iter().filter_map(stamp).collect::<String>()))
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Known> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, known)| known)
    }
}

fn this_boot() -> Option<String> {
    fs::read_to_string(BOOT).ok().map(|boot| boot.trim_end().to_owned())
}

/// A file that nobody else can write to.
pub(crate) fn is_own_file(metadata: &Metadata) -> bool {
    metadata.is_file() && is_own(metadata) && metadata.mode() & 0o022 == 0
}

pub(crate) fn is_own(metadata: &Metadata) -> bool {
    metadata.uid() == rustix::process::geteuid().as_raw()
}

fn trusted(path: &Path) -> Option<String> {
    let metadata = fs::symlink_metadata(path).ok()?;
    (is_own_file(&metadata) && metadata.len() <= LIST_BYTES_MAX).then_some(())?;
    fs::read_to_string(path).ok()
}

fn replace(path: &Path, content: &str) -> io::Result<()> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    write_new(Path::new(&new), content.as_bytes())?;
    fs::rename(new, path)
}

/// Writes a file of this user's alone, in place of one that is there, and waits until it is on disk.
pub(crate) fn write_new(path: &Path, content: &[u8]) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(content)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_as_they_were_written() {
        let folder = tempfile::tempdir().unwrap();
        let (list, stamps) = (folder.path().join("list"), folder.path().join("stamps"));
        assert_eq!(Sums::read(&list, &stamps), Sums::default());
        fs::write(&stamps, "x").unwrap();
        let stamp = Stamp::of(&fs::metadata(&stamps).unwrap());
        let known = |name: &str, stamp| (name.to_owned(), Known { sum: Sum::of(name.as_bytes()), stamp });
        let sums = Sums(vec![known("b", Some(stamp)), known("a", None)]);
        sums.write(&list, &stamps).unwrap();
        assert_eq!(Sums::read(&list, &stamps), sums);
        assert_eq!(sums.get("a"), Some(&sums.0[1].1));
        assert_eq!(sums.get("c"), None);

        // After a start of the machine everything is compared again.
        let written = fs::read_to_string(&stamps).unwrap();
        let (_, rest) = written.split_once('\n').unwrap();
        let unstamped = Sums(vec![known("b", None), known("a", None)]);
        for boot in ["", "11111111-2222-3333-4444-555555555555"] {
            fs::write(&stamps, format!("{boot}\n{rest}")).unwrap();
            assert_eq!(Sums::read(&list, &stamps), unstamped, "{boot}");
        }
    }

    #[test]
    fn broken_stamps_are_none() {
        assert_eq!(Stamp::read("1 2 3 -4 5"), Some(Stamp([1, 2, 3, -4, 5])));
        for broken in ["", "1 2 3 4", "1 2 3 4 5 6", "1 2 3 4 x", "1  2 3 4 5"] {
            assert_eq!(Stamp::read(broken), None, "{broken:?}");
        }
    }
}
