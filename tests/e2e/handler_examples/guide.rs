//! The guide shows the examples as they are, and nothing in it that does not compile.

use std::fs;
use std::process::Command;

use crate::support::repository;

/// The code blocks of the guide in this language.
fn blocks<'text>(guide: &'text str, language: &str) -> Vec<&'text str> {
    let fence = format!("```{language}\n");
    guide.split(fence.as_str()).skip(1).map(|rest| rest.split("```").next().unwrap()).collect()
}

/// All handlers of the examples: path and text.
fn handlers() -> Vec<(String, String)> {
    let mut found = Vec::new();
    for example in fs::read_dir(repository("examples")).unwrap().map(|entry| entry.unwrap().path()) {
        let Ok(folder) = fs::read_dir(example.join("handlers")) else { continue };
        for handler in folder.map(|entry| entry.unwrap().path()) {
            found.push((handler.display().to_string(), fs::read_to_string(&handler).unwrap()));
        }
    }
    assert!(found.len() >= 12, "{found:?}");
    found
}

#[test]
fn scripts_of_the_guide_are_those_of_the_examples_or_compile() {
    let guide = fs::read_to_string(repository("docs/handlers.md")).unwrap();
    let scripts = blocks(&guide, "rhai");
    assert!(scripts.len() >= 8, "{} scripts", scripts.len());
    let (handlers, scratch) = (handlers(), tempfile::tempdir().unwrap());
    let test = std::env::current_exe().unwrap();
    let program = test.ancestors().nth(2).unwrap().join("sluicegate");
    let mut shown = 0;
    for script in scripts {
        if handlers.iter().any(|(_, text)| text == script) {
            shown += 1;
            continue;
        }
        assert!(!script.starts_with("// http"), "it is not what its file has:\n{script}");
        // A fragment stands inside of a handler.
        let (key, whole) = if script.contains("fn on_connect") {
            ("on_connect", script.to_owned())
        } else if script.contains("fn outbound") {
            ("outbound", script.to_owned())
        } else {
            ("outbound", format!("fn outbound(request, env, ctx) {{\n{script}}}\n"))
        };
        fs::write(scratch.path().join("script.rhai"), whole).unwrap();
        let document = format!("version = 1\n{key} = \"script.rhai\"\n");
        fs::write(scratch.path().join("policy.toml"), document).unwrap();
        let check = ["policy", "check", "policy.toml"];
        let checked =
            Command::new(&program).args(check).env_clear().current_dir(scratch.path()).output().unwrap();
        assert!(checked.status.success(), "{script}\n{}", String::from_utf8_lossy(&checked.stderr));
    }
    assert!(shown >= 6, "the guide shows {shown} handlers of the examples");
}

#[test]
fn every_handler_of_an_example_is_named_by_its_policy() {
    for (path, _) in handlers() {
        let (folder, name) = path.rsplit_once("/handlers/").unwrap();
        let policy = fs::read_to_string(format!("{folder}/sluicegate.toml")).unwrap();
        assert!(policy.contains(&format!("handlers/{name}")), "{path} is not used");
    }
}
