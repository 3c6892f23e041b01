//! TLS between workload, gate and origin: whom each trusts, and what is agreed on.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use e2e::{Identity, Namespace, Origin, OriginConfig, Outcome, Reply, World, new_token};
use rustls::ClientConfig;
use rustls::pki_types::CertificateDer;
use serde_json::Value;

use crate::support::{
    ANYWHERE, DEADLINE, PYTHON, client_for, curl, dial, document, end, hello, trusting, verdicts,
};

#[test]
fn t02_tools_trust_the_gate_without_flags() {
    let world = World::new("t02");
    let origin = Origin::start(&world, |request| {
        let refs = "0123456789abcdef0123456789abcdef01234567\trefs/heads/main\n";
        Reply::text(if request.path.starts_with("/repository/info/refs") { refs } else { "hello" })
    });
    let policy = document(&world, "allowed_hosts = [\"api.test\"]", &[("api.test:443", origin.address())]);
    let openssl = "printf 'GET / HTTP/1.0\r\nHost: api.test\r\n\r\n' | \
                   openssl s_client -quiet -verify_return_error -connect api.test:443";
    let urllib = "import urllib.request as u; print(u.urlopen('https://api.test/').read().decode())";
    let requests = "import requests; print(requests.get('https://api.test/').text)";
    let node = "fetch('https://api.test/').then(r => r.text()).then(t => console.log(t))";
    let table: [(&[&str], &str); 7] = [
        (&["curl", "-sS", "https://api.test/"], "hello"),
        (&["wget", "-qO-", "https://api.test/"], "hello"),
        (&["sh", "-c", openssl], "hello"),
        (&[PYTHON, "-c", urllib], "hello"),
        (&[PYTHON, "-c", requests], "hello"),
        (&["node", "-e", node], "hello"),
        (&["git", "ls-remote", "https://api.test/repository"], "refs/heads/main"),
    ];
    for (number, (command, printed)) in table.into_iter().enumerate() {
        let outcome = world.run(&policy, command);
        outcome.assert_success();
        assert!(outcome.stdout.contains(printed), "{outcome:#?}");
        assert!(outcome.log.iter().any(|line| line["verdict"] == "allowed"), "{outcome:#?}");
        assert!(origin.requests().len() > number, "{command:?} did not reach the origin");
    }
    // That they verify at all: told to trust somebody else, curl does not take the gate's leaf.
    let other = world.origin_ca_file().display().to_string();
    let outcome = world.run(&policy, ["curl", "-sS", "--cacert", &other, "https://api.test/"]);
    assert_eq!(outcome.code(), 60, "{outcome:#?}");
}

#[test]
fn t06_a_bundle_that_cannot_be_extended_starts_nothing() {
    let world = World::new("t06");
    let garbage = "-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n";
    let bundles = [
        ("no such file", world.path("missing.pem")),
        ("a folder", world.path("log")),
        ("no certificate", world.file("garbage.pem", garbage)),
        ("too long", world.file("long.pem", "x".repeat(5 * 1024 * 1024))),
    ];
    let start = |bundle: &Path| {
        let bundle = bundle.to_str().unwrap();
        world.gate("").env("SSL_CERT_FILE", bundle).run(["sh", "-c", "env >ran"])
    };
    for (what, bundle) in bundles {
        let outcome = start(&bundle);
        assert!(!outcome.status.success(), "{what}: {outcome:#?}");
        assert!(!world.home().join("ran").exists(), "{what}: the command ran: {outcome:#?}");
        assert!(outcome.stderr.contains(bundle.to_str().unwrap()), "{what}: {outcome:#?}");
    }
    start(&world.origin_ca_file()).assert_success();
    let environment = fs::read_to_string(world.home().join("ran")).unwrap();
    assert!(environment.contains("CURL_CA_BUNDLE="), "{environment}");
}

#[test]
fn t07_a_bundle_that_the_caller_names_is_the_one_that_is_extended() {
    let world = World::new("t07");
    let own = fs::read_to_string(world.origin_ca_file()).unwrap();
    let gate = world.gate("").env("SSL_CERT_FILE", world.origin_ca_file().to_str().unwrap());
    let outcome = gate.run(["sh", "-c", "cat \"$SSL_CERT_FILE\""]);
    let bundle = &outcome.assert_success().stdout;
    assert!(bundle.contains(own.trim()), "the caller's certificate is missing: {bundle}");
    // It and ours, and none of the system's.
    assert_eq!(bundle.matches("-----BEGIN CERTIFICATE-----").count(), 2, "{bundle}");
}

