//! What leaves and what does not: names, bytes on the wire, the namespace's fate, and `run` itself.
#![cfg(test)]

use std::fs;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use e2e::{
    Arrivals, Attached, Dns, Identity, Job, Namespace, Nginx, ORIGIN_IPV4, ORIGIN_IPV6, Origin, OriginConfig,
    Outcome, Received, Reply, Running, TcpServer, WORKLOAD_USER, World, pseudo_random_sha256, sha256_hex,
};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Gid, Pid, Uid, chown};
use serde_json::{Value, json};

const PYTHON: &str = "/usr/bin/python3";

/// A policy that allows the hosts of these authorities, and finds them at these addresses.
fn allowing(world: &World, found: &[(&str, SocketAddr)]) -> String {
    let hosts: Vec<_> = found.iter().map(|(authority, _)| authority.rsplit_once(':').unwrap().0).collect();
    format!("version = 1\nallowed_hosts = {hosts:?}\n{}", world.upstream(found))
}

/// A policy that allows `https://api.test` only, at this origin.
fn allowing_api(world: &World, origin: &Origin) -> String {
    allowing(world, &[("api.test:443", origin.address())])
}

/// A server without TLS on port 80.
fn plain(alpn: &'static [&'static str]) -> OriginConfig {
    OriginConfig { port: 80, identity: Identity::Plain, alpn, ..OriginConfig::default() }
}

/// curl in the gate namespace, without a gate, told where the origin is and to trust it.
fn direct(world: &World, address: SocketAddr, arguments: &[&str]) -> Outcome {
    let (ca, connect) = (world.origin_ca_file().display().to_string(), format!("::{address}"));
    let line = [&["curl", "-sS", "--cacert", &ca, "--connect-to", &connect], arguments].concat();
    world.job(world.gate_namespace(), line).run()
}

fn curl(gate: &Attached<'_>, arguments: &[&str]) -> Outcome {
    gate.run([&["curl", "-sS"], arguments].concat())
}

/// What a Python script printed, as JSON.
#[track_caller]
fn python(job: Job<'_>) -> Value {
    let outcome = job.run();
    outcome.assert_success();
    outcome.json()
}

