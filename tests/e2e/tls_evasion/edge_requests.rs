//! Requests that mean two hosts at once over HTTP/2, that ask for no path, or that bring a credential of
//! their own where nobody looks.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use e2e::{Attached, Origin, World, new_token};
use rustls::StreamOwned;
use serde_json::{Value, json};

use crate::support::{answer, client_for, dial, document, end, hello, plain, trusting, verdicts};

/// Has these requests sent; how each ended.
fn sent(world: &World, gate: &Attached<'_>, requests: &[Value]) -> Vec<String> {
    let script = world.file("http2.py", include_str!("http2.py")).display().to_string();
    let job = gate.job([world.test_dependency("py/bin/python3"), script]);
    let outcome = job.stdin(json!(requests).to_string()).run();
    serde_json::from_value(outcome.assert_success().json()).unwrap()
}

/// The authority, Host fields, the path, and what may come of it.
type Row<'a> = (Option<&'a str>, &'a [&'a str], &'a str, &'a [&'a str]);

#[test]
fn e05_over_http2_a_request_has_one_host_or_none_gets_it() {
    let world = World::new("e05-http2");
    let origin = hello(&world);
    let names = [("allowed.test:443", origin.address()), ("denied.test:443", origin.address())];
    let gate = world.gate(&document(&world, "allowed_hosts = [\"allowed.test\"]", &names)).attach();
    let malformed = ["400 malformed_request", "reset 1", "goaway 1"];
    let mismatch = ["421 authority_mismatch"];
    let misdirected = ["421 misdirected"];
    let fine = ["200"];
    let allowed = Some("allowed.test");
    let table: [Row; 24] = [
        (allowed, &[], "/", &fine),
        (Some("ALLOWED.test."), &[], "/", &fine),
        (Some("allowed.test:443"), &[], "/", &fine),
        (allowed, &["allowed.test"], "/", &fine),
        (allowed, &["allowed.test:443"], "/", &fine),
        (None, &["allowed.test"], "/", &fine),
        (Some("denied.test"), &[], "/", &mismatch),
        (None, &["denied.test"], "/", &mismatch),
        (Some("denied.test"), &["denied.test"], "/", &mismatch),
        (Some("allowed.test:22"), &[], "/", &misdirected),
        (None, &["allowed.test:80"], "/", &misdirected),
        (allowed, &["denied.test"], "/", &malformed),
        (allowed, &["allowed.test:80"], "/", &malformed),
        (Some("denied.test"), &["allowed.test"], "/", &malformed),
        (allowed, &["allowed.test", "allowed.test"], "/", &malformed),
        (None, &["allowed.test", "denied.test"], "/", &malformed),
        (Some("user@allowed.test"), &[], "/", &malformed),
        (Some("denied.test@allowed.test"), &[], "/", &malformed),
        (Some("allowed.test,denied.test"), &[], "/", &malformed),
        (Some("allowed.test/denied.test"), &[], "/", &malformed),
        (allowed, &[], "", &malformed),
        (allowed, &[], "admin", &malformed),
        (allowed, &[], "http://denied.test/", &malformed),
        (allowed, &[], "/a b", &malformed),
    ];
    let requests: Vec<_> = table
        .iter()
        .map(|(authority, hosts, path, _)| {
            let mut fields =
                vec![json!([":method", "GET"]), json!([":scheme", "https"]), json!([":path", path])];
            fields.extend(authority.map(|authority| json!([":authority", authority])));
            fields.extend(hosts.iter().map(|host| json!(["host", host])));
            json!(["allowed.test", fields, null])
        })
        .collect();
    let ends = sent(&world, &gate, &requests);
    let passed = table.iter().filter(|(.., expected)| *expected == fine).count();
    for ((row, request), told) in table.iter().zip(&requests).zip(&ends) {
        assert!(row.3.contains(&told.as_str()), "{request}: {told}");
    }
    let log = end(gate);
    assert_eq!(verdicts(&log).iter().filter(|verdict| *verdict == "allowed").count(), passed, "{log:#?}");
    let seen = origin.requests();
    assert_eq!(seen.len(), passed);
    assert!(
        seen.iter().all(|request| request.authority == "allowed.test" && request.path == "/"),
        "{seen:#?}"
    );
}

#[test]
fn over_http2_a_request_that_is_none_ends_its_stream() {
    let world = World::new("pseudo-fields");
    let origin = hello(&world);
    let policy =
        document(&world, "allowed_hosts = [\"allowed.test\"]", &[("allowed.test:443", origin.address())]);
    let gate = world.gate(&policy).attach();
    let good = [[":method", "GET"], [":scheme", "https"], [":authority", "allowed.test"], [":path", "/"]];
    let without = |name: &str| good.iter().filter(|field| field[0] != name).copied().collect::<Vec<_>>();
    let with = |field: [&'static str; 2]| [&good[..], &[field]].concat();
    let instead = |name: &'static str, value: &'static str| {
        good.iter().map(|field| if field[0] == name { [name, value] } else { *field }).collect::<Vec<_>>()
    };
    let table = [
        without(":method"),
        without(":path"),
        without(":scheme"),
        instead(":scheme", "http"),
        instead(":scheme", "ftp"),
        instead(":method", "GET / HTTP/1.1"),
        instead(":method", ""),
        with([":path", "/two"]),
        with([":authority", "denied.test"]),
        with([":unknown", "x"]),
        with([":status", "200"]),
        with(["X-Upper", "x"]),
        with(["connection", "close"]),
        with(["transfer-encoding", "chunked"]),
        with(["te", "gzip"]),
        with(["content-length", "5"]),
        with(["content-length", "+0"]),
        with(["x-feed", "a\r\nhost: denied.test"]),
        with(["x-null", "a\0b"]),
        with(["x space", "a"]),
        with(["", "a"]),
        [&[["x-first", "1"]][..], &good].concat(),
    ];
    let requests: Vec<_> = table.iter().map(|fields| json!(["allowed.test", fields, null])).collect();
    for (request, told) in requests.iter().zip(sent(&world, &gate, &requests)) {
        let is_refused = ["400 malformed_request", "reset 1", "goaway 1"].contains(&told.as_str());
        assert!(is_refused, "{request}: {told}");
    }
    let log = end(gate);
    assert!(verdicts(&log).iter().all(|verdict| verdict != "allowed"), "{log:#?}");
    assert_eq!(origin.requests().len(), 0, "{:#?}", origin.requests());
}

#[test]
fn c02_a_credential_in_trailers_is_not_passed_on_beside_the_real_one() {
    let world = World::new("c02-trailers");
    let token = new_token();
    let (http, https) = (plain(&world), hello(&world));
    let text = "[secrets.TOKEN]\nsource = \"env://TOKEN\"\nhosts = [\"api.test\"]\nplaintext = true\n\
                [[rules]]\nhost = \"api.test\"\nset_headers = { authorization = \"${secret:TOKEN}\" }\n\
                remove_headers = [\"x-gone\"]";
    let names = [("api.test:80", http.address()), ("api.test:443", https.address())];
    let gate = world.gate(&document(&world, text, &names)).env("TOKEN", &token).attach();
    let mut io = dial(&gate, 80);
    let head = "POST /1 HTTP/1.1\r\nHost: api.test\r\nTrailer: authorization, x-gone, x-sum\r\nTransfer-Encoding: chunked\r\n\r\n";
    let body = "4\r\nbody\r\n0\r\nAuthorization: mine\r\nX-Gone: mine\r\nX-Sum: 1\r\n\r\n";
    write!(io, "{head}{body}").unwrap();
    assert_eq!(answer(&mut io).0, 200);
    let fields = json!([
        [":method", "POST"],
        [":scheme", "https"],
        [":authority", "api.test"],
        [":path", "/2"],
        ["trailer", "authorization"]
    ]);
    let trailers = json!([["authorization", "mine"], ["x-gone", "mine"], ["x-sum", "1"]]);
    assert_eq!(sent(&world, &gate, &[json!(["api.test", fields, trailers])]), ["200"]);
    for origin in [&http, &https] {
        let request = Origin::only_request(origin);
        assert_eq!(request.header("authorization"), [token.as_str()], "{request:#?}");
        assert_eq!(request.body, b"body");
        let of_rule: Vec<_> =
            request.trailers.iter().filter(|(name, _)| name == "authorization" || name == "x-gone").collect();
        assert!(of_rule.is_empty(), "{request:#?}");
        assert!(request.trailers.iter().any(|(name, value)| name == "x-sum" && value == "1"), "{request:#?}");
    }
}

#[test]
fn options_of_a_whole_server_arrive_as_such() {
    let world = World::new("options");
    let origin = plain(&world);
    let policy = document(&world, "allowed_hosts = [\"api.test\"]", &[("api.test:80", origin.address())]);
    let gate = world.gate(&policy).attach();
    for target in ["*", "HTTP://API.test/"] {
        let mut io = dial(&gate, 80);
        write!(io, "OPTIONS {target} HTTP/1.1\r\nHost: api.test\r\n\r\n").unwrap();
        assert_eq!(answer(&mut io).0, 200, "{target}");
    }
    let targets: Vec<_> = origin.requests().into_iter().map(|request| request.target).collect();
    assert_eq!(targets, ["*", "/"]);
}

/// The beginning of what comes back for a head, however much of it could be sent.
fn told(io: &mut (impl Read + Write), head: &str) -> String {
    // It may be told before it has sent all.
    drop(io.write_all(head.as_bytes()));
    let mut told = Vec::new();
    drop(io.read_to_end(&mut told));
    String::from_utf8_lossy(&told).chars().take(12).collect()
}

#[test]
fn n14_who_still_sends_a_head_that_is_too_large_is_told_so() {
    let world = World::new("n14-told");
    let gate = world.gate("version = 1\ninternet = true").attach();
    let config = trusting(gate.ca_file(), Vec::new());
    let head = format!("GET / HTTP/1.1\r\nHost: api.test\r\nX: {}\r\n\r\n", "a".repeat(300_000));
    for round in 0..30 {
        assert_eq!(told(&mut dial(&gate, 80), &head), "HTTP/1.1 431", "round {round}");
        let mut tls = StreamOwned::new(client_for(&config, "api.test"), dial(&gate, 443));
        assert_eq!(told(&mut tls, &head), "HTTP/1.1 431", "round {round} over TLS");
    }
    // Who goes on for ever, or never ends its half, is left after a moment.
    for pieces in [2_000, 1] {
        let (mut io, began) = (dial(&gate, 80), Instant::now());
        for _ in 0..pieces {
            if io.write_all(head.as_bytes()).is_err() {
                break;
            }
        }
        drop(io.read_to_end(&mut Vec::new()));
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    }
    let log = end(gate);
    assert_eq!(verdicts(&log), ["refused malformed_request"; 62]);
    assert!(log.iter().all(|line| line["kind"] != "exchange" || line["status"] == 431), "{log:#?}");
}