#[test]
fn t09_two_instances_have_different_authorities() {
    let world = World::new("t09");
    let gates = [world.gate("").attach(), world.gate("").attach()];
    for part in ["-pubkey", "-subject", "-serial"] {
        let [first, second] = gates.each_ref().map(|gate| {
            let file = gate.ca_file().to_str().unwrap();
            let outcome = openssl(&world, &["x509", "-in", file, "-noout", part], "");
            outcome.assert_success();
            outcome.stdout
        });
        assert_ne!(first, second, "{part}");
    }
    // Who trusts one does not trust the other.
    for (gate, trusted, code) in [(&gates[0], 0, 0), (&gates[0], 1, 60), (&gates[1], 0, 60)] {
        let ca = gates[trusted].ca_file().to_str().unwrap();
        let outcome = curl(gate, &["--cacert", ca, "https://api.test/"]);
        assert_eq!(outcome.code(), code, "{outcome:#?}");
    }
}

#[test]
fn t10_the_authority_is_a_proper_ca_and_its_key_is_in_no_file() {
    let world = World::new("t10");
    let mut gate = world.gate("").attach();
    let ca = gate.ca_file().to_str().unwrap().to_owned();
    let text = openssl(&world, &["x509", "-in", &ca, "-noout", "-text"], "").stdout;
    let squeezed: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    for part in [
        "X509v3 Basic Constraints: critical CA:TRUE, pathlen:0",
        "X509v3 Key Usage: critical Certificate Sign",
        "Public Key Algorithm: id-ecPublicKey",
        "NIST CURVE: P-256",
    ] {
        assert!(squeezed.contains(part), "{part}: {text}");
    }
    // It is valid now, and no longer in 35 days.
    let within = |seconds: &str| openssl(&world, &["x509", "-in", &ca, "-checkend", seconds], "").code();
    assert_eq!((within("0"), within("3024000")), (0, 1), "{text}");

    // Nor has the gate a file open in which a key could lie.
    let folder = format!("/proc/{}/fd", gate.running().pid());
    let open = fs::read_dir(folder).unwrap().flatten().filter_map(|entry| fs::read_link(entry.path()).ok());
    let files: Vec<_> = open
        .filter(|path| path.is_absolute() && !path.ends_with("net"))
        .filter(|path| !path.starts_with("/dev") && !path.starts_with("/proc"))
        .collect();
    let is_known = |path: &PathBuf| path.extension().is_some_and(|end| end == "jsonl" || end == "lock");
    assert!(files.iter().all(is_known), "{files:?}");

    // As PEM, or as the DER of PKCS #8 or SEC 1; then the same search with a key that is there.
    let search = r#"
        look() { grep -rslaP 'PRIVATE KEY|\x30[\x6b\x77]\x02\x01\x01\x04\x20' "$@"; }
        test -s "$SSL_CERT_FILE" || exit 9
        look "$(dirname "$SSL_CERT_FILE")" "$HOME/.." /etc/ssl
        echo searched; cd "$HOME"
        openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out pem && look pem
        openssl pkey -in pem -outform DER -out pkcs8 && look pkcs8
        openssl ec -in pem -outform DER -out sec1 && look sec1"#;
    let outcome = world.run("", ["sh", "-c", search]);
    outcome.assert_success().assert_stdout("searched\npem\npkcs8\nsec1\n");
}

/// Verifies as Python 3.13 does by default, and shows each leaf.
const STRICT: &str = "
import json, socket, ssl, sys, time
context = ssl.create_default_context(cafile=sys.argv[1])
context.verify_flags |= ssl.VERIFY_X509_STRICT | ssl.VERIFY_X509_PARTIAL_CHAIN
leaves = []
for name in sys.argv[2:]:
    with context.wrap_socket(socket.create_connection(('198.51.100.7', 443)), server_hostname=name) as tls:
        leaf, now = tls.getpeercert(), time.time()
        begins, ends = (ssl.cert_time_to_seconds(leaf[end]) for end in ('notBefore', 'notAfter'))
        leaves.append({'names': leaf['subjectAltName'], 'age': now - begins, 'left': ends - now,
                       'pem': ssl.DER_cert_to_PEM_cert(tls.getpeercert(True))})
print(json.dumps(leaves))
";

