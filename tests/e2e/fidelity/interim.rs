//! What an origin says before it answers, for every pair of versions: early hints, and leave to send a body.

use std::net::SocketAddr;
use std::time::Duration;

use e2e::{Attached, ORIGIN_IPV4, Running, World};
use serde_json::{Value, json};

use crate::support::{ANYWHERE, DEADLINE};

/// The version of the workload, and the port of an origin that speaks 1.1, or 2.
const PAIRS: [(&str, u16); 4] = [("1.1", 8080), ("1.1", 8443), ("2", 8080), ("2", 8443)];

struct Speaking<'world> {
    world: &'world World,
    origin: Running<'world>,
}

/// What a client was told.
#[derive(Debug)]
struct Told {
    /// Each head: its status and its fields.
    said: Vec<(u64, Value)>,
    /// Until the first of them, in seconds.
    took: f64,
    body: String,
}

impl Told {
    fn statuses(&self) -> Vec<u64> {
        self.said.iter().map(|(status, _)| *status).collect()
    }
}

impl<'world> Speaking<'world> {
    fn start(world: &'world World) -> Self {
        let program = world.file("origin.mjs", include_str!("interim_origin.mjs"));
        let (certificate, key) = world.certificate_files(&["api.test"]);
        let [program, certificate, key] = [program, certificate, key].map(|file| file.display().to_string());
        let address = ORIGIN_IPV4.to_string();
        let line = ["node", &program, &address, "8080", "8443", &certificate, &key];
        let mut origin = world.root_job(world.origin_namespace(), line).spawn();
        origin.wait_for_output("ready");
        Self { world, origin }
    }

    /// A document that finds both, with `settings` before its tables and `rules` behind.
    fn policy(&self, (settings, rules): (&str, &str)) -> String {
        let hosts = [("api.test:8080", 8080), ("api.test:8443", 8443)];
        let found = hosts.map(|(host, port)| (host, SocketAddr::new(ORIGIN_IPV4.into(), port)));
        let found = self.world.upstream(&found);
        format!(
            "version = 1\n{settings}\n\
             allowed_hosts = [\"https://api.test:8080\", \"https://api.test:8443\"]\n{found}\n{rules}"
        )
    }

    /// One request, and what is said to it.
    fn ask(&self, gate: &Attached<'_>, (version, port): (&str, u16), request: &str) -> Told {
        let text = [include_str!("http2_both.py"), include_str!("interim_client.py")].concat();
        let (method, path) = request.split_once(' ').unwrap();
        let (address, port) = (ANYWHERE.to_string(), port.to_string());
        let authority = gate.ca_file().display().to_string();
        let python = self.world.test_dependency("py/bin/python3");
        let line = [&*python, "-c", &text, &address, &port, &authority, version, method, path];
        let outcome = self.world.root_job(gate.namespace(), line).run();
        outcome.assert_success();
        let told = outcome.json();
        let head = |head: &Value| (head[0].as_u64().unwrap(), head[1].clone());
        Told {
            said: told["said"].as_array().unwrap().iter().map(head).collect(),
            took: told["took"].as_f64().unwrap(),
            body: told["body"].as_str().unwrap().to_owned(),
        }
    }

    /// What the origin saw so far.
    fn events(&self) -> Vec<Value> {
        let printed = self.origin.stdout();
        // The last line may be on its way.
        let lines = printed.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        lines.map(|line| serde_json::from_str(line).expect("it prints JSON")).collect()
    }

    /// How many bytes came of the body of one of the requests for `path`, counted from 0.
    fn body(&mut self, path: &str, number: usize) -> Value {
        loop {
            let events = self.events().into_iter();
            let mut bodies = events.filter(|event| event["event"] == "body" && event["path"] == path);
            if let Some(body) = bodies.nth(number) {
                return body["bytes"].clone();
            }
            self.origin.wait_a_little();
        }
    }
}

#[test]
fn w09_early_hints_pass_for_every_pair_of_versions() {
    let world = World::new("w09-early-hints");
    let speaking = Speaking::start(&world);
    let gate = world.gate(&speaking.policy(("", ""))).attach();
    for pair in PAIRS {
        let told = speaking.ask(&gate, pair, "GET /hints");
        assert_eq!(told.statuses(), [103, 102, 103, 200], "{pair:?}: {told:?}");
        let links = json!([["link", "</a.css>; rel=preload"], ["link", "</b.js>"]]);
        assert_eq!(told.said[0].1, links, "{pair:?}");
        assert_eq!(told.said[1].1, json!([]), "{pair:?}");
        assert_eq!(told.said[2].1, json!([["link", "</c>"]]), "{pair:?}");
        assert_eq!(told.body, "ok", "{pair:?}");
    }
    // The pairs are what they are said to be.
    let versions = || -> Vec<_> {
        speaking
            .events()
            .iter()
            .map(|event| event["version"].clone())
            .filter(|version| !version.is_null())
            .collect()
    };
    e2e::wait_until("what the origin saw", DEADLINE, || versions().len() >= PAIRS.len());
    assert_eq!(versions(), ["1.1", "2", "1.1", "2"]);
}

