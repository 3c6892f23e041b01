//! What the commands print, and what they say when there is nobody to ask.

use e2e::{Site, World};
use serde_json::{Value, json};

use crate::support::{asked, assert_line, control, named_handlers, operator, refused, start, waiting};

#[test]
fn every_command_prints_json_on_request() {
    let world = World::new("json");
    let site = Site::start(&world);
    let text = format!("{}[[rules]]\nhost = \"ask.test\"\nask = \"?\"", named_handlers(&world, &["one"]));
    let policy = site.policy(&world, &text, &["ask.test"]);
    let gate = world.gate(&policy).named("box").flag("--label").flag("team=blue").attach();
    let file = world.file("policy.toml", &policy).display().to_string();
    let running = start(&gate, &["https://ask.test/"]);
    let id = waiting(&gate, 1)[0]["id"].as_str().unwrap().to_owned();
    let commands: Vec<Vec<&str>> = vec![
        vec!["instance", "list"],
        vec!["status", "get"],
        vec!["ca", "get"],
        vec!["policy", "get"],
        vec!["policy", "check", &file],
        vec!["policy", "set", "--check", &file],
        vec!["policy", "set", &file],
        vec!["policy", "reset"],
        vec!["policy", "test", "https://ask.test/"],
        vec!["policy", "diff", &file],
        vec!["host", "allow", "a.test"],
        vec!["host", "deny", "b.test"],
        vec!["host", "list"],
        vec!["host", "remove", "b.test", "--denied"],
        vec!["host", "replace", "--denied", "b.test"],
        vec!["handler", "set", "one"],
        vec!["handler", "list"],
        vec!["handler", "clear"],
        vec!["handler", "reference"],
        vec!["approval", "list"],
        vec!["approval", "allow", &id, "--always"],
        vec!["approval", "remembered"],
        vec!["kv", "put", "kv", "key", "value"],
        vec!["kv", "get", "kv", "key"],
        vec!["kv", "list", "kv"],
        vec!["kv", "delete", "kv", "key"],
    ];
    for command in commands {
        let outcome = gate.operator([&command[..], &["--json"]].concat()).run();
        outcome.assert_success();
        let lines: Vec<Value> = outcome
            .stdout
            .lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {outcome:?}")))
            .collect();
        assert_eq!(lines.len(), 1, "{outcome:?}");
    }
    running.wait().assert_success().assert_stdout("200 \n");
    let status = asked(&gate, &["status", "get"]);
    assert_line(
        &status,
        &json!({"instance": "box", "container_id": "box", "labels": {"team": "blue"}, "mode": "enforce",
            "log_healthy": true, "approvals_pending": 0}),
    );
    assert_eq!(asked(&gate, &["instance", "list"])[0]["instance"], "box");
    let ca = operator(&gate, &["ca", "get"]).stdout;
    assert_eq!(ca, std::fs::read_to_string(gate.ca_file()).unwrap());
    let (by_socket, _) = control(&world, &gate, &["http://gate/v1/ca"]);
    assert_eq!(by_socket, ca.trim_end_matches('\n').to_owned() + "\n");
}

#[test]
fn an_operator_puts_in_what_a_handler_finds() {
    let world = World::new("kv");
    let site = Site::start(&world);
    crate::support::handler(
        &world,
        "keys",
        "let key = env.kv.get(ctx.container_id);\nif key == () { return deny(\"no key\"); }\n\
         env.kv.put(\"seen\", request.path);\nreply(200, key)",
    );
    let gate =
        world.gate(&site.policy(&world, "outbound = \"handlers/keys.rhai\"", &[])).named("box").attach();
    assert_eq!(crate::support::ask(&gate, &["http://h.test/a"]), "403 denied_by_handler");
    gate.operator(["kv", "put", "kv", "box", "-"]).stdin("the key").run().assert_success();
    assert_eq!(crate::support::ask(&gate, &["http://h.test/b"]), "the key");
    operator(&gate, &["kv", "get", "kv", "seen"]).assert_stdout("/b");
    operator(&gate, &["kv", "list", "kv"]).assert_stdout("box\nseen\n");
    operator(&gate, &["kv", "delete", "kv", "box"]);
    assert_eq!(crate::support::ask(&gate, &["http://h.test/c"]), "403 denied_by_handler");
    refused(&gate, &["kv", "get", "kv", "box"], 64);
    refused(&gate, &["kv", "get", "unheard-of", "box"], 64);
    let log = gate.log();
    assert!(log.iter().all(|line| !line.to_string().contains("the key")), "a value in the log");
}

