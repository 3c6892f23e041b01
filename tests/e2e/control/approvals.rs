//! Requests that wait for a person: asked by a rule or a handler, answered, or not.

use std::time::{Duration, Instant};

use e2e::{Attached, Reply, Site, World, wait_until};
use serde_json::{Value, json};

use crate::support::{actions, ask, asked, assert_line, control, handler, operator, refused, start, waiting};

/// A rule that asks for writes, and a handler that asks for what is dear.
pub(crate) fn asking(world: &World, site: &Site) -> String {
    handler(
        world,
        "dear",
        "if request.query_param(\"price\") != () {\n    ask(`pay ${request.query_param(\"price\")}?`, 45);\n    \
         request.set_header(\"x-agreed\", \"yes\");\n}\nfetch(request)",
    );
    let text = "outbound_by_host.\"shop.test\" = \"handlers/dear.rhai\"\n\
                [[rules]]\nname = \"read\"\nhost = \"api.test\"\nmethods = [\"GET\"]\n\
                [[rules]]\nname = \"write\"\nhost = \"api.test\"\nmethods = [\"POST\", \"PUT\"]\nask = \"really write?\"\nask_seconds = 45\n\
                [[rules]]\nname = \"brief\"\nhost = \"brief.test\"\nask = \"quick?\"\nask_seconds = 1\n\
                [[rules]]\nname = \"trial\"\nhost = \"trial.test\"\nask = \"later?\"\nmode = \"audit\"";
    site.policy(world, text, &["shop.test", "api.test", "brief.test", "trial.test"])
}

pub(crate) fn id(pending: &Value) -> &str {
    pending["id"].as_str().unwrap()
}

#[test]
fn a_request_waits_until_a_person_agrees() {
    let world = World::new("allow");
    let site = Site::start(&world);
    let mut gate = world.gate(&asking(&world, &site)).named("box").attach();
    assert_eq!(ask(&gate, &["https://api.test/x"]), "origin: api.test");
    for (arguments, expected) in [
        (
            &["-d", "body", "https://api.test/x?y=z"][..],
            json!({"method": "POST", "scheme": "https", "authority": "api.test:443", "target": "/x?y=z",
                "reason": "really write?", "asked_by": "write", "instance": "box", "waiting": 1}),
        ),
        (
            &["http://shop.test/cart?price=9"],
            json!({"method": "GET", "scheme": "http", "authority": "shop.test:80", "target": "/cart?price=9",
                "reason": "pay 9?", "asked_by": "handlers/dear.rhai"}),
        ),
    ] {
        for answer in ["allow", "deny"] {
            let before = site.requests().len();
            let running = start(&gate, arguments);
            let pending = waiting(&gate, 1);
            assert_line(&pending[0], &expected);
            assert_line(&asked(&gate, &["status", "get"]), &json!({"approvals_pending": 1}));
            assert_eq!(site.requests().len(), before, "it went out before anybody agreed");
            operator(&gate, &["approval", answer, id(&pending[0])]);
            let told = if answer == "allow" { "200 \n" } else { "403 approval_denied\n" };
            running.wait().assert_success().assert_stdout(told);
            assert_eq!(site.requests().len() - before, usize::from(answer == "allow"));
            waiting(&gate, 0);
            let line =
                gate.wait_for_log(|line| line["kind"] == "exchange" && line["approval"] == pending[0]["id"]);
            assert_line(&line, &json!({"verdict": if answer == "allow" { "allowed" } else { "refused" }}));
            // It was answered, and cannot be again.
            refused(&gate, &["approval", "allow", id(&pending[0])], 64);
        }
    }
    assert_eq!(site.plain.requests()[0].header("x-agreed"), ["yes"]);
    assert_eq!(String::from_utf8_lossy(&site.tls.requests()[1].body), "body");
    let log = gate.log();
    let decided = actions(&log, "approval_decided");
    assert_eq!(decided.len(), 4, "{log:#?}");
    assert!(decided.iter().all(|line| line["actor"].as_str().unwrap().starts_with("uid 0")), "{decided:#?}");
    assert!(decided[0]["detail"].as_str().unwrap().contains("POST https://api.test"), "{decided:#?}");
}

#[test]
fn without_an_answer_a_request_is_refused_in_time() {
    let world = World::new("timeout");
    let site = Site::start(&world);
    let gate = world.gate(&asking(&world, &site)).named("box").attach();
    let began = Instant::now();
    assert_eq!(ask(&gate, &["https://brief.test/"]), "403 approval_timeout");
    let took = began.elapsed();
    assert!(took >= Duration::from_secs(1) && took < Duration::from_secs(10), "{took:?}");
    waiting(&gate, 0);
    site.assert_untouched();
}

#[test]
fn a_request_that_nobody_waits_for_is_not_asked_about() {
    let world = World::new("hung-up");
    let site = Site::start(&world);
    let gate = world.gate(&asking(&world, &site)).named("box").attach();
    for arguments in [
        &["--http2", "-X", "POST", "https://api.test/"][..],
        &["--http2", "-d", "x", "https://api.test/"],
        &["--http1.1", "-X", "POST", "https://api.test/"],
        &["-X", "POST", "http://api.test/"],
        &["-d", "x", "http://api.test/"],
    ] {
        let running = start(&gate, arguments);
        let pending = waiting(&gate, 1);
        drop(running);
        wait_until(&format!("nobody to wait after {arguments:?}"), Duration::from_secs(10), || {
            asked(&gate, &["approval", "list"])["pending"] == json!([])
        });
        refused(&gate, &["approval", "allow", id(&pending[0])], 64);
    }
    site.assert_untouched();
}