#[test]
fn t11_leaves_pass_strict_verification() {
    let world = World::new("t11");
    let gate = world.gate("").attach();
    let ca = gate.ca_file().to_str().unwrap();
    let long = format!("{0}.{0}.test", "a".repeat(60));
    let outcome = gate.run([PYTHON, "-c", STRICT, ca, "API.Test", "198.51.100.7", &long]);
    outcome.assert_success();
    let hour = 3600.0;
    let shown = |pem: &str, extensions: &str| {
        openssl(&world, &["x509", "-noout", "-subject", "-ext", extensions], pem).stdout
    };
    let authority = fs::read_to_string(ca).unwrap();
    let authority_key = shown(&authority, "subjectKeyIdentifier");
    let authority_key = authority_key.lines().last().unwrap().trim().to_owned();
    let expected = [("DNS", "api.test"), ("IP Address", "198.51.100.7"), ("DNS", long.as_str())];
    for (leaf, (kind, name)) in outcome.json().as_array().unwrap().iter().zip(expected) {
        assert_eq!(leaf["names"], serde_json::json!([[kind, name]]));
        let (age, left) = (leaf["age"].as_f64().unwrap(), leaf["left"].as_f64().unwrap());
        assert!((0.0..49.0 * hour).contains(&age) && (hour..48.0 * hour).contains(&left), "{age} {left}");
        let pem = leaf["pem"].as_str().unwrap();
        let text = shown(pem, "extendedKeyUsage,authorityKeyIdentifier,subjectAltName");
        assert!(text.contains("TLS Web Server Authentication"), "{text}");
        assert!(text.contains(&authority_key), "{authority_key} is not in {text}");
        let critical = text.contains("Subject Alternative Name: critical");
        assert_eq!(critical, name.len() > 64, "a name that is not in the subject is critical: {text}");
    }
}

#[test]
fn t12_older_tls_is_told_the_version_is_wrong() {
    let world = World::new("t12");
    let origin = hello(&world);
    let policy = document(&world, "allowed_hosts = [\"api.test\"]", &[("api.test:443", origin.address())]);
    let gate = world.gate(&policy).attach();
    for version in ["-tls1", "-tls1_1"] {
        let arguments = ["openssl", "s_client", version, "-cipher", "ALL:@SECLEVEL=0", "-connect"];
        let outcome = gate.run([&arguments[..], &["api.test:443"]].concat());
        assert!(!outcome.status.success(), "{outcome:#?}");
        assert!(outcome.stderr.contains("alert number 70"), "{outcome:#?}");
    }
    for minor in 0..=2 {
        let mut io = dial(&gate, 443);
        let body = [&[3, minor][..], &[7; 32], &[0, 0, 2, 0, 0x2f, 1, 0]].concat();
        let length = u8::try_from(body.len()).unwrap();
        io.write_all(&[&[22, 3, minor, 0, length + 4, 1, 0, 0, length][..], &body].concat()).unwrap();
        let mut alert = Vec::new();
        io.read_to_end(&mut alert).unwrap();
        // A record of type alert, fatal, protocol_version.
        assert!(matches!(alert[..], [21, 3, _, 0, 2, 2, 70]), "{minor}: {alert:?}");
    }
    assert_eq!(verdicts(&end(gate)), ["refused tls_handshake_failed"; 5]);
    origin.assert_untouched();
}

#[test]
fn t13_tls_1_2_and_1_3_are_spoken() {
    let world = World::new("t13");
    let origin = hello(&world);
    let policy = document(&world, "allowed_hosts = [\"api.test\"]", &[("api.test:443", origin.address())]);
    for (flag, version) in [("-tls1_2", "TLSv1_2"), ("-tls1_3", "TLSv1_3")] {
        let line =
            ["openssl", "s_client", flag, "-quiet", "-verify_return_error", "-connect", "api.test:443"];
        let request = "GET / HTTP/1.0\r\nHost: api.test\r\n\r\n";
        let outcome = world.gate(&policy).job(line).stdin(request).run();
        outcome.assert_success();
        assert!(outcome.stdout.ends_with("\r\n\r\nhello"), "{outcome:#?}");
        assert_eq!(outcome.only_exchange()["tls"], version);
    }
    assert_eq!(origin.requests().len(), 2);
}

