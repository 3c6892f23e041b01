//! Bytes on the wire: messages and bodies pass the gate as they would without it.

use std::fs;
use std::io::{Read, Write};
use std::time::Duration;

use e2e::{
    Identity, Nginx, Origin, OriginConfig, Outcome, Received, Reply, TcpServer, World, pseudo_random_sha256,
    sha256_hex,
};
use serde_json::json;

use crate::support::{allowing, allowing_api, curl, lines, one_line, plain, python, script, until};

const VERSIONS: [&str; 2] = ["--http1.1", "--http2"];

/// A header block without what differs from one answer to the next, or from hop to hop.
fn essence(head: &str) -> Vec<String> {
    let field = |line: &str| match line.split_once(": ") {
        Some((name, value)) => format!("{}: {value}", name.to_lowercase()),
        // HTTP/2 has no words behind the status.
        None => line.split(' ').take(2).collect::<Vec<_>>().join(" "),
    };
    let mut fields: Vec<_> = head.lines().filter(|line| !line.is_empty()).map(field).collect();
    fields.retain(|field| !field.starts_with("date: ") && !field.starts_with("connection: "));
    fields.sort();
    fields
}

/// What `curl -i` printed: the header block's essence, and the body.
#[track_caller]
fn answer(outcome: &Outcome) -> (Vec<String>, Vec<u8>) {
    outcome.assert_success();
    let bytes = &outcome.stdout_bytes;
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").expect("a header block") + 4;
    (essence(&String::from_utf8_lossy(&bytes[..end])), bytes[end..].to_vec())
}

