//! `Expect: 100-continue`, early hints and pipelining: what happens around a request and its answer.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use e2e::{Origin, Reply, TcpServer, World};
use serde_json::json;

use crate::support::{Answer, DEADLINE, Message, RawOrigin, ask, dial, read_head};

const HEAD: &str = "HTTP/1.1\r\nHost: api.test\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n";

/// A server that does with a request that waits for leave what its path says, and tells how many bytes of
/// the body came.
fn expecting(world: &World) -> (TcpServer, Receiver<usize>) {
    let (told, bodies) = channel();
    let server = TcpServer::start(world, move |mut io| {
        let Some(head) = read_head(&mut io) else { return };
        assert!(head.to_lowercase().contains("\r\nexpect: 100-continue\r\n"), "{head}");
        let mut body = Vec::new();
        if head.starts_with("PUT /refused ") {
            io.write_all(b"HTTP/1.1 417 No\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno").unwrap();
            io.shutdown(Shutdown::Write).unwrap();
            // To its end: whoever was refused sends nothing.
            drop(io.read_to_end(&mut body));
        } else {
            if head.starts_with("PUT /taken ") {
                io.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").unwrap();
            }
            body.resize(5, 0);
            io.read_exact(&mut body).unwrap();
            // Nobody shall send the next request on what ends here.
            io.write_all(b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").unwrap();
        }
        told.send(body.len()).unwrap();
    });
    (server, bodies)
}

fn policy(world: &World, server: &TcpServer) -> String {
    let found = world.upstream(&[("api.test:80", server.address())]);
    format!("version = 1\nallowed_hosts = [\"http://api.test\"]\n{found}")
}

/// Sends a head that waits for leave, and reads the first answer to it.
fn expect(mut io: TcpStream, path: &str) -> (TcpStream, String, Duration) {
    let began = Instant::now();
    io.write_all(format!("PUT {path} {HEAD}").as_bytes()).unwrap();
    let first = read_head(&mut io).expect("an answer");
    (io, first, began.elapsed())
}

#[test]
fn w07_leave_to_send_a_body_is_the_origins() {
    let world = World::new("w07");
    let (server, bodies) = expecting(&world);
    let mut gate = world.gate(&policy(&world, &server)).attach();

    let (mut io, first, took) = expect(dial(&gate), "/taken");
    assert_eq!(first, "HTTP/1.1 100 Continue\r\n\r\n");
    assert!(took < Duration::from_millis(900), "{took:?}");
    io.write_all(b"hello").unwrap();
    assert!(read_head(&mut io).unwrap().starts_with("HTTP/1.1 201 Created\r\n"));
    assert_eq!(bodies.recv_timeout(DEADLINE), Ok(5));

    // A server that says nothing holds nobody up for longer than it does without the gate.
    let (mut io, first, took) = expect(dial(&gate), "/silent");
    assert_eq!(first, "HTTP/1.1 100 Continue\r\n\r\n");
    assert!(took < Duration::from_secs(3), "{took:?}");
    io.write_all(b"hello").unwrap();
    assert!(read_head(&mut io).unwrap().starts_with("HTTP/1.1 201 Created\r\n"));
    assert_eq!(bodies.recv_timeout(DEADLINE), Ok(5));

    let (mut io, first, _) = expect(dial(&gate), "/refused");
    assert!(first.starts_with("HTTP/1.1 417 No\r\n"), "{first}");
    let mut rest = Vec::new();
    io.read_to_end(&mut rest).unwrap();
    assert_eq!(String::from_utf8_lossy(&rest), "no");
    drop(io);
    assert_eq!(bodies.recv_timeout(DEADLINE), Ok(0));
    gate.wait_for_log(|line| line["path"] == "/refused" && line["status"] == 417);
}

#[test]
fn w07_a_refused_request_is_not_asked_for_its_body() {
    let world = World::new("w07-refused");
    let gate = world.gate("version = 1\n").attach();
    for _ in 0..20 {
        let (_io, first, _) = expect(dial(&gate), "/");
        assert!(first.starts_with("HTTP/1.1 403 Forbidden\r\n"), "{first}");
    }
}

#[test]
fn w07_curl_sends_two_megabytes_without_a_pause() {
    let world = World::new("w07-curl");
    let origin = Origin::start(&world, |request| Reply::text(request.body_length.to_string()));
    let found = world.upstream(&[("api.test:443", origin.address())]);
    let gate = world.gate(&format!("version = 1\nallowed_hosts = [\"api.test\"]\n{found}")).attach();
    world.home_file("body", vec![b'x'; 2_000_000]);
    for version in ["--http1.1", "--http2"] {
        let put = ["curl", "-sS", version, "-H", "Expect: 100-continue", "--expect100-timeout", "20"];
        let put = [&put[..], &["-T", "body", "-w", " %{time_total}", "https://api.test/"]].concat();
        // Whoever waits for leave in vain does so each time.
        let took = (0..3).map(|_| {
            let outcome = gate.run(&put);
            let (body, took) = outcome.assert_success().stdout.split_once(' ').unwrap();
            assert_eq!(body, "2000000", "{version}");
            took.parse().unwrap()
        });
        let took = took.fold(f64::INFINITY, f64::min);
        assert!(took < 0.9, "{version}: {took} s");
    }
}

#[test]
fn requests_in_one_piece_are_answered_in_their_order() {
    let world = World::new("pipelining");
    let hints =
        "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhints";
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nchunks\r\n0\r\n\r\n";
    let answers = [("/hints", Answer::new(hints)), ("/chunked", Answer::new(chunked))];
    let origin = RawOrigin::start(&world, &answers);
    let mut gate = world.gate(&origin.policy(&world)).attach();
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: api.test\r\n\r\n");
    let requests = [
        get("/chunked"),
        get("/hints"),
        "POST /post HTTP/1.1\r\nHost: api.test\r\nContent-Length: 3\r\n\r\nabc".to_owned(),
        "GET / HTTP/1.1\r\nHost: other.test\r\n\r\n".to_owned(),
        get("/hints"),
        get("/chunked"),
    ];
    let answer = String::from_utf8(ask(dial(&gate), requests.concat().as_bytes())).unwrap();
    let order = [
        "chunks",
        "103 Early",
        "\r\n\r\nhints",
        "\r\n\r\nok",
        "403 Forbidden",
        "103 Early",
        "\r\n\r\nhints",
        "chunks",
    ];
    let mut rest = answer.as_str();
    for wanted in order {
        let Some((_, after)) = rest.split_once(wanted) else {
            panic!("no {wanted:?} in {rest:?} of {answer:?}")
        };
        rest = after;
    }
    let paths: Vec<String> = origin.take().iter().map(|one| Message::parse(one).start).collect();
    let wanted = ["GET /chunked", "GET /hints", "POST /post", "GET /hints", "GET /chunked"];
    assert_eq!(paths, wanted.map(|start| format!("{start} HTTP/1.1")));
    gate.wait_for_log(|line| line["host"] == "other.test" && line["verdict"] == "refused");
    let exchanges = gate.log().iter().filter(|line| line["kind"] == json!("exchange")).count();
    assert_eq!(exchanges, requests.len());
}
