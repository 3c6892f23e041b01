//! Programs that do not trust the gate: what the log says of each, and what to do about it.

use std::io::Write;

use e2e::{Attached, World, wait_until};
use rustls::StreamOwned;
use serde_json::Value;

use crate::support::{DEADLINE, PYTHON, client_for, dial, document, hello, trusting};

/// The detail of the one handshake that this ends. The command is of the workload's user, and nothing tells it
/// of the gate's authority.
fn detail(gate: &Attached<'_>, world: &World, command: &[&str]) -> String {
    let before = failures(gate).len();
    let outcome = world.job(gate.namespace(), command).run();
    assert!(!outcome.status.success(), "{outcome:#?}");
    wait_until("a line of the log", DEADLINE, || failures(gate).len() > before);
    let after = failures(gate);
    assert_eq!(after.len(), before + 1, "{command:?}: {after:#?}");
    let line = after.last().unwrap();
    assert_eq!((&line["verdict"], &line["host"]), (&"failed".into(), &"api.test".into()), "{line}");
    line["detail"].as_str().unwrap().to_owned()
}

fn failures(gate: &Attached<'_>) -> Vec<Value> {
    gate.log().into_iter().filter(|line| line["reason"] == "tls_handshake_failed").collect()
}

#[test]
fn the_log_tells_which_programs_say_so_and_what_to_do() {
    let world = World::new("distrust");
    let origin = hello(&world);
    let policy = document(&world, "allowed_hosts = [\"api.test\"]", &[("api.test:443", origin.address())]);
    let gate = world.gate(&policy).attach();
    let java = "class Fetch { public static void main(String[] a) throws Exception { \
                new java.net.URL(\"https://api.test/\").openStream(); } }";
    let java = world.file("Fetch.java", java).to_str().unwrap().to_owned();
    let urllib = "import urllib.request; urllib.request.urlopen('https://api.test/')";
    let table: [(&[&str], [&str; 2]); 5] = [
        (&["curl", "-sS", "--retry", "0", "https://api.test/"], ["UnknownCA", "SSL_CERT_FILE"]),
        (&[PYTHON, "-c", urllib], ["UnknownCA", "OpenSSL"]),
        (&["java", &java], ["CertificateUnknown", "Java"]),
        (&["gnutls-cli", "--port", "443", "api.test"], ["BadCertificate", "intercept = false"]),
        (&["node", "-e", "await fetch('https://api.test/')"], ["without an alert", "NODE_EXTRA_CA_CERTS"]),
    ];
    for (command, words) in table {
        let detail = detail(&gate, &world, command);
        assert!(words.iter().all(|word| detail.contains(word)), "{command:?}: {detail}");
    }
    // rustls, which here trusts the origin's authority alone.
    let before = failures(&gate).len();
    let config = trusting(&world.origin_ca_file(), Vec::new());
    let mut tls = StreamOwned::new(client_for(&config, "api.test"), dial(&gate, 443));
    assert!(tls.write_all(b"GET / HTTP/1.0\r\n\r\n").is_err());
    drop(tls);
    wait_until("rustls's line", DEADLINE, || failures(&gate).len() > before);
    let last = failures(&gate).pop().unwrap();
    assert!(last["detail"].as_str().unwrap().contains("rustls"), "{last}");
    origin.assert_untouched();
}
