//! Policies and handlers that change under a running workload.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use e2e::{Attached, Origin, Reply, Running, Site, World};
use serde_json::json;

use crate::support::{PYTHON, answer, assert_answer, assert_line, curl, dial, handler, of_kind, script};

/// Asks each time it is told to, by one connection; tells status, body and local port.
const ONE_HTTP1_CONNECTION: &str = r#"
import http.client, sys
scheme = {"http": http.client.HTTPConnection, "https": http.client.HTTPSConnection}[sys.argv[1]]
connection = scheme(sys.argv[2])
for line in sys.stdin:
    connection.request("GET", "/")
    response = connection.getresponse()
    body = response.read().decode()
    print(response.status, body.strip(), connection.sock.getsockname()[1], flush=True)
"#;

const ONE_HTTP2_CONNECTION: &str = r#"
const session = require("http2").connect("https://" + process.argv[1]);
const end = error => { console.log(String(error)); process.exit(1); };
session.on("error", end).on("goaway", code => end("goaway " + code));
const lines = require("readline").createInterface({ input: process.stdin });
lines.on("close", () => process.exit(0)).on("line", () => {
  const stream = session.request({ ":path": "/" });
  let status, body = "";
  stream.on("response", headers => { status = headers[":status"]; }).on("data", data => { body += data; });
  stream.on("error", end).on("end", () => console.log(status, body.trim(), session.socket.localPort));
});
"#;

/// A client that asks by one connection whenever it is told to.
struct OneConnection<'world> {
    running: Running<'world>,
    answers: Vec<String>,
}

impl<'world> OneConnection<'world> {
    fn open(gate: &Attached<'world>, protocol: &str, host: &str) -> Self {
        let job = match protocol {
            "h2" => gate.job(["/usr/bin/node", "-e", ONE_HTTP2_CONNECTION, host]),
            scheme => gate.job([PYTHON, "-c", ONE_HTTP1_CONNECTION, scheme, host]),
        };
        let running = job.env("NODE_EXTRA_CA_CERTS", gate.ca_file()).spawn();
        Self { running, answers: Vec::new() }
    }

    /// Status and body.
    #[track_caller]
    fn ask(&mut self) -> String {
        self.running.write("\n");
        let wanted = self.answers.len() + 1;
        while self.running.stdout().lines().count() < wanted {
            self.running.wait_a_little();
        }
        self.answers = self.running.stdout().lines().map(str::to_owned).collect();
        let ports: Vec<_> = self.answers.iter().map(|line| line.rsplit_once(' ').unwrap().1).collect();
        assert!(ports.iter().all(|port| *port == ports[0]), "another connection: {:?}", self.answers);
        self.answers.last().unwrap().rsplit_once(' ').unwrap().0.to_owned()
    }
}

/// Handlers `a` and `b`, which can be set by name and answer with it.
fn two_handlers(world: &World) -> &'static str {
    handler(world, "a", "reply(200, \"A\")");
    handler(world, "b", "reply(200, \"B\")");
    "[outbound_handlers]\na = \"handlers/a.rhai\"\nb = \"handlers/b.rhai\""
}

#[test]
fn h01_one_connection_gets_a_then_b() {
    let world = World::new("h01");
    let site = Site::start(&world);
    let gate = world.gate(&site.policy(&world, two_handlers(&world), &[])).named("box").attach();
    let set = |name: &str| {
        gate.operator(["handler", "set", name]).run().assert_success();
    };
    for protocol in ["http", "https", "h2"] {
        set("a");
        let mut client = OneConnection::open(&gate, protocol, "h.test");
        assert_eq!(client.ask(), "200 A", "{protocol}");
        set("b");
        assert_eq!(client.ask(), "200 B", "{protocol}");
        set("a");
        assert_eq!(client.ask(), "200 A", "{protocol}");
        client.running.close_stdin();
        client.running.wait().assert_success();
    }
    let log = gate.log();
    let served: Vec<_> =
        of_kind(&log, "exchange").iter().map(|line| line["handler"].as_str().unwrap()).collect();
    assert_eq!(served, ["a", "b", "a"].repeat(3), "{log:#?}");
    site.assert_untouched();
}

