//! Scripts that cannot be loaded: refused at the check, at the start and while running, with the place.

use std::time::{Duration, Instant};

use e2e::{Job, Site, World};
use serde_json::json;

use crate::support::{answer, assert_answer, assert_line, catch_all, curl, handler, script};

/// A script that cannot be loaded, where it is wrong, and a word of the explanation.
struct Broken {
    name: &'static str,
    text: Vec<u8>,
    at: &'static str,
    word: &'static str,
}

fn broken() -> Vec<Broken> {
    let whole = |body: &str| format!("fn outbound(request, env, ctx) {{\n{body}\n}}\n").into_bytes();
    let case = |name, text, at, word| Broken { name, text, at, word };
    vec![
        case("syntax", whole("    let x = ;"), "2:13", ""),
        case("unclosed", b"fn outbound(request, env, ctx) {\n    reply(200)\n".to_vec(), "", ""),
        case("nested", whole(&format!("{}1{}", "(".repeat(10_000), ")".repeat(10_000))), "2:", ""),
        case("braces", whole(&"{".repeat(10_000)), "2:", ""),
        case("lists", whole(&format!("    let x = {}", "[".repeat(10_000))), "2:", ""),
        case("large", whole(&"    // comment\n".repeat(10 << 20 >> 4)), "", "large"),
        case(
            "latin1",
            b"fn outbound(request, env, ctx) {\n    reply(200, \"\xe9\")\n}\n".to_vec(),
            "2:",
            "UTF-8",
        ),
        case("null", b"fn outbound(request, env, ctx) {\n  reply(200)\0\n}\n".to_vec(), "2:", ""),
        case("empty", Vec::new(), "", "outbound"),
        case("unnamed", b"fn inbound(request, env, ctx) { reply(200) }\n".to_vec(), "", "outbound"),
        case("two", b"fn outbound(request, env) { reply(200) }\n".to_vec(), "1:", "outbound"),
        case(
            "import",
            b"import \"other\" as other;\nfn outbound(request, env, ctx) { reply(200) }\n".to_vec(),
            "1:",
            "",
        ),
        case("eval", whole("    eval(\"1\")"), "2:", ""),
    ]
}

/// Fails unless the command was refused as a wrong policy, quickly, and names the place.
#[track_caller]
fn assert_told(job: Job<'_>, case: &Broken) {
    let began = Instant::now();
    let outcome = job.run();
    let Broken { name, at, word, .. } = case;
    let mut shown = outcome.clone();
    shown.stderr.truncate(4_000);
    assert_eq!(outcome.code(), 78, "{name}: {shown:?}");
    assert!(outcome.stderr.contains(&format!("{name}.rhai:{at}")), "{name}: {shown:?}");
    assert!(outcome.stderr.contains(word), "{name}: {shown:?}");
    assert!(outcome.stderr.len() < 64 * 1024, "{name}: {} bytes of explanation", outcome.stderr.len());
    assert!(began.elapsed() < Duration::from_secs(10), "{name} took {:?}", began.elapsed());
}

#[test]
fn h07_a_bad_script_is_refused_wherever_it_comes_in() {
    let world = World::new("h07");
    let site = Site::start(&world);
    handler(&world, "good", "reply(200, \"good\")");
    let good = catch_all(&world, &site, "good", &[]);
    let mut gate = world.gate(&good).named("box").attach();
    assert_answer(&gate.run(curl(&["http://h.test/"])), "good");
    let status = || gate.operator(["status", "get", "--json"]).run().json();
    let before = status();
    for case in &broken() {
        script(&world, case.name, &case.text);
        let policy = catch_all(&world, &site, case.name, &[]);
        let file = world.file("broken.toml", &policy).display().to_string();
        assert_told(world.operator(["policy", "check", &file]), case);
        assert_told(world.gate(&policy).job(["true"]), case);
        assert_told(gate.operator(["policy", "set", &file]), case);
    }
    let after = status();
    assert_eq!(before["generation"], after["generation"]);
    assert_answer(&gate.run(curl(&["http://h.test/"])), "good");
    gate.running().wait_a_little();
}

