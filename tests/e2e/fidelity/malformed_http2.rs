//! HTTP/2 of the workload that is cut, mutated or wrong in a known way: it ends its own stream or connection, with
//! the code of RFC 9113, and nothing else.

use std::fs;
use std::io::{ErrorKind, Write};
use std::net::Shutdown;

use e2e::{Attached, Chance, Identity, Origin, OriginConfig, Reply, World};
use http::{Request, Version};
use http_body_util::{BodyExt, Empty};
use serde_json::{Value, json};

use crate::client::{Line, call};
use crate::frames::{
    CANCEL, CONTINUATION, DATA, END_HEADERS, END_STREAM, ENHANCE_YOUR_CALM, FLOW_CONTROL_ERROR,
    FRAME_SIZE_ERROR, Frame, GET, GOAWAY, HEADERS, HUFFMAN_431, NO_ERROR, PING, PREFACE, PRIORITY,
    PROTOCOL_ERROR, RST_STREAM, SETTINGS, WINDOW_UPDATE, beginning, field, frame, in_words, request, rest,
    wait_for,
};
use crate::http2_faults::{connection_faults, faults_of_ended_streams};
use crate::malformed::{BYTES, MUTATIONS};
use crate::support::dial;

fn world_with_origin(name: &str) -> (World, Origin) {
    let world = World::new(name);
    let config = OriginConfig { identity: Identity::Plain, alpn: &["h2"], ..OriginConfig::default() };
    let origin = Origin::start_with(&world, config, |_| Reply::text("ok"));
    (world, origin)
}

pub(crate) fn gate<'world>(world: &'world World, origin: &Origin) -> Attached<'world> {
    let found = world.upstream(&[("api.test:80", origin.address())]);
    world.gate(&format!("version = 1\nallowed_hosts = [\"http://api.test\"]\n{found}")).attach()
}

/// A request on a connection of its own is answered.
fn assert_served(gate: &Attached<'_>) {
    let mut io = dial(gate);
    io.write_all(&[beginning(), request(1, GET)].concat()).unwrap();
    assert_is_200(&wait_for(&mut io, (HEADERS, 1)));
}

/// `:status: 200` is one octet of HPACK, and stands first.
pub(crate) fn assert_is_200(head: &Frame) {
    assert_eq!(head.payload.first(), Some(&0x88), "{head:?}");
}

pub(crate) fn refused_flows(gate: &Attached<'_>) -> Vec<Value> {
    gate.log().into_iter().filter(is_refused_flow).collect()
}

fn is_refused_flow(line: &Value) -> bool {
    line["kind"] == "flow" && line["reason"] == "malformed_request"
}

/// Waits until the log has as many lines about connections that broke the rules, and has no more.
#[track_caller]
pub(crate) fn assert_refused_flows(gate: &mut Attached<'_>, count: usize, what: &str) {
    if count > 0 {
        let log = gate.running();
        e2e::wait_until(&format!("line {count} of the log: {what}"), crate::support::DEADLINE, || {
            log.log().iter().filter(|line| is_refused_flow(line)).count() >= count
        });
    }
    assert_eq!(refused_flows(gate).len(), count, "{what}");
}

/// Sends `bytes` on a connection of its own, which ends with `code`, on the wire and in the last line of the log;
/// `count` are all of those.
#[track_caller]
fn assert_ends_with(gate: &mut Attached<'_>, bytes: &[u8], (code, count): (u32, usize), what: &str) {
    let mut io = dial(gate);
    io.write_all(bytes).unwrap();
    let seen = rest(io);
    let last = seen.last().unwrap_or_else(|| panic!("{what}: nothing came"));
    assert_eq!((last.kind, last.code()), (GOAWAY, code), "{what}: {seen:?}");
    let earlier = seen.iter().filter(|frame| frame.kind == GOAWAY && frame.code() != NO_ERROR).count();
    assert_eq!(earlier, 1, "{what}: {seen:?}");
    let mut lines = Vec::new();
    e2e::wait_until(&format!("line {count} of the log: {what}"), crate::support::DEADLINE, || {
        lines = gate.running().log().into_iter().filter(is_refused_flow).collect();
        lines.len() >= count
    });
    assert_eq!(lines.len(), count, "{what}");
    let line = lines.pop().unwrap();
    let detail = line["detail"].as_str().unwrap();
    assert!(detail.contains("HTTP/2") && detail.contains(in_words(code)), "{what}: {line}");
}