fn script<'a>(text: &'a str, arguments: &[&'a str]) -> Vec<&'a str> {
    [&[PYTHON, "-c", text], arguments].concat()
}

/// Asks for a fact until it is there.
#[track_caller]
fn until(what: &str, mut fact: impl FnMut() -> bool) {
    let started = Instant::now();
    while !fact() {
        assert!(started.elapsed() < Duration::from_secs(20), "waited in vain: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// The lines of a log about one thing: `(field, value)` pairs that must all hold.
fn lines<'a>(log: &'a [Value], wanted: &[(&str, Value)]) -> Vec<&'a Value> {
    log.iter().filter(|line| wanted.iter().all(|(field, value)| line[*field] == *value)).collect()
}

/// Waits for the one line of the log about something, and sees that it stays the only one so far.
#[track_caller]
fn one_line(gate: &mut Attached<'_>, wanted: &[(&str, Value)]) -> Value {
    let line = gate.wait_for_log(|line| wanted.iter().all(|(field, value)| line[*field] == *value));
    let log = gate.log();
    assert_eq!(lines(&log, wanted).len(), 1, "{wanted:?} in {log:#?}");
    line
}

mod names {
    use super::*;

    /// Addresses that a workload may ask, whether somebody is there or not: `ORIGIN_IPV4` has a name
    /// server that would answer.
    const SERVERS: [&str; 7] =
        ["192.0.2.53", "10.77.0.2", "127.0.0.53", "127.0.0.11", "2001:db8::53", "fd77::2", "::1"];
    const TRANSPORTS: [&str; 2] = ["+notcp", "+tcp"];

    #[derive(Debug, PartialEq, Eq)]
    struct Answer {
        status: String,
        /// `NAME TTL CLASS TYPE DATA`.
        records: Vec<String>,
    }

    impl Answer {
        #[track_caller]
        fn data(&self) -> &str {
            match self.records.as_slice() {
                [record] => record.rsplit_once(' ').unwrap().1,
                records => panic!("not one record: {records:?} {}", self.status),
            }
        }

        #[track_caller]
        fn assert_is(&self, status: &str, records: usize) {
            assert_eq!((self.status.as_str(), self.records.len()), (status, records), "{self:?}");
        }
    }

    #[track_caller]
    fn dig(gate: &Attached<'_>, arguments: &[&str]) -> Answer {
        let flags = ["dig", "+noall", "+comments", "+answer", "+time=5", "+tries=1"];
        let outcome = gate.run([&flags, arguments].concat());
        outcome.assert_success();
        let header = outcome.stdout.lines().find(|line| line.contains("status: ")).unwrap();
        let status = header.split("status: ").nth(1).unwrap().split(',').next().unwrap().to_owned();
        let records = outcome.stdout.lines().filter(|line| !line.starts_with(';') && !line.is_empty());
        let records =
            records.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect::<Vec<_>>();
        Answer { status, records }
    }

    /// A world with a name server that knows `api.test` and `evil.test`, and counts.
    fn world_with_names(test: &str) -> (World, Origin, Dns) {
        let world = World::new(test);
        let origin = Origin::echo(&world);
        let dns = Dns::start(&world, &[("api.test", ORIGIN_IPV4.into()), ("evil.test", ORIGIN_IPV4.into())]);
        (world, origin, dns)
    }

    #[track_caller]
    fn assert_nothing_left(world: &World, dns: &Dns) {
        assert_eq!(dns.questions(), Vec::<String>::new());
        assert_eq!(world.arrivals(), Arrivals::default());
    }

    #[test]
    fn d01_allowed_name_has_a_synthetic_address_whoever_is_asked() {
        let (world, origin, dns) = world_with_names("d01");
        let found = [("api.test:443", origin.address()), ("other.test:443", origin.address())];
        let gate = world.gate(&allowing(&world, &found)).attach();
        let address = |kind: &str, name: &str, server: &str, transport: &str| {
            let answer = dig(&gate, &[transport, &format!("@{server}"), name, kind]);
            answer.assert_is("NOERROR", 1);
            let ttl: u32 = answer.records[0].split(' ').nth(1).unwrap().parse().unwrap();
            assert!(ttl <= 60, "{answer:?}");
            answer.data().to_owned()
        };
        let first = ["A", "AAAA"].map(|kind| address(kind, "api.test", SERVERS[0], "+notcp"));
        assert!(first[0].starts_with("198.18.") || first[0].starts_with("198.19."), "{first:?}");
        assert!(first[1].starts_with("fd"), "{first:?}");
        for server in SERVERS {
            for transport in TRANSPORTS {
                let again = ["A", "AAAA"].map(|kind| address(kind, "api.test", server, transport));
                assert_eq!(again, first, "{server} {transport}");
            }
        }
        let other = ["A", "AAAA"].map(|kind| address(kind, "other.test", SERVERS[1], "+tcp"));
        assert!(first.iter().zip(&other).all(|(first, other)| first != other), "{first:?} {other:?}");
        assert_nothing_left(&world, &dns);

        // The address leads somewhere, by both families.
        for family in ["-4", "-6"] {
            curl(&gate, &[family, "https://api.test/"]).assert_success();
        }
        assert_eq!(origin.requests().len(), 2);
        assert_eq!((dns.questions().len(), world.arrivals().udp), (0, 0));
    }

    #[test]
    fn d02_refused_name_has_the_sink_address_which_explains_itself() {
        let (world, origin, dns) = world_with_names("d02");
        let policy = allowing_api(&world, &origin) + "[dns]\nsearch = [\"corp.test\"]\n";
        let mut gate = world.gate(&policy).attach();
        let allowed = dig(&gate, &["@192.0.2.53", "api.test", "A"]);
        for kind in ["A", "AAAA"] {
            let sink = dig(&gate, &["@192.0.2.53", "evil.test", kind]);
            sink.assert_is("NOERROR", 1);
            assert_ne!(sink.data(), allowed.data());
            for server in SERVERS {
                let other = dig(&gate, &[&format!("@{server}"), "+tcp", "more.evil.test", kind]);
                assert_eq!(other.data(), sink.data(), "{server}");
            }
        }
        for hidden in ["intranet", "evil.test.corp.test", "9.2.0.192.in-addr.arpa"] {
            dig(&gate, &["@192.0.2.53", hidden, "A"]).assert_is("NXDOMAIN", 0);
        }
        let name = |name: &str| [("kind", json!("dns")), ("host", json!(name))];
        let line = one_line(&mut gate, &name("evil.test"));
        assert_eq!((&line["verdict"], &line["reason"]), (&json!("refused"), &json!("not_in_allowed_hosts")));

        for (number, (url, family)) in
            [("https://evil.test/a", "-4"), ("https://evil.test/b", "-6"), ("http://evil.test/c", "-4")]
                .into_iter()
                .enumerate()
        {
            let outcome = curl(&gate, &[family, "-w", "\n%{http_code}", url]);
            let (body, status) = outcome.assert_success().stdout.rsplit_once('\n').unwrap();
            let body: Value = serde_json::from_str(body).unwrap();
            assert_eq!(status, "403", "{outcome:?}");
            assert_eq!(
                (&body["error"], &body["reason"]),
                (&json!("policy_denied"), &json!("not_in_allowed_hosts"))
            );
            let path = format!("/{}", ["a", "b", "c"][number]);
            let wanted = [("kind", json!("exchange")), ("host", json!("evil.test")), ("path", json!(path))];
            let line = one_line(&mut gate, &wanted);
            assert_eq!((&line["verdict"], &line["status"]), (&json!("refused"), &json!(403)));
        }
        // What is neither HTTP nor TLS is reset, not left hanging.
        let opaque = "
import json, socket
s = socket.create_connection(('evil.test', 5432), 10)
s.sendall(bytes((0, 0, 0, 8, 4, 210, 22, 47)))
try: print(json.dumps(s.recv(9).decode()))
except ConnectionResetError: print(json.dumps('reset'))
";
        assert_eq!(python(gate.job(script(opaque, &[]))), "reset");
        one_line(&mut gate, &[("kind", json!("flow")), ("reason", json!("opaque_flow"))]);
        assert_eq!(origin.connections_seen().len(), 0);
        assert_nothing_left(&world, &dns);
    }

    #[test]
    fn d02_refused_name_does_not_exist_where_the_policy_prefers_that() {
        let (world, origin, dns) = world_with_names("d02-nxdomain");
        let policy = allowing_api(&world, &origin) + "[dns]\nrefused = \"nxdomain\"\n";
        let mut gate = world.gate(&policy).attach();
        for kind in ["A", "AAAA", "TXT"] {
            dig(&gate, &["@192.0.2.53", "evil.test", kind]).assert_is("NXDOMAIN", 0);
        }
        assert_eq!(curl(&gate, &["https://evil.test/"]).code(), 6);
        one_line(&mut gate, &[("kind", json!("dns")), ("host", json!("evil.test"))]);
        curl(&gate, &["https://api.test/"]).assert_success();
        assert_eq!(dns.questions().len(), 0);
    }

    #[test]
    fn d05_other_types_have_no_data() {
        let (world, origin, dns) = world_with_names("d05");
        let gate = world.gate(&allowing_api(&world, &origin)).attach();
        let kinds = ["TXT", "MX", "HTTPS", "SVCB", "SRV", "NS", "SOA", "CAA", "CNAME", "NULL", "TYPE65300"];
        for kind in kinds {
            for transport in TRANSPORTS {
                dig(&gate, &[transport, "@192.0.2.53", "api.test", kind]).assert_is("NOERROR", 0);
            }
            let refused = dig(&gate, &["@192.0.2.53", "c2VjcmV0.evil.test", kind]);
            assert_eq!(refused.records, Vec::<String>::new(), "{kind}");
        }
        assert_nothing_left(&world, &dns);
    }

    #[test]
    fn d06_case_and_a_last_dot_make_no_difference() {
        let (world, origin, dns) = world_with_names("d06");
        let mut gate = world.gate(&allowing_api(&world, &origin)).attach();
        for name in ["api.test", "evil.test"] {
            let [lower, upper] = [name.to_owned(), name.to_uppercase()];
            let mixed = name.replace('e', "E").replace('i', "I");
            for kind in ["A", "AAAA"] {
                let plain = dig(&gate, &["@192.0.2.53", &lower, kind]);
                for other in [&upper, &mixed, &format!("{mixed}."), &format!("{lower}.")] {
                    let answer = dig(&gate, &["@192.0.2.53", other, kind]);
                    assert_eq!(answer.data(), plain.data(), "{other}");
                    // Resolvers that randomise case drop an answer to another spelling.
                    let asked = format!("{}. ", other.trim_end_matches('.'));
                    assert!(answer.records[0].starts_with(&asked), "{answer:?}");
                }
            }
        }
        one_line(&mut gate, &[("kind", json!("dns")), ("host", json!("evil.test"))]);
        curl(&gate, &["https://API.Test./"]).assert_success();
        assert_eq!(origin.only_request().authority, "api.test");
        assert_eq!(dns.questions().len(), 0);
    }

    /// Sends each message and then a good question by the same socket: what comes before the good
    /// question's answer is the answer to the message.
    const MALFORMED: &str = r"
import json, socket, struct
HEAD = lambda id, flags=0x0100, qd=1: struct.pack('>6H', id, flags, qd, 0, 0, 0)
NAME = b'\x03api\x04test\x00'
IN_A = struct.pack('>2H', 1, 1)
GOOD = HEAD(999) + NAME + IN_A
messages = {
  'one byte': b'x', 'eleven bytes': HEAD(1)[:11],
  'no question': HEAD(1), 'nothing asked': HEAD(1, qd=0),
  'cut in the name': HEAD(1) + NAME[:6], 'cut after the name': HEAD(1) + NAME,
  'points to itself': HEAD(1) + b'\xc0\x0c' + IN_A, 'points ahead': HEAD(1) + b'\xc0\xff' + IN_A,
  'points in a circle': HEAD(1) + b'\x01a\xc0\x10\xc0\x0c' + IN_A,
  'label of 64': HEAD(1) + b'\x40' + b'a' * 64 + b'\x00' + IN_A,
  'name of 300': HEAD(1) + b'\x3b' .join([b'', *[b'a' * 59] * 5]) + b'\x00' + IN_A,
  'many questions': HEAD(1, qd=65535) + NAME + IN_A, 'two questions': HEAD(1, qd=2) + (NAME + IN_A) * 2,
  'garbage': bytes(range(1, 250)) * 2, 'garbage after': GOOD[:0] + HEAD(1) + NAME + IN_A + b'\xff' * 40,
  'an answer': HEAD(1, 0x8180) + NAME + IN_A, 'an update': HEAD(1, 0x2800) + NAME + IN_A,
  'chaos': HEAD(1) + b'\x07version\x04bind\x00' + struct.pack('>2H', 16, 3),
  'any': HEAD(1) + NAME + struct.pack('>2H', 255, 1), 'transfer': HEAD(1) + NAME + struct.pack('>2H', 252, 1),
  'larger than any question': HEAD(1) + NAME + IN_A + bytes(9000),
}
found = {}
for title, message in messages.items():
    for family, host in ((socket.AF_INET, '192.0.2.53'), (socket.AF_INET6, '2001:db8::53')):
        s = socket.socket(family, socket.SOCK_DGRAM); s.settimeout(10)
        s.sendto(message, (host, 53)); s.sendto(GOOD, (host, 53))
        answers = []
        while True:
            answer = s.recv(4096)
            if answer[:2] == GOOD[:2]:
                assert answer[3] & 15 == 0 and answer[7] == 1, answer
                break
            answers.append(answer[3] & 15)
        found.setdefault(title, answers)
        assert found[title] == answers, (title, found[title], answers)
def tcp(*pieces, close=False):
    s = socket.create_connection(('192.0.2.53', 53), 10); s.settimeout(15)
    for piece in pieces: s.sendall(piece)
    if close: s.shutdown(socket.SHUT_WR)
    got = b''
    try:
        while piece := s.recv(4096): got += piece
    except ConnectionResetError: pass
    return len(got)
frame = lambda message: struct.pack('>H', len(message)) + message
found['tcp'] = {
  'no length': tcp(b'\x00', close=True), 'length 0': tcp(frame(b''), close=True),
  'length too large': tcp(b'\xff\xff' + GOOD), 'cut': tcp(frame(GOOD)[:-4], close=True),
  'three at once': tcp(frame(GOOD) * 3, close=True), 'one': tcp(frame(GOOD), close=True),
  'byte by byte': tcp(*(bytes((b,)) for b in frame(GOOD)), close=True),
}
print(json.dumps(found))
";

    #[test]
    fn d10_malformed_questions_get_formerr_or_nothing() {
        let (world, origin, dns) = world_with_names("d10");
        let mut gate = world.gate(&allowing_api(&world, &origin)).attach();
        let found = python(gate.job(script(MALFORMED, &[])));
        const FORMERR: u64 = 1;
        let expected = [
            ("one byte", json!([])),
            ("eleven bytes", json!([])),
            ("an answer", json!([])),
            // A question that was understood, and is not answered with addresses.
            ("an update", json!([4])),
            ("chaos", json!([5])),
            ("any", json!([0])),
            ("transfer", json!([0])),
        ];
        for (title, answers) in found.as_object().unwrap().iter().filter(|(title, _)| *title != "tcp") {
            match expected.iter().find(|(expected, _)| expected == title) {
                Some((_, expected)) => assert_eq!(answers, expected, "{title}"),
                None => assert!(*answers == json!([]) || *answers == json!([FORMERR]), "{title}: {answers}"),
            }
        }
        let tcp = &found["tcp"];
        for title in ["no length", "length 0", "length too large", "cut"] {
            assert_eq!(tcp[title], 0, "{title}");
        }
        let one = tcp["one"].as_u64().unwrap();
        assert!(one > 20);
        assert_eq!((tcp["three at once"].as_u64(), tcp["byte by byte"].as_u64()), (Some(3 * one), Some(one)));
        assert!(Path::new("/proc").join(gate.running().pid().to_string()).exists());
        dig(&gate, &["@192.0.2.53", "api.test"]).assert_is("NOERROR", 1);
        assert_nothing_left(&world, &dns);
    }

    #[test]
    fn no_question_leaves_though_the_gate_has_a_name_server() {
        let world = World::new("own-names");
        let origin =
            Origin::start_with(&world, OriginConfig { port: 443, ..OriginConfig::default() }, |_| {
                Reply::text("hello")
            });
        let dns = Dns::start(&world, &[("www.api.test", ORIGIN_IPV4.into())]);
        // With a wildcard every label would be a byte out, were names resolved when asked.
        let policy = format!(
            "version = 1\nallowed_hosts = [\"*.api.test\"]\n{}dns = [\"{ORIGIN_IPV4}\"]\nallow_ranges = [\"10.77.0.0/24\"]\n",
            world.upstream(&[])
        );
        let gate = world.gate(&policy).attach();
        for number in 0..5 {
            for (server, transport) in [("10.77.0.2", "+notcp"), ("192.0.2.53", "+tcp")] {
                let name = format!("c2VjcmV0LXBhcnQt{number}.api.test");
                dig(&gate, &[transport, &format!("@{server}"), &name]).assert_is("NOERROR", 1);
                dig(&gate, &[transport, &format!("@{server}"), "evil.test"]).assert_is("NOERROR", 1);
            }
        }
        assert_nothing_left(&world, &dns);
        let refused = curl(&gate, &["-o", "/dev/null", "-w", "%{http_code}", "https://secret.evil.test/"]);
        refused.assert_success().assert_stdout("403");
        assert_nothing_left(&world, &dns);

        curl(&gate, &["https://www.api.test/"]).assert_success().assert_stdout("hello");
        let questions = dns.questions();
        assert!(!questions.is_empty(), "the gate resolves what it dials");
        assert!(questions.iter().all(|question| question.starts_with("www.api.test ")), "{questions:?}");
        assert_eq!(origin.requests().len(), 1);
    }

    #[test]
    fn dockers_resolver_is_taken_on_every_port() {
        let (world, origin, dns) = world_with_names("docker-resolver");
        let mut gate = world.gate(&allowing_api(&world, &origin)).attach();
        let text = "
import json, socket
def attempt(kind, port):
    s = socket.socket(socket.AF_INET, kind); s.settimeout(5)
    try:
        s.connect(('127.0.0.11', port)); s.send(b'hello'); s.recv(9)
        return 'answered'
    except (ConnectionResetError, ConnectionRefusedError): return 'refused'
    except OSError as error: return str(error)
print(json.dumps([attempt(kind, port) for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM) for port in (443, 41234)]))
";
        assert_eq!(python(gate.job(script(text, &[]))), json!(["refused", "refused", "refused", "refused"]));
        for port in [443, 41234] {
            let destination = json!(format!("127.0.0.11:{port}"));
            for protocol in ["tcp", "udp"] {
                one_line(
                    &mut gate,
                    &[("original_destination", destination.clone()), ("protocol", json!(protocol))],
                );
            }
        }
        assert_nothing_left(&world, &dns);
    }
}

mod wire {
    use super::*;

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
            Origin::start_with(&world, OriginConfig { alpn, ..OriginConfig::default() }, |request| {
                match request.method.as_str() {
                    "GET" if request.path == "/small" => Reply::text("small"),
                    "GET" => Reply::pseudo_random(LENGTH).chunked(),
                    _ => Reply::text("thanks"),
                }
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
                let (plain, through) = (direct(&world, nginx.address(), &arguments), curl(&gate, &arguments));
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
        let etag = direct(&world, nginx.address(), &["-I", page]);
        let etag = etag
            .stdout
            .lines()
            .find_map(|line| line.to_lowercase().strip_prefix("etag: ").map(str::to_owned));
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
                let (plain, through) = (direct(&world, nginx.address(), &arguments), curl(&gate, &arguments));
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
            direct(&world, origin.address(), &arguments).assert_success();
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
        let policy = allowing_api(&world, &origin) + "idle_timeout_ms = 1500\nresponse_timeout_ms = 1500\n";
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
            "/slow" => (0..12).fold(Reply::text("").chunked(), |reply, _| {
                reply.then("piece ").pause(Duration::from_secs(3))
            }),
            "/up" => Reply::text(request.body_length.to_string()),
            _ => Reply::text("quick"),
        });
        let gate = world.gate(&allowing_api(&world, &origin)).attach();
        let found = python(gate.job(script(SLOW_BOTH_WAYS, &[])));
        let with = |slow: &str| json!([[[200, "quick"], [200, slow], [200, "quick"]], true]);
        assert_eq!(found, json!({ "down": with(&"piece ".repeat(12)), "up": with("72") }));
        assert_eq!(origin.requests().len(), 6);
    }
}