/// The most memory that a process ever had, in bytes.
fn peak_memory(pid: i32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

#[test]
fn w06_chunked_bodies_arrive_whole_and_memory_stays_flat() {
    const LENGTH: u64 = 64 << 20;
    let world = World::new("w06");
    let start = |alpn| {
        Origin::start_with(&world, OriginConfig { alpn, ..OriginConfig::default() }, |request| match request
            .method
            .as_str()
        {
            "GET" if request.path == "/small" => Reply::text("small"),
            "GET" => Reply::pseudo_random(LENGTH).chunked(),
            _ => Reply::text("thanks"),
        })
    };
    let origins = [("h1.test", start(&["http/1.1"])), ("both.test", start(&["h2", "http/1.1"]))];
    let found = [("h1.test:443", origins[0].1.address()), ("both.test:443", origins[1].1.address())];
    let mut gate = world.gate(&allowing(&world, &found)).attach();
    let file = world.home().join("body").display().to_string();
    let hash = pseudo_random_sha256(LENGTH);
    for (name, _) in &origins {
        curl(&gate, &[&format!("https://{name}/small")]).assert_success();
    }
    let before = peak_memory(gate.running().pid());
    for (name, origin) in &origins {
        for version in VERSIONS {
            let url = format!("https://{name}/");
            let download = curl(&gate, &["--fail", version, "-D", "-", "-o", &file, &url]);
            let head = download.assert_success().stdout.to_lowercase();
            assert!(!head.contains("content-length"), "{head}");
            assert_eq!(head.contains("transfer-encoding: chunked"), version == "--http1.1", "{head}");
            assert_eq!(sha256_hex(&fs::read(&file).unwrap()), hash, "{name} {version}");

            let upload = format!("exec curl -sS --fail {version} -T - {url} < {file}");
            gate.run(["sh", "-c", &upload]).assert_success().assert_stdout("thanks");
            let received = origin.requests().pop().unwrap();
            let both_speak_it = *name == "both.test" && version == "--http2";
            assert_eq!(received.version == http::Version::HTTP_2, both_speak_it);
            let sent = (received.body_length, received.body_sha256.as_str(), received.complete);
            assert_eq!(sent, (LENGTH, hash.as_str(), true), "{name} {version}");
            assert_eq!(received.header("content-length"), Vec::<&str>::new());
        }
    }
    let grown = peak_memory(gate.running().pid()) - before;
    assert!(grown < 16 << 20, "512 MiB passed and the gate grew by {grown} bytes");
    let log = gate.log();
    for field in ["request_bytes", "response_bytes"] {
        let wanted = [(field, json!(LENGTH)), ("complete", json!(true)), ("verdict", json!("allowed"))];
        assert_eq!(lines(&log, &wanted).len(), 4, "{field}: {log:#?}");
    }
}

#[test]
fn w08_head_is_answered_as_without_the_gate() {
    let world = World::new("w08");
    world.file("site/page.txt", "line\n".repeat(2000));
    let site = world.path("site").display().to_string();
    let locations = format!(
        "root {site}; location / {{ gzip on; gzip_types text/plain; }}
             location /moved {{ return 301 https://api.test/; }} location /empty {{ return 204; }}"
    );
    let nginx = Nginx::start(&world, "api.test", 8443, &locations);
    let origin = Origin::start(&world, |_| Reply::pseudo_random(123_456));
    let found = [("api.test:443", nginx.address()), ("other.test:443", origin.address())];
    let gate = world.gate(&allowing(&world, &found)).attach();
    let cases: [&[&str]; 5] = [
        &["https://api.test/page.txt"],
        &["-H", "Accept-Encoding: gzip", "https://api.test/page.txt"],
        &["https://api.test/missing"],
        &["https://api.test/moved"],
        &["https://api.test/empty"],
    ];
    for (number, arguments) in cases.iter().enumerate() {
        for version in VERSIONS {
            let arguments = [&["-I", version], *arguments].concat();
            let (plain, through) = (world.direct(nginx.address(), &arguments), curl(&gate, &arguments));
            assert_eq!(answer(&through), answer(&plain), "{arguments:?}");
            let stated = through.stdout.to_lowercase().contains("content-length: 10000");
            assert_eq!(stated, number == 0, "{through:?}");
        }
    }
    // No body is waited for or invented: the next request on the connection is in step.
    let text = "
import http.client, json, ssl
connection = http.client.HTTPSConnection('other.test', timeout=20)
def ask(method):
    connection.request(method, '/'); answer = connection.getresponse()
    return [answer.status, answer.getheader('content-length'), len(answer.read()), id(connection.sock)]
answers = [ask(method) for method in ('HEAD', 'GET', 'HEAD', 'HEAD', 'GET')]
print(json.dumps({'same': len({answer.pop() for answer in answers}) == 1, 'answers': answers}))
";
    let found = python(gate.job(script(text, &[])));
    let (head, get) = (json!([200, "123456", 0]), json!([200, "123456", 123_456]));
    assert_eq!(found, json!({ "same": true, "answers": [head, get, head, head, get] }));
}

#[test]
fn w09_answers_of_a_real_server_are_those_without_the_gate() {
    let world = World::new("w09");
    let text: String = (0..2000).map(|number| format!("line {number}\n")).collect();
    world.file("site/page.txt", &text);
    world.file("site/packed", [&[0x8b, 0x02, 0x80][..], b"hello brotli", &[3]].concat());
    let site = world.path("site").display().to_string();
    let nginx = Nginx::start(
        &world,
        "files.test",
        8443,
        &format!(
            "root {site};
                 location / {{ gzip on; gzip_min_length 1; gzip_types text/plain; gzip_vary on;
                   add_header Set-Cookie \"a=1; Path=/; HttpOnly\"; add_header Set-Cookie \"b=2; Secure\";
                   add_header X-Twice one; add_header X-Twice two; add_header X-Empty \"\"; add_header X-Odd \"a, b;  c\"; }}
                 location /packed {{ default_type text/html; add_header Content-Encoding br always; }}"
        ),
    );
    let gate = world.gate(&allowing(&world, &[("files.test:443", nginx.address())])).attach();
    let page = "https://files.test/page.txt";
    let etag = world.direct(nginx.address(), &["-I", page]);
    let etag =
        etag.stdout.lines().find_map(|line| line.to_lowercase().strip_prefix("etag: ").map(str::to_owned));
    let unchanged = format!("If-None-Match: {}", etag.expect("nginx sends an ETag").trim());
    let cases: &[(&[&str], &str)] = &[
        (&[page], "200"),
        (&["-r", "100-199", page], "206"),
        (&["-r", "-50", page], "206"),
        (&["-r", "99999999-", page], "416"),
        (&["-H", "Accept-Encoding: gzip", page], "200"),
        (&["--compressed", page], "200"),
        (&["-H", &unchanged, page], "304"),
        (&["-H", "Accept-Encoding: br", "https://files.test/packed"], "200"),
        (&["--compressed", "https://files.test/packed"], "200"),
        (&["https://files.test/absent"], "404"),
    ];
    for (arguments, status) in cases {
        for version in VERSIONS {
            let arguments = [&["-i", version], *arguments].concat();
            let (plain, through) = (world.direct(nginx.address(), &arguments), curl(&gate, &arguments));
            let (plain, through) = (answer(&plain), answer(&through));
            assert!(
                through.0.iter().any(|line| line.starts_with("HTTP/") && line.contains(status)),
                "{through:?}"
            );
            assert_eq!(through, plain, "{arguments:?}");
        }
    }
    let (head, body) = answer(&curl(&gate, &["-i", page]));
    assert_eq!(body, text.as_bytes());
    for field in
        ["set-cookie: a=1; Path=/; HttpOnly", "set-cookie: b=2; Secure", "x-twice: one", "x-twice: two"]
    {
        assert!(head.iter().any(|line| line == field), "{head:?}");
    }
}

#[test]
fn w09_requests_arrive_as_without_the_gate() {
    let world = World::new("w09-requests");
    for (version, alpn) in [("--http1.1", &["http/1.1"][..]), ("--http2", &["h2"])] {
        let origin = Origin::start_with(&world, OriginConfig { alpn, ..OriginConfig::default() }, |_| {
            Reply::text("ok")
        });
        let gate = world.gate(&allowing_api(&world, &origin)).attach();
        let arguments = [
            version,
            "-X",
            "PATCH",
            "-H",
            "X-Twice: one",
            "-H",
            "X-Twice: two",
            "-H",
            "X-MiXeD-Case: 1",
            "-H",
            "X-Empty;",
            "-H",
            "Accept: a/b;q=0.5, */*",
            "-H",
            "Cookie: a=1; b=2",
            "-H",
            "X-Odd:   spaces  inside ",
            "-H",
            "X-Latin: caf\u{e9}",
            "-H",
            "Range: bytes=0-1",
            "-H",
            "Accept-Encoding: br;q=1.0, gzip",
            "-H",
            "Content-Type: application/x-odd",
            "--data-binary",
            "a=b&c=%20",
            "https://api.test/a%2Fb/../c;p=1//d?q=1&q=2&r=%zz#not-sent",
            "--path-as-is",
        ];
        world.direct(origin.address(), &arguments).assert_success();
        curl(&gate, &arguments).assert_success();
        let [plain, through]: [Received; 2] = origin.requests().try_into().unwrap();
        let sorted = |received: &Received| {
            let mut headers = received.headers.clone();
            headers.sort();
            headers
        };
        assert_eq!(sorted(&through), sorted(&plain));
        assert_eq!(
            (&through.method, &through.path, &through.authority, &through.body_sha256),
            (&plain.method, &plain.path, &plain.authority, &plain.body_sha256)
        );
        if version == "--http1.1" {
            let raw = String::from_utf8_lossy(&origin.connections_seen()[1]).into_owned();
            assert!(raw.contains("\r\nX-MiXeD-Case: 1\r\n"), "{raw}");
            assert!(raw.contains("X-Twice: one\r\nX-Twice: two\r\n"), "{raw}");
        }
    }
}

/// Sends a request, says that nothing more comes, and reads to the end.
const HALF_CLOSE: &str = r"
import hashlib, json, socket, ssl, sys
mode, host, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
request = b'POST /half HTTP/1.1\r\nHost: ' + host.encode() + b'\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello'
s = socket.create_connection((host, port), 20); s.settimeout(30)
if mode == 'plain':
    s.sendall(request); s.shutdown(socket.SHUT_WR)
    read = lambda: s.recv(65536)
else:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.create_default_context(cafile=sys.argv[4])
    tls = context.wrap_bio(incoming, outgoing, server_hostname=host)
    def flush():
        if data := outgoing.read(): s.sendall(data)
    def step(operation):
        while True:
            try: result = operation()
            except ssl.SSLWantReadError:
                flush()
                piece = s.recv(65536)
                incoming.write(piece) if piece else incoming.write_eof()
                continue
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError): return b''
            flush()
            return result
    step(tls.do_handshake); step(lambda: tls.write(request))
    if mode == 'tls':
        try: tls.unwrap()
        except ssl.SSLWantReadError: pass
        flush()
    s.shutdown(socket.SHUT_WR)
    read = lambda: step(lambda: tls.read(65536))
got = b''
while piece := read(): got += piece
head, _, body = got.partition(b'\r\n\r\n')
print(json.dumps([head.split(b'\r\n')[0].decode(), len(body), hashlib.sha256(body).hexdigest()]))
";

#[test]
fn w12_half_closed_client_gets_the_full_reply() {
    const LENGTH: usize = 3_000_001;
    let world = World::new("w12");
    let (body, hash) = (vec![b'x'; LENGTH], sha256_hex(&vec![b'x'; LENGTH]));
    // Late enough for the gate to have seen the half-close, and more than the kernel's buffers.
    let reply = {
        let body = body.clone();
        move |_: &Received| Reply::new(200, body.clone()).after(Duration::from_millis(300))
    };
    let secure = OriginConfig { alpn: &["http/1.1"], ..OriginConfig::default() };
    let secure = Origin::start_with(&world, secure, reply.clone());
    let plain = Origin::start_with(&world, plain(&["http/1.1"]), reply);
    let authority = world.authority().clone();
    // Says nothing before the other side has ended.
    let patient = TcpServer::start(&world, move |stream| {
        let mut stream = authority.tls_server(Identity::Trusted, &["http/1.1"], stream);
        let mut request = Vec::new();
        stream.read_to_end(&mut request).unwrap();
        assert!(request.ends_with(b"hello"));
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
        stream.write_all(&body).unwrap();
        stream.conn.send_close_notify();
        stream.flush().unwrap();
    });
    let found = [
        ("api.test:443", secure.address()),
        ("api.test:80", plain.address()),
        ("spliced.test:443", patient.address()),
    ];
    let policy = allowing(&world, &found) + "[[rules]]\nhost = \"spliced.test\"\nintercept = false\n";
    let mut gate = world.gate(&policy).attach();
    let [ours, theirs] =
        [gate.ca_file().to_owned(), world.origin_ca_file()].map(|path| path.display().to_string());
    for (mode, host, port, ca) in [
        ("plain", "api.test", "80", &ours),
        ("tls", "api.test", "443", &ours),
        // Some clients end TCP without a word of TLS.
        ("tcp", "api.test", "443", &ours),
        ("tls", "spliced.test", "443", &theirs),
    ] {
        let found = python(gate.job(script(HALF_CLOSE, &[mode, host, port, ca])));
        assert_eq!(found, json!(["HTTP/1.1 200 OK", LENGTH, hash]), "{mode} {host}:{port}");
    }
    assert_eq!((plain.requests().len(), secure.requests().len(), patient.connections()), (1, 2, 1));
    let spliced = one_line(&mut gate, &[("kind", json!("flow"))]);
    assert_eq!((&spliced["verdict"], &spliced["complete"]), (&json!("allowed"), &json!(true)));
}

#[test]
fn slow_answers_outlast_every_limit_on_silence() {
    let world = World::new("slow");
    let origin = Origin::start(&world, |request| match request.path.as_str() {
        "/slow" => (0..6).fold(Reply::text("").chunked(), |reply, _| {
            reply.then("piece ").pause(Duration::from_millis(600))
        }),
        "/stalls" => Reply::text("half").pause(Duration::from_secs(20)).then("never"),
        _ => Reply::text("quick"),
    });
    let policy = allowing_api(&world, &origin) + "idle_timeout_ms = 3000\nresponse_timeout_ms = 3000\n";
    let gate = world.gate(&policy).attach();
    for version in VERSIONS {
        let [quick, slow] = ["quick", "slow"].map(|path| format!("https://api.test/{path}"));
        let outcome = curl(&gate, &[version, "-w", " %{num_connects} ", &quick, &slow, &quick]);
        let slow = "piece ".repeat(6);
        outcome.assert_success().assert_stdout(&format!("quick 1 {slow} 0 quick 0 "));
        assert!(outcome.duration > Duration::from_millis(3600), "{outcome:?}");
    }
    // Silence for longer than that ends one answer, soon, and nothing else.
    for version in VERSIONS {
        let outcome = curl(&gate, &[version, "https://api.test/stalls"]);
        assert!([18, 92].contains(&outcome.code()), "{outcome:?}");
        assert!(outcome.duration < Duration::from_secs(8), "{outcome:?}");
    }
    curl(&gate, &["https://api.test/quick"]).assert_success();
    let stalled = [("path", json!("/stalls")), ("complete", json!(false))];
    until("both are in the log", || lines(&gate.log(), &stalled).len() == 2);
    let log = gate.log();
    let detail = lines(&log, &stalled)[0]["detail"].as_str().unwrap_or_default().to_owned();
    assert!(detail.contains("nothing of the body came"), "{log:#?}");
}

/// A body that takes longer than a request head may, each way, on connections that are kept.
const SLOW_BOTH_WAYS: &str = r"
import http.client, json, threading, time
found = {}
def ask(connection, method, path, body=None, chunked=False):
    connection.request(method, path, body, encode_chunked=chunked, headers={'Transfer-Encoding': 'chunked'} if chunked else {})
    answer = connection.getresponse()
    return [answer.status, answer.read().decode()]
def pieces():
    for _ in range(12):
        time.sleep(3)
        yield b'piece '
def run(name, slow):
    connection = http.client.HTTPSConnection('api.test', timeout=60)
    answers = [ask(connection, 'GET', '/quick')]
    port = connection.sock.getsockname()[1]
    answers += [slow(connection), ask(connection, 'GET', '/quick')]
    found[name] = [answers, port == connection.sock.getsockname()[1]]
threads = [threading.Thread(target=run, args=case) for case in (
    ('down', lambda connection: ask(connection, 'GET', '/slow')),
    ('up', lambda connection: ask(connection, 'PUT', '/up', pieces(), True)))]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(json.dumps(found))
";

#[test]
fn slow_bodies_outlast_the_deadline_for_heads() {
    let world = World::new("slow-both-ways");
    let origin = Origin::start(&world, |request| match request.path.as_str() {
        "/slow" => (0..12)
            .fold(Reply::text("").chunked(), |reply, _| reply.then("piece ").pause(Duration::from_secs(3))),
        "/up" => Reply::text(request.body_length.to_string()),
        _ => Reply::text("quick"),
    });
    let gate = world.gate(&allowing_api(&world, &origin)).attach();
    let found = python(gate.job(script(SLOW_BOTH_WAYS, &[])));
    let with = |slow: &str| json!([[[200, "quick"], [200, slow], [200, "quick"]], true]);
    assert_eq!(found, json!({ "down": with(&"piece ".repeat(12)), "up": with("72") }));
    assert_eq!(origin.requests().len(), 6);
}

#[test]
fn h2c_is_ignored() {
    let world = World::new("upgrade");
    let origin = Origin::echo(&world);
    let gate = world.gate(&allowing_api(&world, &origin)).attach();
    let url = "https://api.test/socket";
    let h2c = ["--http1.1", "-H", "Connection: Upgrade, HTTP2-Settings", "-H", "Upgrade: h2c", url];
    curl(&gate, &h2c).assert_success();
    let received = origin.only_request();
    assert!(!received.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("upgrade")), "{received:?}");
}
