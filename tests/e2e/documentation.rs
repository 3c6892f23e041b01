//! The documents say what the code says: commands, constants, fields, reasons, files.
#![cfg(test)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

const CRATES: [&str; 7] = [
    "proxy/src",
    "policy-plugins/src",
    "policy-plugins/wasm/src",
    "certs/src",
    "netns-helper/src",
    "netns-helper/mapped/src",
    "clients/rust/src",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// `sluicegate` with nothing of our environment.
fn sluicegate(arguments: &[&str]) -> String {
    let test = std::env::current_exe().unwrap();
    let program = test.ancestors().nth(2).unwrap().join("sluicegate");
    let output =
        Command::new(program).args(arguments).env_clear().output().expect("./test builds sluicegate");
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Every file below `folder` whose name ends so, as a path from the root.
fn files(folder: &str, ending: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            if path.is_dir() && !name.starts_with('.') && name != "target" {
                folders.push(path);
            } else if name.ends_with(ending) {
                found.push(path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    found.sort();
    found
}

/// What stands between `before` and the next `after`, wherever `before` is.
fn between<'text>(text: &'text str, before: &str, after: &str) -> Vec<&'text str> {
    text.split(before).skip(1).filter_map(|rest| Some(rest.split_once(after)?.0)).collect()
}

/// Every source file of a crate that is not of its tests.
fn sources(folder: &str) -> Vec<String> {
    let is_test = |file: &String| file.ends_with("/tests.rs") || file.contains("/tests/");
    files(folder, ".rs").into_iter().filter(|file| !is_test(file)).collect()
}

/// The constants of a source file: name, type and value.
fn constants(source: &str) -> Vec<(&str, &str, &str)> {
    let code = source.split("#[cfg(test)]\nmod tests {").next().unwrap();
    between(code, "const ", ";")
        .into_iter()
        .filter_map(|text| {
            let (name, rest) = text.split_once(": ")?;
            let (kind, value) = rest.split_once(" = ")?;
            name.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_').then_some((name, kind, value))
        })
        .collect()
}

#[test]
fn cli_md_shows_the_help_of_every_command() {
    let document = read("docs/cli.md");
    let shown: Vec<_> = between(&document, "## sluicegate", "```\n")
        .into_iter()
        .map(|section| section.split_once("\n\n```text\n").unwrap())
        .collect();
    assert!(shown.len() >= 11, "{} sections", shown.len());
    for (verbs, help) in &shown {
        let mut arguments: Vec<_> = verbs.split_whitespace().collect();
        arguments.push("--help");
        assert_eq!(*help, sluicegate(&arguments), "docs/cli.md, sluicegate{verbs}");
    }
    for (verbs, help) in &shown {
        let commands = help.split("Commands:\n").nth(1).map(|rest| rest.split("\n\n").next().unwrap());
        for line in commands.unwrap_or_default().lines() {
            let verb = line.split_whitespace().next().unwrap();
            let section = format!("{verbs} {verb}");
            assert!(verb == "help" || shown.iter().any(|(verbs, _)| **verbs == section), "no{section}");
        }
    }
}

#[test]
fn specification_md_has_every_limit_with_its_value() {
    let document = read("docs/specification.md");
    let mut documented = BTreeSet::new();
    for row in document.lines().filter(|line| line.starts_with('|') && line.contains(".rs`: `")) {
        let [_, what, limit, place, why, _] = row.split('|').map(str::trim).collect::<Vec<_>>()[..] else {
            panic!("not four columns: {row}");
        };
        assert!(!what.is_empty() && !limit.is_empty() && !why.is_empty(), "something is missing: {row}");
        let (file, constant) = place.trim_matches('`').split_once("`: `").unwrap();
        let (name, value) = constant.split_once(" = ").unwrap();
        let source = read(file);
        let found = constants(&source);
        assert!(
            found.iter().any(|(own, _, is)| *own == name && *is == value),
            "{file}: {constant}: {found:?}"
        );
        documented.insert((file.to_owned(), name.to_owned()));
    }
    for file in CRATES.iter().flat_map(|folder| sources(folder)) {
        for (name, kind, _) in constants(&read(&file)) {
            let is_limit = kind == "Duration" || ["_MAX", "_LIMIT"].iter().any(|end| name.ends_with(end));
            let known = documented.contains(&(file.clone(), name.to_owned()));
            assert!(!is_limit || known, "docs/specification.md does not have {name} of {file}");
        }
    }
}

#[test]
fn audit_md_has_every_field_reason_and_hint() {
    let document = read("docs/audit.md");
    let fields = read("proxy/src/audit/line.rs");
    let fields =
        [between(&fields, "put(map, \"", "\""), between(&fields, "serialize_entry(\"", "\"")].concat();
    assert!(fields.len() > 30, "{fields:?}");
    let reasons = read("policy-plugins/src/deny_reason.rs");
    let (failures, flows) = (read("proxy/src/upstream/error.rs"), read("proxy/src/flow/mod.rs"));
    let proxies = read("proxy/src/upstream/proxy/mod.rs");
    let reasons: Vec<_> = [&reasons, &failures, &proxies, &flows]
        .into_iter()
        .flat_map(|text| between(text, "=> \"", "\""))
        .collect();
    let is_code = |text: &&str| text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    for word in fields.into_iter().chain(reasons.into_iter().filter(is_code)) {
        assert!(document.contains(&format!("`{word}`")), "docs/audit.md does not have `{word}`");
    }
}

#[test]
fn protocols_md_names_tests_that_there_are() {
    let document = read("docs/protocols.md");
    // The table of what was compared comes after, and is held by the test that makes it.
    let named = document.split("\n## ").next().unwrap();
    let rows: Vec<_> = named.lines().filter(|line| line.starts_with("| ")).skip(1).collect();
    assert!(rows.len() > 10, "{rows:?}");
    let tests = files("tests/e2e", ".rs").iter().map(|file| read(file)).collect::<String>();
    for row in rows {
        let names: Vec<_> = row.rsplit(" | ").next().unwrap().split('`').skip(1).step_by(2).collect();
        assert!(!names.is_empty(), "{row}");
        for name in names {
            assert!(tests.contains(&format!("fn {name}()")), "there is no test {name}");
        }
    }
}

#[test]
fn policy_md_has_every_key_of_the_schema() {
    let schema: Value = serde_json::from_str(&sluicegate(&["policy", "schema"])).unwrap();
    let tables = schema["$defs"].as_object().unwrap().values().chain([&schema]);
    let keys: BTreeSet<_> =
        tables.filter_map(|table| table["properties"].as_object()).flat_map(|keys| keys.keys()).collect();
    assert!(keys.len() > 30, "{keys:?}");
    let document = read("docs/policy.md");
    let reference = document.split("## Reference").nth(1).unwrap();
    for key in keys {
        let ways = [
            format!("`{key}`"),
            format!("[{key}]"),
            format!("[{key}."),
            format!(" {key},"),
            format!(" {key} }}"),
        ];
        assert!(ways.iter().any(|way| reference.contains(way)), "docs/policy.md does not have {key}");
    }
}

#[test]
fn architecture_md_has_every_source_file() {
    let document = read("docs/architecture.md");
    for folder in CRATES {
        let section = document.split(&format!("**{folder}**")).nth(1).unwrap().split("\n**").next().unwrap();
        let mut named = Vec::new();
        for row in section.lines().filter(|line| line.starts_with("| `")) {
            let [_, names, what, _] = row.split('|').map(str::trim).collect::<Vec<_>>()[..] else {
                panic!("not two columns: {row}");
            };
            assert!(!what.is_empty(), "what for? {row}");
            // A name without a folder is in the folder of the one before it.
            let mut within = "";
            for name in names.split('`').skip(1).step_by(2) {
                let (parent, name) = name.rsplit_once('/').unwrap_or((within, name));
                within = parent;
                let path = if within.is_empty() { name.to_owned() } else { format!("{within}/{name}") };
                named.push(format!("{folder}/{path}"));
            }
        }
        named.sort();
        assert_eq!(named, sources(folder), "docs/architecture.md, {folder}");
    }
}

#[test]
fn handler_reference_md_is_what_the_program_prints() {
    let printed = sluicegate(&["handler", "reference"]);
    assert!(printed.contains("fetch("), "{printed}");
    assert!(
        read("docs/handler-reference.md").ends_with(&printed),
        "put the output of `sluicegate handler reference` below the heading of docs/handler-reference.md"
    );
}

/// Checks a handler's text by `sluicegate policy check`; what the engine is compiled to is kept in `state`.
fn check_handler(state: &Path, text: &str) {
    let test = std::env::current_exe().unwrap();
    let program = test.ancestors().nth(2).unwrap().join("sluicegate");
    fs::write(state.join("handler.js"), text).unwrap();
    let output = Command::new(program)
        .args(["policy", "check", "--state", ".", "handler.js"])
        .env_clear()
        .current_dir(state)
        .output()
        .expect("./test builds sluicegate");
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn javascript_of_the_guides_is_accepted() {
    let state = tempfile::tempdir().unwrap();
    let guide = read("docs/javascript.md");
    let blocks = between(&guide, "```js\n", "```");
    assert!(blocks.len() >= 8, "{} blocks", blocks.len());
    for block in blocks {
        // A fragment stands inside of a handler.
        let is_whole = block.contains("export ");
        let whole =
            format!("export default async (request, env, ctx, headers, url, order) => {{\n{block}}};\n");
        check_handler(state.path(), if is_whole { block } else { &whole });
    }
    let readme = read("README.md");
    for (text, example) in [
        (between(&readme, "```js\n", "```")[0], "javascript-read-only/handlers/read_only.js"),
        (between(&guide, "```js\n", "```")[0], "javascript-read-only/handlers/read_only.js"),
    ] {
        assert_eq!(text, read(&format!("examples/{example}")), "is not what examples/{example} has");
    }
    let example = read("examples/javascript-answer-then-go-on/handlers/count_words.js");
    assert!(
        guide.contains(&format!("```js\n{example}```")),
        "docs/javascript.md shows another count_words.js"
    );
}

#[test]
fn handlers_of_components_md_are_those_of_the_examples() {
    let guide = read("docs/components.md");
    for (language, file) in [
        ("rust", "examples/handler-in-rust/src/lib.rs"),
        ("python", "examples/handler-in-python/read_only.py"),
    ] {
        let shown = between(&guide, &format!("```{language}\n"), "```")[0];
        assert!(read(file).ends_with(shown), "docs/components.md does not show {file}");
    }
}

#[test]
fn components_md_has_every_interface_of_the_world() {
    let (guide, wit) = (read("docs/components.md"), read("policy-plugins/wit/policy.wit"));
    let interfaces = between(&wit, "\ninterface ", " {");
    assert!(interfaces.len() >= 11, "{interfaces:?}");
    for interface in interfaces {
        assert!(
            guide.contains(&format!("\n| `{interface}` | ")),
            "docs/components.md does not have {interface}"
        );
    }
}

#[test]
fn javascript_md_has_every_global_that_handlers_find() {
    let (guide, shim) = (read("docs/javascript.md"), read("policy-plugins/javascript/shim/globals.js"));
    let names = between(&shim, "const NAMES = {\n", "\n};")[0].lines();
    let names: Vec<_> = names.filter_map(|line| line.trim().split([',', ':']).next()).collect();
    assert!(names.len() >= 20, "{names:?}");
    for name in names {
        let ways = [format!("`{name}`"), format!("`{name}."), format!("`{name}("), format!("{name}(")];
        assert!(ways.iter().any(|way| guide.contains(way)), "docs/javascript.md does not have {name}");
    }
}

#[test]
fn links_lead_to_files() {
    for document in files("", ".md") {
        let folder = root().join(&document).parent().unwrap().to_path_buf();
        for link in between(&read(&document), "](", ")") {
            let target: PathBuf = match link.split('#').next().unwrap() {
                "" => continue,
                address if address.contains("://") => continue,
                path => folder.join(path),
            };
            assert!(target.exists(), "{document}: {link} leads nowhere");
        }
    }
}
