//! Ports of the workload's that are published: who comes in, how far, and what stands in the log.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::process::Command;
use std::time::Duration;

use e2e::{Attached, GATE_IPV4, GATE_IPV6, Namespace, World};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::support::{one_line, script, until};

/// Greets who comes, and says back what it hears.
const SERVER: &str = "
import socket, sys, threading
server = socket.create_server((sys.argv[1], 9000), family=socket.AF_INET6 if ':' in sys.argv[1] else socket.AF_INET,
                              dualstack_ipv6=sys.argv[1] == '::')
def serve(stream, peer):
    with stream:
        stream.sendall(b'who are you?\\n')
        while said := stream.recv(65536): stream.sendall(said)
print('listening', flush=True)
while True: threading.Thread(target=serve, args=server.accept(), daemon=True).start()
";

/// The greeting, and what comes back for these bytes once no more are sent.
fn ask(from: &Namespace, address: SocketAddr, say: &[u8]) -> std::io::Result<(String, Vec<u8>)> {
    let stream = from.enter(|| TcpStream::connect_timeout(&address, Duration::from_secs(5)))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut heard = BufReader::new(stream.try_clone()?);
    let mut greeting = String::new();
    heard.read_line(&mut greeting)?;
    std::thread::scope(|scope| {
        let said = scope.spawn(|| (&stream).write_all(say).and_then(|()| stream.shutdown(Shutdown::Write)));
        let mut back = Vec::new();
        heard.read_to_end(&mut back)?;
        said.join().unwrap()?;
        Ok((greeting, back))
    })
}

fn inbound(log: &[Value]) -> Vec<&Value> {
    log.iter().filter(|line| line["kind"] == "inbound").collect()
}

fn published<'world>(world: &'world World, flags: &[&str]) -> Attached<'world> {
    let gate = world.gate("version = 1\n");
    flags.iter().fold(gate, |gate, flag| gate.flag("--publish").flag(flag)).attach()
}

#[test]
fn n01_a_published_port_is_reached_from_beside_and_from_outside_and_not_captured() {
    let world = World::new("n01");
    let mut gate = published(&world, &["0.0.0.0:8080:9000", "[::]:8081:9000"]);
    let mut app = world.job(gate.namespace(), script(SERVER, &["::"])).spawn();
    app.wait_for_output("listening");
    // A greeting that nobody waits for, what would be HTTP, what would be TLS, and much of it.
    let large: Vec<u8> = (0..2_000_000_u32).map(|number| number.to_le_bytes()[0]).collect();
    let said = [&b"GET / HTTP/1.1\r\nhost: evil.test\r\n\r\n"[..], &[22, 3, 1, 2, 0, 1, 0, 1, 252], &large];
    let from = [
        (world.gate_namespace(), SocketAddr::from((Ipv4Addr::LOCALHOST, 8080))),
        (world.origin_namespace(), (GATE_IPV4, 8080).into()),
        (world.origin_namespace(), (GATE_IPV6, 8081).into()),
    ];
    for (from, address) in from {
        for say in said {
            let (greeting, back) = ask(from, address, say).unwrap();
            assert_eq!(greeting, "who are you?\n");
            assert!(back == say, "{address}: {} of {} bytes came back", back.len(), say.len());
        }
    }
    until("every connection is in the log", || inbound(&gate.log()).len() == 9);
    let line = gate.wait_for_log(|line| line["kind"] == "inbound" && line["request_bytes"] == 2_000_013);
    for (field, wanted) in [
        ("verdict", json!("allowed")),
        ("protocol", json!("tcp")),
        ("response_bytes", json!(2_000_000)),
        ("rule", json!("--publish 0.0.0.0:8080:9000")),
        ("upstream", json!("100.64.0.2:9000")),
        ("complete", json!(true)),
    ] {
        assert_eq!(line[field], wanted, "{line:#}");
    }
    // Nothing of it was taken for what the workload sends.
    assert!(gate.log().iter().all(|line| line["kind"] == "inbound" || line["kind"] == "control"));
    let peers: Vec<_> = inbound(&gate.log()).iter().map(|line| line["client"].to_string()).collect();
    assert!(peers.iter().any(|peer| peer.contains("10.77.0.2:")), "{peers:?}");
}

#[test]
fn what_listens_on_loopback_alone_and_what_is_not_there_is_not_reached() {
    let world = World::new("n01-loopback");
    let mut gate = published(&world, &["8080:9000", "8082:9001"]);
    let mut app = world.job(gate.namespace(), script(SERVER, &["127.0.0.1"])).spawn();
    app.wait_for_output("listening");
    for port in [8080, 8082] {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let error = ask(world.gate_namespace(), address, b"").unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{error}");
        let rule = format!("--publish 127.0.0.1:{port}:{}", if port == 8080 { 9000 } else { 9001 });
        let line = one_line(&mut gate, &[("kind", json!("inbound")), ("rule", json!(rule))]);
        assert_eq!((&line["verdict"], &line["reason"]), (&json!("failed"), &json!("connect_failed")));
    }
    // And nothing is listened on where it was not asked for.
    let elsewhere = SocketAddr::from((IpAddr::from(GATE_IPV4), 8080));
    let error = ask(world.origin_namespace(), elsewhere, b"").unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused, "{error}");
}

#[test]
fn a_server_under_run_is_published_by_an_unprivileged_user() {
    let world = World::new("n01-run");
    let gate = world.gate("version = 1\n").flag("--publish").flag("8080:9000");
    let mut running = gate.job(script(SERVER, &["0.0.0.0"])).spawn();
    running.wait_for_output("listening");
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 8080));
    let (greeting, back) = ask(world.gate_namespace(), address, b"hello").unwrap();
    assert_eq!((greeting.as_str(), &*back), ("who are you?\n", &b"hello"[..]));
    let line = running.wait_for_log(|line| line["kind"] == "inbound");
    assert_eq!(line["verdict"], "allowed", "{line}");
}

#[test]
fn an_address_that_is_taken_or_wrong_starts_nothing() {
    let world = World::new("n01-taken");
    let taken = world.gate_namespace().enter(|| std::net::TcpListener::bind("127.0.0.1:8080")).unwrap();
    let outcome = world.gate("version = 1\n").flag("--publish").flag("8080").run(["true"]);
    assert_eq!(outcome.code(), 75, "{outcome:?}");
    assert!(outcome.stderr.contains("cannot listen for --publish 127.0.0.1:8080:8080"), "{outcome:?}");
    drop(taken);
    let outcome = world.gate("version = 1\n").flag("--publish").flag("localhost:80:80").run(["true"]);
    assert_eq!(outcome.code(), 64, "{outcome:?}");
    assert!(outcome.stderr.contains("[ADDRESS:]PORT[:PORT]"), "{outcome:?}");
}

#[test]
fn nothing_of_the_gate_stays_in_the_namespace_when_it_is_killed() {
    let world = World::new("n01-killed");
    let gate = published(&world, &["8080:9000"]);
    let pids = |namespace: &Namespace| {
        let pids = Command::new("ip").args(["netns", "pids", namespace.name()]).output().unwrap();
        assert!(pids.status.success(), "{pids:?}");
        String::from_utf8(pids.stdout).unwrap()
    };
    let door = pids(gate.namespace());
    for line in ["CapEff:\t0000000000000000", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1"] {
        until(&format!("the door has {line:?}"), || {
            std::fs::read_to_string(format!("/proc/{}/status", door.trim())).unwrap().contains(line)
        });
    }
    let (_outcome, namespace) = gate.end(Signal::SIGKILL);
    until("the door is gone", || pids(&namespace).is_empty());
}
