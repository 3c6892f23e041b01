//! Heads of HTTP/1 that are cut or mutated: each ends its own connection, and nothing else.

use e2e::{Chance, World};

use crate::support::{RawOrigin, ask, dial};

const REQUEST: &[u8] = b"POST /a?b=c HTTP/1.1\r\nHost: api.test\r\nX-A: b\r\nContent-Length: 5\r\n\r\nhello";
const GOOD: &[u8] = b"GET / HTTP/1.1\r\nHost: api.test\r\n\r\n";
/// What replaces a byte: the ones that heads are made of, and some that they are not.
pub(crate) const BYTES: &[u8] = b"\r\n\t :/?#%,;=\"\x00\x7f\xff0aZGET";
/// How many are tried.
pub(crate) const MUTATIONS: usize = 400;

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
    let mut chance = Chance::new(0x9e37_79b9_7f4a_7c15);
    let cut = (0..REQUEST.len()).map(|end| REQUEST[..end].to_vec());
    let mutated: Vec<_> = (0..MUTATIONS).map(|_| chance.mutate(REQUEST, BYTES)).collect();
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
