//! The change of protocol itself: what waits for it, what is refused, and what an upstream cannot do.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Mutex;
use std::sync::mpsc;
use std::time::Duration;

use e2e::{Attached, TcpServer, World};
use serde_json::{Value, json};

use crate::support::exchange;

const PYTHON: &str = "/usr/bin/python3";

/// Raw sockets: a request for an upgrade, and what comes back.
const RAW: &str = r#"
import json, socket, struct, sys
def dial():
    s = socket.create_connection(('raw.test', 80), 20)
    s.settimeout(30)
    return s
def ask(path, upgrade='raw', more='', then=b''):
    s = dial()
    s.sendall(f'GET {path} HTTP/1.1\r\nHost: raw.test\r\nConnection: Upgrade\r\nUpgrade: {upgrade}\r\n{more}\r\n'.encode() + then)
    return s
def head(s):
    seen = b''
    while not seen.endswith(b'\r\n\r\n'):
        byte = s.recv(1)
        if not byte: break
        seen += byte
    return seen.decode()
def status(s): return head(s).split(' ')[1]
def rest(s):
    seen = b''
    while piece := s.recv(65536): seen += piece
    return seen.decode()
"#;

fn policy(world: &World, server: &TcpServer) -> String {
    let found = world.upstream(&[("raw.test:80", server.address())]);
    format!("version = 1\nallowed_hosts = [\"raw.test\"]\n{found}")
}

#[track_caller]
fn said(gate: &Attached<'_>, script: &str) -> Value {
    let outcome = gate.run([PYTHON, "-c", &format!("{RAW}\n{script}")]);
    outcome.assert_success();
    outcome.json()
}

/// Reads a head, and says which path it asks for and what it says.
fn read_head(stream: &mut TcpStream) -> (String, String) {
    let mut seen = Vec::new();
    while !seen.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        if stream.read(&mut byte).unwrap() == 0 {
            break;
        }
        seen.push(byte[0]);
    }
    let seen = String::from_utf8(seen).unwrap();
    (seen.split(' ').nth(1).unwrap_or_default().to_owned(), seen)
}

const AGREED: &[u8] =
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: raw\r\nX-Kept: yes\r\n\r\n";

#[test]
fn bytes_behind_the_request_wait_for_the_101_and_half_closes_pass() {
    let world = World::new("upgrade-raw");
    let (tell, told) = mpsc::channel();
    let tell = Mutex::new(tell);
    let server = TcpServer::start(&world, move |mut stream| {
        let (_, head) = read_head(&mut stream);
        // The bytes behind the request were sent with it. Had they passed, they would be here by now.
        stream.set_read_timeout(Some(Duration::from_millis(700))).unwrap();
        let early = stream.read(&mut [0; 16]).map_err(|error| error.kind());
        tell.lock().unwrap().send((head, early)).unwrap();
        stream.set_read_timeout(None).unwrap();
        // The first bytes come with the head.
        stream.write_all(&[AGREED, b"first "].concat()).unwrap();
        let mut all = String::new();
        stream.read_to_string(&mut all).unwrap();
        stream.write_all(format!("and last: {all}").as_bytes()).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
    });
    let mut gate = world.gate(&policy(&world, &server)).attach();
    let script = r#"
s = ask('/half', then=b'GET /not-a-request HTTP/1.1\r\n\r\n')
answer = head(s)
s.sendall(b'more')
s.shutdown(socket.SHUT_WR)
print(json.dumps([answer, rest(s)]))
"#;
    let answer = said(&gate, script);
    let expected = "first and last: GET /not-a-request HTTP/1.1\r\n\r\nmore";
    assert_eq!(answer[1], expected);
    let head = answer[0].as_str().unwrap();
    for line in ["HTTP/1.1 101 ", "Connection: Upgrade\r\n", "Upgrade: raw\r\n", "X-Kept: yes\r\n"] {
        assert!(head.contains(line), "{head}");
    }
    let (sent, early) = told.recv().unwrap();
    assert_eq!(early, Err(std::io::ErrorKind::WouldBlock), "{sent}");
    assert!(sent.contains("Connection: Upgrade\r\n") && sent.contains("Upgrade: raw\r\n"), "{sent}");
    let line = exchange(&mut gate, "/half");
    assert_eq!((&line["status"], &line["complete"]), (&json!(101), &json!(true)), "{line}");
    assert_eq!(line["request_bytes"], "GET /not-a-request HTTP/1.1\r\n\r\nmore".len(), "{line}");
    assert_eq!(line["response_bytes"], expected.len(), "{line}");
    let exchanges = gate.log().into_iter().filter(|line| line["kind"] == "exchange").count();
    assert_eq!(exchanges, 1);
}

