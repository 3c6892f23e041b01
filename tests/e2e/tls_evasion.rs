//! TLS between workload and gate, and the ways in which a workload may try to get round the gate.
#![cfg(test)]

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use e2e::{
    Attached, Dns, GATE_IPV4, GATE_IPV6, Identity, Namespace, ORIGIN_IPV4, Origin, OriginConfig, Outcome,
    Reply, World, new_token,
};
use nix::sys::signal::Signal;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::Value;

const PYTHON: &str = "/usr/bin/python3";
/// Longer than the gate waits for anything in these tests.
const DEADLINE: Duration = Duration::from_secs(20);
/// What clients of our own dial: it is no origin's, since the gate dials by name.
const ANYWHERE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);

fn document(world: &World, text: &str, resolve: &[(&str, SocketAddr)]) -> String {
    format!("version = 1\n{text}\n{}", world.upstream(resolve))
}

fn hello(world: &World) -> Origin {
    Origin::start(world, |_| Reply::text("hello"))
}

fn plain_at(world: &World, address: IpAddr, port: u16) -> Origin {
    let config = OriginConfig { address, port, identity: Identity::Plain, alpn: &["http/1.1"] };
    Origin::start_with(world, config, |_| Reply::text("hello").header("connection", "close"))
}

fn plain(world: &World) -> Origin {
    plain_at(world, ORIGIN_IPV4.into(), 0)
}

#[track_caller]
fn assert_untouched(origin: &Origin) {
    let seen = origin.connections_seen();
    assert!(seen.is_empty(), "the origin was touched: {:?}", origin.requests());
}

/// curl in the sealed namespace, to its end.
fn curl(gate: &Attached<'_>, arguments: &[&str]) -> Outcome {
    let mut line = vec!["curl", "-sS", "--max-time", "20"];
    line.extend(arguments);
    gate.run(line)
}

/// What curl was told: the status, and the reason where the gate gave one.
fn told(gate: &Attached<'_>, arguments: &[&str]) -> String {
    let format = "%{http_code} %header{x-sluicegate-reason}";
    let outcome = curl(gate, &[&["-o", "/dev/null", "-w", format], arguments].concat());
    outcome.assert_success();
    outcome.stdout.trim_end().to_owned()
}

/// `VERDICT REASON` of every exchange and flow.
fn verdicts(log: &[Value]) -> Vec<String> {
    let word = |line: &Value, name: &str| line[name].as_str().unwrap_or_default().to_owned();
    log.iter()
        .filter(|line| line["kind"] == "exchange" || line["kind"] == "flow")
        .map(|line| format!("{} {}", word(line, "verdict"), word(line, "reason")).trim_end().to_owned())
        .collect()
}

/// Ends the gate; the log is whole then.
fn end(gate: Attached<'_>) -> Vec<Value> {
    let (outcome, _namespace) = gate.end(Signal::SIGTERM);
    outcome.assert_success();
    outcome.log
}

fn dial(gate: &Attached<'_>, port: u16) -> TcpStream {
    let address = SocketAddr::new(ANYWHERE.into(), port);
    let stream = gate.namespace().enter(|| TcpStream::connect_timeout(&address, DEADLINE)).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

fn trusting(ca_file: &Path, alpn: Vec<Vec<u8>>) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(ca_file).unwrap()).unwrap();
    let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn;
    Arc::new(config)
}

fn client_for(config: &Arc<ClientConfig>, name: &str) -> ClientConnection {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    ClientConnection::new(Arc::clone(config), name).unwrap()
}

/// One response: its status and its body.
fn answer(io: &mut impl Read) -> (u16, String) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        io.read_exact(&mut byte).unwrap_or_else(|error| {
            panic!("{error} after {:?}", String::from_utf8_lossy(&head));
        });
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap().to_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
    let mut body = vec![0; length.map_or(0, |length| length.trim().parse().unwrap())];
    io.read_exact(&mut body).unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), String::from_utf8(body).unwrap())
}

