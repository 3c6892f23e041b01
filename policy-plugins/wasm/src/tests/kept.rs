//! Programs that were compiled before: found, compiled apart, or done without.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use sluicegate_policy::{Program, ProgramKind};
use tempfile::TempDir;

use super::components::{FETCH, handler};
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

#[test]
fn what_was_compiled_is_found_again() {
    let (_outer, folder) = folder();
    assert!(!load(&folder).report().from_cache);
    assert!(load(&folder).report().from_cache);
}

#[test]
fn without_a_folder_of_its_own_a_program_is_compiled_all_the_same() {
    let (_outer, folder) = folder();
    fs::create_dir(&folder).unwrap();
    fs::set_permissions(&folder, Permissions::from_mode(0o755)).unwrap();
    assert!(!load(&folder).report().from_cache);
    assert!(!load(&folder).report().from_cache);
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
}

#[test]
fn those_that_were_wanted_last_stay_loaded_though_nobody_holds_them() {
    let programs = Programs::new(None);
    let load = |content: &str| {
        let text = format!("export default {{ outbound: () => new Response('{content}') }};");
        programs.load(&program(ProgramKind::JavaScript, text.as_bytes())).unwrap()
    };
    let (kept, unused) = (Arc::downgrade(&load("kept")), Arc::downgrade(&load("unused")));
    for other in 0..8 {
        load(&format!("other {other}"));
        load("kept");
    }
    assert!(kept.upgrade().is_some());
    assert!(unused.upgrade().is_none());
}

#[test]
fn nothing_is_made_before_the_first_program() {
    let (_outer, folder) = folder();
    let programs = Programs::new(Some(folder.clone()));
    assert!(programs.load(&program(ProgramKind::JavaScript, b"\xff")).is_err());
    assert!(programs.load(&program(ProgramKind::Component, b"no component")).is_err());
    drop(programs);
    assert!(fs::read_dir(&folder).is_err(), "what cannot be read needs no engine");
}

#[test]
fn a_compiler_apart_compiles_what_is_not_there_and_nothing_else() {
    let (_outer, folder) = folder();
    let asked = Arc::new(Mutex::new(0));
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
