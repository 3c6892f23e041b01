//! Raw TCP: who may, who speaks first, how it ends, and what the log says of it.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::sync::mpsc;

use e2e::{Arrivals, ORIGIN_IPV4, TcpServer, World, pseudo_random_chunks, pseudo_random_sha256};
use serde_json::json;

use crate::support::{flow, policy, python, python_job};

/// Says what happens to a connection that is refused.
const DIAL: &str = "
import json, socket
def dial(host, port, say=b''):
    try:
        s = socket.create_connection((host, port), 10)
        if say: s.sendall(say)
        s.settimeout(20)
        return s.recv(100).decode()
    except OSError as error: return type(error).__name__
";

#[test]
fn n02_a_flow_that_is_listed_goes_both_ways() {
    let world = World::new("n02");
    let server = TcpServer::start(&world, |mut stream| {
        let mut line = [0; 5];
        stream.read_exact(&mut line).unwrap();
        assert_eq!(&line, b"PING\n");
        stream.write_all(b"PONG\n").unwrap();
    });
    let text = "tcp = [\"kv.internal:7001\"]";
    let document = policy(&world, text, &[("kv.internal:7001", server.address())]);
    let mut gate = world.gate(&document).attach();
    let script = format!("{DIAL}\nprint(json.dumps(dial('kv.internal', 7001, b'PING\\n')))");
    assert_eq!(python(&gate, &script), "PONG\n");
    let line = flow(&mut gate, "kv.internal", 7001);
    assert_eq!((&line["verdict"], &line["rule"]), (&json!("allowed"), &json!("tcp: kv.internal:7001")));
    assert_eq!((&line["request_bytes"], &line["response_bytes"]), (&json!(5), &json!(5)), "{line}");
    assert_eq!(line["upstream"], server.address().to_string());
    assert_eq!(line["complete"], true);
}

#[test]
fn n03_a_server_that_speaks_first_is_heard() {
    let world = World::new("n03");
    let server = TcpServer::start(&world, |mut stream| {
        stream.write_all(b"220 mail.internal ESMTP\r\n").unwrap();
        drop(stream.read(&mut [0; 1]));
    });
    let text = "tcp = [\"mail.internal:25\"]";
    let gate = world.gate(&policy(&world, text, &[("mail.internal:25", server.address())])).attach();
    let script = format!(
        "{DIAL}\nimport time\nbegan = time.monotonic()\nsaid = dial('mail.internal', 25)\n\
         print(json.dumps([said, time.monotonic() - began]))"
    );
    let answer = python(&gate, &script);
    assert_eq!(answer[0], "220 mail.internal ESMTP\r\n");
    // Not the time in which somebody else would be waited for.
    assert!(answer[1].as_f64().unwrap() < 5.0, "{answer}");
}

#[test]
fn n04_what_is_not_listed_is_reset_and_never_ends_in_silence() {
    let world = World::new("n04");
    let server = TcpServer::start(&world, |_| ());
    let found = [("kv.internal:7001", server.address()), ("kv.internal:7002", server.address())];
    let text = "tcp = [\"kv.internal:7001\", \"192.0.2.0/24:7001\"]\ndenied_hosts = [\"192.0.2.9\"]";
    let mut gate = world.gate(&policy(&world, text, &found)).attach();
    let script = format!(
        "{DIAL}\nprint(json.dumps([dial('kv.internal', 7002, bytes(8)), dial('192.0.2.9', 7001), \
         dial('other.internal', 22), dial('203.0.113.9', 7001, bytes(8))]))"
    );
    let reset = "ConnectionResetError";
    assert_eq!(python(&gate, &script), json!([reset, reset, reset, reset]));
    for (host, port, reason) in [
        ("kv.internal", 7002, "opaque_flow"),
        ("192.0.2.9", 7001, "denied_host"),
        ("203.0.113.9", 7001, "opaque_flow"),
    ] {
        let line = flow(&mut gate, host, port);
        assert_eq!((&line["verdict"], &line["reason"]), (&json!("refused"), &json!(reason)), "{line}");
    }
    assert_eq!(server.connections(), 0);
    assert_eq!(world.arrivals(), Arrivals::default());
}

