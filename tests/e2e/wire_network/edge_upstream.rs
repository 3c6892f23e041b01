//! Upstreams that end a connection when they should not: what may be sent again is, once, and what was cut
//! is never passed on as if it were whole.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use e2e::{TcpServer, World};
use serde_json::{Value, json};
use socket2::SockRef;

use crate::support::{allowing, curl, lines, until};

/// Reads a request with its body: the method and the target.
fn read_request(reader: &mut BufReader<TcpStream>) -> Option<(String, String)> {
    let mut first = String::new();
    reader.read_line(&mut first).ok()?;
    let mut parts = first.split(' ').map(str::to_owned);
    let (method, target) = (parts.next()?, parts.next()?);
    let (mut length, mut line) = (0, String::new());
    while reader.read_line(&mut line).ok()? > 2 {
        if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        line.clear();
    }
    reader.read_exact(&mut vec![0; length]).ok()?;
    Some((method, target))
}

type Seen = Arc<Mutex<Vec<String>>>;

/// Answers the first request of each connection, and ends the connection at the second, as a server does
/// whose patience was over just then. Every request is noted.
fn ending_at_the_second(world: &World) -> (TcpServer, Seen) {
    let seen = Seen::default();
    let noting = Arc::clone(&seen);
    let server = TcpServer::start(world, move |mut stream| {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        for number in 0..2 {
            let Some((method, target)) = read_request(&mut reader) else { return };
            noting.lock().unwrap().push(format!("{method} {target}"));
            if number == 0 {
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello").unwrap();
            }
        }
    });
    (server, seen)
}

#[test]
fn a_kept_connection_that_ends_costs_no_safe_request_and_repeats_no_other() {
    let world = World::new("stale");
    let (server, seen) = ending_at_the_second(&world);
    let gate = world.gate(&allowing(&world, &[("api.test:80", server.address())])).attach();
    let ask = |method: &str, path: &str| {
        let url = format!("http://api.test/{path}");
        let line = ["-X", method, "-o", "/dev/null", "-w", "%{http_code} %header{x-sluicegate-reason}", &url];
        let data = if method == "POST" { &["-d", "once"][..] } else { &[] };
        curl(&gate, &[&line[..], data].concat()).assert_success().stdout.trim_end().to_owned()
    };
    for number in 0..6 {
        assert_eq!(ask("GET", &format!("get-{number}")), "200", "{number}");
    }
    assert_eq!(ask("OPTIONS", "options"), "200");
    // A body may have done what it was sent for.
    let told = ask("POST", "post");
    assert!(told.starts_with("502 "), "{told}");
    assert_eq!(ask("POST", "post-on-a-new-connection"), "200");
    let seen = seen.lock().unwrap().clone();
    let times = |what: &str| seen.iter().filter(|request| *request == what).count();
    assert_eq!((times("POST /post"), times("POST /post-on-a-new-connection")), (1, 1), "{seen:?}");
    assert!((0..6).all(|number| times(&format!("GET /get-{number}")) <= 2), "{seen:?}");
    let retried: Vec<_> = gate.log().into_iter().filter(|line| line["retries"] == 1).collect();
    assert!(retried.len() >= 4 && retried.iter().all(|line| line["status"] == 200), "{retried:#?}");
}

#[test]
fn a_new_connection_that_ends_is_told_and_not_tried_again() {
    let world = World::new("ends-at-once");
    let server = TcpServer::start(&world, |stream| {
        read_request(&mut BufReader::new(stream));
    });
    let gate = world.gate(&allowing(&world, &[("api.test:80", server.address())])).attach();
    let outcome = curl(&gate, &["-o", "/dev/null", "-w", "%{http_code}", "http://api.test/"]);
    outcome.assert_success().assert_stdout("502");
    assert_eq!(server.connections(), 1);
}

/// Ends an answer where the path says, by a reset or an end of data.
fn cutting(world: &World) -> TcpServer {
    let authority = Arc::clone(world.authority());
    TcpServer::start(world, move |stream| {
        let socket = stream.try_clone().unwrap();
        let mut tls = authority.tls_server(e2e::Identity::Trusted, &["http/1.1"], stream);
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            if tls.read_exact(&mut byte).is_err() {
                return;
            }
            head.push(byte[0]);
        }
        let head = String::from_utf8_lossy(&head).into_owned();
        let part = match head.split(['/', '?', ' ']).nth(2).unwrap() {
            "nothing" => "",
            "half-a-head" => "HTTP/1.1 200 OK\r\nContent-Le",
            "head" => "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n",
            "half-a-body" => "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello",
            "half-a-chunk" => "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\na\r\nhello",
            "no-last-chunk" => "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
            _ => "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        };
        tls.write_all(part.as_bytes()).and_then(|()| tls.flush()).unwrap();
        if head.contains("?reset") {
            // What was written arrives before the reset does.
            std::thread::sleep(Duration::from_millis(100));
            SockRef::from(&socket).set_linger(Some(Duration::ZERO)).unwrap();
        } else {
            tls.conn.send_close_notify();
            tls.flush().and_then(|()| socket.shutdown(Shutdown::Write)).unwrap();
        }
    })
}

#[test]
fn an_answer_that_breaks_off_is_never_whole() {
    let world = World::new("breaks-off");
    let server = cutting(&world);
    let mut gate = world.gate(&allowing(&world, &[("api.test:443", server.address())])).attach();
    for version in ["--http1.1", "--http2"] {
        for end in ["close", "reset"] {
            for part in ["nothing", "half-a-head"] {
                let url = format!("https://api.test/{part}?{end}");
                let outcome = curl(&gate, &[version, "-o", "/dev/null", "-w", "%{http_code}", &url]);
                outcome.assert_success().assert_stdout("502");
            }
            for part in ["head", "half-a-body", "half-a-chunk", "no-last-chunk"] {
                let url = format!("https://api.test/{part}?{end}");
                let outcome = curl(&gate, &[version, &url]);
                assert_ne!(outcome.code(), 0, "{version} {url}: {outcome:?}");
            }
            curl(&gate, &[version, "https://api.test/whole"]).assert_success().assert_stdout("hello");
        }
    }
    let of_path = |path: &str| [("path", json!(path)), ("kind", json!("exchange"))];
    gate.wait_for_log(|line| line["path"] == "/whole");
    for part in ["head", "half-a-body", "half-a-chunk", "no-last-chunk"] {
        until("each is in the log", || lines(&gate.log(), &of_path(&format!("/{part}"))).len() == 4);
        let log = gate.log();
        let complete: Vec<&Value> =
            lines(&log, &of_path(&format!("/{part}"))).iter().map(|line| &line["complete"]).collect();
        assert_eq!(complete, [&json!(false); 4], "{part}");
    }
}