mod network {
    use super::*;

    /// Tries every way out of a namespace that a root workload has, once, and says how each ended.
    const PROBE: &str = r"
import errno, json, socket, struct, sys, time
HERE, FAR = ('10.77.0.2', 'fd77::2'), ('198.51.100.9', '2001:db8::9')
def attempt(act):
    began = time.monotonic()
    try: word = act() or 'sent'
    except socket.timeout: word = 'ETIMEDOUT'
    except OSError as error: word = errno.errorcode.get(error.errno, str(error))
    return [word, time.monotonic() - began]
def tcp(family, host):
    s = socket.socket(family, socket.SOCK_STREAM); s.settimeout(5); s.connect((host, 443))
    return 'connected'
def send(family, kind, protocol, packet, host, port=0):
    socket.socket(family, kind, protocol).sendto(packet, (host, port))
def frame():
    udp = struct.pack('>4H', 4000, 9, 9, 0) + b'x'
    ip = struct.pack('>BBHHHBBH4s4s', 69, 0, 20 + len(udp), 1, 0, 64, 17, 0, socket.inet_aton('100.64.0.2'), socket.inet_aton(HERE[0]))
    s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)); s.bind(('lo', 0)); s.send(bytes(12) + b'\x08\x00' + ip + udp)
def round():
    found = {}
    for version, family, icmp, echo in ((4, socket.AF_INET, 1, b'\x08\0\xf7\xff\0\0\0\0'), (6, socket.AF_INET6, 58, b'\x80\0\0\0\0\0\0\0')):
        for place in (HERE, FAR):
            host, name = place[version == 6], f'{version}{place is HERE and chr(104) or chr(102)}'
            found['tcp' + name] = attempt(lambda: tcp(family, host))
            found['udp' + name] = attempt(lambda: send(family, socket.SOCK_DGRAM, 0, b'x', host, 9))
            found['dns' + name] = attempt(lambda: send(family, socket.SOCK_DGRAM, 0, b'\0\7\1\0\0\1\0\0\0\0\0\0\1a\0\0\1\0\1', host, 53))
            found['icmp' + name] = attempt(lambda: send(family, socket.SOCK_RAW, icmp, echo, host))
            found['sctp' + name] = attempt(lambda: send(family, socket.SOCK_RAW, 132, bytes(12), host))
    found['frame'] = attempt(frame)
    return found
