//! Faults of a connection of HTTP/2 (RFC 9113 section 5.4.1), and the code that each ends with.
//!
//! The gate's library says PROTOCOL_ERROR of most. What is here holds that the gate says what the RFC says, so that
//! another version of the library that finds faults in another way is noticed.

use crate::frames::{
    ACK, COMPRESSION_ERROR, CONTINUATION, DATA, END_HEADERS, END_STREAM, FLOW_CONTROL_ERROR,
    FRAME_SIZE_ERROR, GET, GOAWAY, HEADERS, PADDED, PING, PRIORITY, PROTOCOL_ERROR, PUSH_PROMISE, RST_STREAM,
    SETTINGS, STREAM_CLOSED, WINDOW_UPDATE, WITH_PRIORITY, field, frame, request,
};

/// What is wrong, what is sent, and the code of the GOAWAY.
pub(crate) type Fault = (&'static str, Vec<u8>, u32);

/// All that need nothing before them but the beginning; no request of theirs is whole.
pub(crate) fn connection_faults() -> Vec<Fault> {
    [lengths(), places(), values(), fields(), blocks()].concat()
}

/// Lengths (section 4.2, and below each kind of frame in section 6).
fn lengths() -> Vec<Fault> {
    let of = |what, kind, flags, stream, length: usize| {
        (what, frame(kind, flags, stream, &vec![0; length]), FRAME_SIZE_ERROR)
    };
    vec![
        of("a frame that is too large", DATA, 0, 1, 16_385),
        of("SETTINGS of five bytes", SETTINGS, 0, 0, 5),
        of("SETTINGS of seven bytes", SETTINGS, 0, 0, 7),
        of("an ACK that has settings", SETTINGS, ACK, 0, 6),
        of("a PING of seven bytes", PING, 0, 0, 7),
        of("a PING of nine bytes", PING, 0, 0, 9),
        of("an answer to a PING without a byte", PING, ACK, 0, 0),
        of("RST_STREAM of three bytes", RST_STREAM, 0, 1, 3),
        of("RST_STREAM of five bytes", RST_STREAM, 0, 1, 5),
        of("WINDOW_UPDATE of three bytes", WINDOW_UPDATE, 0, 0, 3),
        of("WINDOW_UPDATE of five bytes, of a stream", WINDOW_UPDATE, 0, 1, 5),
        of("PRIORITY of four bytes", PRIORITY, 0, 1, 4),
        of("PRIORITY of six bytes", PRIORITY, 0, 1, 6),
        of("GOAWAY of seven bytes", GOAWAY, 0, 0, 7),
        of("padded HEADERS without a byte", HEADERS, END_HEADERS | PADDED, 1, 0),
        of("HEADERS whose priority has four bytes", HEADERS, END_HEADERS | WITH_PRIORITY, 1, 4),
        of("the same, padded", HEADERS, END_HEADERS | PADDED | WITH_PRIORITY, 1, 5),
        of("padded DATA without a byte", DATA, PADDED, 1, 0),
    ]
}

/// Frames at a wrong place (sections 5.1, 5.1.1 and 6).
fn places() -> Vec<Fault> {
    let no_end = frame(HEADERS, END_STREAM, 1, GET);
    let window = 1_u32.to_be_bytes();
    let faults = [
        ("HEADERS on stream 0", request(0, GET)),
        ("HEADERS on a server's stream", request(2, GET)),
        ("HEADERS padded beyond their end", frame(HEADERS, END_HEADERS | PADDED, 1, &[200, 0x82])),
        ("CONTINUATION without HEADERS", frame(CONTINUATION, END_HEADERS, 1, GET)),
        ("CONTINUATION on stream 0", frame(CONTINUATION, END_HEADERS, 0, GET)),
        ("DATA between HEADERS and CONTINUATION", [no_end.clone(), frame(DATA, 0, 1, b"x")].concat()),
        ("an unknown frame there", [no_end.clone(), frame(77, 0, 0, b"x")].concat()),
        ("a PING of seven bytes there", [no_end.clone(), frame(PING, 0, 0, &[0; 7])].concat()),
        ("CONTINUATION of another stream", [no_end, frame(CONTINUATION, END_HEADERS, 3, &[])].concat()),
        ("DATA on stream 0", frame(DATA, 0, 0, b"x")),
        ("DATA on an idle stream", frame(DATA, 0, 1, b"x")),
        ("DATA padded beyond its end", frame(DATA, PADDED, 1, &[2, 0])),
        ("RST_STREAM on stream 0", frame(RST_STREAM, 0, 0, &[0, 0, 0, 8])),
        ("RST_STREAM of an idle stream", frame(RST_STREAM, 0, 1, &[0, 0, 0, 8])),
        ("PRIORITY on stream 0", frame(PRIORITY, 0, 0, &[0; 5])),
        ("PUSH_PROMISE of a client", frame(PUSH_PROMISE, END_HEADERS, 1, &[0, 0, 0, 2, 0x82])),
        ("a window of an idle stream", frame(WINDOW_UPDATE, 0, 1, &window)),
        ("SETTINGS on a stream", frame(SETTINGS, 0, 1, &[])),
        ("SETTINGS of five bytes on a stream", frame(SETTINGS, 0, 1, &[0; 5])),
        ("a PING on a stream", frame(PING, 0, 1, &[0; 8])),
        ("GOAWAY on a stream", frame(GOAWAY, 0, 1, &[0; 8])),
        ("two ACKs of one SETTINGS", frame(SETTINGS, ACK, 0, &[]).repeat(2)),
    ];
    faults.map(|(what, bytes)| (what, bytes, PROTOCOL_ERROR)).to_vec()
}

/// Values that may not be (sections 6.5.2 and 6.9).
fn values() -> Vec<Fault> {
    let window = |by: u32| frame(WINDOW_UPDATE, 0, 0, &by.to_be_bytes());
    let set = |name: u8, value: u32| [&[0, name], &value.to_be_bytes()[..]].concat();
    let settings = |payload: &[u8]| frame(SETTINGS, 0, 0, payload);
    let (push, large) = (set(2, 2), set(4, 1 << 31));
    vec![
        ("a connection window above 2^31-1", window(0x7fff_ffff), FLOW_CONTROL_ERROR),
        ("a window that grows by nothing", window(0), PROTOCOL_ERROR),
        ("SETTINGS that let a client push twice", settings(&push), PROTOCOL_ERROR),
        ("SETTINGS with small frames", settings(&set(5, 16_383)), PROTOCOL_ERROR),
        ("SETTINGS with large frames", settings(&set(5, 1 << 24)), PROTOCOL_ERROR),
        ("SETTINGS with two CONNECT protocols", settings(&set(8, 2)), PROTOCOL_ERROR),
        ("SETTINGS with a window above 2^31-1", settings(&large), FLOW_CONTROL_ERROR),
        (
            "the same behind others",
            settings(&[set(3, 7), set(99, 9), large.clone()].concat()),
            FLOW_CONTROL_ERROR,
        ),
        (
            "the same before another fault",
            settings(&[large.clone(), push.clone()].concat()),
            FLOW_CONTROL_ERROR,
        ),
        ("the same behind another fault", settings(&[push, large].concat()), PROTOCOL_ERROR),
    ]
}

/// Fields that may not be. They are faults of a stream (section 8.2.1), for which the whole connection may end
/// (section 5.4.1), and no faults of HPACK.
fn fields() -> Vec<Fault> {
    let with = |name, value| request(1, &[GET, &field(name, value)].concat());
    let faults = [
        ("a name in capitals", with("X-Capital", "1")),
        ("a value with a line break", with("x-a", "1\r\nx-b: 2")),
        ("a value with a NUL", with("x-a", "\0")),
        ("a name with a space", with("x a", "1")),
        ("a field without a name", with("", "1")),
        ("an unknown pseudo-header", with(":other", "1")),
        ("a method with a space", with(":method", "G T")),
        ("a scheme that is no text", request(1, &[GET, &[0, 7], b":scheme", &[1, 0xff]].concat())),
    ];
    faults.map(|(what, bytes)| (what, bytes, PROTOCOL_ERROR)).to_vec()
}

/// Blocks that cannot be decoded (section 4.3): RFC 7541 where no other is named.
fn blocks() -> Vec<Fault> {
    let text = |text: &[u8]| [&[0, 1, b'a', 0x80 | u8::try_from(text.len()).unwrap()], text].concat();
    let kept = field("x-a", "1").into_iter().enumerate().map(|(at, byte)| if at == 0 { 0x40 } else { byte });
    let kept: Vec<u8> = kept.collect();
    let blocks = [
        ("HPACK's index 0 (section 6.1)", vec![0x80]),
        ("an HPACK index that is not there (section 2.3.3)", vec![0xff, 0x7f]),
        ("the first one behind the static table", vec![0xbe]),
        ("the second one in a table of one", [&kept[..], &[0xbf]].concat()),
        ("one that a smaller table lost (section 4.3)", [&[0x20], &kept[..], &[0xbe]].concat()),
        ("an index of a name that is not there", vec![0x7e, 1, b'1']),
        ("the same, never to be indexed (section 6.2.3)", vec![0x1f, 47, 1, b'1']),
        ("an HPACK text beyond its block (section 5.2)", vec![0x00, 0x7e, b'a']),
        ("a value beyond its block", [&kept[..kept.len() - 1]].concat()),
        ("a name without a value", vec![0x00, 1, b'a']),
        ("an integer beyond its block (section 5.1)", vec![0xff]),
        ("an integer that goes on and on", vec![0xff, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01]),
        ("Huffman code that ends in nothing (section 5.2)", vec![0x00, 0x81, 0xff, 0]),
        ("Huffman code filled up with zeros", text(&[0x18])),
        ("Huffman code filled up with eight bits", text(&[0x1f, 0xff])),
        ("Huffman code that has the end in it", text(&[0xff, 0xff, 0xff, 0xff])),
        ("an HPACK table of 2^21 bytes (section 6.3)", vec![0x3f, 0xe1, 0xff, 0x7f]),
        ("a table of 4097 bytes", vec![0x3f, 0xe2, 0x1f]),
        ("a size of the table behind a field (section 4.2)", vec![0x82, 0x3f, 0xe1, 0x1f]),
    ];
    let whole = blocks.iter().map(|(what, block)| (*what, request(1, block)));
    let cut = frame(HEADERS, END_STREAM, 1, &[GET, &[0xff]].concat());
    let mut faults: Vec<_> = whole.map(|(what, bytes)| (what, bytes, COMPRESSION_ERROR)).collect();
    faults.extend([
        // The size stands first, where it may.
        (
            "a table of 4097 bytes, first of all",
            request(1, &[&[0x3f, 0xe2, 0x1f], GET].concat()),
            COMPRESSION_ERROR,
        ),
        (
            "a block that is wrong in its second frame",
            [cut.clone(), frame(CONTINUATION, END_HEADERS, 1, &[0x7f])].concat(),
            COMPRESSION_ERROR,
        ),
        (
            "a block that is cut by its second frame",
            [cut, frame(CONTINUATION, END_HEADERS, 1, &[])].concat(),
            COMPRESSION_ERROR,
        ),
        (
            "a block between priority and padding",
            frame(
                HEADERS,
                END_STREAM | END_HEADERS | PADDED | WITH_PRIORITY,
                1,
                &[2, 0, 0, 0, 0, 1, 0x80, 0, 0],
            ),
            COMPRESSION_ERROR,
        ),
        (
            "a block on a server's stream, which is not looked at before it is decoded",
            request(2, &[0x80]),
            COMPRESSION_ERROR,
        ),
    ]);
    faults
}

/// Faults that stand behind a request that goes on.
pub(crate) fn faults_of_ended_streams() -> Vec<Fault> {
    let ended = request(1, GET);
    let post = frame(HEADERS, END_HEADERS, 1, &[b"\x83", &GET[1..]].concat());
    let behind = |bytes: Vec<u8>| [ended.clone(), bytes].concat();
    vec![
        // Section 5.1, half-closed (remote).
        ("DATA behind the end of its stream", behind(frame(DATA, 0, 1, b"x")), STREAM_CLOSED),
        ("the same, which ends it again", behind(frame(DATA, END_STREAM, 1, b"")), STREAM_CLOSED),
        ("trailers behind the end of their stream", behind(request(1, &field("x-a", "1"))), STREAM_CLOSED),
        // Section 5.1.1: a stream that was left out was never there.
        (
            "HEADERS of a stream that was left out",
            [request(5, GET), request(3, GET)].concat(),
            PROTOCOL_ERROR,
        ),
        (
            "trailers that cannot be decoded",
            [post.clone(), frame(DATA, 0, 1, b"x"), request(1, &[0xbf])].concat(),
            COMPRESSION_ERROR,
        ),
        ("DATA with a padding of all of it", [post, frame(DATA, PADDED, 1, &[1])].concat(), PROTOCOL_ERROR),
    ]
}