#[test]
fn http2_that_is_wrong_ends_its_connection_with_a_code_and_a_line() {
    let (world, origin) = world_with_origin("wrong-http2");
    let mut gate = gate(&world, &origin);
    let faults = connection_faults();
    for (number, (what, bytes, code)) in faults.iter().enumerate() {
        assert_ends_with(&mut gate, &[beginning(), bytes.clone()].concat(), (*code, number + 1), what);
    }
    assert!(origin.requests().is_empty(), "{:?}", origin.requests());
    let line = refused_flows(&gate).remove(0);
    assert_eq!((&line["verdict"], &line["protocol"]), (&json!("refused"), &json!("tcp")), "{line}");
    assert_served(&gate);
    // One line each, and none of another kind.
    gate.wait_for_log(|line| line["kind"] == "exchange");
    let of_kind = |kind| gate.log().iter().filter(|line| line["kind"] == kind).count();
    assert_eq!((of_kind("flow"), of_kind("exchange")), (faults.len(), 1));
}

#[test]
fn http2_that_is_wrong_is_told_for_its_own_fault_among_others() {
    let (world, origin) = world_with_origin("wrong-http2-among");
    let mut gate = gate(&world, &origin);
    let ping = frame(PING, 0, 0, &[7; 8]).repeat(20);
    let window = frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]).repeat(20);
    let good = [beginning(), ping.clone(), window].concat();
    // Of two in one write, the first ends the connection: each before a fault of each other code.
    let all = connection_faults();
    let named = |name: &str| all.iter().find(|(what, ..)| *what == name).unwrap();
    let others = [
        named("a PING of seven bytes"),
        named("DATA on an idle stream"),
        named("a window that grows by nothing"),
        named("SETTINGS with a window above 2^31-1"),
        named("HPACK's index 0 (section 6.1)"),
    ];
    let mut count = 0;
    for (what, bytes, code) in &all {
        let other = others.iter().find(|(_, _, other)| other != code).unwrap();
        let sent = [good.clone(), bytes.clone(), other.1.clone(), ping.clone()].concat();
        count += 1;
        assert_ends_with(&mut gate, &sent, (*code, count), &format!("{what} before {}", other.0));
    }
    assert_refused_flows(&mut gate, count, "all of them");
    assert!(origin.requests().is_empty(), "{:?}", origin.requests());
}

#[test]
fn http2_that_is_wrong_behind_a_request_ends_its_connection_with_a_code() {
    let world = World::new("wrong-http2-behind");
    // It says nothing, so that its streams are still there.
    let config = OriginConfig { identity: Identity::Plain, alpn: &["h2"], ..OriginConfig::default() };
    let origin = Origin::start_with(&world, config, |_| Reply::hang());
    let mut gate = gate(&world, &origin);
    for (number, (what, bytes, code)) in faults_of_ended_streams().into_iter().enumerate() {
        assert_ends_with(&mut gate, &[beginning(), bytes].concat(), (code, number + 1), what);
    }
}

#[test]
fn http2_over_tls_that_is_wrong_has_its_name_in_the_log() {
    let world = World::new("wrong-http2-tls");
    let origin = Origin::start(&world, |_| Reply::text("ok"));
    let found = world.upstream(&[("api.test:443", origin.address())]);
    let mut gate = world.gate(&format!("version = 1\nallowed_hosts = [\"api.test\"]\n{found}")).attach();
    // Behind a wrong preface no GOAWAY need come (section 3.4), and none does.
    let not_http2 = b"GET / HTTP/1.1\r\nHost: api.test\r\n\r\n".to_vec();
    let too_large = [beginning(), frame(DATA, 0, 1, &[0; 16_385])].concat();
    for (number, (bytes, code)) in
        [(not_http2, None), (too_large, Some(FRAME_SIZE_ERROR))].into_iter().enumerate()
    {
        let mut io = Line::open(&gate, Version::HTTP_2).raw();
        io.write_all(&bytes).unwrap();
        let seen = rest(io);
        let told = seen.iter().find(|frame| frame.kind == GOAWAY).map(Frame::code);
        assert_eq!(told, code, "{seen:?}");
        assert_refused_flows(&mut gate, number + 1, "TLS");
        assert_eq!(refused_flows(&gate)[number]["host"], "api.test");
    }
    // Whoever leaves in the midst of a preface has asked for nothing, and broken nothing.
    for end in 1..PREFACE.len() {
        let mut io = Line::open(&gate, Version::HTTP_2).raw();
        io.write_all(&PREFACE[..end]).unwrap();
        io.conn.send_close_notify();
        io.flush().unwrap();
        io.sock.shutdown(Shutdown::Write).unwrap();
        rest(io);
    }
    let request = Request::get("/").body(Empty::new().boxed()).unwrap();
    assert_eq!(call(&gate, Version::HTTP_2, request).body, "ok");
    assert_eq!(origin.only_request().path, "/");
    assert_refused_flows(&mut gate, 2, "TLS");
}