#[test]
fn without_a_101_what_follows_is_the_next_request() {
    let world = World::new("upgrade-none");
    let server = TcpServer::start(&world, |mut stream| {
        let mut paths = Vec::new();
        loop {
            let (path, _) = read_head(&mut stream);
            if path.is_empty() {
                return;
            }
            paths.push(path);
            let body = paths.join(" ");
            write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).unwrap();
        }
    });
    let mut gate = world.gate(&policy(&world, &server)).attach();
    let script = r#"
s = ask('/asks', then=b'GET /next HTTP/1.1\r\nHost: raw.test\r\nConnection: close\r\n\r\n')
print(json.dumps(rest(s)))
"#;
    let answer = said(&gate, script);
    let answer = answer.as_str().unwrap();
    assert_eq!(answer.matches("HTTP/1.1 200 ").count(), 2, "{answer}");
    // Each on a connection of its own: the one that was asked to change is not used again.
    assert!(answer.contains("\r\n\r\n/asksHTTP/1.1 200") && answer.ends_with("\r\n\r\n/next"), "{answer}");
    for path in ["/asks", "/next"] {
        assert_eq!(exchange(&mut gate, path)["status"], 200);
    }
}

#[test]
fn a_reset_of_either_side_reaches_the_other() {
    let world = World::new("upgrade-reset");
    let (tell, told) = mpsc::channel();
    let tell = Mutex::new(tell);
    let server = TcpServer::start(&world, move |mut stream| {
        let (path, _) = read_head(&mut stream);
        stream.write_all(AGREED).unwrap();
        if path == "/quit" {
            stream.read_exact(&mut [0]).unwrap();
            return socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
        }
        let read = stream.read(&mut [0; 4]).map_err(|error| error.kind());
        tell.lock().unwrap().send(read).unwrap();
    });
    let mut gate = world.gate(&policy(&world, &server)).attach();
    let script = r#"
s = ask('/quit')
said = [status(s)]
s.sendall(b'x')
try: said.append(s.recv(1).decode())
except ConnectionResetError: said.append('reset')
s = ask('/stay')
said.append(status(s))
s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
s.close()
print(json.dumps(said))
"#;
    assert_eq!(said(&gate, script), json!(["101", "reset", "101"]));
    let seen = told.recv_timeout(Duration::from_secs(20)).unwrap();
    assert_eq!(seen, Err(std::io::ErrorKind::ConnectionReset));
    for path in ["/quit", "/stay"] {
        let line = exchange(&mut gate, path);
        assert_eq!((&line["verdict"], &line["complete"]), (&json!("allowed"), &json!(false)), "{line}");
    }
}

#[test]
fn an_upgrade_that_cannot_be_passed_on_is_refused_and_nothing_is_sent() {
    let world = World::new("upgrade-refused");
    let server = TcpServer::start(&world, |_| ());
    let mut gate = world.gate(&policy(&world, &server)).attach();
    let script = r#"
cases = [('websocket, raw', ''), ('TLS/1.0', ''), ('h2', ''), ('HTTP/2.0', ''),
         ('raw', 'Content-Length: 3\r\n'), ('raw', 'Transfer-Encoding: chunked\r\n')]
print(json.dumps([status(ask(f'/{number}', *case)) for number, case in enumerate(cases)]))
"#;
    assert_eq!(said(&gate, script), json!(["501", "501", "501", "501", "400", "400"]));
    for path in ["/0", "/1", "/2", "/3"] {
        assert_eq!(exchange(&mut gate, path)["reason"], "upgrade_not_supported");
    }
    let malformed = gate.log().into_iter().filter(|line| line["reason"] == "malformed_request");
    assert_eq!(malformed.count(), 2);
    assert_eq!(server.connections(), 0);
}

#[test]
fn a_101_that_nobody_asked_for_is_never_passed_on() {
    let world = World::new("upgrade-unasked");
    let server = TcpServer::start(&world, |mut stream| {
        let (path, _) = read_head(&mut stream);
        let other = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: other\r\n\r\n";
        let bare = "HTTP/1.1 101 Switching Protocols\r\n\r\n";
        let answer = if path == "/other" { other } else { bare };
        // It may be gone as soon as it has seen this.
        let _ = stream.write_all(format!("{answer}GET / HTTP/1.1\r\n\r\n").as_bytes());
        let _ = stream.read(&mut [0; 1]);
    });
    let mut gate = world.gate(&policy(&world, &server)).attach();
    let script = r#"
plain = dial()
plain.sendall(b'GET /plain HTTP/1.1\r\nHost: raw.test\r\n\r\n')
h2c = ask('/h2c', upgrade='h2c')
print(json.dumps([status(s) for s in [plain, h2c, ask('/other'), ask('/bare')]]))
"#;
    assert_eq!(said(&gate, script), json!(["502", "502", "502", "502"]));
    for path in ["/plain", "/h2c", "/other", "/bare"] {
        let line = exchange(&mut gate, path);
        assert_eq!((&line["verdict"], &line["reason"]), (&json!("failed"), &json!("upgrade_not_acceptable")));
    }
}