#[test]
fn n05_an_upstream_that_refuses_is_told_apart_from_the_policy() {
    let world = World::new("n05-tcp");
    let closed: SocketAddr = (ORIGIN_IPV4, 9).into();
    let text = "tcp = [\"gone.internal:7001\"]";
    let mut gate = world.gate(&policy(&world, text, &[("gone.internal:7001", closed)])).attach();
    let script = format!("{DIAL}\nprint(json.dumps(dial('gone.internal', 7001)))");
    assert_eq!(python(&gate, &script), "ConnectionResetError");
    let line = flow(&mut gate, "gone.internal", 7001);
    assert_eq!((&line["verdict"], &line["reason"]), (&json!("failed"), &json!("connect_failed")));
}

#[test]
fn w12_half_closes_and_bulk_pass_both_ways() {
    const LENGTH: u64 = 32 << 20;
    let world = World::new("w12-tcp");
    let server = TcpServer::start(&world, |mut stream| {
        let mut received = 0;
        let mut buffer = vec![0; 64 * 1024];
        // To the end of the workload's half; only then comes an answer.
        loop {
            match stream.read(&mut buffer).unwrap() {
                0 => break,
                length => received += length,
            }
        }
        stream.write_all(format!("{received}\n").as_bytes()).unwrap();
        for chunk in pseudo_random_chunks(LENGTH) {
            stream.write_all(&chunk).unwrap();
        }
        stream.shutdown(Shutdown::Write).unwrap();
    });
    let text = "tcp = [\"bulk.internal:7001\"]";
    let mut gate = world.gate(&policy(&world, text, &[("bulk.internal:7001", server.address())])).attach();
    let script = "
import hashlib, json, socket
s = socket.create_connection(('bulk.internal', 7001), 10)
s.settimeout(40)
for _ in range(512): s.sendall(bytes(65536))
s.shutdown(socket.SHUT_WR)
f = s.makefile('rb')
count, h = int(f.readline()), hashlib.sha256()
while chunk := f.read(65536): h.update(chunk)
print(json.dumps([count, h.hexdigest()]))
";
    assert_eq!(python(&gate, script), json!([32 << 20, pseudo_random_sha256(LENGTH)]));
    let line = flow(&mut gate, "bulk.internal", 7001);
    assert_eq!(line["request_bytes"], 32 << 20, "{line}");
    assert_eq!(line["response_bytes"], LENGTH + "33554432\n".len() as u64, "{line}");
}

#[test]
fn a_reset_of_either_side_reaches_the_other() {
    let world = World::new("tcp-reset");
    let (tell, told) = mpsc::channel();
    let tell = std::sync::Mutex::new(tell);
    let server = TcpServer::start(&world, move |mut stream| {
        let mut word = [0; 4];
        stream.read_exact(&mut word).unwrap();
        if &word == b"quit" {
            // With data unread a close is a reset.
            return socket2::SockRef::from(&stream).set_linger(Some(std::time::Duration::ZERO)).unwrap();
        }
        // What stands before a reset may be lost with it, so the client waits until it was read.
        stream.write_all(b"!").unwrap();
        let kind = stream.read(&mut word).map_err(|error| error.kind());
        tell.lock().unwrap().send(kind).unwrap();
    });
    let text = "tcp = [\"kv.internal:7001\"]";
    let gate = world.gate(&policy(&world, text, &[("kv.internal:7001", server.address())])).attach();
    let script = "
import json, socket, struct
s = socket.create_connection(('kv.internal', 7001), 10)
s.sendall(b'quit')
try: print(json.dumps(s.recv(1).decode()))
except ConnectionResetError: print(json.dumps('reset'))
s = socket.create_connection(('kv.internal', 7001), 10)
s.sendall(b'stay')
s.recv(1)
s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
s.close()
";
    assert_eq!(python(&gate, script), "reset");
    let seen = told.recv_timeout(std::time::Duration::from_secs(20)).unwrap();
    assert_eq!(seen, Err(std::io::ErrorKind::ConnectionReset));
}

