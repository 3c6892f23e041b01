//! A handler that wants too much costs its own request, in bounded time, and nobody else's.

use std::fs;
use std::time::{Duration, Instant};

use e2e::{World, wait_until};

use crate::language::Language;
use crate::scenarios::LOOP;
use crate::stage::{SLOW, Served, Stage};

in_every_language! {
    h06_a_loop_ends_when_its_processor_time_is_over
    h06_what_wants_too_much_costs_its_own_request
    h06_loops_do_not_hold_up_other_requests
    h06_a_handler_that_takes_memory_leaves_the_gate_as_it_was
    h06_waiting_costs_no_processor_time
}

/// What handlers do that they should not, but for loops: each is answered with 502.
pub(crate) const GREEDY: [&str; 8] =
    ["/throw", "/panic", "/trap", "/grow", "/flood", "/output", "/logs", "/recurse"];

/// How many at once.
const LOOPS: usize = 4;

/// A gate on which the handler has `scenario.test`, a handler in Rhai has `small.test`, and
/// `plain.test` has none.
pub(crate) fn serve<'stage, 'world>(stage: &'stage Stage<'world>) -> Served<'stage, 'world> {
    stage.world.file("handlers/small.rhai", "fn outbound(request, env, ctx) { fetch(request) }");
    let text = format!(
        "allowed_hosts = [\"scenario.test\", \"small.test\", \"plain.test\"]\n\
         outbound_by_host.\"scenario.test\" = \"{}\"\n\
         outbound_by_host.\"small.test\" = \"handlers/small.rhai\"",
        stage.language.handler()
    );
    let document = stage.document(&text);
    let document = document.replace(
        "\"plain.test:80\"",
        &format!(
            "\"small.test:80\" = \"{}\", \"small.test:443\" = \"{}\", \"plain.test:80\"",
            stage.site.plain.address(),
            stage.site.tls.address()
        ),
    );
    stage.attach(stage.gate(&document))
}

fn h06_a_loop_ends_when_its_processor_time_is_over(language: Language) {
    let world = World::new("h06-loop");
    let stage = Stage::new(&world, language);
    let gate = serve(&stage);
    let began = Instant::now();
    (LOOP.check)(&gate);
    let took = began.elapsed();
    // Two seconds of processor time, on a machine that does other things too.
    assert!(took > Duration::from_secs(1) && took < Duration::from_secs(20), "{took:?}");
    gate.ask("/allow", &[]).assert_body(200, "origin: GET /allow");
}

fn h06_what_wants_too_much_costs_its_own_request(language: Language) {
    let world = World::new("h06");
    let stage = Stage::new(&world, language);
    let gate = serve(&stage);
    for path in GREEDY {
        // Among others, on connections of their own.
        let others = gate.gate.job(others(6)).spawn();
        let began = Instant::now();
        gate.ask(path, &[]).assert_refused(502, "handler_failed");
        assert!(began.elapsed() < Duration::from_secs(20), "{path} took {:?}", began.elapsed());
        assert_unharmed(others, 6);
        gate.ask("/answer", &[]).assert_body(201, "answered\n");
    }
}

fn h06_loops_do_not_hold_up_other_requests(language: Language) {
    let world = World::new("h06-loops");
    let stage = Stage::new(&world, language);
    let gate = serve(&stage);
    let one = "curl -sS --max-time 60 -o /dev/null -w '%{http_code}\n' https://scenario.test/loop &\n";
    let loops = gate.gate.job(["sh", "-c", &format!("{}wait", one.repeat(LOOPS))]).spawn();
    wait_until("the loops", Duration::from_secs(20), || {
        let status = gate.gate.operator(["status", "get", "--json"]).run();
        status.assert_success();
        status.json()["requests"].as_u64().unwrap() >= LOOPS as u64
    });
    assert_unharmed(gate.gate.job(others(10)).spawn(), 10);
    let unfinished = loops.stdout().lines().count() < LOOPS;
    assert!(unfinished, "the loops ended before they could hold anybody up");
    loops.wait().assert_success().assert_stdout(&"504\n".repeat(LOOPS));
}

fn h06_a_handler_that_takes_memory_leaves_the_gate_as_it_was(language: Language) {
    let world = World::new("h06-memory");
    let stage = Stage::new(&world, language);
    let mut gate = serve(&stage);
    gate.ask("/allow", &[]).assert_body(200, "origin: GET /allow");
    gate.ask("/grow", &[]).assert_refused(502, "handler_failed");
    let resident = |gate: &mut Served<'_, '_>| {
        let status = fs::read_to_string(format!("/proc/{}/status", gate.gate.running().pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap()
    };
    let before = resident(&mut gate);
    for path in ["/grow", "/output"].repeat(10) {
        gate.ask(path, &[]).assert_refused(502, "handler_failed");
    }
    let after = resident(&mut gate);
    // Nothing of it stays; one more instance may.
    assert!(after < before + 64 * 1024, "from {before} KiB to {after} KiB");
}

fn h06_waiting_costs_no_processor_time(language: Language) {
    let world = World::new("h06-waits");
    let stage = Stage::new(&world, language);
    // Less than the origin takes, and more than any of the languages needs.
    let document = stage.catch_all().replace("cpu_ms = 2000", "cpu_ms = 700");
    let gate = stage.attach(stage.gate(&document));
    let began = Instant::now();
    gate.ask("/allow?slow", &[]).assert_body(200, "origin: GET /allow");
    assert!(began.elapsed() >= SLOW, "{:?}", began.elapsed());
    gate.ask("/loop", &[]).assert_refused(504, "handler_timeout");
}

/// A curl that asks hosts with another handler, and without one, so many times.
fn others(turns: usize) -> Vec<String> {
    let urls = ["http://plain.test/", "https://small.test/", "https://plain.test/", "http://small.test/"];
    let own = ["curl", "-sS", "--max-time", "20", "-w", "\n%{http_code} %{time_total}\n"];
    [&own[..], &urls.repeat(turns)].concat().into_iter().map(str::to_owned).collect()
}

/// Fails unless each of these was answered, and at once.
#[track_caller]
fn assert_unharmed(others: e2e::Running<'_>, turns: usize) {
    let others = others.wait();
    others.assert_success();
    let times: Vec<f64> =
        others.stdout.lines().filter_map(|line| line.strip_prefix("200 ")?.parse().ok()).collect();
    assert_eq!(times.len(), 4 * turns, "{others:?}");
    assert!(times.iter().all(|time| *time < 1.0), "{times:?}");
}