/// Faults of one stream (RFC 9113 section 8.1.1): a block of header fields, and whether it ends the stream.
fn stream_faults() -> Vec<(&'static str, Vec<u8>)> {
    let with = |name, value| [GET, &field(name, value)].concat();
    vec![
        ("Connection", with("connection", "close")),
        ("Transfer-Encoding", with("transfer-encoding", "chunked")),
        ("TE of another kind", with("te", "gzip")),
        ("a length that the body has not", with("content-length", "5")),
        ("no path", b"\x82\x86\x41\x08api.test".to_vec()),
        ("no method", b"\x86\x84\x41\x08api.test".to_vec()),
        ("two methods", [b"\x82", GET].concat()),
        ("a pseudo-header of answers", [b"\x88", GET].concat()),
        (
            "a pseudo-header behind the others",
            [&b"\x82\x86\x84"[..], &field("x-a", "1"), b"\x41\x08api.test"].concat(),
        ),
    ]
}

#[test]
fn http2_requests_that_are_wrong_end_their_stream_and_the_next_is_served() {
    let (world, origin) = world_with_origin("wrong-http2-requests");
    let mut gate = gate(&world, &origin);
    let mut served = 0;
    for (what, block) in stream_faults() {
        let mut io = dial(&gate);
        io.write_all(&[beginning(), request(1, &block)].concat()).unwrap();
        let reset = wait_for(&mut io, (RST_STREAM, 1));
        assert_eq!(reset.code(), PROTOCOL_ERROR, "{what}");
        io.write_all(&request(3, GET)).unwrap();
        assert_is_200(&wait_for(&mut io, (HEADERS, 3)));
        served += 1;
        assert_refused_flows(&mut gate, served, what);
    }
    let line = refused_flows(&gate).remove(0);
    let detail = "the workload broke the rules of HTTP/2: stream 1 was reset, PROTOCOL_ERROR";
    assert_eq!((&line["detail"], &line["verdict"]), (&json!(detail), &json!("refused")), "{line}");
    // A head of more than 64 KiB is answered, with 431 and no body.
    let mut io = dial(&gate);
    let large = "x".repeat(100);
    let large: Vec<u8> = (0..600).flat_map(|_| field("x-a", &large)).collect();
    let mut blocks = large.chunks(16_000);
    let first = [GET, blocks.next().unwrap()].concat();
    let mut bytes = [beginning(), frame(HEADERS, END_STREAM, 1, &first)].concat();
    blocks.for_each(|block| bytes.extend(frame(CONTINUATION, 0, 1, block)));
    bytes.extend(frame(CONTINUATION, END_HEADERS, 1, &[]));
    io.write_all(&[bytes, request(3, GET)].concat()).unwrap();
    let answer = wait_for(&mut io, (HEADERS, 1));
    assert!(answer.payload.ends_with(&HUFFMAN_431), "{answer:?}");
    assert_is_200(&wait_for(&mut io, (HEADERS, 3)));
    served += 1;
    assert_refused_flows(&mut gate, served, "a large head");
    assert_eq!(refused_flows(&gate)[served - 1]["detail"], "the head of stream 1 has more than 64 KiB: 431");
    // A window of a stream is a matter of that stream, too.
    let mut io = dial(&gate);
    let post = frame(HEADERS, END_HEADERS, 1, &[b"\x83", &GET[1..]].concat());
    let overflow = frame(WINDOW_UPDATE, 0, 1, &0x7fff_ffff_u32.to_be_bytes());
    io.write_all(&[beginning(), post, overflow].concat()).unwrap();
    assert_eq!(wait_for(&mut io, (RST_STREAM, 1)).code(), FLOW_CONTROL_ERROR);
    io.write_all(&request(3, GET)).unwrap();
    assert_is_200(&wait_for(&mut io, (HEADERS, 3)));
    let complete = origin.requests().into_iter().filter(|request| request.complete).count();
    assert_eq!(complete, served + 1);
    assert_refused_flows(&mut gate, served + 1, "a window");
}