#[test]
fn n13_a_flow_that_says_nothing_is_given_up() {
    let world = World::new("n13-tcp");
    let server = TcpServer::start(&world, |mut stream| drop(stream.read(&mut [0; 1])));
    let text = "tcp = [\"kv.internal:7001\"]";
    let found = [("kv.internal:7001", server.address())];
    let document = policy(&world, text, &found) + "idle_timeout_ms = 300\n";
    let mut gate = world.gate(&document).attach();
    let script = format!("{DIAL}\nprint(json.dumps(dial('kv.internal', 7001)))");
    assert_eq!(python(&gate, &script), "ConnectionResetError");
    let line = flow(&mut gate, "kv.internal", 7001);
    assert_eq!((&line["verdict"], &line["complete"]), (&json!("allowed"), &json!(false)));
}

#[test]
fn h05_a_flow_ends_with_the_policy_that_allowed_it() {
    for (keep, name) in [(false, "h05-tcp"), (true, "h05-tcp-keep")] {
        let world = World::new(name);
        let server = TcpServer::start(&world, |mut stream| {
            let mut byte = [0];
            while let Ok(1) = stream.read(&mut byte) {
                if stream.write_all(&byte).is_err() {
                    return;
                }
            }
        });
        let found = [("kv.internal:7001", server.address())];
        let open = policy(&world, "tcp = [\"kv.internal:7001\"]", &found);
        let mut gate = world.gate(&open).named("h05").attach();
        let script = "
import socket, sys
s = socket.create_connection(('kv.internal', 7001), 10)
s.settimeout(20)
for line in sys.stdin:
    try:
        s.sendall(b'x')
        print('echo' if s.recv(1) == b'x' else 'end', flush=True)
    except ConnectionResetError:
        print('reset', flush=True)
";
        let mut client = python_job(&gate, script).spawn();
        client.write("1\n");
        client.wait_for_output("echo\n");
        let closed = policy(&world, "", &found) + if keep { "flows_on_publish = \"keep\"\n" } else { "" };
        let closed = world.file("closed.toml", closed).display().to_string();
        gate.operator(["policy", "set", &closed]).run().assert_success();
        if !keep {
            let line = flow(&mut gate, "kv.internal", 7001);
            assert_eq!(line["complete"], false, "{line}");
        }
        client.write("2\n");
        client.wait_for_output(if keep { "echo\necho\n" } else { "echo\nreset\n" });
    }
}

#[test]
fn policy_check_says_what_is_wrong_with_a_list_of_flows() {
    let world = World::new("flows-check");
    for (list, wanted) in [
        ("tcp = [\"db.internal\"]", "the port is missing"),
        ("udp = [\"time.test\"]", "the port is missing"),
        ("tcp = [\"https://db.internal:443\"]", "a flow has no scheme"),
        ("tcp = [\"*:22\"]", "too wide"),
        ("tcp = [\"db.internal:5432\"]\nallowed_hosts = [\"api.test\"]", "allowed_hosts"),
        ("tcp = [\"api.test:443\"]\n[[rules]]\nhost = \"api.test\"", "is to judge"),
    ] {
        let file = world.file("check.toml", format!("version = 1\n{list}\n")).display().to_string();
        let checked = world.operator(["policy", "check", &file]).run();
        let said = format!("{}{}", checked.stdout, checked.stderr);
        assert!(said.contains(wanted), "{list}: {said}");
        let fine = said.contains("warning");
        assert_eq!(checked.code() == 0, fine, "{list}: {said}");
    }
}