#[test]
fn t14_the_protocol_agreed_on_is_one_that_was_offered() {
    let world = World::new("t14");
    let origin = hello(&world);
    let policy = document(&world, "allowed_hosts = [\"api.test\"]", &[("api.test:443", origin.address())]);
    let gate = world.gate(&policy).attach();
    let connect = ["openssl", "s_client", "-connect", "api.test:443", "-alpn"];
    for (offered, agreed) in [
        ("h2,http/1.1", "ALPN protocol: h2"),
        ("http/1.1,h2", "ALPN protocol: h2"),
        ("h2", "ALPN protocol: h2"),
        ("http/1.1", "ALPN protocol: http/1.1"),
        ("spdy/3,http/1.1", "ALPN protocol: http/1.1"),
        ("spdy/3", "alert number 120"),
    ] {
        let outcome = gate.run([&connect[..], &[offered]].concat());
        let shown = format!("{}{}", outcome.stdout, outcome.stderr);
        assert!(shown.contains(agreed), "{offered}: {outcome:#?}");
    }
    for (flag, version) in [("--http2", "2"), ("--http1.1", "1.1"), ("--no-alpn", "1.1")] {
        let outcome = curl(&gate, &[flag, "-w", " %{http_version}", "https://api.test/"]);
        outcome.assert_success().assert_stdout(&format!("hello {version}"));
    }
    let log = end(gate);
    assert_eq!(verdicts(&log), ["failed tls_handshake_failed", "allowed", "allowed", "allowed"]);
    assert_eq!(origin.requests().len(), 3);
}

/// The leaf that the gate shows for a name.
fn leaf(namespace: &Namespace, config: &Arc<ClientConfig>, name: &str) -> CertificateDer<'static> {
    let address = SocketAddr::new(ANYWHERE.into(), 443);
    let mut io = namespace.enter(|| TcpStream::connect_timeout(&address, DEADLINE)).unwrap();
    io.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut client = client_for(config, name);
    while client.is_handshaking() {
        client.complete_io(&mut io).unwrap();
    }
    client.peer_certificates().unwrap()[0].clone().into_owned()
}