";

    /// One round, as JSON.
    const ONCE: &str = "\nprint(json.dumps(round()))\n";

    /// Rounds until standard input ends; prints each change of how TCP fares.
    const FOREVER: &str = r"
import select
rounds, last = 0, None
while not select.select([sys.stdin], [], [], 0)[0]:
    rounds += 1
    word = round()['tcp4h'][0]
    if word != last: print(word, flush=True)
    last = word
print('rounds', rounds)
";

    fn probe(world: &World, namespace: &Namespace) -> Value {
        let text = [PROBE, ONCE].concat();
        python(world.root_job(namespace, script(&text, &[])))
    }

    /// Nobody serves the namespace and nothing leaves it, and who tries is told at once where the
    /// protocol can.
    #[track_caller]
    fn assert_sealed(world: &World, namespace: &Namespace) {
        let before = world.arrivals();
        let found = probe(world, namespace);
        for (name, ended) in found.as_object().unwrap() {
            assert!(ended[1].as_f64().unwrap() < 2.0, "{name} took long: {found:#}");
            if name.starts_with("tcp") {
                assert_eq!(ended[0], "ECONNREFUSED", "{name}: {found:#}");
            }
        }
        for name in ["icmp4h", "icmp6h", "sctp4h", "sctp6h"] {
            assert_ne!(found[name][0], "sent", "{name}: {found:#}");
        }
        let flags = ["+time=1", "+tries=1", "api.test"];
        for server in ["@10.77.0.2", "@127.0.0.53"] {
            let dig = world.job(namespace, [&["dig", server], &flags[..]].concat()).run();
            assert_eq!(dig.code(), 9, "{dig:?}");
        }
        assert_eq!(world.arrivals(), before, "something left: {found:#}");
    }

    /// The rules, routes and routing rules of a namespace, without numbers that differ each time.
    fn configuration(world: &World, namespace: &Namespace) -> String {
        let listing = "nft list ruleset; ip rule; ip -6 rule; ip -4 route show table all; ip -6 route show table all; ip -o addr";
        let outcome = world.root_job(namespace, ["sh", "-c", listing]).run();
        let text = outcome
            .assert_success()
            .stdout
            .replace(|letter: char| letter.is_ascii_digit(), "")
            .replace(" # progname sluicegate", "");
        // Whether somebody owns the table, and who, the listing says as well.
        text.lines().filter(|line| !line.trim_start().starts_with("flags ")).collect::<Vec<_>>().join("\n")
    }

    fn attach_command(world: &World, namespace: &Namespace, number: usize) -> Vec<String> {
        let log = world.path(&format!("log/second-{number}.jsonl")).display().to_string();
        let path = namespace.path().display().to_string();
        [&world.program("sluicegate"), "attach", &path, "--json", "--log", &log].map(str::to_owned).into()
    }

    fn api_origin(world: &World) -> (Origin, String) {
        let origin = Origin::start(world, |_| Reply::text("hello"));
        let policy = allowing_api(world, &origin);
        (origin, policy)
    }

    #[test]
    fn the_probe_is_seen_where_nothing_is_sealed() {
        let world = World::new("probe");
        let found = probe(&world, world.gate_namespace());
        // The frame went to the gate namespace's own loopback.
        let arrivals = world.arrivals();
        assert!(arrivals.tcp_connections >= 4, "{arrivals:?} {found:#}");
        assert_eq!((arrivals.udp, arrivals.icmp, arrivals.other), (8, 4, 4), "{found:#}");
    }

    #[test]
    fn n05_refusing_origin_is_told_at_once_and_apart_from_a_refusal() {
        let world = World::new("n05");
        let (origin, _) = api_origin(&world);
        let closed = SocketAddr::new(ORIGIN_IPV4.into(), 9);
        let found =
            [("closed.test:443", closed), ("api.test:443", origin.address()), ("spliced.test:443", closed)];
        let policy = allowing(&world, &found) + "[[rules]]\nhost = \"spliced.test\"\nintercept = false\n";
        let mut gate = world.gate(&policy).attach();
        assert_eq!(direct(&world, closed, &["https://closed.test/"]).code(), 7);
        for version in ["--http1.1", "--http2"] {
            let outcome = curl(&gate, &[version, "-w", "\n%{http_code}", "https://closed.test/"]);
            let (body, status) = outcome.assert_success().stdout.rsplit_once('\n').unwrap();
            let body: Value = serde_json::from_str(body).unwrap();
            assert_eq!((status, &body["reason"]), ("502", &json!("connect_failed")), "{outcome:?}");
            assert!(body["detail"].as_str().unwrap().contains("refused"), "{body}");
            assert!(outcome.duration < Duration::from_secs(2), "{outcome:?}");
        }
        let closed = [("host", json!("closed.test")), ("reason", json!("connect_failed"))];
        until("both are in the log", || lines(&gate.log(), &closed).len() == 2);
        assert!(
            lines(&gate.log(), &closed)
                .iter()
                .all(|line| line["verdict"] == "failed" && line["status"] == 502)
        );

        let outcome = curl(&gate, &["https://spliced.test/"]);
        assert_eq!(outcome.code(), 35, "a reset within the handshake: {outcome:?}");
        let line = one_line(&mut gate, &[("kind", json!("flow")), ("host", json!("spliced.test"))]);
        assert_eq!((&line["verdict"], &line["reason"]), (&json!("failed"), &json!("connect_failed")));
        curl(&gate, &["https://api.test/"]).assert_success();
    }

    #[test]
    fn n06_ipv6_origin_is_reached() {
        let world = World::new("n06");
        let config = OriginConfig { address: ORIGIN_IPV6.into(), port: 443, ..OriginConfig::default() };
        let origin = Origin::start_with(&world, config, |_| Reply::text("hello"));
        let dns = Dns::start(&world, &[("named.test", ORIGIN_IPV6.into())]);
        let policy = format!(
            "version = 1\nallowed_hosts = [\"api.test\", \"named.test\", \"[fd77::2]\"]\n{}dns = [\"{ORIGIN_IPV4}\"]\nallow_ranges = [\"fd77::/64\"]\n",
            world.upstream(&[("api.test:443", origin.address())])
        );
        let gate = world.gate(&policy).attach();
        for arguments in [
            &["-4", "https://api.test/"][..],
            &["-6", "https://api.test/"],
            &["https://named.test/"],
            &["https://[fd77::2]/"],
        ] {
            curl(&gate, arguments).assert_success().assert_stdout("hello");
        }
        assert!(dns.questions().iter().all(|question| question.starts_with("named.test ")));
        let requests = origin.requests();
        assert_eq!(requests.len(), 4);
        assert_eq!(requests[3].authority, "[fd77::2]");
        let log = gate.log();
        let upstream = [("upstream", json!("[fd77::2]:443")), ("verdict", json!("allowed"))];
        assert_eq!(lines(&log, &upstream).len(), 4, "{log:#?}");
    }

    #[test]
    fn n07_killed_gate_leaves_an_attached_namespace_sealed() {
        let world = World::new("n07");
        let (origin, policy) = api_origin(&world);
        let gate = world.gate(&policy).attach();
        curl(&gate, &["https://api.test/"]).assert_success();
        // A connection that was open, with an exchange on it, ends as well.
        let text = "
import http.client, ssl, sys
connection = http.client.HTTPSConnection('api.test', timeout=30)
connection.request('GET', '/'); print(connection.getresponse().read().decode(), flush=True)
sys.stdin.readline()
try: connection.request('GET', '/'); print(connection.getresponse().status)
except (OSError, http.client.HTTPException) as error: print('broken', type(error).__name__)
";
        let mut open = gate.job(script(text, &[])).spawn();
        open.wait_for_output("hello");
        let (outcome, namespace) = gate.end(Signal::SIGKILL);
        assert!(!outcome.status.success());
        let requests = origin.requests().len();
        open.write("\n");
        let open = open.wait();
        assert!(open.stdout.contains("broken "), "{open:?}");
        assert_sealed(&world, &namespace);
        assert_eq!(origin.requests().len(), requests);
    }

    #[test]
    fn n08_ended_gate_leaves_an_attached_namespace_sealed_and_its_log_closed() {
        for signal in [Signal::SIGTERM, Signal::SIGINT] {
            let world = World::new("n08");
            let (_origin, policy) = api_origin(&world);
            let gate = world.gate(&policy);
            let log = gate.log_file().display().to_string();
            let gate = gate.attach();
            let before = configuration(&world, gate.namespace());
            assert!(!before.contains("mark"), "{before}");
            curl(&gate, &["https://api.test/"]).assert_success();
            let (outcome, namespace) = gate.end(signal);
            outcome.assert_success();
            assert!(outcome.duration < Duration::from_secs(30), "{outcome:?}");
            assert_eq!(outcome.lines("exchange").len(), 1);
            let verify = [&world.program("sluicegate"), "log", "verify", "--closed", "--log", &log];
            world.root_job(world.gate_namespace(), verify).run().assert_success();
            assert_eq!(configuration(&world, &namespace), before);
            assert_sealed(&world, &namespace);
        }
    }

    #[test]
    fn n09_second_gate_is_refused_and_the_next_one_replaces_a_dead_one() {
        let world = World::new("n09");
        let (origin, policy) = api_origin(&world);
        let mut gate = world.gate(&policy).attach();
        let first = configuration(&world, gate.namespace());
        for number in 0..2 {
            let second = world
                .root_job(world.gate_namespace(), attach_command(&world, gate.namespace(), number))
                .run();
            assert_eq!(second.code(), 75, "{second:?}");
            assert!(second.stderr.contains("another gate"), "{second:?}");
            assert_eq!(configuration(&world, gate.namespace()), first);
            curl(&gate, &["https://api.test/"]).assert_success();
        }
        for signal in [Signal::SIGKILL, Signal::SIGTERM, Signal::SIGKILL] {
            let (_, namespace) = gate.end(signal);
            gate = world.gate(&policy).attach_to(namespace);
            assert_eq!(configuration(&world, gate.namespace()), first);
            curl(&gate, &["https://api.test/"]).assert_success();
        }
        for (one, what) in
            [("table inet ", &first), ("lookup ", &first), ("local default dev lo table", &first)]
        {
            let count = what.lines().filter(|line| line.contains(one)).count();
            // IPv4 and IPv6 have routing rules of their own: the system's three and two, and one more each.
            assert_eq!(
                count,
                match one {
                    "lookup " => 7,
                    "table inet " => 1,
                    _ => 2,
                },
                "{one}: {what}"
            );
        }
        assert_eq!(origin.requests().len(), 5);
    }

    #[test]
    fn n09_of_gates_started_at_once_one_attaches() {
        let world = World::new("n09-race");
        let namespace = Namespace::new(&format!("{}-race", world.gate_namespace().name()));
        let mut gates: Vec<_> = (0..4)
            .map(|number| {
                world.root_job(world.gate_namespace(), attach_command(&world, &namespace, number)).spawn()
            })
            .collect();
        until("all but one gave up", || {
            let ready = gates.iter().filter(|gate| gate.stdout().contains("\"ready\"")).count();
            let busy = gates.iter().filter(|gate| gate.stderr().contains("another gate")).count();
            (ready, busy) == (1, 3)
        });
        let ready = gates.iter().position(|gate| gate.stdout().contains("\"ready\"")).unwrap();
        let gate = gates.swap_remove(ready);
        for loser in gates {
            assert_eq!(loser.wait().code(), 75);
        }
        let served =
            world.job(&namespace, ["curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", "http://a.test/"]);
        served.run().assert_success().assert_stdout("403");
        gate.signal(Signal::SIGTERM);
        gate.wait().assert_success();
    }

    #[test]
    fn n10_not_one_packet_leaves_before_during_and_after() {
        let world = World::new("n10");
        let namespace = Namespace::new(&format!("{}-watched", world.gate_namespace().name()));
        let text = [PROBE, FOREVER].concat();
        let mut watcher = world.root_job(&namespace, script(&text, &[])).spawn();
        watcher.wait_for_output("ENETUNREACH");
        let mut seen = 0;
        let mut now = |watcher: &Running<'_>, wanted: &str| {
            until(&format!("{wanted} is seen from inside"), || {
                watcher.stdout().lines().skip(seen).any(|line| line == wanted)
            });
            seen = watcher.stdout().lines().count();
        };
        let mut gate = world.gate("").attach_to(namespace);
        now(&watcher, "connected");
        for signal in [Signal::SIGKILL, Signal::SIGTERM] {
            let (_, namespace) = gate.end(signal);
            now(&watcher, "ECONNREFUSED");
            gate = world.gate("").attach_to(namespace);
            now(&watcher, "connected");
        }
        let (_, namespace) = gate.end(Signal::SIGKILL);
        now(&watcher, "ECONNREFUSED");
        watcher.close_stdin();
        let outcome = watcher.wait();
        let seen: Vec<_> = outcome.assert_success().stdout.lines().collect();
        // From the first captured packet on there is no moment without rules.
        let captured = seen.iter().position(|line| *line == "connected").unwrap();
        let states = &seen[captured..seen.len() - 1];
        assert!(states.iter().all(|state| ["connected", "ECONNREFUSED"].contains(state)), "{outcome:?}");
        assert_eq!(world.arrivals(), Arrivals::default(), "{outcome:?}");
        drop(namespace);
    }

    const THEIRS: &str = "
