//! Handlers are built and checked, and what was built runs.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use e2e::{Outcome, Site, World};
use serde_json::{Value, json};

use crate::support::ask;

const ANSWERS: &str = "export default {\n  outbound(request) {\n    return new Response(`built ${new URL(request.url).pathname}`);\n  },\n};\n";

/// A `sluicegate policy` command in the home of the workload's user.
fn policy(world: &World, arguments: &[&str]) -> Outcome {
    let command = world.operator([&["policy"], arguments].concat());
    command.folder(world.home()).run()
}

/// What there is in the home, sorted.
fn left(world: &World) -> Vec<String> {
    let names = fs::read_dir(world.home()).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<_> = names.map(|name| name.into_string().unwrap()).collect();
    names.sort();
    names
}

/// A componentize-py that writes its arguments to `said`, and hands out a component of ours.
fn componentize_py(world: &World, component: &Path) -> String {
    let said = world.home().join("said");
    let text = format!(
        "#!/bin/sh\nprintf '%s\\n' \"$@\" >{}\ngrep -q 'world handler' \"$2/policy.wit\" || exit 3\n\
         echo Component built successfully\nfor last; do :; done\ncp {} \"$last\"\n",
        said.display(),
        component.display()
    );
    let path = world.file("componentize-py", text);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path.display().to_string()
}

#[test]
fn a_component_of_javascript_runs_as_the_text_does() {
    let world = World::new("build-js");
    world.home_file("h.js", ANSWERS);
    let checked = policy(&world, &["build", "h.js", "--json"]).json();
    assert_eq!((&checked["kind"], &checked["ok"]), (&json!("javascript"), &json!(true)), "{checked}");
    assert_eq!(left(&world), ["h.js"], "JavaScript needs no build");
    let built = policy(&world, &["build", "h.js", "-o", "h.wasm", "--json"]).json();
    assert_eq!((&built["file"], &built["entries"]), (&json!("h.wasm"), &json!(["outbound"])), "{built}");
    assert_eq!(left(&world), ["h.js", "h.wasm"]);
    let component = fs::read(world.home().join("h.wasm")).unwrap();
    assert_eq!(built["bytes"], component.len());
    let again = policy(&world, &["check", "h.wasm", "--json"]).json();
    assert_eq!(again["sha256"], built["sha256"]);

    let site = Site::start(&world);
    for (file, content) in [("h.js", ANSWERS.as_bytes()), ("h.wasm", &component)] {
        world.file(&format!("handlers/{file}"), content);
        let text = site.policy(&world, &format!("outbound = \"handlers/{file}\""), &[]);
        let gate = world.gate(&text).named(&file.replace('.', "-")).attach();
        assert_eq!(ask(&gate, &["http://h.test/path"]), "built /path", "{file}");
    }
}

#[test]
fn what_the_gate_would_not_take_is_not_built() {
    let world = World::new("build-refused");
    world.home_file("bad.js", "export default {\n  outbound(request {\n");
    world.home_file("bad.py", "def outbound(request):\n    return None\n");
    world.home_file("module.wasm", b"\0asm\x01\0\0\0");
    world.home_file("none.wasm", b"\0asm\x0d\0\x01\0");
    world.home_file("handler.py", "");
    let table: &[(&[&str], i32, &str)] = &[
        (&["build", "bad.js"], 78, "bad.js:2"),
        (&["build", "bad.js", "-o", "out.wasm"], 78, "bad.js:2"),
        (&["check", "bad.js"], 78, "bad.js:2"),
        (&["check", "module.wasm"], 78, "core module"),
        (&["check", "none.wasm"], 78, "exports no handler"),
        (&["check", "missing.wasm"], 74, "missing.wasm"),
        (&["build", "module.wasm"], 64, "--output"),
        (&["build", "module.wasm", "-o", "out.wasm"], 78, "handler"),
        (&["build", "bad.js", "-o", "out.js"], 78, "bad.js:2"),
        (&["build", "handler.py"], 64, "imported by its name"),
        (&["build", "bad.py"], 69, "pip install componentize-py"),
        (&["build", "x.ts"], 64, "TypeScript"),
        (&["build", "."], 64, "Cargo.toml"),
        (&["build", "bad.js", "--reveal"], 64, "Python"),
    ];
    for (arguments, code, says) in table {
        let outcome = policy(&world, arguments);
        assert_eq!(outcome.code(), *code, "{arguments:?}: {outcome:?}");
        assert!(outcome.stderr.contains(says), "{arguments:?}: {}", outcome.stderr);
        assert_eq!(outcome.stdout, "", "{arguments:?}");
    }
    assert_eq!(left(&world), ["bad.js", "bad.py", "handler.py", "module.wasm", "none.wasm"]);
    let told = policy(&world, &["build", "bad.js", "--json"]);
    assert_eq!(told.code(), 78);
    let told: Value = serde_json::from_str(&told.stdout).unwrap();
    assert_eq!((&told["ok"], &told["problems"][0]["line"]), (&json!(false), &json!(2)), "{told}");
}

