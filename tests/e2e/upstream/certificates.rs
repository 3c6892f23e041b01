//! Client certificates: shown to the hosts that the document names, and to nobody else.

use std::fs;
use std::net::SocketAddr;

use e2e::{Nginx, World};
use serde_json::json;

use crate::support::{curl, lines};

/// An nginx that asks for a certificate of the test authority's, and says which one it was shown.
fn asking<'world>(world: &'world World, name: &str, port: u16) -> Nginx<'world> {
    let ca = world.origin_ca_file().display().to_string();
    let locations = format!(
        "ssl_client_certificate {ca}; ssl_verify_client optional; ssl_session_tickets on; \
         location / {{ add_header x-shown $ssl_client_verify; return 200 \"$ssl_client_serial\"; }}"
    );
    Nginx::start(world, name, port, &locations)
}

/// A certificate as a file for everybody, and its key as a secret.
fn issue(world: &World, file: &str) -> String {
    let (certificate, key) = world.authority().issue(&["client.test"]);
    world.file(&format!("{file}.pem"), certificate);
    let key = world.file(&format!("{file}.key"), key);
    format!(
        "[secrets.CLIENT_KEY]\nsource = \"file://{}\"\nhosts = [\"api.test\", \"*.corp.test\"]\n",
        key.display()
    )
}

fn document(world: &World, found: &[(&str, SocketAddr)], file: &str, secret: &str) -> String {
    let hosts: Vec<_> = found.iter().map(|(authority, _)| *authority).collect();
    format!(
        "version = 1\nallowed_hosts = {hosts:?}\n{}\n[[upstream.client_certificates]]\n\
         hosts = [\"api.test\", \"*.corp.test\"]\ncertificate = \"{file}.pem\"\nkey = \"CLIENT_KEY\"\n{secret}",
        world.upstream(found)
    )
}

#[test]
fn a_client_certificate_is_shown_to_the_hosts_that_it_is_for() {
    let world = World::new("mutual");
    let api = asking(&world, "api.test", 443);
    let corp = asking(&world, "db.corp.test", 8441);
    let other = asking(&world, "other.test", 8442);
    let secret = issue(&world, "client");
    let found = [
        ("api.test:443", api.address()),
        ("api.test:8443", api.address()),
        ("db.corp.test:443", corp.address()),
        ("other.test:443", other.address()),
    ];
    let gate = world.gate(&document(&world, &found, "client", &secret)).attach();
    let mut serials = Vec::new();
    for version in ["--http1.1", "--http2"] {
        for host in ["api.test", "db.corp.test"] {
            let outcome = curl(&gate, &[version, "-i", &format!("https://{host}/")]);
            assert!(outcome.assert_success().stdout.contains("x-shown: SUCCESS"), "{outcome:?}");
            serials.push(outcome.stdout.lines().last().unwrap().to_owned());
        }
        // Neither to another host, nor to the same name on a port that it is not for, whatever
        // session came before.
        for url in ["https://other.test/", "https://api.test:8443/"] {
            let outcome = curl(&gate, &[version, "-i", url]);
            assert!(outcome.assert_success().stdout.contains("x-shown: NONE"), "{outcome:?}");
        }
    }
    assert!(serials.iter().all(|serial| serial.len() > 8 && *serial == serials[0]), "{serials:?}");
    let log = gate.log();
    assert_eq!(lines(&log, &[("verdict", json!("allowed"))]).len(), 8);
    assert!(!json!(log).to_string().contains("PRIVATE KEY"));
}

#[test]
fn a_new_certificate_comes_with_the_next_policy() {
    let world = World::new("mutual-reload");
    let nginx = asking(&world, "api.test", 443);
    let found = [("api.test:443", nginx.address())];
    let secret = issue(&world, "client");
    let gate = world.gate(&document(&world, &found, "client", &secret)).named("mutual");
    let policy = gate.policy_file().unwrap().display().to_string();
    let gate = gate.attach();
    let serial = || curl(&gate, &["https://api.test/"]).assert_success().stdout.clone();
    let first = serial();
    assert!(first.len() > 8, "{first}");
    assert_eq!(serial(), first);
    issue(&world, "client");
    gate.operator(["policy", "set", &policy]).run().assert_success();
    let second = serial();
    assert!(second.len() > 8 && second != first, "{first} {second}");
    // A key that does not fit changes nothing.
    let (_, key) = world.authority().issue(&["client.test"]);
    world.file("client.key", key);
    let refused = gate.operator(["policy", "set", &policy]).run();
    assert_ne!(refused.code(), 0, "{refused:?}");
    assert!(refused.stderr.contains("do not fit") && !refused.stderr.contains("PRIVATE"), "{refused:?}");
    assert_eq!(serial(), second);
}

#[test]
fn a_gate_does_not_start_with_a_key_that_does_not_fit() {
    let world = World::new("mutual-broken");
    let found = [("api.test:443", "127.0.0.1:9".parse().unwrap())];
    let secret = issue(&world, "client");
    let (_, key) = world.authority().issue(&["client.test"]);
    for (key, why) in [(key.as_str(), "do not fit"), ("no key\n", "no private key")] {
        world.file("client.key", key);
        let outcome = world.run(&document(&world, &found, "client", &secret), ["true"]);
        assert_ne!(outcome.code(), 0, "{outcome:?}");
        assert!(outcome.stderr.contains(why) && outcome.stderr.contains("client.pem"), "{outcome:?}");
    }
    world.file("client.key", world.authority().issue(&["client.test"]).1);
    fs::remove_file(world.path("client.pem")).unwrap();
    let outcome = world.run(&document(&world, &found, "client", &secret), ["true"]);
    assert!(outcome.code() != 0 && outcome.stderr.contains("client.pem"), "{outcome:?}");
}
