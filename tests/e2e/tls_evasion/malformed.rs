//! ClientHellos that are cut or damaged: each ends its own connection, with an alert where there is
//! something to tell, and one line in the log.

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;

use e2e::{Attached, Chance, World};

use crate::support::{answer, client_for, dial, end, hello, lists, trusting};

/// How many damaged ones are tried.
const MUTATIONS: usize = 400;
/// Types of records (RFC 8446 section 5.1).
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;

/// What comes back for these bytes, up to the end of the connection.
fn ask(gate: &Attached<'_>, bytes: &[u8]) -> Vec<u8> {
    let mut io = dial(gate, 443);
    let mut came = Vec::new();
    // It may be ended before all is written.
    if io.write_all(bytes).and_then(|()| io.shutdown(Shutdown::Write)).is_ok() {
        let ended = io.read_to_end(&mut came).map_err(|error| error.kind());
        assert_ne!(ended, Err(ErrorKind::WouldBlock), "it stays open after {bytes:02x?}");
    }
    came
}

#[test]
fn cut_and_mutated_hellos_end_their_own_connection() {
    let world = World::new("mutated-hellos");
    let origin = hello(&world);
    let gate = world.gate(&lists(&world, 443, &origin)).attach();
    let config = trusting(gate.ca_file(), Vec::new());
    let mut whole = Vec::new();
    client_for(&config, "allowed.test").write_tls(&mut whole).unwrap();

    let cut: Vec<_> = (1..whole.len()).map(|end| whole[..end].to_vec()).collect();
    let mut chance = Chance::new(0x2545_f491_4f6c_dd1d);
    // All that a byte can be: a hello is numbers and lengths.
    let alphabet: Vec<u8> = (0..=255).collect();
    let damaged: Vec<_> = (0..MUTATIONS).map(|_| chance.mutate(&whole, &alphabet)).collect();
    // Each byte by itself, so that every length and every number is wrong once.
    let flipped: Vec<_> = (0..whole.len())
        .map(|at| {
            let mut bytes = whole.clone();
            bytes[at] ^= 0xff;
            bytes
        })
        .collect();

    let mut asked = 0;
    let mut alerts = 0;
    for bytes in cut.iter().chain(&damaged).chain(&flipped) {
        let came = ask(&gate, bytes);
        asked += 1;
        match came.first() {
            None | Some(&HANDSHAKE) => {}
            Some(&ALERT) => alerts += 1,
            // What does not begin as TLS is no HTTP either.
            Some(_) => assert!(bytes[..3] != whole[..3], "{came:02x?} to {bytes:02x?}"),
        }
    }
    assert!(alerts > MUTATIONS / 4, "{alerts} alerts to {asked}");

    let mut client = client_for(&config, "allowed.test");
    let mut io = dial(&gate, 443);
    let mut tls = rustls::Stream::new(&mut client, &mut io);
    write!(tls, "GET / HTTP/1.1\r\nHost: allowed.test\r\n\r\n").unwrap();
    assert_eq!(answer(&mut tls), (200, "hello".to_owned()));
    let log = end(gate);
    let lines = log.iter().filter(|line| line["kind"] == "flow" || line["kind"] == "exchange");
    let (good, bad): (Vec<_>, Vec<_>) = lines.partition(|line| line["verdict"] == "allowed");
    assert_eq!((good.len(), bad.len()), (1, asked), "one line for each connection");
    assert!(bad.iter().all(|line| line["reason"].is_string()), "{bad:#?}");
    assert_eq!(origin.requests().len(), 1);
}
