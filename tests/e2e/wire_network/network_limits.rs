//! Whoever hangs, drips or sends without end, upstream or workload, is given up on in time.

use std::io::Read;
use std::net::SocketAddr;
use std::time::Duration;

use e2e::{Dns, ORIGIN_IPV4, Origin, Reply, TcpServer, World};
use serde_json::{Value, json};

use crate::support::{allowing, api_origin, curl, lines, plain, script, until};

/// Swallows what goes to port 10, as a host that is gone would.
const HOLE: &str = "
table inet hole {
  chain c { type filter hook prerouting priority -450; policy accept; tcp dport 10 drop; }
}
";

#[test]
fn n13_hanging_upstream_is_given_up_in_time() {
    let world = World::new("n13");
    let origin = Origin::start(&world, |request| match request.path.as_str() {
        "/hang" => Reply::hang(),
        _ => Reply::text("hello"),
    });
    let mute = TcpServer::start(&world, |mut stream| {
        // Reads whatever comes, until the gate gives up, and never says a word.
        stream.read_to_end(&mut Vec::new()).unwrap_or_default();
    });
    world.origin_namespace().nft(&[HOLE]);
    let dns = Dns::start(&world, &[]);
    dns.set_silent(true);
    let hole = SocketAddr::new(ORIGIN_IPV4.into(), 10);
    let found =
        [("api.test:443", origin.address()), ("mute.test:443", mute.address()), ("hole.test:443", hole)];
    let policy = allowing(&world, &found).replace("allowed_hosts = [", "allowed_hosts = [\"lost.test\", ")
        + "connect_timeout_ms = 1500\nresponse_timeout_ms = 1500\ndns = [\"10.77.0.2\"]\n";
    let mut gate = world.gate(&policy).attach();
    for (url, reason) in [
        ("https://api.test/hang", "response_timeout"),
        ("https://mute.test/", "connect_timeout"),
        ("https://hole.test/", "connect_timeout"),
        ("https://lost.test/", "connect_timeout"),
    ] {
        for version in ["--http1.1", "--http2"] {
            let mut hanging =
                gate.job(["curl", "-sS", version, "-w", "\n%{http_code} %{time_total}", url]).spawn();
            // Meanwhile the others are served.
            curl(&gate, &["https://api.test/"]).assert_success().assert_stdout("hello");
            hanging.close_stdin();
            let outcome = hanging.wait();
            let (body, numbers) = outcome.assert_success().stdout.rsplit_once('\n').unwrap();
            let body: Value = serde_json::from_str(body).unwrap();
            let (status, seconds) = numbers.split_once(' ').unwrap();
            assert_eq!((status, &body["reason"]), ("504", &json!(reason)), "{url} {version} {outcome:?}");
            let seconds: f64 = seconds.parse().unwrap();
            assert!((1.4..6.0).contains(&seconds), "{url} {version} {seconds}");
        }
    }
    gate.wait_for_log(|line| line["host"] == "lost.test" && line["status"] == 504);
    let log = gate.log();
    assert_eq!(
        lines(&log, &[("kind", json!("exchange")), ("verdict", json!("failed")), ("status", json!(504))])
            .len(),
        8
    );
}

/// Heads that come slowly, strangely or without end, all at the same time.
const ODD_HEADS: &str = r"
import json, os, socket, ssl, sys, threading, time
context = ssl.create_default_context(cafile=os.environ['SSL_CERT_FILE'])
context.set_alpn_protocols(['http/1.1'])
def plain():
    s = socket.create_connection(('api.test', 80), 20); s.settimeout(0.5)
    return s
def tls():
    s = socket.create_connection(('api.test', 443), 20)
    s = context.wrap_socket(s, server_hostname='api.test'); s.settimeout(0.5)
    return s
def hold(s, beginning, drip):
    began, got, ended = time.monotonic(), b'', None
    try:
        s.sendall(beginning)
        while time.monotonic() - began < 50:
            try:
                piece = s.recv(65536)
                if not piece: ended = 'end'; break
                got += piece
            except (TimeoutError, ssl.SSLWantReadError):
                if drip: s.sendall(drip)
    except OSError as error: ended = 'reset'
    return {'seconds': time.monotonic() - began, 'status': got[9:12].decode(), 'close': b'\r\nconnection: close\r\n' in got.lower(), 'answers': got.count(b'HTTP/1.1 '), 'ended': ended}
