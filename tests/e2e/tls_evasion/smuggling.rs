//! Requests that say one host and mean another, or that two readers would read in two ways.

use std::io::{ErrorKind, Read, Write};

use e2e::{Identity, Origin, OriginConfig, Reply, World, new_token};
use rustls::StreamOwned;

use crate::support::{
    answer, client_for, curl, dial, document, end, hello, lists, plain, told, trusting, verdicts,
};

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
    origin.assert_untouched();
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
    credentialed.assert_untouched();
    attacker.assert_untouched();
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
    origin.assert_untouched();
    assert_eq!(told(&gate, &["-H", "Host: allowed.test:80", "http://allowed.test/"]), "200");
    let expected = [vec!["refused misdirected"; 3], vec!["refused not_in_allowed_hosts", "allowed"]].concat();
    assert_eq!(verdicts(&end(gate)), expected);
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
    http.assert_untouched();
    https.assert_untouched();
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
    http.assert_untouched();
    https.assert_untouched();
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