/// Uploads a policy by itself, past the checks of the command line.
const UPLOAD: &str = r#"
import json, sys
print(json.dumps({"file": sys.argv[1], "document": open(sys.argv[1]).read(),
    "scripts": {"handlers/good.rhai": open(sys.argv[2], "rb").read().decode("latin-1")}}))
"#;

#[test]
fn h07_the_gate_itself_refuses_an_upload_and_writes_it_down() {
    let world = World::new("h07-upload");
    let site = Site::start(&world);
    handler(&world, "good", "reply(200, \"good\")");
    let good = catch_all(&world, &site, "good", &[]);
    let mut gate = world.gate(&good).named("box").attach();
    let document = world.file("upload.toml", &good).display().to_string();
    let socket = gate.control_socket().display().to_string();
    for (body, at) in [("let x = ;", "2:9"), ("reply(200", "")] {
        let path = handler(&world, "bad", body).display().to_string();
        let upload = format!(
            "{} -c \"$0\" \"$1\" \"$2\" >upload.json && curl -sS -w '\\n%{{http_code}} ' --unix-socket \"$3\" \
             -X PUT -H 'content-type: application/json' --data-binary @upload.json http://gate/v1/policy",
            crate::support::PYTHON
        );
        let line = ["sh", "-c", &upload, UPLOAD, &document, &path, &socket];
        let outcome = world.root_job(world.gate_namespace(), line).run();
        let (problem, code) = answer(&outcome);
        assert_eq!(code, "422 ", "{outcome:?}");
        assert!(problem.contains("handlers/good.rhai"), "{problem}");
        let line = gate.wait_for_log(|line| {
            line["action"] == "policy_refused"
                && line["detail"].as_str().unwrap_or_default().contains(&format!("handlers/good.rhai:{at}"))
        });
        assert_line(&line, &json!({"kind": "control"}));
        assert!(line["actor"].as_str().is_some_and(|actor| actor.starts_with("uid 0")), "{line}");
    }
    assert_answer(&gate.run(curl(&["http://h.test/"])), "good");
}

#[test]
fn a_syntax_error_is_shown_with_a_caret() {
    let world = World::new("caret");
    let site = Site::start(&world);
    handler(&world, "caret", "    let x = ;");
    let file = world.file("policy.toml", catch_all(&world, &site, "caret", &[])).display().to_string();
    let outcome = world.operator(["policy", "check", &file]).run();
    assert_eq!(outcome.code(), 78, "{outcome:?}");
    for part in ["handlers/caret.rhai:2:13", "2 |     let x = ;", "             ^\n"] {
        assert!(outcome.stderr.contains(part), "no {part:?} in {}", outcome.stderr);
    }
    let outcome = world.operator(["policy", "check", "--json", &file]).run();
    assert_eq!(outcome.code(), 78, "{outcome:?}");
    let problem = outcome.json()["problems"][0].clone();
    assert_line(&problem, &json!({"line": 2, "column": 13, "severity": "error"}));
    assert!(problem["file"].as_str().is_some_and(|file| file.ends_with("handlers/caret.rhai")), "{problem}");
}

#[test]
fn a_script_that_is_not_there_is_told_at_its_place_in_the_document() {
    let world = World::new("absent");
    let check = |text: &str| {
        let file = world.file("policy.toml", format!("version = 1\n{text}\n")).display().to_string();
        world.operator(["policy", "check", &file]).run()
    };
    for (text, word) in [
        ("outbound = \"handlers/absent.rhai\"", "handlers/absent.rhai"),
        ("outbound = \"handlers/absent.js\"", "handlers/absent.js"),
        ("outbound = \"handlers/absent.txt\"", ".rhai, .js or .wasm"),
        ("outbound = \"alow\"\noutbound_handlers.allow = { deny = \"x\" }", "`allow`"),
        ("outbound = { deny = \"x\", reveal = [\"TOKEN\"] }", "reveal"),
    ] {
        let outcome = check(text);
        assert_eq!(outcome.code(), 78, "{text}: {outcome:?}");
        assert!(outcome.stderr.contains("policy.toml:2:"), "{text}: {outcome:?}");
        assert!(outcome.stderr.contains(word), "{text}: {outcome:?}");
    }
}