#[test]
fn python_is_built_by_its_tool_and_nothing_is_left_of_it() {
    let world = World::new("build-python");
    world.home_file("h.js", ANSWERS);
    policy(&world, &["build", "h.js", "-o", "made.wasm"]).assert_success();
    let made = world.home().join("made.wasm");
    let tool = componentize_py(&world, &made);
    world.home_file("guard.py", "def outbound(request):\n    return None\n");
    let built = policy(
        &world,
        &["build", "guard.py", "--componentize-py", &tool, "--python-path", "sdk", "--reveal", "--json"],
    );
    built.assert_success();
    // What the tool prints is not part of the answer.
    assert_eq!(built.json()["file"], "guard.wasm");
    assert_eq!(left(&world), ["guard.py", "guard.wasm", "h.js", "made.wasm", "said"]);
    let said = fs::read_to_string(world.home().join("said")).unwrap();
    let said: Vec<_> = said.lines().filter(|line| !line.contains("guard.wasm.work")).collect();
    let wanted = ["-d", "-w", "built", "componentize", "--stub-wasi", "guard", "-p", ".", "-p", "sdk", "-o"];
    assert_eq!(said, wanted);

    let failing = world.file("failing", "#!/bin/sh\nexit 2\n");
    fs::set_permissions(&failing, fs::Permissions::from_mode(0o755)).unwrap();
    let failing = failing.display().to_string();
    let before = fs::read(world.home().join("guard.wasm")).unwrap();
    let outcome = policy(&world, &["build", "guard.py", "--componentize-py", &failing]);
    assert_eq!(outcome.code(), 78, "{outcome:?}");
    assert_eq!(left(&world), ["guard.py", "guard.wasm", "h.js", "made.wasm", "said"]);
    assert_eq!(fs::read(world.home().join("guard.wasm")).unwrap(), before, "what was there stays");
}

#[test]
fn a_document_is_checked_with_its_programs() {
    let world = World::new("check-programs");
    world.home_file("h.js", ANSWERS);
    world.home_file("policy.toml", "version = 1\noutbound = \"h.js\"\n");
    let checked = policy(&world, &["check", "policy.toml"]);
    checked.assert_success();
    let lines: Vec<_> = checked.stdout.lines().collect();
    assert!(
        matches!(lines[..], [first, second]
        if first.starts_with("policy.toml: ok (") && second.starts_with("  h.js: javascript, ")),
        "{checked:?}"
    );
    let state = world.home().join("state").display().to_string();
    for from_cache in [false, true] {
        let checked = policy(&world, &["check", "policy.toml", "--state", &state, "--json"]);
        assert_eq!(checked.json()["programs"][0]["from_cache"], from_cache, "{checked:?}");
        // Who waits for a compiler is told of it.
        let was_quick = from_cache || checked.duration < Duration::from_secs(2);
        assert!(was_quick || checked.stderr.contains("compiling h.js ..."), "{checked:?}");
    }
    // The other commands that read a document take the same option: nothing is compiled anew.
    let compiled = || fs::read(world.home().join("state/programs/compiled.sha256")).unwrap();
    let before = compiled();
    let tried = policy(&world, &["test", "--policy", "policy.toml", "--state", &state, "https://h.test/"]);
    assert_eq!(tried.stdout, "GET https://h.test/: handled by h.js\n", "{tried:?}");
    world.home_file("empty.jsonl", "");
    let log = ["diff", "policy.toml", "--state", &state, "--log", "empty.jsonl"];
    policy(&world, &log).assert_success();
    assert_eq!(compiled(), before);
}