table ip nat {
  chain OUTPUT {
    type nat hook output priority -100; policy accept;
    ip daddr 127.0.0.11 udp dport 53 dnat to 127.0.0.11:41234
    ip daddr 127.0.0.11 tcp dport 53 dnat to 127.0.0.11:41235
  }
  chain POSTROUTING {
    type nat hook postrouting priority 100; policy accept;
    ip saddr 127.0.0.11 udp sport 41234 snat to :53
  }
}
table inet filter {
  set friends { type ipv4_addr; flags interval; elements = { 192.0.2.0/24 }; }
  chain input { type filter hook input priority 0; policy accept; ct state established,related accept; tcp dport 1 drop; }
  chain early { type filter hook output priority -400; policy accept; meta mark set 100; }
}
table ip6 mangle {
  chain pre { type filter hook prerouting priority -150; policy accept; udp dport 9 accept; }
}
";

    #[test]
    fn n12_tables_of_others_stay_and_change_nothing() {
        let world = World::new("n12");
        let (_origin, policy) = api_origin(&world);
        let namespace = Namespace::new(&format!("{}-shared", world.gate_namespace().name()));
        namespace.nft(&[THEIRS]);
        let theirs = |namespace: &Namespace| {
            let tables = [["ip", "nat"], ["inet", "filter"], ["ip6", "mangle"]];
            tables.map(|[family, name]| namespace.nft(&["list", "table", family, name])).concat()
        };
        let before = theirs(&namespace);
        assert!(before.contains("41234") && before.contains("friends"));
        let mut gate = world.gate(&policy).attach_to(namespace);
        for signal in [Signal::SIGTERM, Signal::SIGKILL] {
            assert_eq!(theirs(gate.namespace()), before);
            curl(&gate, &["https://api.test/"]).assert_success();
            for transport in ["+notcp", "+tcp"] {
                let flags = ["dig", "+short", "+time=2", "+tries=1", transport, "@127.0.0.11", "api.test"];
                let answer = gate.run(flags);
                assert!(answer.assert_success().stdout.starts_with("198.18."), "{answer:?}");
            }
            let (_, namespace) = gate.end(signal);
            assert_eq!(theirs(&namespace), before);
            assert_sealed(&world, &namespace);
            gate = world.gate(&policy).attach_to(namespace);
        }
        assert_eq!(theirs(gate.namespace()), before);
    }

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
        let policy = allowing(&world, &found)
            .replace("allowed_hosts = [", "allowed_hosts = [\"lost.test\", ")
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
        let found: Value =
            serde_json::from_str(outcome.assert_success().stdout.lines().last().unwrap()).unwrap();
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
}