HOST = b'GET /odd HTTP/1.1\r\nHost: api.test\r\n'
NEXT = HOST + b'\r\n'
cases = {
  'slow plain': (plain, HOST + b'X-Slow: ', b'a'), 'slow tls': (tls, HOST + b'X-Slow: ', b'a'),
  'slow line': (plain, b'GET /odd', b'a'),
  'silent': (plain, b'', b''), 'slow hello': (plain, b'\x16\x03\x01\x02\x00\x01', b'\x00'),
  'line feeds': (plain, b'GET /odd HTTP/1.1\nHost: api.test\n\n' + NEXT, b''), 'line feeds tls': (tls, b'GET /odd HTTP/1.1\nHost: api.test\n\n' + NEXT, b''),
  'one line feed': (plain, HOST + b'X: y\n\r\n' + NEXT, b''),
  'large header': (plain, HOST + b'X: ' + b'a' * 200000 + b'\r\n\r\n' + NEXT, b''), 'large header tls': (tls, HOST + b'X: ' + b'a' * 200000 + b'\r\n\r\n' + NEXT, b''),
  'large target': (plain, b'GET /' + b'a' * 200000 + b' HTTP/1.1\r\nHost: api.test\r\n\r\n', b''),
  'many headers': (tls, HOST + b''.join(b'X-%d: y\r\n' % n for n in range(5000)) + b'\r\n', b''),
}
found = {}
def run(name, make, beginning, drip): found[name] = hold(make(), beginning, drip)
threads = [threading.Thread(target=run, args=(name, *case)) for name, case in cases.items()]
for thread in threads: thread.start()
idle = [plain() for _ in range(200)]
for s in idle: s.sendall(HOST)
print('holding', flush=True)
for thread in threads: thread.join()
for s in idle:
    s.settimeout(20)
    while s.recv(65536): pass
print(json.dumps(found))
";

#[test]
fn n14_slow_and_odd_heads_are_bounded() {
    let world = World::new("n14");
    let secure = Origin::start(&world, |_| Reply::text("hello"));
    let plain = Origin::start_with(&world, plain(&["http/1.1"]), |_| Reply::text("hello"));
    let found = [("api.test:443", secure.address()), ("api.test:80", plain.address())];
    let gate = world.gate(&allowing(&world, &found)).attach();
    let mut odd = gate.job(script(ODD_HEADS, &[])).spawn();
    odd.wait_for_output("holding");
    // Hundreds of heads that never end do not keep a good request waiting.
    let good = curl(&gate, &["https://api.test/", "http://api.test/"]);
    good.assert_success().assert_stdout("hellohello");
    assert!(good.duration < Duration::from_secs(5), "{good:?}");
    let outcome = odd.wait();
    let found: Value = serde_json::from_str(outcome.assert_success().stdout.lines().last().unwrap()).unwrap();
    for (name, status, seconds) in [
        ("slow plain", "408", 28.0..40.0),
        ("slow tls", "408", 28.0..40.0),
        ("line feeds", "400", 0.0..10.0),
        ("line feeds tls", "400", 0.0..10.0),
        ("one line feed", "400", 0.0..10.0),
        ("large header", "431", 0.0..10.0),
        ("large header tls", "431", 0.0..10.0),
        ("many headers", "431", 0.0..10.0),
    ] {
        let case = &found[name];
        assert_eq!((&case["status"], &case["answers"]), (&json!(status), &json!(1)), "{name}: {case}");
        assert!(case["close"] == true && !case["ended"].is_null(), "{name}: {case}");
        assert!(seconds.contains(&case["seconds"].as_f64().unwrap()), "{name}: {case}");
    }
    for name in ["silent", "slow hello", "slow line"] {
        let case = &found[name];
        assert_eq!((&case["ended"], &case["answers"]), (&json!("reset"), &json!(0)), "{name}: {case}");
        assert!((8.0..15.0).contains(&case["seconds"].as_f64().unwrap()), "{name}: {case}");
    }
    // A request line without end is not even known to be HTTP.
    let endless = &found["large target"];
    assert!(endless["ended"] == "reset" && endless["seconds"].as_f64().unwrap() < 10.0, "{endless}");
    assert_eq!((secure.requests().len(), plain.requests().len()), (1, 1));
    let malformed = [("kind", json!("exchange")), ("reason", json!("malformed_request"))];
    until("each odd head is in the log", || lines(&gate.log(), &malformed).len() == 8 + 200);
    let log = gate.log();
    for (status, count) in [(400, 3), (431, 3), (408, 202)] {
        let of_status = [&malformed[..], &[("status", json!(status))]].concat();
        assert_eq!(lines(&log, &of_status).len(), count, "{status}");
    }
    assert_eq!(lines(&log, &[("kind", json!("flow")), ("reason", json!("unknown_protocol"))]).len(), 4);
}

#[test]
fn n14_large_headers_over_http2_are_bounded() {
    let world = World::new("n14-h2");
    let (origin, policy) = api_origin(&world);
    let gate = world.gate(&policy).attach();
    let header = world.home_file("header", format!("X: {}", "a".repeat(200_000)));
    let header = format!("@{}", header.display());
    let outcome = curl(
        &gate,
        &["--http2", "-o", "/dev/null", "-w", "%{http_code}", "-H", &header, "https://api.test/"],
    );
    assert!(outcome.stdout == "431" || !outcome.status.success(), "{outcome:?}");
    assert!(outcome.duration < Duration::from_secs(10), "{outcome:?}");
    assert_eq!(origin.requests().len(), 0);
    curl(&gate, &["--http2", "https://api.test/"]).assert_success();
}