#[test]
fn h01_a_whole_policy_is_swapped_under_an_open_connection() {
    let world = World::new("h01-policy");
    let site = Site::start(&world);
    handler(&world, "a", "reply(200, \"A\")");
    let open = site.policy(&world, "outbound = \"handlers/a.rhai\"", &["h.test"]);
    let rules = world.file("rules.toml", site.policy(&world, "allowed_hosts = [\"h.test\"]", &["h.test"]));
    let closed = world.file("closed.toml", "version = 1\n");
    let gate = world.gate(&open).named("box").attach();
    for protocol in ["http", "https", "h2"] {
        let mut client = OneConnection::open(&gate, protocol, "h.test");
        assert_eq!(client.ask(), "200 A", "{protocol}");
        gate.operator(["policy", "set", rules.to_str().unwrap()]).run().assert_success();
        assert_eq!(client.ask(), "200 origin: h.test", "{protocol}");
        gate.operator(["policy", "set", closed.to_str().unwrap()]).run().assert_success();
        let refused = client.ask();
        assert!(refused.starts_with("403 ") && refused.contains("not_named"), "{protocol}: {refused}");
        gate.operator(["policy", "reset"]).run().assert_success();
        assert_eq!(client.ask(), "200 A", "{protocol}");
    }
    assert_eq!(site.requests().len(), 3);
}

#[test]
fn h03_a_policy_that_was_set_before_holds_for_the_first_packet() {
    let world = World::new("h03");
    let site = Site::start(&world);
    handler(&world, "first", "reply(200, \"handled\")");
    let policy = site.policy(&world, "outbound = \"handlers/first.rhai\"", &["h.test"]);
    let outcome = world.run(&policy, curl(&["https://h.test/"]));
    assert_answer(&outcome, "handled");
    assert_line(outcome.only_exchange(), &json!({"verdict": "answered", "handler": "handlers/first.rhai"}));

    let gate = world.gate("").named("box").attach();
    let file = world.file("set.toml", &policy);
    let published = gate.operator(["policy", "set", file.to_str().unwrap(), "--json"]).run();
    published.assert_success();
    assert_answer(&gate.run(curl(&["https://h.test/"])), "handled");
    let log = gate.log();
    let [line] = of_kind(&log, "exchange")[..] else { panic!("{log:#?}") };
    assert_line(line, &json!({"verdict": "answered", "generation": published.json()["generation"]}));
    site.assert_untouched();
}

#[test]
fn h04_a_policy_that_is_set_holds_for_the_next_request() {
    let world = World::new("h04");
    let site = Site::start(&world);
    let policy = |text: &str| site.policy(&world, text, &["one.test", "two.test"]);
    let gate = world.gate(&policy("allowed_hosts = [\"one.test\"]")).named("box").attach();
    let told = |host: &str| {
        let outcome = gate.run(curl(&[&format!("https://{host}/")]));
        answer(&outcome).1.to_owned()
    };
    assert_eq!((told("one.test"), told("two.test")), ("200 ".into(), "403 not_in_allowed_hosts".into()));
    let file = world.file("next.toml", policy("allowed_hosts = [\"two.test\"]"));
    gate.operator(["policy", "set", file.to_str().unwrap()]).run().assert_success();
    assert_eq!((told("one.test"), told("two.test")), ("403 not_in_allowed_hosts".into(), "200 ".into()));
    gate.operator(["host", "allow", "one.test"]).run().assert_success();
    assert_eq!((told("one.test"), told("two.test")), ("200 ".into(), "200 ".into()));
    gate.operator(["host", "deny", "two.test"]).run().assert_success();
    assert_eq!((told("one.test"), told("two.test")), ("200 ".into(), "403 denied_host".into()));
    assert_eq!(site.requests().len(), 5);
}

/// How many policies are put in force under load, and how long each stays.
const SWAPS: u32 = 200;
const SWAP_PAUSE: Duration = Duration::from_millis(50);
const CONNECTIONS: usize = 8;
/// Between two requests of one connection: 1,000 a second together.
const REQUEST_PAUSE: Duration = Duration::from_millis(8);
/// What a busy machine with two cores must manage at least, in all.
const REQUESTS_MIN: usize = 2_000;

/// Puts one policy after the other in force, over the control socket.
const SWAPPER: &str = r#"
import http.client, json, socket, sys, time
path, policy, count, pause = sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
class Control(http.client.HTTPConnection):
    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(path)
control = Control("gate")
document, script = open(policy).read(), open(policy + ".rhai").read()
generations = set()
for version in range(1, count + 1):
    began = time.monotonic()
    body = {"file": policy, "document": document, "scripts": {"handlers/v.rhai": script.replace("VERSION", str(version))}}
    control.request("PUT", "/v1/policy", json.dumps(body), {"content-type": "application/json"})
    answer = control.getresponse()
    text = answer.read().decode()
    assert answer.status == 200, text
    generations.add(json.loads(text)["generation"])
    time.sleep(max(0, pause - (time.monotonic() - began)))
