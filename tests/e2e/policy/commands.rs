//! What the command line says: explanations, schema, completion, help and exit codes.

use e2e::World;
use serde_json::json;

use crate::support::{assert_line, shown, sluicegate};

#[test]
fn policy_check_tells_a_stranger_what_to_do() {
    let world = World::new("check");
    let good = "version = 1\nallowed_hosts = [\"a.test\"]\n";
    let check = |text: &str, arguments: &[&str]| {
        let file = world.file("document.toml", text);
        sluicegate(&world, &[&["policy", "check", shown(&file)], arguments].concat())
    };
    let outcome = check(good, &[]);
    outcome.assert_success();
    assert!(
        outcome.stdout.contains("document.toml: ok (1 allowed") && outcome.stderr.is_empty(),
        "{outcome:?}"
    );
    let outcome = check(good, &["--json"]);
    assert_line(&outcome.json(), &json!({"ok": true, "problems": []}));

    let secret = "[secrets.TOKEN]\nsource = \"env://TOKEN\"\nhosts = [\"a.test\"]\n";
    let broken = [
        ("version = 1\nalowed_hosts = []\n".to_owned(), 2, "`allowed_hosts`"),
        ("version = 1\nallowed_hosts = [\"https://x.test/path\"]\n".to_owned(), 2, "`paths`"),
        (
            format!(
                "version = 1\n{secret}[[rules]]\nhost = \"b.test\"\nset_headers = {{ x = \"${{secret:TOKEN}}\" }}\n"
            ),
            7,
            "add \"b.test\" to `hosts`",
        ),
        (
            format!(
                "version = 1\n{secret}[[rules]]\nhost = \"a.test\"\nset_headers = {{ x = \"${{secret:TOKN}}\" }}\n"
            ),
            7,
            "`${secret:TOKEN}`",
        ),
        ("allowed_hosts = []\n".to_owned(), 1, "version = 1"),
        ("version = 1\ninternet = \"yes\"\n".to_owned(), 2, "without quotes"),
        ("version = 1\ninternet = true\ninternet = false\n".to_owned(), 3, "once in its table"),
    ];
    for (text, line, hint) in &broken {
        let outcome = check(text, &[]);
        assert_eq!((outcome.code(), outcome.stdout.as_str()), (78, ""), "{outcome:?}");
        for part in [&format!("document.toml:{line}:"), *hint] {
            assert!(outcome.stderr.contains(part), "no {part:?}: {outcome:?}");
        }
        let outcome = check(text, &["--json"]);
        assert_eq!(outcome.code(), 78, "{outcome:?}");
        let problem = &outcome.json()["problems"][0];
        assert_line(problem, &json!({"severity": "error", "line": line}));
        assert!(problem["help"].as_str().unwrap().contains(hint), "{outcome:?}");
    }
    let outcome = sluicegate(&world, &["policy", "check", "/nowhere.toml"]);
    assert_eq!(outcome.code(), 78, "{outcome:?}");
    assert!(outcome.stderr.contains("/nowhere.toml") && outcome.stderr.contains("hint: "), "{outcome:?}");
}

#[test]
fn policy_schema_is_a_schema_of_the_document() {
    let world = World::new("schema");
    let outcome = sluicegate(&world, &["policy", "schema"]);
    outcome.assert_success();
    let schema = outcome.json();
    assert_line(
        &schema,
        &json!({"$schema": "https://json-schema.org/draft/2020-12/schema", "type": "object", "required": ["version"]}),
    );
    let keys: Vec<_> = schema["properties"].as_object().unwrap().keys().map(String::as_str).collect();
    for key in ["version", "internet", "allowed_hosts", "denied_hosts", "secrets", "rules", "upstream"] {
        assert!(keys.contains(&key), "no {key} in {keys:?}");
    }
}

#[test]
fn completion_scripts_are_accepted_by_their_shells() {
    let world = World::new("completion");
    for shell in ["bash", "zsh", "fish"] {
        let outcome = sluicegate(&world, &["completion", shell]);
        outcome.assert_success();
        assert!(outcome.stdout.contains("sluicegate") && outcome.stdout.contains("verify"), "{outcome:?}");
        if shell == "bash" {
            let script = world.file("completion.bash", &outcome.stdout);
            let line = ["bash", "-c", "set -e; source \"$0\"; complete -p sluicegate", shown(&script)];
            world.job(world.gate_namespace(), line).run().assert_success();
        }
    }
    assert_eq!(sluicegate(&world, &["completion", "cobol"]).code(), 64);
}

#[test]
fn help_has_examples_and_wrong_usage_has_its_exit_code() {
    let world = World::new("help");
    for command in [
        &["run"][..],
        &["attach"],
        &["policy", "check"],
        &["policy", "schema"],
        &["log", "get"],
        &["log", "follow"],
        &["log", "verify"],
        &["completion"],
    ] {
        let outcome = sluicegate(&world, &[command, &["--help"]].concat());
        outcome.assert_success();
        assert!(outcome.stdout.contains("Example") && outcome.stderr.is_empty(), "{outcome:?}");
    }
    let outcome = sluicegate(&world, &["--help"]);
    outcome.assert_success();
    for part in ["Exit codes:", "64 ", "78 ", "128+N"] {
        assert!(outcome.stdout.contains(part), "no {part:?}: {outcome:?}");
    }
    sluicegate(&world, &["--version"]).assert_success();
    for wrong in [
        &[][..],
        &["rnu"],
        &["run"],
        &["run", "--"],
        &["run", "--polcy", "x", "--", "true"],
        &["run", "--name", "a b", "--", "true"],
        &["attach"],
        &["attach", "pid:x"],
        &["log"],
        &["log", "verify", "--head", "abc"],
        &["policy", "check"],
    ] {
        let outcome = sluicegate(&world, wrong);
        assert_eq!((outcome.code(), outcome.stdout.as_str()), (64, ""), "{wrong:?}: {outcome:?}");
        assert!(!outcome.stderr.is_empty(), "{wrong:?} fails without a word");
    }
    let codes = [("true", 0), ("false", 1), ("exit 42", 42), ("kill -9 $$", 137)];
    for (script, code) in codes {
        assert_eq!(world.run("", ["sh", "-c", script]).code(), code, "{script}");
    }
    assert_eq!(world.run("", ["/nowhere/command"]).code(), 127);
    assert_eq!(world.run("", ["/etc/passwd"]).code(), 126);
}
