//! The handler is swapped while the workload runs: by another one, of another language, or a broken one.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use e2e::{Attached, World, wait_until};
use serde_json::json;

use crate::language::Language;
use crate::stage::{Stage, assert_line};

in_every_language! {
    h01_one_connection_gets_a_then_b
    h02_swapping_under_load_loses_nothing
    h04_a_policy_that_is_set_holds_for_the_next_request
    h07_a_broken_handler_is_refused_and_the_old_one_serves
}

const DEADLINE: Duration = Duration::from_secs(30);

/// A connection of the workload's that stays open.
struct Connection {
    sending: TcpStream,
    answers: BufReader<TcpStream>,
}

impl Connection {
    fn open(gate: &Attached<'_>) -> Self {
        let address = SocketAddr::from(([198, 51, 100, 9], 80));
        let sending = gate.namespace().enter(|| TcpStream::connect_timeout(&address, DEADLINE)).unwrap();
        sending.set_read_timeout(Some(DEADLINE)).unwrap();
        sending.set_nodelay(true).unwrap();
        let answers = BufReader::new(sending.try_clone().unwrap());
        Self { sending, answers }
    }

    /// Asks `h.test` for a path; the status and the body. Fails where the connection is closed.
    #[track_caller]
    fn ask(&mut self, path: &str) -> (u16, String) {
        write!(self.sending, "GET {path} HTTP/1.1\r\nHost: h.test\r\n\r\n").unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let length = self.answers.read_until(b'\n', &mut head).unwrap();
            assert!(length > 0, "the connection was closed: {}", String::from_utf8_lossy(&head));
        }
        let head = String::from_utf8(head).unwrap().to_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
        let mut body = vec![0; length.parse().unwrap()];
        self.answers.read_exact(&mut body).unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), String::from_utf8(body).unwrap())
    }

    /// The `greeting` that the handler was bound with.
    #[track_caller]
    fn greeting(&mut self) -> serde_json::Value {
        let (status, body) = self.ask("/json");
        assert_eq!(status, 200, "{body}");
        serde_json::from_str::<serde_json::Value>(&body).unwrap()["greeting"].clone()
    }
}

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
    let mut connection = Connection::open(&gate.gate);
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
const SWAP_PAUSE: Duration = Duration::from_millis(60);
const CONNECTIONS: usize = 4;
/// Between two requests of one connection.
const REQUEST_PAUSE: Duration = Duration::from_millis(10);

fn h02_swapping_under_load_loses_nothing(language: Language) {
    let world = World::new("h02");
    let stage = Stage::new(&world, language);
    let gate = stage.attach(stage.gate(&stage.document(&named(&stage))));
    let set = |version: u64| {
        let params = json!({"greeting": version}).to_string();
        // By turns, so that the program changes as well as what it is given.
        let name = if version.is_multiple_of(2) { "a" } else { "other" };
        gate.gate.operator(["handler", "set", name, "--params", &params]).run().assert_success();
    };
    set(0);
    let swapped = AtomicBool::new(false);
    let seen: Vec<Vec<u64>> = thread::scope(|scope| {
        let clients: Vec<_> = (0..CONNECTIONS)
            .map(|_| {
                let mut connection = Connection::open(&gate.gate);
                let swapped = &swapped;
                scope.spawn(move || {
                    let mut versions = Vec::new();
                    loop {
                        let is_last = swapped.load(Ordering::SeqCst);
                        versions.push(connection.greeting().as_u64().unwrap());
                        if is_last {
                            return versions;
                        }
                        thread::sleep(REQUEST_PAUSE);
                    }
                })
            })
            .collect();
        for version in 1..=SWAPS {
            set(version);
            thread::sleep(SWAP_PAUSE);
        }
        swapped.store(true, Ordering::SeqCst);
        clients.into_iter().map(|client| client.join().unwrap()).collect()
    });
    let total: usize = seen.iter().map(Vec::len).sum();
    eprintln!("{language}: {total} requests on {CONNECTIONS} connections, {SWAPS} swaps");
    for versions in &seen {
        assert!(versions.is_sorted(), "an older version came after a newer one: {versions:?}");
        assert_eq!(versions.last(), Some(&SWAPS), "the last version does not serve");
        let distinct = versions.chunk_by(|one, other| one == other).count() as u64;
        assert!(distinct > SWAPS / 3, "only {distinct} versions were seen");
    }
    let log = gate.gate.log();
    let failed: Vec<_> =
        log.iter().filter(|line| line["kind"] == "exchange" && line["status"] != 200).collect();
    assert!(failed.is_empty(), "{failed:#?}");
}

fn h04_a_policy_that_is_set_holds_for_the_next_request(language: Language) {
    let world = World::new("h04");
    let stage = Stage::new(&world, language);
    let gate =
        stage.attach(stage.gate(&stage.site.policy(&world, "allowed_hosts = [\"h.test\"]", &["h.test"])));
    let mut connection = Connection::open(&gate.gate);
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
    let mut connection = Connection::open(&gate.gate);
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
