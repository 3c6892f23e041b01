//! What programs make of the gate's answers: resolvers of several languages, names of containers, names
//! of addresses, and floods.

use std::io::Write;
use std::process::Command;

use e2e::{Namespace, Origin, OriginConfig, Reply, TcpServer, World, dig};
use serde_json::json;

use crate::support::curl;

/// The addresses that a program prints as one JSON list.
#[track_caller]
fn addresses(gate: &e2e::Attached<'_>, command: &[&str]) -> Vec<String> {
    let outcome = gate.run(command);
    outcome.assert_success();
    let mut found: Vec<String> = serde_json::from_value(outcome.json()).unwrap();
    found.sort();
    found.dedup();
    found
}

#[test]
fn resolvers_of_every_language_agree() {
    let world = World::new("resolvers");
    let origin = Origin::echo(&world);
    let policy = format!(
        "version = 1\nallowed_hosts = [\"api.test\"]\n{}",
        world.upstream(&[("api.test:443", origin.address())])
    );
    let gate = world.gate(&policy).attach();
    let v4 = dig(&gate, &["@192.0.2.53", "api.test", "A"]).data().to_owned();
    let v6 = dig(&gate, &["@192.0.2.53", "api.test", "AAAA"]).data().to_owned();
    let both = [v4.clone(), v6.clone()];
    let getent = gate.run(["getent", "ahosts", "api.test"]);
    getent.assert_success();
    assert!(both.iter().all(|address| getent.stdout.contains(address.as_str())), "{getent:?}");
    let python =
        "import json, socket; print(json.dumps([a[4][0] for a in socket.getaddrinfo('API.test', 443)]))";
    assert_eq!(addresses(&gate, &["/usr/bin/python3", "-c", python]), both);
    let look_up = "require('dns').lookup('api.test', { all: true }, (e, a) => console.log(JSON.stringify(a.map(a => a.address))))";
    assert_eq!(addresses(&gate, &["/usr/bin/node", "-e", look_up]), both);
    // Node has a resolver of its own besides (c-ares).
    let own = "const { Resolver } = require('dns').promises; const r = new Resolver(); r.setServers(['192.0.2.53']);
Promise.all([r.resolve4('api.test'), r.resolve6('api.test')]).then(a => console.log(JSON.stringify(a.flat())))";
    assert_eq!(addresses(&gate, &["/usr/bin/node", "-e", own]), both);
    for address in &both {
        let name = dig(&gate, &["@192.0.2.53", "-x", address]);
        name.assert_is("NOERROR", 1);
        assert_eq!(name.data(), "api.test.");
    }
    dig(&gate, &["@192.0.2.53", "-x", "8.8.8.8"]).assert_is("NXDOMAIN", 0);
    let reverse = format!("import socket; print(socket.gethostbyaddr('{v4}')[0])");
    gate.run(["/usr/bin/python3", "-c", &reverse]).assert_success().assert_stdout("api.test\n");
}

#[test]
fn a_container_has_the_name_that_the_policy_gives_it() {
    let world = World::new("container-name");
    let config =
        OriginConfig { port: 8080, identity: e2e::Identity::Plain, alpn: &[], ..OriginConfig::default() };
    let origin = Origin::start_with(&world, config, |_| Reply::text("from db"));
    let policy = format!(
        "version = 1\nallowed_hosts = [\"db:8080\"]\n{}",
        world.upstream(&[("db:8080", origin.address())])
    );
    let gate = world.gate(&policy).attach();
    curl(&gate, &["http://db:8080/"]).assert_success().assert_stdout("from db");
    dig(&gate, &["@127.0.0.11", "db"]).assert_is("NOERROR", 1);
    dig(&gate, &["@127.0.0.11", "cache"]).assert_is("NXDOMAIN", 0);
}

#[test]
fn d08_addresses_of_version_6_lead_somewhere_even_where_it_was_off() {
    let world = World::new("d08");
    let origin = Origin::echo(&world);
    let policy = format!(
        "version = 1\nallowed_hosts = [\"api.test\"]\n{}",
        world.upstream(&[("api.test:443", origin.address())])
    );
    let namespace = Namespace::new(&format!("sg-{}-d08", std::process::id()));
    for scope in ["all", "default", "lo"] {
        let setting = format!("net.ipv6.conf.{scope}.disable_ipv6=1");
        let path = format!("--net={}", namespace.path().display());
        let status = Command::new("nsenter").args([&path, "sysctl", "-q", "-w", &setting]).status().unwrap();
        assert!(status.success());
    }
    let gate = world.gate(&policy).attach_to(namespace);
    let answer = dig(&gate, &["@192.0.2.53", "api.test", "AAAA"]);
    answer.assert_is("NOERROR", 1);
    curl(&gate, &["-6", "https://api.test/"]).assert_success();
    assert_eq!(origin.requests().len(), 1);
}

#[test]
fn d09_two_names_are_told_apart_on_ports_that_are_not_http() {
    let world = World::new("d09");
    let greeting = |text: &'static str| {
        // Whoever leaves before it was greeted is no matter.
        TcpServer::start(&world, move |mut stream| drop(stream.write_all(text.as_bytes())))
    };
    let servers = [greeting("I am one\n"), greeting("I am two\n")];
    let found = [("one.test:7000", servers[0].address()), ("two.test:7000", servers[1].address())];
    let policy =
        format!("version = 1\ntcp = [\"one.test:7000\", \"two.test:7000\"]\n{}", world.upstream(&found));
    let gate = world.gate(&policy).attach();
    for (name, greeting) in [("one.test", "I am one\n"), ("two.test", "I am two\n")] {
        for family in ["AF_INET", "AF_INET6"] {
            let text = format!(
                "import socket; a = socket.getaddrinfo('{name}', 7000, socket.{family}, socket.SOCK_STREAM)[0]\n\
                 s = socket.socket(a[0], a[1]); s.settimeout(10); s.connect(a[4]); print(s.recv(99).decode(), end='')"
            );
            gate.run(["/usr/bin/python3", "-c", &text]).assert_success().assert_stdout(greeting);
        }
    }
}

#[test]
fn a_flood_of_questions_is_refused_and_one_line() {
    let world = World::new("dns-flood");
    let origin = Origin::echo(&world);
    let mut policy = format!(
        "version = 1\nallowed_hosts = [\"api.test\"]\n{}",
        world.upstream(&[("api.test:443", origin.address())])
    );
    policy.push_str("[dns]\nquestions_per_second = 20\n");
    let mut gate = world.gate(&policy).attach();
    let text = "
import json, socket, struct
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(10); s.connect(('192.0.2.53', 53))
codes = {}
for number in range(500):
    s.send(struct.pack('>6H', number, 0x0100, 1, 0, 0, 0) + b'\\x03api\\x04test\\x00' + struct.pack('>2H', 1, 1))
    code = str(s.recv(4096)[3] & 15); codes[code] = codes.get(code, 0) + 1
print(json.dumps(codes))
";
    let codes = gate.run(["/usr/bin/python3", "-c", text]).json();
    let (answered, refused) = (codes["0"].as_u64().unwrap(), codes["5"].as_u64().unwrap());
    assert!(answered >= 40 && refused >= 200 && answered + refused == 500, "{codes}");
    gate.wait_for_log(|line| line["kind"] == "dns" && line["reason"] == "dns_rate");
    let lines = gate.log().iter().filter(|line| line["reason"] == json!("dns_rate")).count();
    assert_eq!(lines, 1);
}