#[test]
fn without_an_instance_and_with_several_a_command_says_what_to_do() {
    let world = World::new("several");
    let nobody = world.operator(["status", "get"]).run();
    assert_eq!(nobody.code(), 69, "{nobody:?}");
    assert!(nobody.stderr.contains("sluicegate run") || nobody.stderr.contains("attach"), "{nobody:?}");
    let job = ["sh", "-c", "echo ready; read -r _"];
    let mut gates = ["one", "two"].map(|name| world.gate("version = 1\n").named(name).job(job).spawn());
    for gate in &mut gates {
        gate.wait_for_output("ready\n");
    }
    let both = world.operator(["status", "get"]).run();
    assert_eq!(both.code(), 69, "{both:?}");
    assert!(
        both.stderr.contains("one") && both.stderr.contains("two") && both.stderr.contains("--instance"),
        "{both:?}"
    );
    let two = world.operator(["status", "get", "--json", "--instance", "two"]).run();
    two.assert_success();
    assert_line(&two.json(), &json!({"instance": "two"}));
    let wrong = world.operator(["status", "get", "--instance", "three"]).run();
    assert_eq!(wrong.code(), 69, "{wrong:?}");
    let listed = world.operator(["instance", "list", "--json"]).run();
    let names: Vec<_> = listed.json().as_array().unwrap().iter().map(|one| one["instance"].clone()).collect();
    assert_eq!(names, ["one", "two"]);
    for mut gate in gates {
        gate.write("\n");
        gate.wait().assert_success();
    }
    let none = world.operator(["instance", "list", "--json"]).run();
    none.assert_success();
    assert_eq!(none.json(), json!([]));
}

const COMMANDS: [&[&str]; 26] = [
    &["instance", "list"],
    &["status", "get"],
    &["ca", "get"],
    &["policy", "get"],
    &["policy", "set"],
    &["policy", "reset"],
    &["policy", "test"],
    &["policy", "diff"],
    &["host", "allow"],
    &["host", "deny"],
    &["host", "remove"],
    &["host", "list"],
    &["host", "replace"],
    &["handler", "set"],
    &["handler", "clear"],
    &["handler", "list"],
    &["handler", "reference"],
    &["approval", "list"],
    &["approval", "allow"],
    &["approval", "deny"],
    &["approval", "remembered"],
    &["approval", "forget"],
    &["kv", "get"],
    &["kv", "put"],
    &["kv", "list"],
    &["kv", "delete"],
];

#[test]
fn help_has_examples_and_completion_knows_every_command() {
    let world = World::new("help");
    let scripts = ["bash", "zsh", "fish"].map(|shell| world.operator(["completion", shell]).run());
    for command in COMMANDS {
        let help = world.operator([command, &["--help"]].concat()).run();
        help.assert_success();
        assert!(help.stdout.contains("Example") && help.stdout.contains("--json"), "{help:?}");
        for script in &scripts {
            script.assert_success();
            for word in command {
                assert!(script.stdout.contains(word), "{command:?} in {}", script.command);
            }
        }
    }
    // bash itself offers the verbs.
    let script = world.file("completion.bash", &scripts[0].stdout).display().to_string();
    let offer = "source \"$0\"; COMP_WORDS=(sluicegate approval ''); COMP_CWORD=2; _sluicegate sluicegate '' approval; echo \"${COMPREPLY[@]}\"";
    let offered = world.job(world.gate_namespace(), ["bash", "-c", offer, &script]).run();
    for verb in ["list", "allow", "deny", "remembered", "forget"] {
        assert!(offered.stdout.split_whitespace().any(|word| word == verb), "no {verb}: {offered:?}");
    }
}