fn resident_kib(pid: i32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn t15_leaves_are_reused_and_their_number_is_bounded() {
    let world = World::new("t15");
    let mut gate = world.gate("").attach();
    let pid = gate.running().pid();
    let config = trusting(gate.ca_file(), Vec::new());
    let namespace = gate.namespace();
    let leaf_of = |name: &str| leaf(namespace, &config, name);
    let visit = |numbers: std::ops::Range<usize>| {
        let half = numbers.start.midpoint(numbers.end);
        thread::scope(|scope| {
            let first =
                scope.spawn(|| (numbers.start..half).map(|n| leaf_of(&format!("n{n}.test"))).collect());
            let second: Vec<_> = (half..numbers.end).map(|n| leaf_of(&format!("n{n}.test"))).collect();
            let mut leaves: Vec<_> = first.join().unwrap();
            leaves.extend(second);
            leaves
        })
    };
    let hot = leaf_of("hot.test");
    let began = Instant::now();
    let leaves = visit(0..2000);
    let took = began.elapsed();
    assert!(took < Duration::from_secs(60), "2000 names took {took:?}");
    let before = resident_kib(pid);
    for number in (0..2000).step_by(50) {
        assert_eq!(leaf_of(&format!("n{number}.test")), leaves[number], "a new leaf for n{number}.test");
    }
    assert_eq!(leaf_of("hot.test"), hot);
    // More names than are kept: what nobody asked for again is gone, what was asked for is not.
    visit(2000..3500);
    assert_eq!(leaf_of("hot.test"), hot);
    visit(3500..4200);
    assert_eq!(leaf_of("hot.test"), hot);
    assert_ne!(leaf_of("n1.test"), leaves[1], "the leaf of a name that is long out of use was kept");
    let grown = resident_kib(pid).saturating_sub(before);
    assert!(grown < 16 * 1024, "2200 names more took {grown} KiB");
}

#[test]
fn t19_a_host_passed_through_shows_its_own_certificate() {
    let world = World::new("t19");
    let origin = hello(&world);
    let text = "[[rules]]\nhost = \"pinned.test\"\nintercept = false";
    let gate = world.gate(&document(&world, text, &[("pinned.test:443", origin.address())])).attach();
    let ca = world.origin_ca_file().display().to_string();
    let client = |to: &str| {
        let line = ["openssl", "s_client", "-CAfile", &ca, "-verify_return_error", "-servername"];
        [&line[..], &["pinned.test", "-showcerts", "-connect", to]].concat().join(" ")
    };
    let certificate = |outcome: &Outcome| {
        outcome.assert_success();
        let (_, pem) = outcome.stdout.split_once("-----BEGIN CERTIFICATE-----").unwrap();
        pem.split_once("-----END").unwrap().0.to_owned()
    };
    let direct = client(&origin.address().to_string());
    let direct = world.job(world.gate_namespace(), ["sh", "-c", &direct]).run();
    let passed = gate.run(["sh", "-c", &client("pinned.test:443")]);
    assert_eq!(certificate(&passed), certificate(&direct));

    // The gate is no party to it: who trusts the gate alone does not get through.
    assert_eq!(curl(&gate, &["https://pinned.test/"]).code(), 60);
    let outcome = curl(&gate, &["--cacert", &ca, "-w", "%{http_version}", "https://pinned.test/"]);
    outcome.assert_success().assert_stdout("hello2");
    assert_eq!(origin.only_request().handshake.unwrap().alpn.as_deref(), Some("h2"));
    let log = end(gate);
    assert_eq!(verdicts(&log), ["allowed"; 3]);
    let last = log.iter().rfind(|line| line["kind"] == "flow").unwrap();
    assert_eq!((&last["sni"], &last["rule"]), (&"pinned.test".into(), &"rules[1]".into()), "{last}");
    assert!(
        last["request_bytes"].as_u64() > Some(500) && last["response_bytes"].as_u64() > Some(500),
        "{last}"
    );
}

/// The document, trusting the system's authorities alone.
fn without_extra_ca(document: &str) -> String {
    let lines: Vec<_> = document.lines().filter(|line| !line.starts_with("extra_ca")).collect();
    lines.join("\n")
}

#[test]
fn t21_bad_certificates_of_origins_are_refused() {
    let world = World::new("t21");
    let token = new_token();
    let table = [
        (Identity::Expired, "expired.test", "certificate_expired"),
        (Identity::WrongName, "wrong.test", "certificate_name_mismatch"),
        (Identity::SelfSigned, "self.test", "certificate_unknown_issuer"),
        // An authority that has the name of the one that is trusted, and another key.
        (Identity::UnknownAuthority, "impostor.test", "certificate_invalid"),
        (Identity::Trusted, "unknown.test", "certificate_unknown_issuer"),
    ];
    for (identity, name, reason) in table {
        let config = OriginConfig { identity, ..OriginConfig::default() };
        let origin = Origin::start_with(&world, config, |_| Reply::text("hello"));
        let text = format!(
            "[secrets.TOKEN]\nsource = \"env://TOKEN\"\nhosts = [\"{name}\"]\n\
             [[rules]]\nhost = \"{name}\"\nset_headers = {{ authorization = \"${{secret:TOKEN}}\" }}"
        );
        let mut policy = document(&world, &text, &[(&format!("{name}:443"), origin.address())]);
        if name == "unknown.test" {
            policy = without_extra_ca(&policy);
        }
        let url = format!("https://{name}/");
        let line = ["curl", "-sS", "-o", "body", "-w", "%{http_code} %header{x-sluicegate-reason}", &url];
        let outcome = world.gate(&policy).env("TOKEN", &token).run(line);
        outcome.assert_success().assert_stdout(&format!("502 {reason}"));
        let body: Value = serde_json::from_slice(&fs::read(world.home().join("body")).unwrap()).unwrap();
        assert_eq!((&body["error"], &body["reason"]), (&"upstream_failed".into(), &reason.into()), "{body}");
        assert!(body["detail"].as_str().unwrap().contains("certificate"), "not in words: {body}");
        assert_eq!(verdicts(&outcome.log), [format!("failed {reason}")]);
        // It was asked for its certificate and told nothing.
        assert_eq!(origin.connections_seen(), [Vec::<u8>::new()], "{name}");
    }
}

#[test]
fn t22_a_further_authority_can_be_trusted() {
    let world = World::new("t22");
    let origin = hello(&world);
    let with = document(&world, "internet = true", &[("corp.test:443", origin.address())]);
    let get = ["curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", "https://corp.test/"];
    world.run(&without_extra_ca(&with), get).assert_success().assert_stdout("502");
    assert_eq!(origin.requests().len(), 0);
    world.run(&with, get).assert_success().assert_stdout("200");
    assert_eq!(origin.only_request().authority, "corp.test");
}

fn openssl(world: &World, arguments: &[&str], stdin: &str) -> Outcome {
    let line = [&["openssl"], arguments].concat();
    world.job(world.gate_namespace(), line).stdin(stdin).run()
}
