//! Answers that are remembered, and for what exactly they count.

use std::time::Duration;

use e2e::{Attached, Site, World, wait_until};
use serde_json::{Value, json};

use crate::approvals::{asking, id};
use crate::support::{ask, asked, assert_line, operator, refused, start, waiting};

/// Asks, has the answer given with these arguments, and waits for the end of the request.
#[track_caller]
fn answered(gate: &Attached<'_>, request: &[&str], answer: &str, how: &[&str], told: &str) -> Value {
    let running = start(gate, request);
    let pending = waiting(gate, 1).remove(0);
    operator(gate, &[&["approval", answer, id(&pending)], how].concat());
    running.wait().assert_success().assert_stdout(&format!("{told}\n"));
    pending
}

fn remembered(gate: &Attached<'_>) -> Vec<Value> {
    asked(gate, &["approval", "remembered"])["remembered"].as_array().unwrap().clone()
}

#[test]
fn a_remembered_answer_counts_for_exactly_the_same() {
    let world = World::new("scope");
    let site = Site::start(&world);
    let gate = world.gate(&asking(&world, &site)).named("box").attach();
    let allowed = ["-d", "x", "https://api.test/pay?to=a"];
    answered(&gate, &allowed, "allow", &["--always"], "200 ");
    assert_line(
        &remembered(&gate)[0],
        &json!({"allow": true, "method": "POST", "authority": "api.test:443", "target": "/pay?to=a"}),
    );
    // Whatever the body is: a person sees the address, and not what is sent there.
    assert_eq!(ask(&gate, &["-d", "other", "https://api.test/pay?to=a"]), "origin: api.test");
    for other in [
        &["-X", "PUT", "-d", "x", "https://api.test/pay?to=a"][..],
        &["-d", "x", "https://api.test/pay?to=b"],
        &["-d", "x", "https://api.test/pay"],
        &["-d", "x", "https://api.test/pay/?to=a"],
        &["-d", "x", "https://api.test/%70ay?to=a"],
        &["-d", "x", "http://api.test/pay?to=a"],
    ] {
        let before = site.requests().len();
        answered(&gate, other, "deny", &[], "403 approval_denied");
        assert_eq!(site.requests().len(), before, "{other:?}");
    }
    assert_eq!(remembered(&gate).len(), 1);
    operator(&gate, &["approval", "forget", remembered(&gate)[0]["id"].as_str().unwrap()]);
    answered(&gate, &allowed, "deny", &[], "403 approval_denied");
    refused(&gate, &["approval", "forget", "unheard-of"], 64);
}

#[test]
fn a_denial_is_remembered_as_well() {
    let world = World::new("deny");
    let site = Site::start(&world);
    let gate = world.gate(&asking(&world, &site)).named("box").attach();
    let request = ["-d", "x", "http://api.test/no"];
    answered(&gate, &request, "deny", &["--remember", "1h"], "403 approval_denied");
    assert_eq!(ask(&gate, &request), "403 approval_denied");
    let kept = remembered(&gate);
    assert_line(&kept[0], &json!({"allow": false}));
    assert!(kept[0]["expires"].is_string(), "{kept:#?}");
    site.assert_untouched();
}

#[test]
fn an_answer_for_a_time_ends_with_it() {
    let world = World::new("expires");
    let site = Site::start(&world);
    let gate = world.gate(&asking(&world, &site)).named("box").attach();
    let request = ["-d", "x", "https://api.test/soon"];
    answered(&gate, &request, "allow", &["--remember", "10s"], "200 ");
    assert_eq!(ask(&gate, &request), "origin: api.test");
    wait_until("the end of the answer", Duration::from_secs(30), || remembered(&gate).is_empty());
    answered(&gate, &request, "deny", &[], "403 approval_denied");
}

#[test]
fn an_answer_once_counts_once() {
    let world = World::new("once");
    let site = Site::start(&world);
    let gate = world.gate(&asking(&world, &site)).named("box").attach();
    let request = ["-d", "x", "https://api.test/once"];
    answered(&gate, &request, "allow", &[], "200 ");
    assert!(remembered(&gate).is_empty());
    answered(&gate, &request, "deny", &[], "403 approval_denied");
    for wrong in [&["--remember", "0s"][..], &["--remember", "soon"], &["--remember", "1h", "--always"]] {
        refused(&gate, &[&["approval", "allow", "a1"], wrong].concat(), 64);
    }
}