mod run {
    use super::*;

    /// `sluicegate run` as another caller than the workload's user in its home.
    fn run_as<'world>(world: &'world World, caller: &[&str], policy: &str, command: &[&str]) -> Job<'world> {
        let (log, policy) = (world.path("log/run.jsonl"), world.file("run.toml", policy));
        let [log, policy] = [log, policy].map(|path| path.display().to_string());
        let gate = world.program("sluicegate");
        let line = [caller, &[&gate, "run", "--quiet", "--policy", &policy, "--log", &log, "--"], command];
        world.root_job(world.gate_namespace(), line.concat())
    }

    const CLOSED: &str = "version = 1\n";

    /// The namespaces of a workload, as `/proc` names them.
    const NAMESPACES: &str =
        "cd /proc/self/ns && readlink net pid_for_children user mnt | tr '\\n' ' ' && echo";

    /// The processes that are in one of these namespaces.
    fn processes_in(namespaces: &[String]) -> Vec<String> {
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let links =
                ["net", "pid", "user", "mnt"].map(|kind| fs::read_link(entry.path().join("ns").join(kind)));
            let inside =
                |link: &std::path::PathBuf| namespaces.iter().any(|name| link.as_os_str() == name.as_str());
            if links.iter().flatten().any(inside) {
                found.push(entry.file_name().into_string().unwrap());
            }
        }
        found
    }

    /// Nothing of a workload is left: no process, no namespace held by a mount, no mount of ours.
    #[track_caller]
    fn assert_gone(namespaces: &[String]) {
        assert_eq!(namespaces.len(), 4, "{namespaces:?}");
        until("every process is gone", || processes_in(namespaces).is_empty());
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let ours =
            |line: &&str| line.contains(" sluicegate ") || namespaces.iter().any(|name| line.contains(name));
        assert_eq!(mounts.lines().filter(ours).collect::<Vec<_>>(), Vec::<&str>::new());
    }

    fn namespaces(line: &str) -> Vec<String> {
        line.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn exit_codes_pass_through() {
        let world = World::new("codes");
        let not_executable = world.file("not-executable", "#!/bin/sh\n").display().to_string();
        let cases: [(&[&str], i32); 12] = [
            (&["true"], 0),
            (&["false"], 1),
            (&["sh", "-c", "exit 42"], 42),
            (&["sh", "-c", "exit 64"], 64),
            (&["sh", "-c", "exit 255"], 255),
            (&["sh", "-c", "kill -KILL $$"], 137),
            (&["sh", "-c", "kill -TERM $$"], 143),
            (&["sh", "-c", "kill -SEGV $$"], 139),
            (&["sh", "-c", "kill -INT $$"], 130),
            (&["no-such-program"], 127),
            (&[&not_executable], 126),
            (&["/"], 126),
        ];
        for (command, code) in cases {
            for caller in [&["setpriv", "--reuid=61010", "--regid=61010", "--clear-groups"][..], &[]] {
                let outcome = run_as(&world, caller, CLOSED, command).run();
                assert_eq!(outcome.code(), code, "{command:?} {outcome:?}");
            }
        }
    }

    /// Says each signal that it gets, until its input ends.
    const SAYS_SIGNALS: &str = "
import os, signal, sys
for name in ('SIGTERM', 'SIGINT', 'SIGHUP', 'SIGQUIT', 'SIGUSR1', 'SIGUSR2'):
    signal.signal(getattr(signal, name), lambda number, _: os.write(1, signal.Signals(number).name.encode() + b'\\n'))
print('ready', flush=True)
sys.stdin.read()
# At once: on its way out Python hands signals back to the kernel.
os._exit(7)
";

    const SIGNALS: [Signal; 7] = [
        Signal::SIGTERM,
        Signal::SIGINT,
        Signal::SIGHUP,
        Signal::SIGQUIT,
        Signal::SIGUSR1,
        Signal::SIGUSR2,
        Signal::SIGTERM,
    ];

    /// Sends each signal, and sees that the command got it once.
    fn assert_each_comes_once(mut running: Running<'_>, send: impl Fn(i32, Signal)) {
        running.wait_for_output("ready");
        for (number, signal) in SIGNALS.into_iter().enumerate() {
            send(running.pid(), signal);
            until(&format!("{signal} arrives"), || running.stdout().lines().count() > number + 1);
        }
        running.close_stdin();
        let outcome = running.wait();
        let wanted: String = SIGNALS.iter().map(|signal| format!("{signal}\n")).collect();
        outcome.assert_stdout(&format!("ready\n{wanted}"));
        assert_eq!(outcome.code(), 7);
    }

    #[test]
    fn a_signal_for_the_gate_reaches_the_command_once() {
        let world = World::new("signals");
        let running = world.gate(CLOSED).job(script(SAYS_SIGNALS, &[])).spawn();
        assert_each_comes_once(running, |gate, signal| kill(Pid::from_raw(gate), signal).unwrap());
    }

    #[test]
    fn a_signal_for_the_process_group_reaches_the_command() {
        let world = World::new("group");
        let caller = ["setsid", "setpriv", "--reuid=61010", "--regid=61010", "--clear-groups"];
        let mut running = run_as(&world, &caller, CLOSED, &script(SAYS_SIGNALS, &[])).spawn();
        running.wait_for_output("ready");
        for signal in SIGNALS {
            // As timeout(1) and a shell's `kill %1` do.
            kill(Pid::from_raw(-running.pid()), signal).unwrap();
            running.wait_for_output(signal.as_str());
        }
        running.close_stdin();
        assert_eq!(running.wait().code(), 7);
    }

    #[test]
    fn a_signal_that_ends_the_command_is_the_exit_code_and_all_is_gone() {
        let world = World::new("terminated");
        for (signal, code) in [(Signal::SIGTERM, 143), (Signal::SIGINT, 130), (Signal::SIGHUP, 129)] {
            let text =
                format!("{NAMESPACES}; (trap '' TERM INT HUP; setsid sleep 600 >&- 2>&-) & exec sleep 600");
            let mut running = world.gate(CLOSED).job(["sh", "-c", &text]).spawn();
            running.wait_for_output("\n");
            running.signal(signal);
            let outcome = running.wait();
            assert_eq!(outcome.code(), code, "{outcome:?}");
            assert_gone(&namespaces(&outcome.stdout));
            // Its last line says that it ended in order.
            assert_eq!(outcome.log.last().unwrap()["kind"], "control", "{outcome:?}");
        }
    }

    #[test]
    fn n07_killed_gate_takes_the_command_and_its_children_along() {
        let world = World::new("n07-run");
        let origin = Origin::start(&world, |_| Reply::text("hello"));
        // Children that ignore every signal, left their session, and keep trying to get out.
        let text = format!(
            "{NAMESPACES}; curl -sS https://api.test/; echo
            for i in 1 2 3; do (trap '' TERM HUP INT; exec setsid sh -c 'while :; do curl -s -m 1 http://10.77.0.2/; done' >&- 2>&-) & done
            echo running; exec sleep 600"
        );
        // Whoever dies, all do.
        for victim in ["sluicegate", "sluicegate-netns"] {
            let mut running = world.gate(&allowing_api(&world, &origin)).job(["sh", "-c", &text]).spawn();
            running.wait_for_output("hello\nrunning\n");
            let inside = namespaces(running.stdout().lines().next().unwrap());
            assert!(processes_in(&inside).len() >= 5);
            let pid = if victim == "sluicegate" { running.pid() } else { child_of(running.pid()) };
            kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
            let outcome = running.wait();
            assert!(!outcome.status.success(), "{outcome:?}");
            assert_gone(&inside);
        }
        let arrivals = world.arrivals();
        assert_eq!((arrivals.udp, arrivals.icmp, arrivals.other), (0, 0, 0));
        assert_eq!((arrivals.tcp_connections, origin.connections_seen().len()), (2, 2));
    }

    fn child_of(parent: i32) -> i32 {
        let children = format!("/proc/{parent}/task/{parent}/children");
        fs::read_to_string(children).unwrap().split_whitespace().next().unwrap().parse().unwrap()
    }

    #[test]
    fn what_the_command_leaves_behind_ends_with_it() {
        let world = World::new("leftovers");
        let text = format!("{NAMESPACES}; (trap '' TERM HUP; exec setsid sleep 600 >&- 2>&- <&-) & exit 3");
        let outcome = world.gate(CLOSED).run(["sh", "-c", &text]);
        assert_eq!(outcome.code(), 3, "{outcome:?}");
        assert_gone(&namespaces(&outcome.stdout));
    }

    #[test]
    fn folder_user_groups_and_environment_are_kept() {
        let world = World::new("kept");
        let folder = world.path("a folder");
        fs::create_dir(&folder).unwrap();
        let group_file = world.file("for-the-group", "readable");
        chown(&group_file, Some(Uid::from_raw(0)), Some(Gid::from_raw(61_011))).unwrap();
        fs::set_permissions(&group_file, std::os::unix::fs::PermissionsExt::from_mode(0o040)).unwrap();
        let text = "
import json, os, sys
print(json.dumps({'ids': [os.getuid(), os.geteuid(), os.getgid(), os.getegid()], 'folder': os.getcwd(),
  'group': open(sys.argv[1]).read(), 'umask': os.umask(0), 'arguments': sys.argv[2:],
  'environment': {name: value for name, value in os.environ.items()}}))
";
        let path = group_file.display().to_string();
        let odd = ["", "two words", "-x", "--", "$HOME `id` \"'\\", "\u{e9}"];
        let command = [&script(text, &[&path])[..], &odd].concat();
        let caller = [
            "setpriv",
            "--reuid=61010",
            "--regid=61010",
            "--groups=61010,61011",
            "sh",
            "-c",
            "umask 027; exec \"$@\"",
            "sh",
        ];
        let kept = [("KEPT", "a=b \u{e9}\n"), ("EMPTY", ""), ("NO_PROXY", "a.test")];
        let removed = ["HTTP_PROXY", "https_proxy", "ALL_PROXY"];
        let job = run_as(&world, &caller, CLOSED, &command).folder(&folder);
        let job = kept.iter().fold(job, |job, (name, value)| job.env(name, value));
        let found = python(removed.iter().fold(job, |job, name| job.env(name, "http://proxy.test:3128")));
        assert_eq!(found["ids"], json!(vec![WORKLOAD_USER; 4]));
        assert_eq!(found["folder"], folder.display().to_string());
        assert_eq!((&found["group"], &found["umask"]), (&json!("readable"), &json!(0o027)));
        assert_eq!(found["arguments"], json!(odd));
        let environment = &found["environment"];
        for (name, value) in kept {
            assert_eq!(environment[name], value);
        }
        assert_eq!(environment["HOME"], world.home().display().to_string());
        assert!(removed.iter().all(|name| environment[name].is_null()), "{environment:#}");
    }

    #[test]
    fn standard_input_and_output_are_passed_byte_for_byte() {
        let world = World::new("binary");
        let bytes: Vec<u8> =
            (0..750_000_u32).flat_map(|number| number.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
        let job = world.gate(CLOSED).job(["sh", "-c", "echo complaint >&2; cat"]);
        let outcome = job.stdin(bytes.clone()).run();
        outcome.assert_success();
        assert!(outcome.stdout_bytes == bytes, "{} of {} bytes", outcome.stdout_bytes.len(), bytes.len());
        assert!(outcome.stderr.ends_with("complaint\n"), "{outcome:?}");
    }

    /// Plays a shell with a terminal, in which the gate runs a command.
    const TERMINAL: &str = r#"
import fcntl, json, os, pty, re, select, struct, sys, termios, time
pid, fd = pty.fork()
if pid == 0: os.execv(sys.argv[1], sys.argv[1:])
fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack('4H', 33, 111, 0, 0))
out = b''
def until(mark):
    global out
    deadline = time.monotonic() + 20
    while not re.search(mark, out):
        assert time.monotonic() < deadline, (mark, out)
        try:
            if select.select([fd], [], [], 1)[0]: out += os.read(fd, 65536)
        except OSError: raise AssertionError('ended', mark, out)
def say(text): os.write(fd, text)
STEPS
try:
    while True: out += os.read(fd, 65536)
except OSError: pass
code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
print(json.dumps({'code': code, 'out': out.decode(errors='replace')}))
"#;

    fn in_terminal(world: &World, steps: &str, command: &[&str]) -> Value {
        let text = TERMINAL.replace("STEPS", steps);
        let line = [&script(&text, &[])[..], command].concat();
        python(world.job(world.gate_namespace(), line))
    }

    #[test]
    fn a_terminal_is_one_and_ctrl_c_comes_once() {
        let world = World::new("terminal");
        let text = r"
import os, signal, sys
def interrupted(*_): os.write(1, b'interrupted\n')
signal.signal(signal.SIGINT, interrupted)
size = os.get_terminal_size(0)
print(os.isatty(0), os.isatty(1), os.isatty(2), os.tcgetpgrp(0) == os.getpgrp() or os.getpgrp() == 0, size.columns, size.lines, flush=True)
print('ready', flush=True)
line = sys.stdin.readline()
print('said', line.strip(), flush=True)
sys.exit(7)
";
        let steps = r"
until(rb'ready\r\n'); say(b'\x03'); until(rb'interrupted\r\n'); say(b'hello\n'); until(rb'said hello\r\n')
";
        let log = world.path("log/terminal.jsonl").display().to_string();
        let gate = world.program("sluicegate");
        let found = in_terminal(
            &world,
            steps,
            &[&[gate.as_str(), "run", "--quiet", "--log", &log, "--"], &script(text, &[])[..]].concat(),
        );
        let out = found["out"].as_str().unwrap();
        assert_eq!(found["code"], 7, "{out}");
        assert!(out.contains("True True True True 111 33\r\n"), "{out}");
        assert_eq!(out.matches("interrupted").count(), 1, "{out}");
    }

    #[test]
    fn a_shell_with_job_control_works_and_gives_the_terminal_back() {
        let world = World::new("job-control");
        let steps = r"
until(rb'inside\$ '); say(b'/usr/bin/python3 job.py\n'); until(rb'running\r\n'); say(b'\x1a'); until(rb'Stopped')
out = b''; say(b'fg\n'); until(rb'running\r\n'); say(b'\x03'); until(rb'inside\$ ')
say(b'exit 5\n'); until(rb'code 5\r\n'); say(b'still here\n'); until(rb'read still here\r\n')
";
        // Says so when it runs and when it runs again: only then is the terminal its own.
        let job = "
import os, signal
def running(*_): os.write(1, b'running\\n')
signal.signal(signal.SIGINT, signal.SIG_DFL); signal.signal(signal.SIGCONT, running)
running()
while True: signal.pause()
";
        world.home_file("job.py", job);
        let log = world.path("log/shell.jsonl").display().to_string();
        let outer = format!(
            "{} run --quiet --log {log} -- bash --norc --noprofile -i; echo code $?; read -r line; echo read $line",
            world.program("sluicegate")
        );
        let found = in_terminal(&world, steps, &["/usr/bin/env", "PS1=inside$ ", "sh", "-c", &outer]);
        assert_eq!(found["code"], 0, "{found}");
        assert!(!found["out"].as_str().unwrap().contains("no job control"), "{found}");
    }

    #[test]
    fn no_capability_is_gained_whoever_calls() {
        let world = World::new("capabilities");
        for caller in [&["setpriv", "--reuid=61010", "--regid=61010", "--clear-groups"][..], &[]] {
            let command = ["grep", "-E", "^(Cap|NoNewPrivs|Seccomp:)", "/proc/self/status"];
            let outcome = run_as(&world, caller, CLOSED, &command).run();
            let printed = &outcome.assert_success().stdout;
            for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
                assert!(printed.contains(&format!("{set}:\t0000000000000000")), "{printed}");
            }
            assert!(printed.contains("NoNewPrivs:\t1"), "{printed}");
            // A set-uid program gains nothing either, and neither gate nor helper keeps anything.
            let mut running =
                run_as(&world, caller, CLOSED, &["sh", "-c", "echo ready; exec sleep 600"]).spawn();
            running.wait_for_output("ready");
            for pid in [running.pid(), child_of(running.pid())] {
                let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
                assert!(status.contains("CapEff:\t0000000000000000"), "{status}");
                assert!(status.contains("CapPrm:\t0000000000000000"), "{status}");
            }
        }
    }

    /// What root of a nested user namespace may try against the one it is in.
    const NESTED: &str = r"
