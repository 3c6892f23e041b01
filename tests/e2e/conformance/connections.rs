//! A handler of connections: TLS that is pinned, servers that speak first, and what it cannot open.

use std::io::{Read, Write};

use e2e::{Attached, Origin, Reply, TcpServer, World};
use serde_json::{Value, json};

use crate::kept::Kept;
use crate::language::Language;
use crate::stage::{LIMITS, NAME};

in_every_language! {
    pinned_tls_passes_and_other_tls_is_judged
    servers_that_speak_first_are_passed_on_by_name
    the_lists_of_hosts_come_before_the_handler
    h05_a_flow_ends_when_nobody_passes_it_on_any_more
}

/// What is served at `pinned.test`, `judged.test` and `refused.test`: TLS, and a greeting on port 5432.
struct Hosts {
    origin: Origin,
    greeter: TcpServer,
}

impl Hosts {
    fn start(world: &World) -> Self {
        let greeter = TcpServer::start(world, |mut stream| {
            stream.write_all(b"hello, who are you?\n").unwrap();
            // Open for as long as its client is: publishing a component takes half a minute on a busy machine.
            stream.set_read_timeout(None).unwrap();
            while stream.read(&mut [0; 64]).is_ok_and(|length| length > 0) {}
        });
        Self { origin: Origin::start(world, |_| Reply::text("from the origin")), greeter }
    }

    /// A policy with this text and these origins.
    fn policy(&self, world: &World, text: &str) -> String {
        let names = ["pinned.test", "judged.test", "refused.test"];
        let web = names.map(|name| (format!("{name}:443"), self.origin.address()));
        let raw = names.map(|name| (format!("{name}:5432"), self.greeter.address()));
        let found: Vec<_> = web.iter().chain(&raw).map(|(name, address)| (name.as_str(), *address)).collect();
        format!("version = 1\n{text}\n{LIMITS}\n{}", world.upstream(&found))
    }
}

const ALL: &str = "allowed_hosts = [\"pinned.test\", \"judged.test\", \"refused.test\", \
                   \"pinned.test:5432\", \"judged.test:5432\"]";

fn attach<'world>(world: &'world World, document: &str, language: Language) -> Attached<'world> {
    let kept = Kept::lend(world, &format!("{language}-connections").to_lowercase());
    let gate = world.gate(document).named(NAME).attach();
    kept.keep();
    gate
}

#[track_caller]
fn flow(gate: &mut Attached<'_>, host: &str, port: u16) -> Value {
    gate.wait_for_log(|line| line["kind"] == "flow" && line["host"] == host && line["port"] == port)
}

fn pinned_tls_passes_and_other_tls_is_judged(language: Language) {
    let world = World::new("connect-tls");
    let (hosts, handler) = (Hosts::start(&world), language.place_connecting(&world));
    let document = hosts.policy(&world, &format!("{ALL}\non_connect = \"{handler}\""));
    let mut gate = attach(&world, &document, language);
    let pin = world.origin_ca_file().display().to_string();
    // By the origin's own certificate, and by no other.
    let pinned = gate.run(["curl", "-sS", "--cacert", &pin, "https://pinned.test/"]);
    pinned.assert_success().assert_stdout("from the origin");
    assert_eq!(gate.run(["curl", "-sS", "https://pinned.test/"]).code(), 60);
    let line = flow(&mut gate, "pinned.test", 443);
    assert_eq!((&line["verdict"], &line["handler"]), (&json!("allowed"), &json!(handler)), "{line}");
    assert_eq!(line["sni"], "pinned.test");
    assert_eq!(line["handler_version"].as_str().unwrap().len(), 12);

    gate.run(["curl", "-sS", "https://judged.test/"]).assert_success().assert_stdout("from the origin");
    assert_eq!(gate.run(["curl", "-sS", "--cacert", &pin, "https://judged.test/"]).code(), 60);
    gate.wait_for_log(|line| line["kind"] == "exchange" && line["host"] == "judged.test");

    let seen = hosts.origin.connections_seen().len();
    assert_ne!(gate.run(["curl", "-sS", "https://refused.test/"]).code(), 0);
    let line = flow(&mut gate, "refused.test", 443);
    assert_eq!((&line["verdict"], &line["reason"]), (&json!("refused"), &json!("denied_by_handler")));
    assert_eq!((&line["detail"], &line["handler"]), (&json!("not this one"), &json!(handler)));
    assert_eq!(hosts.origin.connections_seen().len(), seen);

    // Five connections, each asked about once, with stores and a log as a request has.
    let said = gate.log().into_iter().filter(|line| line["kind"] == "handler").collect::<Vec<_>>();
    assert_eq!(said.len(), 5, "{said:#?}");
    let line = &said[0];
    assert_eq!((&line["message"], &line["fields"]["host"]), (&json!("connection"), &json!("pinned.test")));
    assert_eq!((&line["fields"]["port"], &line["fields"]["tls"]), (&json!(443), &json!(true)), "{line}");
    let counted = gate.operator(["kv", "get", "kv", "flows"]).run();
    assert_eq!(counted.assert_success().stdout.trim(), "5");
}