print("generations", len(generations))
"#;

/// A response tells its version twice, before and after the handler has waited for the origin.
const VERSIONED: &str = r#"fn outbound(request, env, ctx) {
    let before = "VERSION";
    let response = if request.path == "/fetched" { fetch(request) } else { reply(200) };
    response.set_header("x-version", before);
    response.set_body("VERSION");
    response
}
"#;

#[test]
fn h02_swapping_under_load_loses_and_mixes_nothing() {
    let world = World::new("h02");
    let origin = Origin::start_with(
        &world,
        e2e::OriginConfig { identity: e2e::Identity::Plain, ..e2e::OriginConfig::default() },
        |_| Reply::text("from the origin"),
    );
    script(&world, "v", VERSIONED.replace("VERSION", "0"));
    let policy = format!(
        "version = 1\noutbound = \"handlers/v.rhai\"\n{}",
        world.upstream(&[("load.test:80", origin.address())])
    );
    let gate = world.gate(&policy).named("box").attach();
    let file = world.file("versioned.toml", &policy);
    world.file("versioned.toml.rhai", VERSIONED);
    let (socket, count, pause) =
        (gate.control_socket(), SWAPS.to_string(), SWAP_PAUSE.as_secs_f64().to_string());
    let line = [PYTHON, "-c", SWAPPER, socket.to_str().unwrap(), file.to_str().unwrap(), &count, &pause];

    let swapped = AtomicBool::new(false);
    let began = Instant::now();
    let seen: Vec<Vec<u32>> = thread::scope(|scope| {
        let clients: Vec<_> = (0..CONNECTIONS)
            .map(|number| {
                let stream = dial(&gate, 80);
                // One of them makes its handlers wait, so that they are swapped in the middle.
                let path = if number == 0 { "/fetched" } else { "/direct" };
                let swapped = &swapped;
                scope.spawn(move || load(stream, path, swapped))
            })
            .collect();
        let swapper = world.root_job(world.gate_namespace(), line).run();
        swapped.store(true, Ordering::SeqCst);
        swapper.assert_success().assert_stdout(&format!("generations {SWAPS}\n"));
        clients.into_iter().map(|client| client.join().unwrap()).collect()
    });
    let took = began.elapsed();

    let total: usize = seen.iter().map(Vec::len).sum();
    eprintln!("{total} requests on {CONNECTIONS} connections, {SWAPS} swaps, in {took:?}");
    assert!(total >= REQUESTS_MIN, "{total} requests in {took:?}");
    for versions in &seen {
        assert!(versions.is_sorted(), "an older version came after a newer one: {versions:?}");
        assert_eq!(versions.last(), Some(&SWAPS), "the last version does not serve");
        let distinct = versions.chunk_by(|one, other| one == other).count();
        assert!(distinct > SWAPS as usize / 2, "only {distinct} versions were seen");
    }
    let log = gate.log();
    let exchanges = of_kind(&log, "exchange");
    assert!(exchanges.iter().all(|line| line["status"] == 200), "a request failed");
}

/// Sends one request after the other by one connection until all is swapped and once more, and
/// returns the versions that answered. A response that is not 200, tells two versions, or does not
/// come fails the test.
fn load(stream: TcpStream, path: &str, swapped: &AtomicBool) -> Vec<u32> {
    let mut answers = BufReader::new(stream.try_clone().unwrap());
    let mut stream = stream;
    let request = format!("GET {path} HTTP/1.1\r\nHost: load.test\r\n\r\n");
    let mut versions = Vec::new();
    let mut next = Instant::now();
    loop {
        let is_last = swapped.load(Ordering::SeqCst);
        stream.write_all(request.as_bytes()).unwrap();
        versions.push(read_version(&mut answers));
        if is_last {
            return versions;
        }
        next += REQUEST_PAUSE;
        thread::sleep(next.saturating_duration_since(Instant::now()));
    }
}

fn read_version(answers: &mut impl BufRead) -> u32 {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let length = answers.read_until(b'\n', &mut head).unwrap();
        assert!(length > 0, "the connection was closed: {}", String::from_utf8_lossy(&head));
    }
    let head = String::from_utf8(head).unwrap().to_lowercase();
    assert!(head.starts_with("http/1.1 200 "), "{head}");
    let field = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned();
    let mut body = vec![0; field("content-length:").parse().unwrap()];
    answers.read_exact(&mut body).unwrap();
    let body = String::from_utf8(body).unwrap();
    assert_eq!(field("x-version:"), body, "two versions made one response");
    body.parse().unwrap()
}
