//! Heads and prefaces that are cut or mutated: each ends its own connection, and nothing else.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};

use e2e::World;

use crate::support::{RawOrigin, ask, dial};

const REQUEST: &[u8] = b"POST /a?b=c HTTP/1.1\r\nHost: api.test\r\nX-A: b\r\nContent-Length: 5\r\n\r\nhello";
const GOOD: &[u8] = b"GET / HTTP/1.1\r\nHost: api.test\r\n\r\n";
/// What replaces a byte: the ones that heads are made of, and some that they are not.
const BYTES: &[u8] = b"\r\n\t :/?#%,;=\"\x00\x7f\xff0aZGET";
const MUTATIONS: usize = 400;

/// Numbers that are the same in every run.
struct Chance(u64);

impl Chance {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % end as u64).unwrap()
    }

    /// One to three bytes changed, put in, left out or repeated.
    fn mutate(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut mutated = bytes.to_vec();
        for _ in 0..=self.below(3) {
            let (at, byte) = (self.below(mutated.len()), BYTES[self.below(BYTES.len())]);
            match self.below(4) {
                0 => mutated[at] = byte,
                1 => mutated.insert(at, byte),
                2 => drop(mutated.remove(at)),
                _ => mutated.insert(at, mutated[at]),
            }
        }
        mutated
    }
}

/// The statuses of the answers on a connection.
fn statuses(answers: &[u8]) -> Vec<u16> {
    let text = String::from_utf8_lossy(answers);
    let heads = text.split("HTTP/1.1 ").skip(1);
    heads.map(|head| head.split(' ').next().unwrap().parse().unwrap()).collect()
}

#[test]
fn cut_and_mutated_heads_end_their_own_connection() {
    let world = World::new("mutated-heads");
    let origin = RawOrigin::start(&world, &[]);
    let mut gate = world.gate(&origin.policy(&world)).attach();
    let mut chance = Chance(0x9e37_79b9_7f4a_7c15);
    let cut = (0..REQUEST.len()).map(|end| REQUEST[..end].to_vec());
    let mutated: Vec<_> = (0..MUTATIONS).map(|_| chance.mutate(REQUEST)).collect();
    let mut answered = 0;
    for bytes in cut.chain(mutated) {
        let found = statuses(&ask(dial(&gate), &bytes));
        let shown = String::from_utf8_lossy(&bytes).into_owned();
        let known = |status: &u16| [200, 400, 403, 421, 501, 502].contains(status);
        assert!(found.iter().all(known), "{found:?} to {shown:?}");
        let refused = found.iter().position(|status| *status == 400);
        assert!(refused.is_none_or(|at| at + 1 == found.len()), "{found:?} to {shown:?}: it went on");
        answered += found.len();
    }
    // A request that was begun and broken off is in the log too, and has no answer.
    assert_eq!(statuses(&ask(dial(&gate), GOOD)), [200]);
    gate.wait_for_log(|line| line["method"] == "GET" && line["path"] == "/" && line["status"] == 200);
    let exchanges =
        gate.log().iter().filter(|line| line["kind"] == "exchange" && !line["status"].is_null()).count();
    assert!(answered > MUTATIONS / 2, "{answered}");
    assert_eq!(exchanges, answered + 1);
}

/// A preface, settings, and a request for `http://api.test/` without Huffman coding.
fn http2_request() -> Vec<u8> {
    let mut fields = vec![0x82, 0x86, 0x84, 0x41, 8];
    fields.extend(b"api.test");
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend([0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 4, 0, 1, 0, 0]);
    bytes.extend([0, 0, u8::try_from(fields.len()).unwrap(), 1, 5, 0, 0, 0, 1]);
    bytes.extend(fields);
    bytes
}

/// Whether the connection ends, whatever is said before.
fn ends(mut io: TcpStream, bytes: &[u8]) -> bool {
    // It may have ended already.
    drop(io.write_all(bytes));
    drop(io.shutdown(Shutdown::Write));
    match io.read_to_end(&mut Vec::new()) {
        Ok(_) => true,
        Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
    }
}

#[test]
fn cut_and_mutated_prefaces_end_their_own_connection() {
    let world = World::new("mutated-prefaces");
    let origin = RawOrigin::start(&world, &[]);
    let gate = world.gate(&origin.policy(&world)).attach();
    let request = http2_request();
    let mut chance = Chance(0x2545_f491_4f6c_dd1d);
    let cut = (0..request.len()).map(|end| request[..end].to_vec());
    let mutated: Vec<_> = (0..MUTATIONS).map(|_| chance.mutate(&request)).collect();
    for bytes in cut.chain(mutated) {
        assert!(ends(dial(&gate), &bytes), "no end after {bytes:?}");
    }
    assert_eq!(statuses(&ask(dial(&gate), GOOD)), [200]);
}
