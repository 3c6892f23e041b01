//! Names in a ClientHello that no TLS library would send, hellos of odd sizes, and who is dialled for them.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::sync::mpsc;

use e2e::{Attached, Origin, OriginConfig, Reply, TcpServer, World, wait_until};
use rustls::StreamOwned;

use crate::support::{DEADLINE, answer, client_for, curl, dial, document, end, hello, trusting};

/// A ClientHello for a name of these bytes, whatever they are.
fn hello_for(gate: &Attached<'_>, name: &[u8]) -> Vec<u8> {
    let mut stand_in = "a".repeat(name.len());
    for dot in (1..name.len().saturating_sub(1)).step_by(60).skip(1) {
        stand_in.replace_range(dot..=dot, ".");
    }
    let mut client = client_for(&trusting(gate.ca_file(), Vec::new()), &stand_in);
    let mut hello = Vec::new();
    client.write_tls(&mut hello).unwrap();
    let at = hello.windows(name.len()).position(|window| window == stand_in.as_bytes()).unwrap();
    hello[at..at + name.len()].copy_from_slice(name);
    hello
}

/// How the gate begins its answer: with a handshake, an alert, or not at all.
fn begins(gate: &Attached<'_>, hello: &[u8]) -> &'static str {
    let mut io = dial(gate, 443);
    io.write_all(hello).unwrap();
    let mut first = [0];
    match io.read_exact(&mut first).map(|()| first[0]) {
        Ok(22) => "handshake",
        Ok(21) => "alert",
        Ok(other) => panic!("a record of type {other}"),
        Err(_) => "end",
    }
}

#[test]
fn e03_a_server_name_that_is_no_name_gets_no_leaf() {
    let world = World::new("odd-names");
    let gate = world.gate("version = 1\ninternet = true\n").attach();
    let names: [(&[u8], &str); 18] = [
        (b"allowed.test,dns:denied.test", ""),
        (b"a\0b.test", ""),
        (b"a\r\nb.test", ""),
        (b"*.allowed.test", ""),
        (b"*.*.*.*.*", ""),
        (b"a b.test", ""),
        (b"a/b.test", ""),
        (b"a@b.test", ""),
        (b"a:443", ""),
        (b"[foo.test]", ""),
        (b"[fd77::2]", ""),
        ("b\u{fc}cher.test".as_bytes(), ""),
        (b"a..test", ""),
        (b".test", ""),
        (b"\xff\xfe.test", ""),
        (b"Allowed.TEST", "allowed.test"),
        (b"a_b.test", "a_b.test"),
        (b"xn--bcher-kva.test", "xn--bcher-kva.test"),
    ];
    for (name, host) in names {
        let shown = String::from_utf8_lossy(name);
        let expected = if host.is_empty() { &["alert", "end"][..] } else { &["handshake"] };
        let begun = begins(&gate, &hello_for(&gate, name));
        assert!(expected.contains(&begun), "{shown:?}: {begun}");
    }
    let count = || gate.log().iter().filter(|line| line["kind"] == "flow").count();
    wait_until("each is in the log", DEADLINE, || count() == names.len());
    let log = end(gate);
    let flows: Vec<_> = log.iter().filter(|line| line["kind"] == "flow").collect();
    for line in &flows {
        assert_eq!(line["reason"], "tls_handshake_failed", "{line}");
        let host = line["host"].as_str().unwrap_or_default();
        assert!(names.iter().any(|(_, wanted)| *wanted == host), "a name that is none: {line}");
    }
}

#[test]
fn a_hello_is_taken_up_to_its_bound_and_not_beyond() {
    let world = World::new("hello-sizes");
    let origin = hello(&world);
    let policy = document(&world, "allowed_hosts = [\"api.test\"]", &[("api.test:443", origin.address())]);
    let gate = world.gate(&policy).attach();
    // Many protocols make a hello long; rustls cuts it into records of 16 KiB.
    for protocols in [60, 200, 240] {
        let offered = (0..protocols).map(|number| [b'x', number].repeat(120));
        let offered = offered.chain([b"http/1.1".to_vec()]).collect();
        let client = client_for(&trusting(gate.ca_file(), offered), "api.test");
        let mut tls = StreamOwned::new(client, dial(&gate, 443));
        write!(tls, "GET / HTTP/1.1\r\nHost: api.test\r\n\r\n").unwrap();
        assert_eq!(answer(&mut tls), (200, "hello".to_owned()), "{protocols}");
    }
    // A handshake message that says it is of 70 000 bytes, and one of 16 MiB, in records that never end it.
    for length in [70_000_u32, 0x00ff_ffff] {
        let mut io = dial(&gate, 443);
        let [_, high, middle, low] = length.to_be_bytes();
        let record =
            |body: &[u8]| [&[22, 3, 1][..], &u16::try_from(body.len()).unwrap().to_be_bytes(), body].concat();
        let mut sent = io.write_all(&record(&[&[1, high, middle, low][..], &[0; 10_000]].concat()));
        for _ in 0..100 {
            sent = sent.and_then(|()| io.write_all(&record(&[0; 10_000])));
        }
        let mut answer = Vec::new();
        drop(io.read_to_end(&mut answer));
        assert!(answer.is_empty() || answer[0] == 21, "{answer:?}");
    }
    curl(&gate, &["https://api.test/"]).assert_success().assert_stdout("hello");
    let log = end(gate);
    let refused = log.iter().filter(|line| line["kind"] == "flow").count();
    assert_eq!(refused, 2, "{log:#?}");
}

#[test]
fn a_client_that_takes_rsa_alone_is_told_by_an_alert() {
    let world = World::new("rsa-alone");
    let mut gate = world.gate("").attach();
    let line = "openssl s_client -tls1_2 -sigalgs RSA+SHA256:RSA-PSS+SHA256 -connect api.test:443 </dev/null";
    let outcome = gate.run(["sh", "-c", line]);
    assert!(outcome.stderr.contains("alert handshake failure"), "{outcome:?}");
    gate.wait_for_log(|line| line["reason"] == "tls_handshake_failed" && line["host"] == "api.test");
}

#[test]
fn t19_a_host_passed_through_sees_the_workloads_own_hello() {
    let world = World::new("own-hello");
    let (told, tells) = mpsc::channel();
    let server = TcpServer::start(&world, move |mut stream| {
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        told.send(bytes).unwrap();
    });
    let text = "[[rules]]\nhost = \"pinned.test\"\nintercept = false";
    let gate = world.gate(&document(&world, text, &[("pinned.test:443", server.address())])).attach();
    let hello = hello_for(&gate, b"pinned.test");
    let again = [&hello[..], b"and what follows it"].concat();
    for pieces in [vec![&hello[..]], vec![&hello[..100], &hello[100..]], vec![&again[..]]] {
        let mut io = dial(&gate, 443);
        for piece in &pieces {
            io.write_all(piece).unwrap();
        }
        io.shutdown(Shutdown::Write).unwrap();
        assert_eq!(tells.recv_timeout(DEADLINE).unwrap(), pieces.concat());
    }
}

#[test]
fn e06_whoever_is_dialled_for_an_allowed_name_hears_nothing() {
    let world = World::new("dialled");
    let address = "10.77.0.66".parse().unwrap();
    world.add_origin_address(address);
    let [plain, secure] =
        [(80, e2e::Identity::Plain), (443, e2e::Identity::Trusted)].map(|(port, identity)| {
            let config = OriginConfig { address, port, identity, alpn: &["http/1.1"] };
            Origin::start_with(&world, config, |_| Reply::text("attacker"))
        });
    let origin = hello(&world);
    let http = crate::support::plain(&world);
    let names = [("allowed.test:443", origin.address()), ("allowed.test:80", http.address())];
    let text = "allowed_hosts = [\"allowed.test\"]\n\
                [secrets.TOKEN]\nsource = \"env://TOKEN\"\nhosts = [\"allowed.test\"]\nplaintext = true\n\
                [[rules]]\nhost = \"allowed.test\"\nset_headers = { authorization = \"${secret:TOKEN}\" }";
    let policy = document(&world, text, &names)
        .replace("[upstream]\n", "[upstream]\nallow_ranges = [\"10.77.0.0/24\"]\n");
    let gate = world.gate(&policy).env("TOKEN", "token-of-the-allowed").attach();
    for url in ["https://allowed.test/", "http://allowed.test/"] {
        let outcome = curl(&gate, &["--connect-to", "::10.77.0.66:", url]);
        outcome.assert_success().assert_stdout("hello");
    }
    for origin in [&origin, &http] {
        assert_eq!(origin.only_request().header("authorization"), ["token-of-the-allowed"]);
    }
    plain.assert_untouched();
    secure.assert_untouched();
}
