//! The handler is swapped while the workload runs: by another one, of another language, or a broken one.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use e2e::{Attached, World, wait_until};
use serde_json::{Value, json};

use crate::connection::Connection;
use crate::language::Language;
use crate::stage::{Served, Stage, assert_line};

in_every_language! {
    h01_one_connection_gets_a_then_b
    h02_swapping_under_load_loses_and_mixes_nothing
    h04_a_policy_that_is_set_holds_for_the_next_request
    h07_a_broken_handler_is_refused_and_the_old_one_serves
}

const DEADLINE: Duration = Duration::from_secs(30);

/// `a` and `b` in this language, and `other` in Rhai, to be set by name.
fn named(stage: &Stage<'_>) -> String {
    Language::Rhai.place(stage.world);
    let entry = |name: &str, language: Language| {
        format!("{name} = {{ handler = \"{}\", params = {{ greeting = \"{name}\" }} }}\n", language.handler())
    };
    format!(
        "[outbound_handlers]\n{}{}{}",
        entry("a", stage.language),
        entry("b", stage.language),
        entry("other", Language::Rhai)
    )
}

fn h01_one_connection_gets_a_then_b(language: Language) {
    let world = World::new("h01");
    let stage = Stage::new(&world, language);
    let gate = stage.attach(stage.gate(&stage.document(&named(&stage))));
    let set = |name: &str| gate.gate.operator(["handler", "set", name]).run().assert_success().code();
    set("a");
    let mut connection = Connection::open(&gate.gate, "h.test");
    for name in ["a", "b", "other", "a", "other", "b"] {
        set(name);
        assert_eq!(connection.greeting(), name);
    }
    let served = || {
        let log = gate.gate.log();
        let exchanges = log.iter().filter(|line| line["kind"] == "exchange");
        exchanges.map(|line| line["handler"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    wait_until("the last line", DEADLINE, || served().len() == 6);
    assert_eq!(served(), ["a", "b", "other", "a", "other", "b"]);
}

/// How many policies are put in force under load, and how long each stays at least.
const SWAPS: u64 = 25;
const SWAP_PAUSE: Duration = Duration::from_millis(100);
const CONNECTIONS: usize = 16;
/// Connections to a host that has a handler of its own all the time.
const BESIDE: usize = 16;
/// Between two requests of one connection: 1,600 a second for each of both, where the language can do that.
const REQUEST_PAUSE: Duration = Duration::from_millis(10);
/// Requests a second that the gate is under while it is swapped.
const RATE_MIN: f64 = 1_000.0;

/// How many of them go through the handlers that are swapped at least, with two processors for the gate, the
/// origin and the clients, and in a build that is hardly optimised.
fn swapped_rate_min(language: Language) -> f64 {
    match language {
        Language::Rhai | Language::Rust => 600.0,
        Language::JavaScript => 400.0,
        Language::Python => 200.0,
    }
}

fn h02_swapping_under_load_loses_and_mixes_nothing(language: Language) {
    let world = World::new("h02");
    let stage = Stage::new(&world, language);
    world.file("handlers/beside.rhai", "fn outbound(request, env, ctx) { fetch(request) }");
    let beside = "outbound_by_host.\"plain.test\" = \"handlers/beside.rhai\"\n";
    let gate = stage.attach(stage.gate(&stage.document(&format!("{beside}{}", named(&stage)))));
    // By turns, so that the program changes as well as what it is given.
    let name = |version: u64| if version.is_multiple_of(2) { "a" } else { "other" };
    let set = |version: u64| {
        let params = json!({"greeting": version}).to_string();
        let set = gate.gate.operator(["handler", "set", name(version), "--params", &params, "--json"]).run();
        set.assert_success();
        set.json()["generation"].as_str().unwrap().to_owned()
    };
    let mut generations = vec![set(0)];
    let swapped = AtomicBool::new(false);
    let began = Instant::now();
    let (seen, beside): (Vec<Vec<Option<u64>>>, Vec<_>) = thread::scope(|scope| {
        let swapped = &swapped;
        let start = |host, asks_the_origin| {
            let connection = Connection::open(&gate.gate, host);
            scope.spawn(move || load(connection, asks_the_origin, swapped))
        };
        // Some wait for the origin, and are swapped in the middle.
        let clients: Vec<_> =
            (0..CONNECTIONS).map(|number| start("scenario.test", number % 4 == 0)).collect();
        let beside: Vec<_> = (0..BESIDE).map(|_| start("plain.test", true)).collect();
        for version in 1..=SWAPS {
            generations.push(set(version));
            thread::sleep(SWAP_PAUSE);
        }
        swapped.store(true, Ordering::SeqCst);
        let join = |clients: Vec<thread::ScopedJoinHandle<'_, _>>| {
            clients.into_iter().map(|client| client.join().unwrap()).collect()
        };
        (join(clients), join(beside))
    });
    let took = began.elapsed().as_secs_f64();
    let told = seen.concat();
    let beside = beside.concat().len();
    let (rate, swapped_rate) = ((told.len() + beside) as f64 / took, told.len() as f64 / took);
    eprintln!("{language}: {rate:.0} requests a second, {swapped_rate:.0} of them swapped, {SWAPS} swaps");
    assert!(rate >= RATE_MIN, "{language}: only {rate:.0} requests a second");
    assert!(
        swapped_rate >= swapped_rate_min(language),
        "{language}: only {swapped_rate:.0} a second swapped"
    );
    for versions in seen.iter().filter(|versions| versions.iter().any(Option::is_some)) {
        assert!(versions.is_sorted(), "an older version came after a newer one: {versions:?}");
        assert_eq!(versions.last(), Some(&Some(SWAPS)), "the last version does not serve");
        let distinct = versions.chunk_by(|one, other| one == other).count() as u64;
        assert!(distinct > SWAPS / 3, "only {distinct} versions were seen");
    }
    let name = |version: u64| name(version).to_owned();
    assert_the_log_says_it(&gate, &generations, name, &told, beside);
}

/// What answered a request, with what it was given, is of the generation that the log names.
fn assert_the_log_says_it(
    gate: &Served<'_, '_>,
    generations: &[String],
    name: impl Fn(u64) -> String,
    told: &[Option<u64>],
    beside: usize,
) {
    let mut log = Vec::new();
    wait_until("all lines", DEADLINE, || {
        log = gate.gate.log();
        log.retain(|line| line["kind"] == "exchange");
        log.len() >= told.len() + beside
    });
    let served = |line: &Value| line["handler"] == "handlers/beside.rhai" && line["status"] == 200;
    let before = log.len();
    log.retain(|line| line["host"] != "plain.test" || !served(line));
    assert_eq!(before - log.len(), beside, "responses beside");
    for (version, generation) in (0..).zip(generations) {
        let of_it = log.iter().filter(|line| line["generation"] == **generation);
        let (of_it, mixed): (Vec<&Value>, Vec<_>) =
            of_it.partition(|line| line["handler"] == name(version) && line["status"] == 200);
        assert!(mixed.is_empty(), "{mixed:#?}");
        let answered = of_it.iter().filter(|line| line["path"] == "/json").count();
        let told = told.iter().filter(|told| **told == Some(version)).count();
        assert_eq!(answered, told, "responses of version {version}");
    }
    let is_known = |line: &Value| generations.iter().any(|one| line["generation"] == **one);
    assert!(log.len() == told.len() && log.iter().all(is_known), "{} lines of {}", log.len(), told.len());
}

/// Sends one request after the other until all is swapped and once more, and returns the versions that
/// answered; none where the origin does. What is not answered with 200 fails the test.
fn load(mut connection: Connection, asks_the_origin: bool, swapped: &AtomicBool) -> Vec<Option<u64>> {
    let mut versions = Vec::new();
    let mut next = Instant::now();
    loop {
        let is_last = swapped.load(Ordering::SeqCst);
        if asks_the_origin {
            assert_eq!(connection.ask("/allow"), (200, "origin: GET /allow".to_owned()));
            versions.push(None);
        } else {
            versions.push(Some(connection.greeting().as_u64().unwrap()));
        }
        if is_last {
            return versions;
        }
        next = Instant::now().max(next + REQUEST_PAUSE);
        thread::sleep(next.saturating_duration_since(Instant::now()));
    }
}

fn h04_a_policy_that_is_set_holds_for_the_next_request(language: Language) {
    let world = World::new("h04");
    let stage = Stage::new(&world, language);
    let gate =
        stage.attach(stage.gate(&stage.site.policy(&world, "allowed_hosts = [\"h.test\"]", &["h.test"])));
    let mut connection = Connection::open(&gate.gate, "h.test");
    assert_eq!(connection.ask("/answer"), (200, "origin: GET /answer".to_owned()));
    let file = world.file("next.toml", stage.catch_all());
    gate.gate.operator(["policy", "set", file.to_str().unwrap()]).run().assert_success();
    assert_eq!(connection.ask("/answer"), (201, "answered\n".to_owned()));
    let (status, body) = connection.ask("/deny");
    assert!(status == 403 && body.contains("denied_by_handler"), "{status} {body}");
    gate.gate.operator(["policy", "reset"]).run().assert_success();
    assert_eq!(connection.ask("/deny"), (200, "origin: GET /deny".to_owned()));
}

fn h07_a_broken_handler_is_refused_and_the_old_one_serves(language: Language) {
    let world = World::new("h07");
    let stage = Stage::new(&world, language);
    let mut gate = stage.serve();
    let handler = language.handler();
    let mut connection = Connection::open(&gate.gate, "h.test");
    assert_eq!(connection.greeting(), "hello");
    let generation = |gate: &Attached<'_>| {
        let status = gate.operator(["status", "get", "--json"]).run();
        status.assert_success();
        status.json()["generation"].clone()
    };
    let before = generation(&gate.gate);

    // Handed over, it is refused with its file, and nothing has changed.
    let broken = handler.replace("handlers/", "handlers/broken-");
    world.file(&broken, language.broken());
    let text = stage.catch_all().replace(handler, &broken);
    let file = world.file("broken.toml", text);
    let refused = gate.gate.operator(["policy", "set", file.to_str().unwrap()]).run();
    assert_eq!(refused.code(), 78, "{refused:?}");
    assert!(refused.stderr.contains(&broken), "{refused:?}");
    assert_eq!((connection.greeting(), generation(&gate.gate)), (json!("hello"), before.clone()));

    // Written in place of the one in force, it is told of in the log, and the old one serves.
    world.file(handler, language.broken());
    let line =
        gate.gate.wait_for_log(|line| line["action"] == "policy_refused" && line["actor"] == "file watch");
    assert_line(&line, &json!({"kind": "control"}));
    let detail = line["detail"].as_str().unwrap();
    assert!(detail.contains(handler), "{detail}");
    if matches!(language, Language::Rhai | Language::JavaScript) {
        assert!(
            detail.contains(&format!("{handler}:2:")) || detail.contains(&format!("{handler}:3:")),
            "{detail}"
        );
    }
    assert_eq!((connection.greeting(), generation(&gate.gate)), (json!("hello"), before));
    gate.ask("/answer", &[]).assert_body(201, "answered\n");
}