#[test]
fn w09_curl_shows_the_early_hints_of_http2() {
    let world = World::new("w09-early-hints-curl");
    let speaking = Speaking::start(&world);
    let gate = world.gate(&speaking.policy(("", ""))).attach();
    let curl = ["curl", "-sS", "--http2", "-D", "-", "https://api.test:8443/hints"];
    let outcome = gate.run(curl);
    let shown = &outcome.assert_success().stdout;
    let statuses: Vec<_> = shown.lines().filter(|line| line.starts_with("HTTP/2 ")).map(str::trim).collect();
    assert_eq!(statuses, ["HTTP/2 103", "HTTP/2 102", "HTTP/2 103", "HTTP/2 200"], "{shown}");
    assert!(shown.contains("link: </b.js>\r\n") && shown.ends_with("\r\n\r\nok"), "{shown}");
}

#[test]
fn w09_a_flood_of_early_hints_on_http2_is_cut_and_answered() {
    let world = World::new("w09-flood");
    let speaking = Speaking::start(&world);
    let gate = world.gate(&speaking.policy(("", ""))).attach();
    for pair in PAIRS {
        let told = speaking.ask(&gate, pair, "GET /flood");
        let statuses = told.statuses();
        let (last, hints) = statuses.split_last().unwrap();
        assert_eq!((*last, &*told.body), (200, "ok"), "{pair:?}");
        assert!(!hints.is_empty() && hints.iter().all(|status| *status == 103), "{pair:?}");
        // A head's worth, and one more.
        assert!(pair.0 == "1.1" || hints.len() * 200 < 64 * 1024 + 1000, "{pair:?}: {}", hints.len());
    }
}

#[test]
fn w07_leave_to_send_a_body_is_the_origins_on_http2_too() {
    let world = World::new("w07-http2");
    let mut speaking = Speaking::start(&world);
    let mut gate = world.gate(&speaking.policy(("", ""))).attach();
    for (number, pair) in PAIRS.into_iter().enumerate() {
        let told = speaking.ask(&gate, pair, "PUT /taken");
        assert_eq!((told.statuses(), &*told.body), (vec![100, 200], "ok"), "{pair:?}: {told:?}");
        assert!(told.took < 0.9, "{pair:?}: {told:?}");
        assert_eq!(speaking.body("/taken", number), 5, "{pair:?}");

        // A server that says nothing holds nobody up for longer than it does without the gate.
        let told = speaking.ask(&gate, pair, "PUT /silent");
        assert_eq!((told.statuses(), &*told.body), (vec![100, 200], "ok"), "{pair:?}: {told:?}");
        assert!(told.took < 3.0, "{pair:?}: {told:?}");
        assert_eq!(speaking.body("/silent", number), 5, "{pair:?}");

        let told = speaking.ask(&gate, pair, "PUT /refused");
        assert_eq!((told.statuses(), &*told.body), (vec![417], "no"), "{pair:?}: {told:?}");
        assert_eq!(speaking.body("/refused", number), 0, "{pair:?}");
    }
    gate.wait_for_log(|line| line["path"] == "/refused" && line["status"] == 417);
    let asked = speaking.events();
    let asked: Vec<_> = asked.iter().filter(|event| event["event"] == "head").collect();
    assert!(asked.iter().all(|event| event["expect"] == "100-continue"), "{asked:?}");
}

#[test]
fn w07_a_handler_that_reads_a_body_asks_for_it() {
    let world = World::new("w07-handler");
    let speaking = Speaking::start(&world);
    let handler = "let text = request.read_text(100);\nlet answer = fetch(\"https://api.test:8443/hints\");\n\
                   answer.set_header(\"x-length\", `${text.len()}`);\nanswer";
    world.file("handlers/reads.rhai", format!("fn outbound(request, env, ctx) {{\n{handler}\n}}\n"));
    let gate = world.gate(&speaking.policy(("outbound = \"handlers/reads.rhai\"", ""))).attach();
    for version in ["1.1", "2"] {
        let began = std::time::Instant::now();
        let told = speaking.ask(&gate, (version, 8443), "PUT /read");
        // What is said to the handler's own request is not for the workload.
        assert_eq!(told.statuses(), [100, 200], "{version}: {told:?}");
        assert!(told.took < 0.9 && began.elapsed() < Duration::from_secs(20), "{version}: {told:?}");
        let fields = told.said[1].1.as_array().unwrap();
        assert!(fields.contains(&json!(["x-length", "5"])), "{version}: {told:?}");
    }
}

#[test]
fn w09_nothing_passes_unsearched_before_an_answer_that_is_searched() {
    let world = World::new("w09-masked");
    let mut speaking = Speaking::start(&world);
    let rules = r#"
[secrets.TOKEN]
source = "env://TOKEN"
hosts = ["api.test:8080", "api.test:8443"]
scrub = true
[[rules]]
host = "https://api.test:8080"
set_headers = { authorization = "Bearer ${secret:TOKEN}" }
[[rules]]
host = "https://api.test:8443"
set_headers = { authorization = "Bearer ${secret:TOKEN}" }
"#;
    let gate = world.gate(&speaking.policy(("", rules))).env("TOKEN", "s3cret-of-the-hints").attach();
    for (number, pair) in PAIRS.into_iter().enumerate() {
        let told = speaking.ask(&gate, pair, "GET /hints");
        assert_eq!((told.statuses(), &*told.body), (vec![200], "ok"), "{pair:?}: {told:?}");
        // What says nothing is not held back.
        let told = speaking.ask(&gate, pair, "PUT /taken");
        assert_eq!((told.statuses(), &*told.body), (vec![100, 200], "ok"), "{pair:?}: {told:?}");
        assert_eq!(speaking.body("/taken", number), 5, "{pair:?}");
    }
}
