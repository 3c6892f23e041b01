//! Gates with a name, and how their operator speaks with them.

use std::path::PathBuf;
use std::time::{Duration, Instant};

pub(crate) use e2e::assert_line;
use e2e::{Attached, Outcome, Running, World};
use serde_json::Value;

pub(crate) const PYTHON: &str = "/usr/bin/python3";
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// Writes `handlers/NAME.rhai`, whose function has this body.
pub(crate) fn handler(world: &World, name: &str, body: &str) -> PathBuf {
    let text = format!("fn outbound(request, env, ctx) {{\n{body}\n}}\n");
    world.file(&format!("handlers/{name}.rhai"), text)
}

/// Handlers that answer with their name and what parameters they have, to be set by name.
pub(crate) fn named_handlers(world: &World, names: &[&str]) -> String {
    let mut text = "[outbound_handlers]\n".to_owned();
    for name in names {
        handler(world, name, &format!("reply(200, `{name} ${{to_json(ctx.params)}}`)"));
        text += &format!("{name} = \"handlers/{name}.rhai\"\n");
    }
    text
}

/// A `sluicegate` command about this gate, to its good end.
#[track_caller]
pub(crate) fn operator(gate: &Attached<'_>, arguments: &[&str]) -> Outcome {
    let outcome = gate.operator(arguments).run();
    outcome.assert_success();
    outcome
}

/// The same with `--json`, and what it printed.
#[track_caller]
pub(crate) fn asked(gate: &Attached<'_>, arguments: &[&str]) -> Value {
    operator(gate, &[arguments, &["--json"]].concat()).json()
}

/// A command that must fail, with this exit code.
#[track_caller]
pub(crate) fn refused(gate: &Attached<'_>, arguments: &[&str], code: i32) -> Outcome {
    let outcome = gate.operator(arguments).run();
    assert_eq!(outcome.code(), code, "{outcome:?}");
    assert!(!outcome.stderr.is_empty(), "it fails without a word: {outcome:?}");
    outcome
}

/// curl to the control socket, as root beside the gate: the body, and the status.
#[track_caller]
pub(crate) fn control(world: &World, gate: &Attached<'_>, arguments: &[&str]) -> (Value, u16) {
    let socket = gate.control_socket().display().to_string();
    let own = ["curl", "-sS", "--max-time", "20", "-w", "\n%{http_code}", "--unix-socket", &socket];
    let outcome = world.root_job(world.gate_namespace(), [&own[..], arguments].concat()).run();
    outcome.assert_success();
    let (body, status) = outcome.stdout.rsplit_once('\n').unwrap();
    let body = if body.is_empty() {
        Value::Null
    } else {
        serde_json::from_str(body).unwrap_or_else(|_| body.into())
    };
    (body, status.parse().unwrap())
}

/// What the workload is told for a URL: the body on success, the status and reason else.
#[track_caller]
pub(crate) fn ask(gate: &Attached<'_>, arguments: &[&str]) -> String {
    let own = ["curl", "-sS", "--max-time", "30", "-w", "\n%{http_code} %header{x-sluicegate-reason}"];
    let outcome = gate.run([&own[..], arguments].concat());
    outcome.assert_success();
    match outcome.stdout.rsplit_once('\n').unwrap() {
        (body, "200 ") => body.to_owned(),
        (_, rest) => rest.to_owned(),
    }
}

/// The generation in force.
#[track_caller]
pub(crate) fn generation(gate: &Attached<'_>) -> String {
    asked(gate, &["status", "get"])["generation"].as_str().unwrap().to_owned()
}

/// Starts a request of the workload that will wait; it prints the status and reason at its end.
pub(crate) fn start<'world>(gate: &Attached<'world>, arguments: &[&str]) -> Running<'world> {
    let own = [
        "curl",
        "-sS",
        "--max-time",
        "50",
        "-o",
        "/dev/null",
        "-w",
        "%{http_code} %header{x-sluicegate-reason}\n",
    ];
    gate.job([&own[..], arguments].concat()).spawn()
}

/// Waits until this many questions wait for a person, and returns them.
#[track_caller]
pub(crate) fn waiting(gate: &Attached<'_>, count: usize) -> Vec<Value> {
    let began = Instant::now();
    loop {
        let pending = asked(gate, &["approval", "list"])["pending"].as_array().unwrap().clone();
        if pending.len() == count {
            return pending;
        }
        assert!(began.elapsed() < DEADLINE, "{} questions wait, not {count}", pending.len());
    }
}

/// The lines about something done to the gate.
pub(crate) fn actions(log: &[Value], action: &str) -> Vec<Value> {
    log.iter().filter(|line| line["kind"] == "control" && line["action"] == action).cloned().collect()
}