/// Dials a port of a host, says something or nothing, and tells what came first.
fn dial(gate: &Attached<'_>, host: &str, say: &str) -> Value {
    let script = format!(
        "import json, socket\ns = socket.create_connection(('{host}', 5432), 10)\ns.settimeout(20)\n\
         try:\n    s.sendall(b'{say}')\n    print(json.dumps(s.recv(100).decode()))\n\
         except ConnectionResetError: print(json.dumps('reset'))"
    );
    let outcome = gate.run(["/usr/bin/python3", "-c", &script]);
    outcome.assert_success();
    outcome.json()
}

fn servers_that_speak_first_are_passed_on_by_name(language: Language) {
    let world = World::new("connect-raw");
    let (hosts, handler) = (Hosts::start(&world), language.place_connecting(&world));
    let document = hosts.policy(&world, &format!("{ALL}\non_connect = \"{handler}\""));
    let mut gate = attach(&world, &document, language);
    assert_eq!(dial(&gate, "pinned.test", ""), "hello, who are you?\n");
    let line = flow(&mut gate, "pinned.test", 5432);
    assert_eq!((&line["verdict"], &line["handler"]), (&json!("allowed"), &json!(handler)), "{line}");
    // What the workload has said already is not lost.
    assert_eq!(dial(&gate, "pinned.test", "\\x00\\x01 I am"), "hello, who are you?\n");
    assert_eq!(dial(&gate, "judged.test", "\\x00\\x01 I am"), "reset");
    let line = flow(&mut gate, "judged.test", 5432);
    assert_eq!((&line["verdict"], &line["reason"]), (&json!("refused"), &json!("opaque_flow")));
    assert_eq!(hosts.greeter.connections(), 2);
}

fn the_lists_of_hosts_come_before_the_handler(language: Language) {
    let world = World::new("connect-lists");
    let (hosts, handler) = (Hosts::start(&world), language.place_connecting(&world));
    let pin = world.origin_ca_file().display().to_string();
    for (lists, reason) in [
        ("allowed_hosts = [\"judged.test\"]", "not_in_allowed_hosts"),
        ("internet = true\ndenied_hosts = [\"pinned.test\"]", "denied_host"),
    ] {
        let document = hosts.policy(&world, &format!("{lists}\non_connect = \"{handler}\""));
        let mut gate = attach(&world, &document, language);
        assert_ne!(gate.run(["curl", "-sS", "--cacert", &pin, "https://pinned.test/"]).code(), 0);
        let line = flow(&mut gate, "pinned.test", 443);
        assert_eq!((&line["verdict"], &line["reason"]), (&json!("refused"), &json!(reason)), "{line}");
    }
    assert_eq!(hosts.origin.connections_seen().len(), 0);
}

fn h05_a_flow_ends_when_nobody_passes_it_on_any_more(language: Language) {
    let world = World::new("connect-h05");
    let (hosts, handler) = (Hosts::start(&world), language.place_connecting(&world));
    let document = hosts.policy(&world, &format!("{ALL}\non_connect = \"{handler}\""));
    let mut gate = attach(&world, &document, language);
    let script = "
import socket
s = socket.create_connection(('pinned.test', 5432), 10)
s.settimeout(110)
print(s.recv(100).decode(), flush=True)
try: print('end', s.recv(1), flush=True)
except ConnectionResetError: print('reset', flush=True)
";
    let mut client = gate.job(["/usr/bin/python3", "-c", script]).spawn();
    client.wait_for_output("who are you?");
    let same = world.file("same.toml", format!("{document}\n")).display().to_string();
    let state = world.path("root/state").display().to_string();
    gate.operator(["policy", "set", &same, "--state", &state]).run().assert_success();
    let without = world.file("without.toml", hosts.policy(&world, ALL)).display().to_string();
    gate.operator(["policy", "set", &without, "--state", &state]).run().assert_success();
    client.wait_for_output("reset");
    let line = flow(&mut gate, "pinned.test", 5432);
    assert_eq!(line["complete"], false, "{line}");
    let newer = gate.log().into_iter().rfind(|line| line["action"] == "policy_published").unwrap();
    assert_ne!(line["generation"], newer["generation"]);
}