import json, os, socket, subprocess, sys
def ends(*command):
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    return [done.returncode, (done.stdout + done.stderr).strip()[-200:]]
IN = ('unshare', '-Urn')
KEPT = ('unshare', '-Urm')
found = {
  'connect': ends(*IN, 'curl', '-sS', '-m', '5', 'http://10.77.0.2/'),
  'connect up': ends(*IN, 'sh', '-c', 'ip link set lo up; ip route add default dev lo; exec curl -sS -m 2 http://10.77.0.2/'),
  'own network is empty': ends(*IN, 'sh', '-c', 'ip -o link | wc -l'),
  'list': ends(*KEPT, 'nft', 'list', 'ruleset'), 'flush': ends(*KEPT, 'nft', 'flush', 'ruleset'),
  'rule': ends(*KEPT, 'ip', 'rule', 'del', 'pref', '100'), 'route': ends(*KEPT, 'ip', 'route', 'add', 'default', 'dev', 'lo'),
  'device': ends(*KEPT, 'ip', 'link', 'add', 'x', 'type', 'dummy'), 'down': ends(*KEPT, 'ip', 'link', 'set', 'lo', 'down'),
  'enter': ends(*IN, 'nsenter', '--net=/proc/1/ns/net', 'true'), 'raw': ends(*KEPT, 'ping', '-c', '1', '-W', '1', '10.77.0.2'),
  'up': ends(*IN, 'sh', '-c', 'ip link add a type veth peer name b netns 1'),
  'kill init': ends('sh', '-c', 'kill -9 1; true'),
}
print(json.dumps(found), flush=True)
";

    #[test]
    fn nested_namespaces_gain_nothing() {
        let world = World::new("nested");
        let config = OriginConfig { port: 80, identity: Identity::Plain, ..OriginConfig::default() };
        let origin = Origin::start_with(&world, config, |_| Reply::text("hello"));
        let text =
            format!("{PYTHON} -c \"$0\"; exec curl -sS -o /dev/null -w '%{{http_code}}' http://10.77.0.2/");
        for caller in [&["setpriv", "--reuid=61010", "--regid=61010", "--clear-groups"][..], &[]] {
            let outcome = run_as(&world, caller, CLOSED, &["sh", "-c", &text, NESTED]).run();
            let (found, code) = outcome.assert_success().stdout.split_once('\n').unwrap();
            let found: Value = serde_json::from_str(found).unwrap();
            for name in [
                "connect",
                "connect up",
                "list",
                "flush",
                "rule",
                "route",
                "device",
                "down",
                "enter",
                "raw",
                "up",
            ] {
                let harmless = name == "list" && found[name] == json!([0, ""]);
                assert!(found[name][0] != 0 || harmless, "{name}: {found:#}");
            }
            // Without a capability uid 0 may not even map itself; another uid may.
            let own = if caller.is_empty() { json!(1) } else { json!(0) };
            assert_eq!(found["own network is empty"][0], own, "{found:#}");
            assert!(caller.is_empty() || found["own network is empty"][1] == "1", "{found:#}");
            // All rules are still there: the gate answers.
            assert_eq!(code, "403", "{outcome:?}");
        }
        assert_eq!(origin.connections_seen().len(), 0);
        assert_eq!(world.arrivals(), Arrivals::default());
    }

    /// Listens where other programs of a machine do, and starts the gate among them.
    const ROADS: &str = r"
