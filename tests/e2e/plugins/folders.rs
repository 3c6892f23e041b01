//! Each handler is whole: a policy that is accepted, a README, and tests of its own that pass.

use std::fs;
use std::process::Command;

use crate::support::folder;

/// The handlers, by the names of their folders.
fn plugins() -> Vec<String> {
    let entries = fs::read_dir(folder("")).unwrap().map(|entry| entry.unwrap());
    let mut names: Vec<_> = entries
        .filter(|entry| entry.path().is_dir())
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert!(names.len() >= 3, "{names:?}");
    names
}

#[test]
fn every_policy_is_accepted_without_a_warning() {
    let test = std::env::current_exe().unwrap();
    let program = test.ancestors().nth(2).unwrap().join("sluicegate");
    let state = tempfile::tempdir().unwrap();
    for plugin in plugins() {
        let mut command = Command::new(&program);
        command.args(["policy", "check", "sluicegate.toml"]).env_clear().env("XDG_STATE_HOME", state.path());
        let checked = command.current_dir(folder(&plugin)).output().expect("./test builds sluicegate");
        let (stdout, stderr) =
            (String::from_utf8_lossy(&checked.stdout), String::from_utf8_lossy(&checked.stderr));
        assert!(checked.status.success(), "{plugin}: {stderr}");
        // That it takes a moment is told, and is no warning.
        let is_quiet = stderr.lines().all(|line| line.starts_with("compiling "));
        assert!(stdout.starts_with("sluicegate.toml: ok (") && is_quiet, "{plugin}: {stdout}{stderr}");
    }
}

#[test]
fn every_handler_is_documented() {
    let overview = fs::read_to_string(folder("../../docs/plugins.md")).unwrap();
    for plugin in plugins() {
        assert!(overview.contains(&format!("](../policy-plugins/plugins/{plugin})")), "{plugin}");
        let readme = fs::read_to_string(folder(&plugin).join("README.md")).unwrap();
        assert!(readme.contains("## Limits"), "{plugin}");
        let policy = fs::read_to_string(folder(&plugin).join("sluicegate.toml")).unwrap();
        for file in fs::read_dir(folder(&plugin)).unwrap() {
            let file = file.unwrap().file_name().into_string().unwrap();
            let is_handler = file.ends_with(".js") || file.ends_with(".rhai");
            assert!(!is_handler || policy.contains(&format!("\"{file}\"")), "{plugin}: {file} is not used");
        }
    }
}

#[test]
fn tests_in_javascript_pass() {
    let tested = Command::new("node").arg("--test").current_dir(folder("")).output().expect("node");
    let report = String::from_utf8_lossy(&tested.stdout);
    assert!(tested.status.success(), "{report}");
    assert!(report.contains("# fail 0") && !report.contains("# tests 0"), "{report}");
}
