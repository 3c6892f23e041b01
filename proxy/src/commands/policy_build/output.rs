//! Files that a build makes: all of a component or none of it, and a folder that goes away.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File};
use std::io::Write as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process;

use super::BuildError;

/// Puts a file in its place, in one step.
pub(super) fn write(path: &Path, content: &[u8]) -> Result<(), BuildError> {
    let beside = beside(path, "new");
    let written = File::create_new(&beside).and_then(|mut file| file.write_all(content));
    let placed = written.and_then(|()| fs::rename(&beside, path));
    placed.map_err(|source| {
        drop(fs::remove_file(&beside));
        BuildError::File { what: "write", path: path.to_owned(), source }
    })
}

/// A folder for what a tool needs and makes; it goes with this.
#[derive(Debug)]
pub(super) struct Workplace(PathBuf);

impl Workplace {
    /// A folder beside the output, where its owner may write and which others cannot open.
    pub(super) fn beside(output: &Path) -> Result<Self, BuildError> {
        let path = beside(output, "work");
        let made = DirBuilder::new().mode(0o700).create(&path);
        made.map(|()| Self(path.clone())).map_err(|source| BuildError::File { what: "make", path, source })
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Workplace {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

/// A hidden name in the same folder that no other process uses.
fn beside(path: &Path, what: &str) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{what}-{}", process::id()));
    path.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_and_nothing_is_left_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.wasm");
        for content in [&b"one"[..], b"two"] {
            write(&path, content).unwrap();
            assert_eq!(fs::read(&path).unwrap(), content);
        }
        let is_folder = folder.path().join("b.wasm");
        fs::create_dir(&is_folder).unwrap();
        assert!(write(&is_folder, b"x").is_err());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "something is left");
    }

    #[test]
    fn a_workplace_goes_away() {
        let folder = tempfile::tempdir().unwrap();
        let work = Workplace::beside(&folder.path().join("a.wasm")).unwrap();
        fs::write(work.path().join("x"), "").unwrap();
        drop(work);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