import json, os, select, socket, subprocess, sys
paths, session, command = json.loads(sys.argv[1]), sys.argv[2], sys.argv[3:]
subprocess.run(['mount', '-t', 'tmpfs', '-o', 'mode=755', 'none', '/run'], check=True)
def listen(path):
    s = socket.socket(socket.AF_UNIX)
    if path[0] != '@': os.makedirs(os.path.dirname(path), exist_ok=True)
    s.bind(path.replace('@', '\0'))
    if path[0] != '@': os.chmod(path, 0o777)
    s.listen(99)
    return s
listeners = {path: listen(path) for path in paths}
for folder, _, files in os.walk(session):
    for name in (folder, *(os.path.join(folder, name) for name in files)): os.chown(name, 61010, 61010)
CLIENT = '''
import json, socket, sys
found = {}
for path in json.loads(sys.argv[1]):
    try: socket.socket(socket.AF_UNIX).connect(path.replace('@', chr(0))); found[path] = 'connected'
    except OSError as error: found[path] = type(error).__name__
print(json.dumps(found))
'''
def connects(*before):
    done = subprocess.run([*before, '/usr/bin/python3', '-c', CLIENT, sys.argv[1]], capture_output=True, text=True,
        user=61010, group=61010, extra_groups=[], env={**os.environ, 'XDG_RUNTIME_DIR': session})
    assert done.returncode == 0, done
    accepted = sorted(path for path, s in listeners.items() if select.select([s], [], [], 0)[0] and s.accept())
    return [json.loads(done.stdout), accepted]
print(json.dumps([connects(), connects(*command)]))
";

    #[test]
    fn sockets_of_other_programs_are_hidden() {
        let world = World::new("hidden");
        let session = world.home().join("session").display().to_string();
        fs::create_dir(&session).unwrap();
        chown(Path::new(&session), Some(Uid::from_raw(WORKLOAD_USER)), Some(Gid::from_raw(WORKLOAD_USER)))
            .unwrap();
        let run = [
            "avahi-daemon/socket",
            "containerd/containerd.sock",
            "crio/crio.sock",
            "dbus/system_bus_socket",
            "docker.sock",
            "libvirt/libvirt-sock",
            "lxd.socket",
            "nscd/socket",
            "podman/podman.sock",
            "snapd.socket",
            "systemd/private",
            "systemd/resolve/io.systemd.Resolve",
        ];
        let own = ["bus", "docker.sock", "podman/podman.sock", "systemd/private"];
        let mut paths: Vec<_> = run.iter().map(|name| format!("/run/{name}")).collect();
        paths.extend(own.iter().map(|name| format!("{session}/{name}")));
        // Abstract sockets belong to a network namespace.
        paths.push("@abstract".to_owned());
        let listed = json!(paths).to_string();
        let log = world.path("log/hidden.jsonl").display().to_string();
        let gate = world.program("sluicegate");
        let line = [
            "unshare", "-m", PYTHON, "-c", ROADS, &listed, &session, &gate, "run", "--quiet", "--log", &log,
            "--",
        ];
        let found = python(world.root_job(world.gate_namespace(), line));
        paths.sort();
        assert_eq!(found[0][1], json!(paths), "without the gate each is reached");
        assert_eq!(found[1][1], json!([]), "{:#}", found[1][0]);
        assert!(found[1][0].as_object().unwrap().values().all(|ended| ended != "connected"));
    }
}
