use std::os::unix::fs::symlink;
use std::sync::Arc;

use sluicegate_policy::{Program, ProgramKind};
use tempfile::TempDir;

use super::*;
use crate::tests::components::{FETCH, handler};
use crate::{LoadedProgram, Programs};

/// A folder as the gate keeps it.
fn folder() -> (TempDir, PathBuf) {
    let outer = tempfile::tempdir().unwrap();
    let folder = outer.path().join("cache");
    (outer, folder)
}

fn program(kind: ProgramKind, content: &[u8]) -> Program {
    Program::new("handler", kind, content.into())
}

fn load(folder: &Path) -> Arc<LoadedProgram> {
    let programs = Programs::new(Some(folder.to_path_buf()));
    programs.load(&program(ProgramKind::Component, &handler(FETCH))).unwrap()
}

/// The one entry that there is.
fn entry(folder: &Path) -> PathBuf {
    let entries: Vec<_> =
        files(&folder.join(ENTRIES)).unwrap().into_iter().filter(|(name, _)| is_entry(name)).collect();
    assert_eq!(entries.len(), 1, "{entries:?}");
    entries.into_iter().next().unwrap().1
}

#[test]
fn what_was_compiled_is_found_again() {
    let (_outer, folder) = folder();
    assert!(!load(&folder).report().from_cache);
    assert!(load(&folder).report().from_cache);
    let mode = |path: &Path| fs::symlink_metadata(path).unwrap().mode() & 0o777;
    assert_eq!(mode(&folder), 0o700);
    assert_eq!(mode(&entry(&folder)), 0o600);
    assert_eq!(mode(&folder.join(SUMS)), 0o600);
}

#[test]
fn an_entry_with_another_byte_is_compiled_again() {
    let (_outer, folder) = folder();
    load(&folder);
    let path = entry(&folder);
    let whole = fs::read(&path).unwrap();
    for at in [0, whole.len() / 2, whole.len() - 1] {
        let mut bytes = fs::read(&path).unwrap();
        bytes[at] ^= 0x10;
        fs::write(&path, &bytes).unwrap();
        assert!(!load(&folder).report().from_cache, "byte {at}");
        assert!(load(&folder).report().from_cache, "byte {at}: repaired");
    }
    fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    assert!(!load(&folder).report().from_cache, "half of it");
}

#[test]
fn an_entry_that_changes_while_the_gate_runs_is_not_loaded() {
    let (_outer, folder) = folder();
    load(&folder);
    let mut compiled = Compiled::open(&folder).unwrap();
    let path = entry(&folder);
    compiled.check().unwrap();
    assert!(path.exists());
    let mut bytes = fs::read(&path).unwrap();
    bytes[100] ^= 1;
    fs::write(&path, bytes).unwrap();
    compiled.check().unwrap();
    assert!(!path.exists());
}

#[test]
fn what_is_not_listed_is_removed() {
    let (_outer, folder) = folder();
    load(&folder);
    let path = entry(&folder);
    let other = path.with_file_name("unlisted");
    fs::copy(&path, &other).unwrap();
    let link = path.with_file_name("link");
    symlink(&path, &link).unwrap();
    let begun = path.with_extension("wip-atomic-write-mod");
    fs::write(&begun, "half").unwrap();
    assert!(load(&folder).report().from_cache);
    for gone in [other, link, begun] {
        assert!(fs::symlink_metadata(&gone).is_err(), "{}", gone.display());
    }
    // Without the list nothing is known.
    fs::remove_file(folder.join(SUMS)).unwrap();
    assert!(!load(&folder).report().from_cache);
}

#[test]
fn an_entry_that_others_may_write_to_is_removed() {
    let (_outer, folder) = folder();
    load(&folder);
    fs::set_permissions(entry(&folder), Permissions::from_mode(0o620)).unwrap();
    assert!(!load(&folder).report().from_cache);
}

#[test]
fn a_list_that_others_may_write_to_is_not_believed() {
    let (_outer, folder) = folder();
    load(&folder);
    fs::set_permissions(folder.join(SUMS), Permissions::from_mode(0o602)).unwrap();
    assert!(!load(&folder).report().from_cache);
}

#[test]
fn a_folder_that_is_not_ours_alone_is_no_cache() {
    let (outer, folder) = folder();
    fs::create_dir(&folder).unwrap();
    fs::set_permissions(&folder, Permissions::from_mode(0o750)).unwrap();
    assert!(Compiled::open(&folder).is_none(), "others may read it");
    fs::set_permissions(&folder, Permissions::from_mode(0o700)).unwrap();
    assert!(Compiled::open(&folder).is_some());
    let link = outer.path().join("link");
    symlink(&folder, &link).unwrap();
    assert!(Compiled::open(&link).is_none(), "a link");
    let file = outer.path().join("file");
    fs::write(&file, "").unwrap();
    assert!(Compiled::open(&file).is_none(), "a file");
    // A program is compiled all the same, and nothing is left there.
    fs::set_permissions(&folder, Permissions::from_mode(0o755)).unwrap();
    assert!(!load(&folder).report().from_cache);
    assert!(!load(&folder).report().from_cache);
}

#[test]
fn nothing_is_made_before_the_first_program() {
    let (_outer, folder) = folder();
    let programs = Programs::new(Some(folder.clone()));
    assert!(programs.load(&program(ProgramKind::JavaScript, b"\xff")).is_err());
    drop(programs);
    assert!(fs::read_dir(&folder).is_err(), "an unreadable text needs no engine");
}

#[test]
fn a_compiler_apart_compiles_what_is_not_there_and_nothing_else() {
    let (_outer, folder) = folder();
    let asked = Arc::new(std::sync::Mutex::new(0));
    let programs = || {
        let (asked, theirs) = (Arc::clone(&asked), folder.clone());
        let compiler = move |kind: ProgramKind, content: &[u8]| {
            *asked.lock().unwrap() += 1;
            let there = Programs::new(Some(theirs.clone()));
            there.load(&program(kind, content)).map(drop).map_err(|problem| io::Error::other(problem.message))
        };
        Programs::with_compiler(folder.clone(), Box::new(compiler))
    };
    let load = |content: &[u8]| programs().load(&program(ProgramKind::Component, content));
    for _ in 0..2 {
        assert!(load(&handler(FETCH)).unwrap().report().from_cache);
        assert_eq!(*asked.lock().unwrap(), 1);
    }
    let other = handler("unreachable");
    assert!(load(&other).unwrap().report().from_cache);
    assert_eq!(*asked.lock().unwrap(), 2);
    // What nobody can compile is refused in the words of the gate itself.
    let problem = load(&other[..other.len() / 2]).unwrap_err();
    assert!(problem.message.starts_with("the component cannot be compiled: "), "{}", problem.message);
}
