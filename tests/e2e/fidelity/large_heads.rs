//! Heads of HTTP/2 that are too large, among others on one connection: each is answered with 431 and has its line.

use std::io::Write;

use e2e::{Identity, Origin, OriginConfig, Reply, World};

use crate::frames::{END_HEADERS, GET, HEADERS, RST_STREAM, SETTINGS, beginning, frame, request, wait_for};
use crate::malformed_http2::{assert_is_200, assert_refused_flows, gate, refused_flows};
use crate::support::dial;

/// A head whose list is `bytes` large, in few: one field of 1000 bytes that is repeated, and one that fills up.
fn head_of(bytes: usize) -> Vec<u8> {
    let text = |length: usize| {
        let (low, high) = ((length - 127) % 128, (length - 127) / 128);
        [&[0x7f, 0x80 | u8::try_from(low).unwrap(), u8::try_from(high).unwrap()][..], &vec![b'x'; length]]
            .concat()
    };
    // `:method: GET`, `:scheme: http`, `:path: /` and `:authority: api.test`, each with 32 (RFC 9113 section 6.5.2).
    let left = bytes - (42 + 43 + 38 + 50);
    let (times, rest) = ((left - 500) / 1000, (left - 500) % 1000 + 500);
    let repeated = [&[0x40, 3][..], b"x-a", &text(1000 - 35), &vec![0xbe; times - 1]].concat();
    [GET, &repeated, &[0, 3], b"x-b", &text(rest - 35)].concat()
}

#[test]
fn every_head_of_http2_that_is_too_large_has_its_line() {
    let world = World::new("large-heads");
    let config = OriginConfig { identity: Identity::Plain, alpn: &["h2"], ..OriginConfig::default() };
    // An origin's own answers look the same on the wire, and are no matter of the library's.
    let origin = Origin::start_with(&world, config, |request| match request.path.as_str() {
        "/431" => Reply::new(431, ""),
        "/201" => Reply::new(201, ""),
        _ => Reply::text("ok"),
    });
    let mut gate = gate(&world, &origin);
    let mut io = dial(&gate);
    io.write_all(&beginning()).unwrap();
    let path = |path: &str| {
        let path = [&[0x04, u8::try_from(path.len()).unwrap()], path.as_bytes()].concat();
        [&b"\x82\x86"[..], &path, b"\x41\x08api.test"].concat()
    };
    let (of_431, of_201) = (path("/431"), path("/201"));
    // As many as may be, and one more: the table of the workload's fields starts anew with each.
    let large = |bytes| [&[0x20, 0x3f, 0xe1, 0x1f][..], &head_of(bytes)].concat();
    // Servers take less than that, so the largest head that is judged is one that goes nowhere.
    let to_another = |bytes: Vec<u8>| {
        let at = bytes.windows(8).position(|window| window == b"api.test").unwrap();
        [&bytes[..at], b"not.test", &bytes[at + 8..]].concat()
    };
    let mut expected = Vec::new();
    for round in 0..12_u32 {
        // The table of the gate's answers loses all that it has, gets it back, or is small.
        let size = [4096_u32, 0, 4096, 100][round as usize % 4].to_be_bytes();
        io.write_all(&frame(SETTINGS, 0, 0, &[&[0, 1][..], &size].concat())).unwrap();
        let first = 1 + round * 14;
        let streams: Vec<u32> = (0..7).map(|number| first + 2 * number).collect();
        let [one, two, three, four, five, six, seven] = streams[..] else { unreachable!() };
        // The workload has more to say on the last one.
        let unfinished = frame(HEADERS, END_HEADERS, seven, &large(64 * 1024));
        let bytes = [
            request(one, &large(64 * 1024)),
            request(two, &of_431),
            request(three, &large(64 * 1024 + 500)),
            request(four, &of_201),
            request(five, GET),
            request(six, &to_another(large(64 * 1024 - 1))),
            unfinished,
        ];
        io.write_all(&bytes.concat()).unwrap();
        expected.extend([one, three, seven]);
        wait_for(&mut io, (RST_STREAM, seven));
    }
    io.write_all(&request(999, GET)).unwrap();
    assert_is_200(&wait_for(&mut io, (HEADERS, 999)));
    assert_refused_flows(&mut gate, expected.len(), "431");
    let mut told: Vec<String> =
        refused_flows(&gate).iter().map(|line| line["detail"].as_str().unwrap().to_owned()).collect();
    let mut lines: Vec<String> = expected
        .iter()
        .map(|stream| format!("the head of stream {stream} has more than 64 KiB: 431"))
        .collect();
    told.sort();
    lines.sort();
    assert_eq!(told, lines);
    // Everything else was judged: what the origin refused, created and answered, and the largest head.
    let log = gate.log();
    let mut statuses: Vec<u64> = log
        .iter()
        .filter(|line| line["kind"] == "exchange")
        .filter_map(|line| line["status"].as_u64())
        .collect();
    statuses.sort_unstable();
    let expected = [vec![200; 13], vec![201; 12], vec![403; 12], vec![431; 12]].concat();
    assert_eq!(statuses, expected, "{log:#?}");
}