#[test]
fn the_same_question_is_asked_once_and_answered_for_all() {
    let world = World::new("coalesced");
    let site = Site::start(&world);
    let gate = world.gate(&asking(&world, &site)).named("box").attach();
    let same = || start(&gate, &["-d", "x", "https://api.test/pay"]);
    let running = [same(), same(), same()];
    wait_until("three that wait", Duration::from_secs(20), || waiting(&gate, 1)[0]["waiting"] == 3);
    operator(&gate, &["approval", "allow", id(&waiting(&gate, 1)[0])]);
    for one in running {
        one.wait().assert_success().assert_stdout("200 \n");
    }
    assert_eq!(site.requests().len(), 3);
}

#[test]
fn a_rule_on_trial_asks_nobody() {
    let world = World::new("trial");
    let site = Site::start(&world);
    let gate = world.gate(&asking(&world, &site)).named("box").attach();
    assert_eq!(ask(&gate, &["https://trial.test/"]), "origin: trial.test");
    let log = gate.log();
    let line = log.iter().find(|line| line["kind"] == "exchange").unwrap();
    assert_line(line, &json!({"verdict": "allowed", "would_refuse": "approval_required"}));
}

#[test]
fn a_large_body_waits_with_its_request() {
    let world = World::new("large");
    let site = Site::answering(&world, |request| Reply::text(request.body_length.to_string()));
    let gate = world.gate(&asking(&world, &site)).named("box").attach();
    world.home_file("large", vec![b'x'; 20_000_000]);
    let mut running =
        gate.job(["curl", "-sS", "--max-time", "50", "-T", "large", "https://api.test/large"]).spawn();
    let pending = waiting(&gate, 1);
    site.assert_untouched();
    operator(&gate, &["approval", "allow", id(&pending[0])]);
    running.wait_for_output("20000000");
    running.wait().assert_success();
}

#[test]
fn when_too_many_wait_the_rest_is_refused() {
    let world = World::new("full");
    let site = Site::start(&world);
    let gate = world.gate(&asking(&world, &site)).named("box").attach();
    let many =
        "for n in $(seq 64); do curl -sS --max-time 50 -o /dev/null -d x \"http://api.test/$n\" & done; wait";
    let running = gate.job(["sh", "-c", many]).spawn();
    waiting(&gate, 64);
    assert_eq!(ask(&gate, &["-d", "x", "http://api.test/65"]), "403 approvals_full");
    // The rest of the world goes on.
    assert_eq!(ask(&gate, &["http://api.test/"]), "origin: api.test");
    drop(running);
}

#[test]
fn events_tell_what_is_asked_and_answered() {
    let world = World::new("events");
    let site = Site::start(&world);
    let gate = world.gate(&asking(&world, &site)).named("box").attach();
    let socket = gate.control_socket().display().to_string();
    let line = ["curl", "-sSN", "--unix-socket", &socket, "http://gate/v1/events"];
    let mut events = world.root_job(world.gate_namespace(), line).spawn();
    events.wait_for_output(":");
    let mut watching = gate.operator(["approval", "list", "--watch", "--json"]).spawn();
    let running = start(&gate, &["-d", "x", "https://api.test/"]);
    events.wait_for_output("event: approval_asked\n");
    watching.wait_for_output("approval_asked");
    let pending = waiting(&gate, 1);
    operator(&gate, &["approval", "allow", id(&pending[0])]);
    events.wait_for_output("event: approval_decided\n");
    watching.wait_for_output("approval_decided");
    running.wait().assert_success().assert_stdout("200 \n");
    operator(&gate, &["host", "deny", "evil.test"]);
    events.wait_for_output("event: policy_published\n");
    let data: Vec<Value> = events
        .stdout()
        .lines()
        .filter_map(|line| line.strip_prefix("data: ").map(|json| serde_json::from_str(json).unwrap()))
        .collect();
    assert_line(&data[0], &json!({"event": "approval_asked", "id": pending[0]["id"], "target": "/"}));
    assert_line(&data[1], &json!({"event": "approval_decided", "id": pending[0]["id"], "allow": true}));
    assert!(data[1]["by"].as_str().unwrap().starts_with("uid 0"), "{data:#?}");
    assert_line(&data[2], &json!({"event": "policy_published"}));
    let told: Vec<Value> =
        watching.stdout().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(told.len(), 2, "{told:#?}");
}

#[test]
fn an_answer_over_the_socket_says_one_thing() {
    let world = World::new("answers");
    let site = Site::start(&world);
    let gate = world.gate(&asking(&world, &site)).named("box").attach();
    let running = start(&gate, &["-d", "x", "https://api.test/"]);
    let pending = waiting(&gate, 1);
    let url = format!("http://gate/v1/approvals/{}", id(&pending[0]));
    let post = |gate: &Attached<'_>, body: &str| {
        let own = ["-X", "POST", "-H", "content-type: application/json", "-d", body, &url];
        control(&world, gate, &own).1
    };
    for bad in [
        "{}",
        "yes",
        r#"{"allow": "yes"}"#,
        r#"{"allow": true, "remember_seconds": 0}"#,
        r#"{"allow": true, "remember_seconds": 60, "always": true}"#,
        r#"{"allow": true, "unheard_of": 1}"#,
    ] {
        assert_eq!(post(&gate, bad), 400, "{bad}");
        waiting(&gate, 1);
    }
    assert_eq!(post(&gate, r#"{"allow": true}"#), 204);
    running.wait().assert_success().assert_stdout("200 \n");
    assert_eq!(post(&gate, r#"{"allow": true}"#), 404);
}
