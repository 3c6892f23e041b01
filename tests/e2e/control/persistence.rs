//! What is changed at run time, when the gate ends badly and begins anew.

use std::fs;

use e2e::{Attached, Site, World};
use nix::sys::signal::Signal;
use serde_json::json;

use crate::support::{
    actions, ask, asked, assert_line, control, generation, handler, named_handlers, operator, start, waiting,
};

#[test]
fn p29_changes_outlive_a_gate_that_was_killed() {
    let world = World::new("p29");
    let site = Site::start(&world);
    handler(&world, "uploaded", "reply(200, \"uploaded\")");
    let text = format!("allowed_hosts = [\"a.test\"]\n{}", named_handlers(&world, &["one"]));
    let policy = site.policy(&world, &text, &["a.test", "b.test", "c.test"]);
    let gate = world.gate(&policy).named("box").attach();
    operator(&gate, &["host", "allow", "b.test", "c.test"]);
    operator(&gate, &["host", "deny", "c.test"]);
    operator(&gate, &["handler", "set", "one", "--host", "b.test", "--params", "{\"n\":1}"]);
    let told = |gate: &Attached<'_>| {
        ["a.test", "b.test", "c.test"].map(|name| ask(gate, &[&format!("https://{name}/")]))
    };
    let expected = ["origin: a.test", "one {\"n\":1}", "403 denied_host"];
    assert_eq!(told(&gate), expected);
    let before = generation(&gate);
    let (_, namespace) = gate.end(Signal::SIGKILL);

    let gate = world.gate(&policy).named("box").attach_to(namespace);
    assert_eq!(generation(&gate), before);
    assert_line(&asked(&gate, &["status", "get"]), &json!({"overridden": true}));
    assert_eq!(told(&gate), expected);
    // An upload too.
    let upload = format!("outbound = \"handlers/uploaded.rhai\"\n{}", named_handlers(&world, &["one"]));
    let file = world.file("upload.toml", site.policy(&world, &upload, &["a.test"])).display().to_string();
    operator(&gate, &["policy", "reset", "--all"]);
    operator(&gate, &["policy", "set", &file]);
    assert_eq!(told(&gate), ["uploaded"; 3]);
    let (_, namespace) = gate.end(Signal::SIGKILL);
    // What was uploaded does not need its files any more.
    fs::remove_file(&file).unwrap();
    let gate = world.gate(&policy).named("box").attach_to(namespace);
    assert_eq!(told(&gate), ["uploaded"; 3]);
    assert_eq!(asked(&gate, &["status", "get"])["policy"]["source"], "upload");
    operator(&gate, &["policy", "reset"]);
    assert_eq!(told(&gate), ["origin: a.test", "403 not_in_allowed_hosts", "403 not_in_allowed_hosts"]);
}

#[test]
fn p29_another_name_has_other_changes() {
    let world = World::new("p29-names");
    let site = Site::start(&world);
    let policy = site.policy(&world, "", &["a.test"]);
    let gate = world.gate(&policy).named("one").attach();
    operator(&gate, &["host", "allow", "a.test"]);
    assert_eq!(ask(&gate, &["https://a.test/"]), "origin: a.test");
    gate.end(Signal::SIGTERM).0.assert_success();
    let gate = world.gate(&policy).named("two").attach();
    assert_eq!(ask(&gate, &["https://a.test/"]), "403 not_named");
}

