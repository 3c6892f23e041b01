//! How TLS ends: with close_notify where all was said (RFC 8446 section 6.1), and without it where an
//! answer was cut, so that a client which waits for the end of the connection can tell the two apart.

use std::fmt::Write as _;
use std::io::{ErrorKind, Read, Write};
use std::sync::mpsc;

use e2e::{Attached, Identity, Nginx, TcpServer, World};
use rustls::StreamOwned;

use crate::support::{DEADLINE, client_for, curl, dial, document, end, trusting, verdicts};

/// A server with TLS that answers each connection with one response and no length, and ends it with
/// close_notify or without. What it then reads is told to the test.
fn close_delimited(world: &World, properly: bool) -> (TcpServer, mpsc::Receiver<std::io::Result<usize>>) {
    let authority = std::sync::Arc::clone(world.authority());
    let (told, tells) = mpsc::channel();
    let server = TcpServer::start(world, move |stream| {
        let mut tls = authority.tls_server(Identity::Trusted, &["http/1.1"], stream);
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            if tls.read_exact(&mut byte).is_err() {
                return;
            }
            head.push(byte[0]);
        }
        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n";
        tls.write_all(head.as_bytes()).unwrap();
        tls.write_all(b"all that there is").unwrap();
        if properly {
            tls.conn.send_close_notify();
        }
        tls.flush().unwrap();
        tls.sock.shutdown(std::net::Shutdown::Write).unwrap();
        // The test may have ended.
        drop(told.send(tls.read(&mut [0; 16])));
    });
    (server, tells)
}

/// A request of this version by GnuTLS's own client, which leaves its input open: what it prints up to
/// the end of the connection, and complains about.
fn gnutls(gate: &Attached<'_>, version: &str) -> String {
    let ca = gate.ca_file().to_str().unwrap();
    // It fails where the end is not a proper one, and what it said then is what is looked at.
    let script = r#"gnutls-cli --x509cafile "$1" --port 443 api.test || echo "it failed""#;
    let mut client = gate.job(["sh", "-c", script, "sh", ca]).spawn();
    client.wait_for_output("Simple Client Mode");
    client.write(format!("GET / HTTP/{version}\r\nHost: api.test\r\nConnection: close\r\n\r\n"));
    let mut told = String::new();
    while !told.contains("Peer has closed") && !told.contains("non-properly terminated") {
        client.wait_a_little();
        told = client.stdout();
        write!(told, "{}", client.stderr()).unwrap();
    }
    told
}

#[test]
fn t18_gnutls_sees_a_proper_end() {
    let world = World::new("t18");
    let (origin, told) = close_delimited(&world, true);
    let policy = document(&world, "allowed_hosts = [\"api.test\"]", &[("api.test:443", origin.address())]);
    let gate = world.gate(&policy).attach();
    for version in ["1.0", "1.1"] {
        let seen = gnutls(&gate, version);
        assert!(seen.contains("Peer has closed the GnuTLS connection"), "{version}: {seen}");
        assert!(seen.contains("all that there is"), "{version}: {seen}");
        // The origin is told of the end as well.
        assert_eq!(told.recv_timeout(DEADLINE).unwrap().unwrap(), 0, "{version}");
    }
    assert_eq!(verdicts(&end(gate)), ["allowed"; 2]);
}

#[test]
fn t18_git_with_gnutls_clones_over_connections_that_close() {
    let world = World::new("t18-git");
    let linked =
        world.job(world.gate_namespace(), ["sh", "-c", "ldd \"$(git --exec-path)/git-remote-http\""]);
    let linked = linked.run();
    assert!(linked.stdout.contains("libcurl-gnutls"), "this git does not use GnuTLS: {linked:?}");
    let seed = "git init -q -b main seed && cd seed && seq 20000 >numbers && git add numbers \
                && git -c user.name=A -c user.email=a@b.test commit -q -m First \
                && git clone -q --bare . ../project.git && git -C ../project.git update-server-info";
    let folder = world.path("");
    world.root_job(world.origin_namespace(), ["sh", "-ec", seed]).folder(&folder).run().assert_success();
    let files = format!("location / {{ root {}; }}", folder.display());
    let nginx = Nginx::start(&world, "git.test", 8443, &files);
    let policy = document(&world, "allowed_hosts = [\"git.test\"]", &[("git.test:443", nginx.address())]);
    let clone = "git -c http.version=HTTP/1.1 -c http.extraHeader='Connection: close' \
                 clone -q https://git.test/project.git copy 2>told; test ! -s told && wc -l <copy/numbers";
    let outcome = world.run(&policy, ["sh", "-ec", clone]);
    outcome.assert_success().assert_stdout("20000\n");
    assert!(outcome.lines("exchange").len() >= 4, "{outcome:?}");
}

#[test]
fn an_answer_that_an_upstream_cut_short_does_not_end_properly() {
    let world = World::new("truncated");
    let (origin, _told) = close_delimited(&world, false);
    let policy = document(&world, "allowed_hosts = [\"api.test\"]", &[("api.test:443", origin.address())]);
    let gate = world.gate(&policy).attach();
    let seen = gnutls(&gate, "1.0");
    assert!(seen.contains("non-properly terminated"), "{seen}");
    assert_ne!(curl(&gate, &["--http1.1", "https://api.test/"]).code(), 0);
    assert_ne!(curl(&gate, &["--http2", "https://api.test/"]).code(), 0);
    let config = trusting(gate.ca_file(), Vec::new());
    let mut io = StreamOwned::new(client_for(&config, "api.test"), dial(&gate, 443));
    io.write_all(b"GET / HTTP/1.0\r\nHost: api.test\r\n\r\n").unwrap();
    let error = io.read_to_end(&mut Vec::new()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnexpectedEof, "{error}");
    let log = end(gate);
    assert_eq!(verdicts(&log), ["allowed"; 4]);
    let complete: Vec<_> = log.iter().filter_map(|line| line.get("complete")).collect();
    assert_eq!(complete, [false; 4], "{log:#?}");
}
