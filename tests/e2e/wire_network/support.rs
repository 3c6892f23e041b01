//! The policies, clients and callers of these tests, and how a log is searched.

use std::fs;
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use e2e::{Attached, Identity, Job, Origin, OriginConfig, Outcome, Reply, World};
use serde_json::Value;

pub(crate) const PYTHON: &str = "/usr/bin/python3";

/// A policy that allows the hosts of these authorities, and finds them at these addresses.
pub(crate) fn allowing(world: &World, found: &[(&str, SocketAddr)]) -> String {
    let hosts: Vec<_> = found.iter().map(|(authority, _)| authority.rsplit_once(':').unwrap().0).collect();
    format!("version = 1\nallowed_hosts = {hosts:?}\n{}", world.upstream(found))
}

/// A policy that allows `https://api.test` only, at this origin.
pub(crate) fn allowing_api(world: &World, origin: &Origin) -> String {
    allowing(world, &[("api.test:443", origin.address())])
}

/// A server without TLS on port 80.
pub(crate) fn plain(alpn: &'static [&'static str]) -> OriginConfig {
    OriginConfig { port: 80, identity: Identity::Plain, alpn, ..OriginConfig::default() }
}

pub(crate) fn curl(gate: &Attached<'_>, arguments: &[&str]) -> Outcome {
    gate.run([&["curl", "-sS"], arguments].concat())
}

/// What a Python script printed, as JSON.
#[track_caller]
pub(crate) fn python(job: Job<'_>) -> Value {
    let outcome = job.run();
    outcome.assert_success();
    outcome.json()
}

pub(crate) fn script<'a>(text: &'a str, arguments: &[&'a str]) -> Vec<&'a str> {
    [&[PYTHON, "-c", text], arguments].concat()
}

/// Asks for a fact until it is there.
#[track_caller]
pub(crate) fn until(what: &str, mut fact: impl FnMut() -> bool) {
    let started = Instant::now();
    while !fact() {
        assert!(started.elapsed() < Duration::from_secs(20), "waited in vain: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// The lines of a log about one thing: `(field, value)` pairs that must all hold.
pub(crate) fn lines<'a>(log: &'a [Value], wanted: &[(&str, Value)]) -> Vec<&'a Value> {
    log.iter().filter(|line| wanted.iter().all(|(field, value)| line[*field] == *value)).collect()
}

/// Waits for the one line of the log about something, and sees that it stays the only one so far.
#[track_caller]
pub(crate) fn one_line(gate: &mut Attached<'_>, wanted: &[(&str, Value)]) -> Value {
    let line = gate.wait_for_log(|line| wanted.iter().all(|(field, value)| line[*field] == *value));
    let log = gate.log();
    assert_eq!(lines(&log, wanted).len(), 1, "{wanted:?} in {log:#?}");
    line
}

pub(crate) fn api_origin(world: &World) -> (Origin, String) {
    let origin = Origin::start(world, |_| Reply::text("hello"));
    let policy = allowing_api(world, &origin);
    (origin, policy)
}

/// `sluicegate run` as another caller than the workload's user in its home.
pub(crate) fn run_as<'world>(
    world: &'world World,
    caller: &[&str],
    policy: &str,
    command: &[&str],
) -> Job<'world> {
    let (log, policy) = (world.path("log/run.jsonl"), world.file("run.toml", policy));
    let [log, policy] = [log, policy].map(|path| path.display().to_string());
    let gate = world.program("sluicegate");
    let line = [caller, &[&gate, "run", "--quiet", "--policy", &policy, "--log", &log, "--"], command];
    world.root_job(world.gate_namespace(), line.concat())
}

pub(crate) const CLOSED: &str = "version = 1\n";

pub(crate) fn child_of(parent: i32) -> i32 {
    let children = format!("/proc/{parent}/task/{parent}/children");
    fs::read_to_string(children).unwrap().split_whitespace().next().unwrap().parse().unwrap()
}