#[test]
fn p30_a_change_that_names_what_is_gone_is_left_out_and_the_rest_kept() {
    let world = World::new("p30");
    let site = Site::start(&world);
    let both = named_handlers(&world, &["stays", "goes"]);
    let names = ["a.test", "b.test", "c.test"];
    let gate = world.gate(&site.policy(&world, &both, &names)).named("box").attach();
    operator(&gate, &["handler", "set", "stays", "--host", "a.test"]);
    operator(&gate, &["handler", "set", "goes", "--host", "b.test"]);
    operator(&gate, &["handler", "set", "goes"]);
    operator(&gate, &["host", "allow", "c.test"]);
    assert_eq!(ask(&gate, &["https://b.test/"]), "goes {}");
    let (_, namespace) = gate.end(Signal::SIGKILL);

    let fewer = named_handlers(&world, &["stays"]);
    let mut gate = world.gate(&site.policy(&world, &fewer, &names)).named("box").attach_to(namespace);
    assert_eq!(ask(&gate, &["https://a.test/"]), "stays {}");
    assert_eq!(ask(&gate, &["https://b.test/"]), "403 not_named");
    assert_eq!(ask(&gate, &["https://c.test/"]), "origin: c.test");
    gate.running().wait_for_complaint("goes");
    let log = gate.log();
    let ignored = actions(&log, "override_ignored");
    assert_eq!(ignored.len(), 2, "{log:#?}");
    assert!(ignored.iter().all(|line| line["detail"].as_str().unwrap().contains("goes")), "{ignored:#?}");
}

#[test]
fn p29_an_answer_for_good_outlives_the_gate() {
    let world = World::new("p29-answers");
    let site = Site::start(&world);
    let text = "[[rules]]\nhost = \"a.test\"\nask = \"really?\"";
    let policy = site.policy(&world, text, &["a.test"]);
    let gate = world.gate(&policy).named("box").attach();
    let asking = start(&gate, &["https://a.test/x"]);
    let id = waiting(&gate, 1)[0]["id"].as_str().unwrap().to_owned();
    operator(&gate, &["approval", "allow", &id, "--always"]);
    asking.wait().assert_success().assert_stdout("200 \n");
    let (_, namespace) = gate.end(Signal::SIGKILL);
    let gate = world.gate(&policy).named("box").attach_to(namespace);
    assert_eq!(ask(&gate, &["https://a.test/x"]), "origin: a.test");
}

#[test]
fn a_damaged_state_is_no_empty_state() {
    let world = World::new("damaged");
    let site = Site::start(&world);
    let policy = site.policy(&world, "internet = true", &["a.test"]);
    let gate = world.gate(&policy).named("box").attach();
    operator(&gate, &["host", "deny", "a.test"]);
    let (_, namespace) = gate.end(Signal::SIGKILL);
    let state = world.path("root/state/box.state.json");
    let text = fs::read_to_string(&state).unwrap();
    fs::write(&state, text.get(..text.len() / 2).unwrap()).unwrap();
    let started = world.root_job(
        world.gate_namespace(),
        [
            world.program("sluicegate"),
            "attach".into(),
            namespace.path().display().to_string(),
            "--name".into(),
            "box".into(),
            "--state".into(),
            world.path("root/state").display().to_string(),
            "--policy".into(),
            world.file("policy.toml", &policy).display().to_string(),
            "--log".into(),
            world.path("log/damaged.jsonl").display().to_string(),
        ],
    );
    let outcome = started.env("XDG_RUNTIME_DIR", world.path("root")).run();
    assert_ne!(outcome.code(), 0, "it began without what was denied: {outcome:?}");
    assert!(outcome.stderr.contains("box.state.json"), "{outcome:?}");
}

#[test]
fn a_change_that_cannot_be_kept_is_not_made() {
    let world = World::new("unkept");
    let site = Site::start(&world);
    let gate = world.gate(&site.policy(&world, "", &["a.test"])).named("box").attach();
    operator(&gate, &["host", "allow", "b.test"]);
    let before = generation(&gate);
    // A folder of that name is in the way of the new file, even for root.
    let state = world.path("root/state/box.state.json");
    fs::remove_file(&state).unwrap();
    fs::create_dir_all(state.join("full")).unwrap();
    let body = ["-X", "PUT", "http://gate/v1/allowed-hosts/a.test"];
    let (problem, status) = control(&world, &gate, &body);
    assert_eq!(status, 503, "{problem}");
    assert_line(&problem, &json!({"type": "sluicegate:unkept"}));
    assert_eq!(generation(&gate), before);
    assert_eq!(ask(&gate, &["https://a.test/"]), "403 not_named");
}
