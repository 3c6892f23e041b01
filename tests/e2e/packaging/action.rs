//! `action.yml`: the steps of the action, run as a runner would.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use e2e::{Site, World, sha256_hex};
use serde_json::Value;

use crate::shop::{Shop, root, version, yaml};

/// The value of a step's variable, with what a runner puts in for these expressions.
fn filled(value: &str, inputs: &[(&str, &str)]) -> String {
    let mut value = value.to_owned();
    for (name, is) in inputs {
        value = value.replace(&format!("${{{{ inputs.{name} }}}}"), is);
    }
    assert!(!value.contains("${{"), "{value} is not known to this test");
    value
}

#[test]
fn the_action_installs_and_seals_the_commands_of_a_step() {
    let (world, shop) = (World::new("action"), Shop::new());
    let archive = shop
        .make("scripts/release", &shop.programs(), "dist")
        .join(format!("sluicegate-{}-x86_64-linux.tar.gz", version()));
    let checksum = sha256_hex(&fs::read(&archive).unwrap());
    let archive = world.file("archive.tar.gz", fs::read(&archive).unwrap());
    let site = Site::start(&world);
    let policy =
        site.policy(&world, "allowed_hosts = [\"api.example.com\"]", &["api.example.com", "b.example"]);
    let (policy, log) = (world.file("policy.toml", policy), world.home().join("log.jsonl"));
    let commands = "answer=$(curl -sS https://api.example.com/)\n\
                    echo \"$answer; $(curl -sS -o /dev/null -w '%{http_code}' https://b.example/)\"\n\
                    false | true";
    let inputs = [
        ("run", commands),
        ("policy", policy.to_str().unwrap()),
        ("archive", archive.to_str().unwrap()),
        ("sha256", &*checksum),
        ("log", log.to_str().unwrap()),
    ];
    let action = yaml(&root().join("action.yml")).remove(0);
    assert_eq!(action["runs"]["using"], "composite");
    for input in action["inputs"].as_object().unwrap().keys() {
        assert!(inputs.iter().any(|(name, _)| name == input), "{input} is not known to this test");
    }
    // A checkout that the workload's user can read.
    let installer = fs::read(root().join("packaging/install.sh")).unwrap();
    let installer = world.file("action/packaging/install.sh", installer);
    fs::set_permissions(installer, Permissions::from_mode(0o755)).unwrap();
    let mut outcomes = Vec::new();
    for step in action["runs"]["steps"].as_array().unwrap() {
        assert_eq!(step["shell"], "bash", "{step}");
        // What a runner has for `shell: bash`.
        let line = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"].as_str().unwrap()];
        let mut job = world.job(world.gate_namespace(), line);
        job = job.env("GITHUB_ACTION_PATH", world.path("action")).env("RUNNER_TEMP", world.home());
        for (name, value) in step["env"].as_object().into_iter().flatten() {
            job = job.env(name, filled(value.as_str().unwrap(), &inputs));
        }
        outcomes.push(job.run());
    }
    let [installed, sealed] = &outcomes[..] else { panic!("{outcomes:?}") };
    installed.assert_success();
    // A step fails where any of its commands does, as without the action.
    assert_eq!((sealed.code(), &*sealed.stdout), (1, "origin: api.example.com; 403\n"), "{sealed:?}");
    assert_eq!(site.requests().len(), 1);
    let log = fs::read_to_string(&log).unwrap();
    let verdicts: Vec<_> = log
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .filter(|line| line["kind"] == "exchange")
        .map(|line| line["verdict"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(verdicts, ["allowed", "refused"]);
}