#[test]
fn cut_and_mutated_http2_ends_its_own_connection() {
    let (world, origin) = world_with_origin("mutated-http2");
    let mut gate = gate(&world, &origin);
    let whole = [beginning(), frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 1]), request(1, GET)].concat();
    let seed = 0x2545_f491_4f6c_dd1d;
    eprintln!("seed {seed:#x}");
    let mut chance = Chance::new(seed);
    let cut = (0..whole.len()).map(|end| whole[..end].to_vec());
    let mutated: Vec<_> = (0..MUTATIONS).map(|_| chance.mutate(&whole, BYTES)).collect();
    // Those of heads are mostly texts; here any bit may be turned.
    let turned: Vec<_> = (0..MUTATIONS)
        .map(|_| {
            let mut bytes = whole.clone();
            for _ in 0..=chance.below(3) {
                let at = PREFACE.len() + chance.below(whole.len() - PREFACE.len());
                bytes[at] ^= 1 << chance.below(8);
            }
            bytes
        })
        .collect();
    let mut told = 0;
    for bytes in cut.chain(mutated).chain(turned) {
        let mut io = dial(&gate);
        // It may have ended already.
        drop(io.write_all(&bytes));
        drop(io.shutdown(Shutdown::Write));
        let seen = rest(io);
        let is_told = |frame: &&Frame| match frame.kind {
            GOAWAY => frame.code() != NO_ERROR,
            RST_STREAM => ![NO_ERROR, CANCEL].contains(&frame.code()),
            _ => false,
        };
        told += seen.iter().filter(is_told).count();
    }
    assert_served(&gate);
    // As often as one was told that it is wrong there is a line that says so.
    assert!(told > MUTATIONS / 4, "{told}");
    gate.wait_for_log(|line| line["kind"] == "exchange" && line["status"] == 200);
    assert_refused_flows(&mut gate, told, "cut and mutated");
}

fn resident_kib(gate: &mut Attached<'_>) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", gate.running().pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn http2_floods_are_bounded_and_others_are_served() {
    let (world, origin) = world_with_origin("http2-floods");
    let mut gate = gate(&world, &origin);
    assert_served(&gate);
    let before = resident_kib(&mut gate);

    // Requests that are taken back at once (CVE-2023-44487).
    let mut reset_at_once = beginning();
    for number in 0..10_000 {
        let stream = 1 + 2 * number;
        reset_at_once.extend([request(stream, GET), frame(RST_STREAM, 0, stream, &[0, 0, 0, 8])].concat());
    }
    let mut io = dial(&gate);
    // It ends before all of it is written.
    drop(io.write_all(&reset_at_once));
    let seen = rest(io);
    let last = seen.last().expect("frames");
    assert_eq!((last.kind, last.code()), (GOAWAY, ENHANCE_YOUR_CALM), "{last:?}");
    assert_refused_flows(&mut gate, 1, "reset at once");
    assert!(origin.requests().len() < 1000, "{} requests arrived", origin.requests().len());

    // What is to be answered and whose answers nobody reads: the gate reads no more in the end.
    for (what, one) in [("PING", frame(PING, 0, 0, &[7; 8])), ("SETTINGS", frame(SETTINGS, 0, 0, &[]))] {
        let mut io = dial(&gate);
        io.write_all(&beginning()).unwrap();
        io.set_nonblocking(true).unwrap();
        let many = one.repeat(4096);
        let (mut sent, mut at) = (0, 0);
        // As long as it is read at all; a second without a byte is the end.
        let mut refused = 0;
        while sent < 64 << 20 && refused < 100 {
            match io.write(&many[at..]) {
                Ok(count) => (sent, at, refused) = (sent + count, (at + count) % many.len(), 0),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    refused += 1;
                    gate.running().wait_a_little();
                }
                Err(_) => break,
            }
        }
        eprintln!("{what}: {sent} bytes were taken");
        assert_served(&gate);
        let grown = resident_kib(&mut gate).saturating_sub(before);
        assert!(grown < 24 * 1024, "{what}: {sent} bytes were taken, and the gate grew by {grown} KiB");
    }

    // A block of fields that goes on and on (CVE-2024-27316).
    let mut io = dial(&gate);
    let mut bytes = [beginning(), frame(HEADERS, 0, 1, GET)].concat();
    for _ in 0..10_000 {
        bytes.extend(frame(CONTINUATION, 0, 1, &field("x-a", &"y".repeat(100))));
    }
    drop(io.write_all(&bytes));
    let seen = rest(io);
    let last = seen.last().expect("frames");
    assert_eq!((last.kind, last.code()), (GOAWAY, ENHANCE_YOUR_CALM), "{last:?}");
    assert_refused_flows(&mut gate, 2, "CONTINUATION");
    assert_served(&gate);
}