/// Everything up to the end of the connection, which must come.
fn rest(io: &mut impl Read) -> String {
    let mut bytes = Vec::new();
    match io.read_to_end(&mut bytes) {
        Ok(_) => {}
        // A close without close_notify, or with bytes of ours still unread, is an end as well.
        Err(error) if matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset) => {}
        Err(error) => panic!("{error} after {:?}", String::from_utf8_lossy(&bytes)),
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn openssl(world: &World, arguments: &[&str], stdin: &str) -> Outcome {
    let line = [&["openssl"], arguments].concat();
    world.job(world.gate_namespace(), line).stdin(stdin).run()
}

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
        .filter(|path| path.is_absolute() && !path.starts_with("/dev") && !path.ends_with("net"))
        .collect();
    assert!(files.iter().all(|path| path.extension().is_some_and(|end| end == "jsonl")), "{files:?}");

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
    assert_eq!(verdicts(&end(gate)), ["refused unknown_protocol"; 5]);
    assert_untouched(&origin);
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

#[test]
fn e01_tls_without_a_server_name_is_refused() {
    let world = World::new("e01");
    let target = "198.51.100.7:443";
    let line = ["openssl", "s_client", "-noservername", "-quiet", "-verify_return_error", "-connect", target];
    for (number, host) in ["198.51.100.7", "allowed.test"].into_iter().enumerate() {
        let origin = hello(&world);
        let resolve = [(target, origin.address()), ("allowed.test:443", origin.address())];
        let policy = document(&world, "allowed_hosts = [\"allowed.test\"]", &resolve);
        let request = format!("GET / HTTP/1.0\r\nHost: {host}\r\n\r\n");
        let outcome = world.gate(&policy).job(line).stdin(request).run();
        let (status, reason) = [("403", "server_name_missing"), ("421", "authority_mismatch")][number];
        assert!(outcome.stdout.starts_with(&format!("HTTP/1.0 {status} ")), "{outcome:#?}");
        assert_eq!(verdicts(&outcome.log), [format!("refused {reason}")]);
        assert_eq!(outcome.only_exchange()["original_destination"], target);
        assert_untouched(&origin);
    }
}

type Cut = fn(Vec<u8>) -> Vec<Vec<u8>>;

/// The handshake message in two records: what follows the five bytes of a record's header, cut.
fn two_records(hello: Vec<u8>) -> Vec<Vec<u8>> {
    let (first, second) = hello[5..].split_at(40);
    let record = |part: &[u8]| {
        let length = u16::try_from(part.len()).unwrap().to_be_bytes();
        [&hello[..3], &length, part].concat()
    };
    vec![[record(first), record(second)].concat()]
}

fn two_segments(hello: Vec<u8>) -> Vec<Vec<u8>> {
    let (first, second) = hello.split_at(60);
    vec![first.to_vec(), second.to_vec()]
}

fn single_bytes(hello: Vec<u8>) -> Vec<Vec<u8>> {
    hello.into_iter().map(|byte| vec![byte]).collect()
}

/// Sends the ClientHello in these parts, then a request; what comes back.
fn get_over(mut io: TcpStream, mut client: ClientConnection, name: &str, cut: Cut) -> (u16, String) {
    let mut hello = Vec::new();
    client.write_tls(&mut hello).unwrap();
    for part in cut(hello) {
        io.write_all(&part).unwrap();
    }
    let mut tls = StreamOwned::new(client, io);
    write!(tls, "GET / HTTP/1.1\r\nHost: {name}\r\n\r\n").unwrap();
    answer(&mut tls)
}

const LISTS: &str = "allowed_hosts = [\"allowed.test\", \"denied.test\"]\ndenied_hosts = [\"denied.test\"]";

/// Where the two names of [`LISTS`] lead, on a port.
fn lists(world: &World, port: u16, origin: &Origin) -> String {
    let names = ["allowed.test", "denied.test"].map(|name| format!("{name}:{port}"));
    document(world, LISTS, &[(&names[0], origin.address()), (&names[1], origin.address())])
}

#[test]
fn e02_a_client_hello_in_pieces_is_classified() {
    let world = World::new("e02");
    let origin = hello(&world);
    let gate = world.gate(&lists(&world, 443, &origin)).attach();
    let config = trusting(gate.ca_file(), Vec::new());
    for (what, cut) in
        [("two records", two_records as Cut), ("two segments", two_segments), ("single bytes", single_bytes)]
    {
        let get = |name| get_over(dial(&gate, 443), client_for(&config, name), name, cut);
        let (status, body) = get("denied.test");
        assert!(status == 403 && body.contains("denied_host"), "{what}: {status} {body}");
        assert_eq!(get("allowed.test"), (200, "hello".to_owned()), "{what}");
    }
    let log = end(gate);
    assert_eq!(verdicts(&log), ["refused denied_host", "allowed"].repeat(3));
    assert!(log.iter().filter(|line| line["kind"] == "exchange").all(|line| line["sni"] == line["host"]));
    assert_eq!(origin.requests().len(), 3);
}

#[test]
fn e03_a_server_name_behind_long_extensions_is_read() {
    let world = World::new("e03");
    let origin = hello(&world);
    let gate = world.gate(&lists(&world, 443, &origin)).attach();
    let mut alpn: Vec<Vec<u8>> = (0..25).map(|number| vec![b'a' + number; 250]).collect();
    alpn.push(b"http/1.1".to_vec());
    let config = trusting(gate.ca_file(), alpn);
    for (name, wanted) in [("denied.test", 403), ("allowed.test", 200)] {
        // The order of the extensions is random: until the long one comes before the name.
        let client = (0..1000).find_map(|_| {
            let mut client = client_for(&config, name);
            let mut hello = Vec::new();
            client.write_tls(&mut hello).unwrap();
            let at = hello.windows(name.len()).position(|window| window == name.as_bytes());
            (at? > 5000).then_some((client, hello))
        });
        let (client, hello) = client.unwrap();
        let mut io = dial(&gate, 443);
        io.write_all(&hello).unwrap();
        let (status, body) = get_over(io, client, name, |nothing_more| vec![nothing_more]);
        assert_eq!(status, wanted, "{body}");
    }
    assert_eq!(verdicts(&end(gate)), ["refused denied_host", "allowed"]);
    assert_eq!(origin.only_request().authority, "allowed.test");
}

#[test]
fn e05_a_host_other_than_the_server_name_is_refused() {
    let world = World::new("e05");
    let origin = hello(&world);
    let gate = world.gate(&lists(&world, 443, &origin)).attach();
    let hosts = ["denied.test", "unnamed.test", "sub.allowed.test", "198.51.100.7"];
    for version in ["--http1.1", "--http2"] {
        for host in hosts {
            let host = format!("Host: {host}");
            let answer = told(&gate, &[version, "-H", &host, "https://allowed.test/"]);
            assert_eq!(answer, "421 authority_mismatch", "{version} {host}");
        }
    }
    assert_eq!(verdicts(&end(gate)), ["refused authority_mismatch"; 8]);
    assert_untouched(&origin);
}

#[test]
fn e06_a_credential_goes_nowhere_when_host_and_server_name_differ() {
    let world = World::new("e06");
    let token = new_token();
    let (credentialed, attacker) = (hello(&world), hello(&world));
    let text = "allowed_hosts = [\"api.test\", \"attacker.test\"]\n\
                [secrets.TOKEN]\nsource = \"env://TOKEN\"\nhosts = [\"api.test\"]\n\
                [[rules]]\nhost = \"api.test\"\nset_headers = { authorization = \"${secret:TOKEN}\" }";
    let resolve = [("api.test:443", credentialed.address()), ("attacker.test:443", attacker.address())];
    let gate = world.gate(&document(&world, text, &resolve)).env("TOKEN", &token).attach();
    for version in ["--http1.1", "--http2"] {
        for (name, host) in [("api.test", "attacker.test"), ("attacker.test", "api.test")] {
            let (host, url) = (format!("Host: {host}"), format!("https://{name}/"));
            let answer = told(&gate, &[version, "-H", &host, &url]);
            assert_eq!(answer, "421 authority_mismatch", "{version} {host}");
        }
    }
    assert_untouched(&credentialed);
    assert_untouched(&attacker);
    for name in ["api.test", "attacker.test"] {
        assert_eq!(told(&gate, &[&format!("https://{name}/")]), "200", "{name}");
    }
    assert_eq!(credentialed.only_request().header("authorization"), [token.as_str()]);
    assert_eq!(attacker.only_request().header("authorization"), [""; 0]);
    let log = end(gate);
    let expected = [vec!["refused authority_mismatch"; 4], vec!["allowed"; 2]].concat();
    assert_eq!(verdicts(&log), expected);
    assert!(log.iter().all(|line| line["verdict"] != "refused" || line.get("credentials").is_none()));
}

#[test]
fn e07_the_second_request_of_a_connection_is_judged_too() {
    let world = World::new("e07");
    let origin = Origin::start_with(
        &world,
        OriginConfig { identity: Identity::Plain, alpn: &["http/1.1"], ..OriginConfig::default() },
        |_| Reply::text("hello"),
    );
    let gate = world.gate(&lists(&world, 80, &origin)).attach();
    let requests =
        ["allowed.test", "denied.test"].map(|name| format!("GET / HTTP/1.1\r\nHost: {name}\r\n\r\n"));
    for pipelined in [false, true] {
        let mut io = dial(&gate, 80);
        if pipelined {
            io.write_all(requests.concat().as_bytes()).unwrap();
        } else {
            io.write_all(requests[0].as_bytes()).unwrap();
        }
        assert_eq!(answer(&mut io), (200, "hello".to_owned()));
        if !pipelined {
            io.write_all(requests[1].as_bytes()).unwrap();
        }
        let (status, body) = answer(&mut io);
        assert!(status == 403 && body.contains("denied_host"), "{status} {body}");
    }
    assert_eq!(verdicts(&end(gate)), ["allowed", "refused denied_host"].repeat(2));
    let authorities: Vec<_> = origin.requests().into_iter().map(|request| request.authority).collect();
    assert_eq!(authorities, ["allowed.test"; 2]);
}

#[test]
fn e08_a_port_other_than_the_one_dialled_is_refused() {
    let world = World::new("e08");
    let origin = plain(&world);
    let resolve = [("allowed.test:80", origin.address()), ("allowed.test:22", origin.address())];
    let policy = document(&world, "allowed_hosts = [\"allowed.test\"]", &resolve);
    let gate = world.gate(&policy).attach();
    for port in ["22", "443", "8080"] {
        let host = format!("Host: allowed.test:{port}");
        assert_eq!(told(&gate, &["-H", &host, "http://allowed.test/"]), "421 misdirected", "{host}");
    }
    assert_eq!(told(&gate, &["http://allowed.test:22/"]), "403 not_in_allowed_hosts");
    assert_untouched(&origin);
    assert_eq!(told(&gate, &["-H", "Host: allowed.test:80", "http://allowed.test/"]), "200");
    let expected = [vec!["refused misdirected"; 3], vec!["refused not_in_allowed_hosts", "allowed"]].concat();
    assert_eq!(verdicts(&end(gate)), expected);
}

#[test]
fn e09_unusual_methods_are_judged_as_any_other() {
    let world = World::new("e09");
    let origin = plain(&world);
    let text = "denied_hosts = [\"denied.test\"]\n[[rules]]\nhost = \"limited.test\"\nmethods = [\"GET\"]";
    let resolve = [("denied.test:80", origin.address()), ("limited.test:80", origin.address())];
    let gate = world.gate(&document(&world, text, &resolve)).attach();
    let methods = ["PROPFIND", "QUERY", "get", "Get", "M-SEARCH", "TRACE", "OPTIONS", "X!#$%&'*+.^_`|~"];
    for method in methods {
        for (name, answer) in [("denied.test", "403 denied_host"), ("limited.test", "403 no_rule_matches")] {
            assert_eq!(told(&gate, &["-X", method, &format!("http://{name}/")]), answer, "{method}");
        }
    }
    assert_untouched(&origin);
    assert_eq!(told(&gate, &["http://limited.test/"]), "200");
    let log = end(gate);
    let refusals = ["refused denied_host", "refused no_rule_matches"].repeat(methods.len());
    assert_eq!(verdicts(&log), [refusals, vec!["allowed"]].concat());
    assert!(methods.iter().all(|method| log.iter().any(|line| line["method"] == *method)));
}

#[test]
fn e10_http_and_tls_on_other_ports_are_judged() {
    let world = World::new("e10");
    let (http, https) = (plain(&world), hello(&world));
    let text = "internet = false\n[[rules]]\nhost = \"named.test\"";
    let names = [
        ("other.test:8080", http.address()),
        ("other.test:8443", https.address()),
        ("named.test:8080", http.address()),
        ("named.test:8443", https.address()),
    ];
    let gate = world.gate(&document(&world, text, &names)).attach();
    for (name, _) in names {
        let scheme = if name.ends_with("8443") { "https" } else { "http" };
        assert_eq!(told(&gate, &[&format!("{scheme}://{name}/")]), "403 not_named", "{name}");
    }
    assert_eq!(verdicts(&end(gate)), ["refused not_named"; 4]);
    assert_untouched(&http);
    assert_untouched(&https);

    let text = text.replace("named.test", "named.test:8443");
    let gate = world.gate(&document(&world, &text, &names)).attach();
    assert_eq!(told(&gate, &["https://named.test:8443/"]), "200");
}

#[test]
fn e15_nothing_of_the_gates_own_side_can_be_reached() {
    let world = World::new("e15");
    let inside = world.gate_namespace();
    // What may be listening beside a gate: on every address of its namespace, loopback included.
    let listeners = ["0.0.0.0:7000", "[::]:7001"].map(|address| {
        let listener = inside.enter(|| TcpListener::bind(address)).unwrap();
        listener.set_nonblocking(true).unwrap();
        listener
    });
    let datagrams = inside.enter(|| UdpSocket::bind("0.0.0.0:7000")).unwrap();
    datagrams.set_nonblocking(true).unwrap();
    let gateway = plain_at(&world, ORIGIN_IPV4.into(), 7000);

    let gate = world.gate("version = 1\ninternet = true").attach();
    let addresses = [
        format!("{GATE_IPV4}:7000"),
        format!("[{GATE_IPV6}]:7001"),
        format!("{ORIGIN_IPV4}:7000"),
        "169.254.169.254:80".to_owned(),
        "172.17.0.1:7000".to_owned(),
    ];
    for address in &addresses {
        assert_eq!(told(&gate, &[&format!("http://{address}/")]), "403 forbidden_address", "{address}");
    }
    // Its own loopback is another one than the gate's.
    for address in ["127.0.0.1:7000", "[::1]:7001"] {
        assert_eq!(curl(&gate, &[&format!("http://{address}/")]).code(), 7, "{address}");
    }
    let send = format!(
        "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); \
                        s.sendto(b'x', ('{GATE_IPV4}', 7000))"
    );
    gate.run([PYTHON, "-c", &send]);
    // Sockets with abstract names belong to a network namespace: there must be none in this one.
    let unix = gate.run(["cat", "/proc/net/unix"]);
    assert!(unix.stdout.starts_with("Num ") && !unix.stdout.contains('@'), "{unix:#?}");

    let exchanges = end(gate).into_iter().filter(|line| line["kind"] == "exchange").collect::<Vec<_>>();
    assert_eq!(verdicts(&exchanges), vec!["refused forbidden_address"; addresses.len()]);
    for listener in &listeners {
        assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
    }
    assert_eq!(datagrams.recv(&mut [0; 8]).unwrap_err().kind(), ErrorKind::WouldBlock);
    assert_untouched(&gateway);
    assert_eq!(world.arrivals(), e2e::Arrivals::default());
}

/// Dials the gate's own listeners, and tries to take their ports.
const DIAL_LISTENERS: &str = "
import errno, socket
listeners = []
for family, file in ((socket.AF_INET, 'tcp'), (socket.AF_INET6, 'tcp6')):
    rows = [line.split() for line in open('/proc/net/' + file)][1:]
    listeners += [(family, int(row[1].rsplit(':', 1)[1], 16)) for row in rows if row[3] == '0A']
assert sorted(family for family, _ in listeners) == [socket.AF_INET, socket.AF_INET6], listeners
hosts = {socket.AF_INET: ['127.0.0.1', '127.0.0.2', '100.64.0.2', '0.0.0.0'],
         socket.AF_INET6: ['::1', '::ffff:127.0.0.1', 'fd00:e9::2', '::']}
for family, port in listeners:
    for host in hosts[family]:
        tcp = socket.socket(family, socket.SOCK_STREAM)
        tcp.settimeout(10)
        print(host, 'tcp', errno.errorcode[tcp.connect_ex((host, port))])
        udp = socket.socket(family, socket.SOCK_DGRAM)
        udp.settimeout(10)
        try:
            udp.connect((host, port)); udp.send(b'x'); print(host, 'udp', udp.recv(8))
        except OSError as error:
            print(host, 'udp', errno.errorcode.get(error.errno, error))
    squatter = socket.socket(family, socket.SOCK_STREAM)
    squatter.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    squatter.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        squatter.bind((hosts[family][0], port)); squatter.listen(); print('taken')
    except OSError as error:
        print('squatter', errno.errorcode[error.errno])
    print('port', port)
";

#[test]
fn e16_the_listeners_cannot_be_dialled_directly() {
    let world = World::new("e16");
    let gate = world.gate("version = 1\ninternet = true").attach();
    let outcome = gate.run([PYTHON, "-c", DIAL_LISTENERS]);
    // Under `run` the workload has the uid of the gate, which is who may share a port.
    let same_user = world.run("", [PYTHON, "-c", DIAL_LISTENERS]);
    for outcome in [&outcome, &same_user] {
        outcome.assert_success();
        for line in outcome.stdout.lines().filter(|line| !line.starts_with("port ")) {
            let end = line.rsplit(' ').next().unwrap();
            let refused = matches!(end, "ECONNREFUSED" | "EPERM" | "EADDRINUSE");
            assert!(refused, "{line}: {outcome:#?}");
        }
    }
    assert_eq!(verdicts(&same_user.log), [""; 0]);
    // Neither can it be named, at the port that it listens on or any other.
    for port in outcome.stdout.lines().filter_map(|line| line.strip_prefix("port ")) {
        for host in ["127.0.0.1", "[::1]", "localhost", "0.0.0.0"] {
            let (host, url) = (format!("Host: {host}:{port}"), format!("http://198.51.100.7:{port}/"));
            let answer = told(&gate, &["-H", &host, &url]);
            let refusals = ["421 misdirected", "403 forbidden_address", "502 name_not_found"];
            assert!(refusals.contains(&answer.as_str()), "{host}: {answer}");
        }
    }
    let exchanges = verdicts(&end(gate));
    assert!(exchanges.len() == 8 && exchanges.iter().all(|verdict| verdict != "allowed"), "{exchanges:?}");
    assert_eq!(world.arrivals().tcp_connections, 0);
}

#[test]
fn e18_names_that_lead_inside_are_refused() {
    let world = World::new("e18");
    world.add_origin_address("169.254.169.254".parse().unwrap());
    let addresses = [
        "127.0.0.1",
        "127.8.9.10",
        "0.0.0.0",
        "10.77.0.1",
        "10.77.0.2",
        "172.16.0.1",
        "192.168.1.1",
        "100.64.0.2",
        "169.254.169.254",
        "198.18.0.1",
        "224.0.0.1",
        "::1",
        "::ffff:127.0.0.1",
        "::ffff:10.77.0.2",
        "64:ff9b::a4d:2",
        "2002:a4d:2::",
        "fd77::2",
        "fe80::1",
    ];
    let names: Vec<_> = (0..addresses.len()).map(|number| format!("n{number}.test")).collect();
    let zone: Vec<_> = names
        .iter()
        .zip(addresses)
        .map(|(name, address)| (name.as_str(), address.parse().unwrap()))
        .collect();
    let dns = Dns::start(&world, &zone);
    let text = format!(
        "allowed_hosts = [\"*.test\"]\n[[rules]]\nhost = \"spliced.test\"\nintercept = false\n{}\
         dns = [\"{ORIGIN_IPV4}\"]\n",
        world.upstream(&[])
    );
    dns.set("spliced.test", &["10.77.0.2".parse().unwrap()]);
    let origins = ["10.77.0.2:80", "10.77.0.2:443", "[fd77::2]:80", "169.254.169.254:80"].map(|address| {
        let address: SocketAddr = address.parse().unwrap();
        plain_at(&world, address.ip(), address.port())
    });
    let loopback = world.gate_namespace().enter(|| TcpListener::bind("127.0.0.1:80")).unwrap();
    loopback.set_nonblocking(true).unwrap();

    let gate = world.gate(&format!("version = 1\n{text}")).attach();
    for (name, address) in names.iter().zip(addresses) {
        for scheme in ["http", "https"] {
            let answer = told(&gate, &[&format!("{scheme}://{name}/")]);
            assert_eq!(answer, "403 forbidden_address", "{scheme} {name} at {address}");
        }
    }
    assert_ne!(curl(&gate, &["https://spliced.test/"]).code(), 0);
    let log = verdicts(&end(gate));
    let (last, others) = log.split_last().unwrap();
    assert_eq!(others, vec!["refused forbidden_address"; 2 * names.len()]);
    assert!(last.ends_with(" forbidden_address"), "{last}");
    origins.iter().for_each(assert_untouched);
    assert_eq!(loopback.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
    assert_eq!(world.arrivals().tcp_connections, 0);

    // Where the policy names the range, and only there, the same name gets through.
    let gate = world.gate(&format!("version = 1\n{text}allow_ranges = [\"10.77.0.2/32\"]\n")).attach();
    assert_eq!(told(&gate, &["http://n4.test/"]), "200");
    assert_eq!(told(&gate, &["http://n3.test/"]), "403 forbidden_address");
    assert_eq!(origins[0].only_request().authority, "n4.test");
}

#[test]
fn e18_a_name_that_turns_inward_is_not_followed() {
    let world = World::new("e18-turn");
    let public: IpAddr = "203.0.114.7".parse().unwrap();
    world.add_origin_address(public);
    let (outside, inside) = (plain_at(&world, public, 80), plain_at(&world, ORIGIN_IPV4.into(), 80));
    let dns = Dns::start(&world, &[("turning.test", public)]);
    let text =
        format!("version = 1\nallowed_hosts = [\"turning.test\"]\n[upstream]\ndns = [\"{ORIGIN_IPV4}\"]\n");
    let gate = world.gate(&text).attach();
    let get = || told(&gate, &["http://turning.test/"]);
    assert_eq!(get(), "200");
    dns.set("turning.test", &[ORIGIN_IPV4.into()]);
    assert_eq!(get(), "403 forbidden_address");
    // One public address among inner ones: that one alone is dialled.
    dns.set("turning.test", &[ORIGIN_IPV4.into(), public, Ipv4Addr::LOCALHOST.into()]);
    assert_eq!(get(), "200");
    assert_eq!(verdicts(&end(gate)), ["allowed", "refused forbidden_address", "allowed"]);
    assert_eq!(outside.requests().len(), 2);
    assert_untouched(&inside);
}

/// Requests that two readers may read in two ways; `@` stands for a request line and a good host.
const SMUGGLING: [&str; 37] = [
    "@Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "@Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n",
    "@Content-Length: 0\r\nContent-Length: 44\r\n\r\n",
    "@Content-Length: 0\r\nContent-Length: 0\r\n\r\n",
    "@Content-Length: 0, 0\r\n\r\n",
    "@Content-Length: +0\r\n\r\n",
    "@Content-Length: -1\r\n\r\n",
    "@Content-Length: 0x10\r\n\r\n",
    "@Content-Length:\r\n\r\n",
    "@Content-Length: 18446744073709551616\r\n\r\n",
    "@Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "@Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "@Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "@Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "@Transfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n",
    "@Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    "@Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    "@Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
    "POST / HTTP/1.0\r\nHost: allowed.test\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "@Host: denied.test\r\n\r\n",
    "@Host: allowed.test\r\n\r\n",
    "GET / HTTP/1.1\r\n\r\n",
    "GET / HTTP/1.1\r\nHost:\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: allowed.test, denied.test\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: denied.test@allowed.test\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: allowed.test/denied.test\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: allowed.test:80:443\r\n\r\n",
    "GET http://denied.test/ HTTP/1.1\r\nHost: allowed.test\r\n\r\n",
    "GET allowed.test:80 HTTP/1.1\r\nHost: allowed.test\r\n\r\n",
    "GET /a b HTTP/1.1\r\nHost: allowed.test\r\n\r\n",
    "GET /a#b HTTP/1.1\r\nHost: allowed.test\r\n\r\n",
    "GET / HTTP/1.2\r\nHost: allowed.test\r\n\r\n",
    "GET / HTTP/1.1\nHost: allowed.test\n\n",
    "@X-One: 1\nX-Two: 2\r\n\r\n",
    "@X-One: 1\rX-Two: 2\r\n\r\n",
    "@X-One: 1\x002\r\n\r\n",
    "GET / HTTP/1.1\r\n Host: allowed.test\r\n\r\n",
];

#[test]
fn e19_ambiguous_requests_are_refused_and_the_connection_ends() {
    let world = World::new("e19");
    let (http, https) = (plain(&world), hello(&world));
    let names = [("allowed.test:80", http.address()), ("allowed.test:443", https.address())];
    let policy = document(&world, "allowed_hosts = [\"allowed.test\"]", &names);
    let gate = world.gate(&policy).attach();
    let config = trusting(gate.ca_file(), Vec::new());
    for what in SMUGGLING {
        let request = what.replace('@', "POST / HTTP/1.1\r\nHost: allowed.test\r\n");
        let smuggled = "GET /smuggled HTTP/1.1\r\nHost: allowed.test\r\n\r\n";
        let bytes = format!("{request}{smuggled}");
        let mut io = dial(&gate, 80);
        io.write_all(bytes.as_bytes()).unwrap();
        let over_http = rest(&mut io);
        let mut io = StreamOwned::new(client_for(&config, "allowed.test"), dial(&gate, 443));
        io.write_all(bytes.as_bytes()).unwrap();
        for answer in [over_http, rest(&mut io)] {
            assert!(
                answer.starts_with("HTTP/1.1 400 ") || answer.starts_with("HTTP/1.0 400 "),
                "{what:?}: {answer}"
            );
            assert_eq!(answer.matches("HTTP/1.").count(), 1, "{what:?}: the second request too: {answer}");
            assert!(answer.contains("malformed_request"), "{what:?}: {answer}");
        }
    }
    assert_eq!(verdicts(&end(gate)), ["refused malformed_request"; 2 * SMUGGLING.len()]);
    assert_untouched(&http);
    assert_untouched(&https);
}

#[test]
fn e19_broken_chunks_smuggle_nothing() {
    let world = World::new("e19-chunks");
    let origin = plain(&world);
    let policy =
        document(&world, "allowed_hosts = [\"allowed.test\"]", &[("allowed.test:80", origin.address())]);
    let gate = world.gate(&policy).attach();
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: allowed.test\r\n\r\n";
    let bodies =
        ["1\nx\r\n0\r\n\r\n", "1;a\nb\r\nx\r\n0\r\n\r\n", "g\r\n", "-1\r\nx", "1\r\nxy\r\n0\r\n\r\n"];
    for body in bodies {
        let mut io = dial(&gate, 80);
        let head = "POST /broken HTTP/1.1\r\nHost: allowed.test\r\nTransfer-Encoding: chunked\r\n\r\n";
        io.write_all(format!("{head}{body}{smuggled}").as_bytes()).unwrap();
        let answers = rest(&mut io);
        assert!(answers.matches("HTTP/1.1 ").count() <= 1, "{body:?}: {answers}");
        assert!(!answers.starts_with("HTTP/1.1 200"), "{body:?}: {answers}");
    }
    let log = verdicts(&end(gate));
    assert!(log.len() == bodies.len() && log.iter().all(|verdict| verdict != "allowed"), "{log:?}");
    for bytes in origin.connections_seen() {
        let text = String::from_utf8_lossy(&bytes);
        assert!(!text.contains("smuggled"), "{text}");
    }
    assert!(origin.requests().iter().all(|request| !request.complete));
}

#[test]
fn e20_connect_is_refused() {
    let world = World::new("e20");
    let (http, https) = (plain(&world), hello(&world));
    let names = [("allowed.test:80", http.address()), ("allowed.test:443", https.address())];
    let policy = document(&world, "allowed_hosts = [\"allowed.test\"]", &names);
    let gate = world.gate(&policy).attach();
    // Through whom is asked does not matter: an allowed host, a refused one, any address.
    for proxy in ["http://allowed.test:80", "http://other.test:80", "http://198.51.100.7:3128"] {
        let outcome = curl(&gate, &["-p", "-x", proxy, "-w", "%{http_connect}", "https://allowed.test/"]);
        assert!(outcome.code() == 56 && outcome.stdout == "403", "{proxy}: {outcome:#?}");
    }
    for target in ["allowed.test:443", "allowed.test:22", "127.0.0.1:80", "169.254.169.254:80"] {
        let mut io = dial(&gate, 80);
        write!(io, "CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n").unwrap();
        let (status, body) = answer(&mut io);
        assert!(status == 403 && body.contains("connect_refused"), "{target}: {status} {body}");
    }
    assert_eq!(verdicts(&end(gate)), ["refused connect_refused"; 7]);
    assert_untouched(&http);
    assert_untouched(&https);
}
