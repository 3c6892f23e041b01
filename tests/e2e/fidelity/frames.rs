//! Frames of HTTP/2 as bytes (RFC 9113), for what no library would send.

use std::io::{ErrorKind, Read};
use std::net::TcpStream;

pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

// Types and flags of frames (RFC 9113 section 6).
pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const PRIORITY: u8 = 2;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PUSH_PROMISE: u8 = 5;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;
pub(crate) const ACK: u8 = 1;
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;
pub(crate) const PADDED: u8 = 8;
pub(crate) const WITH_PRIORITY: u8 = 32;

// Error codes (RFC 9113 section 7).
pub(crate) const NO_ERROR: u32 = 0;
pub(crate) const PROTOCOL_ERROR: u32 = 1;
pub(crate) const FLOW_CONTROL_ERROR: u32 = 3;
pub(crate) const STREAM_CLOSED: u32 = 5;
pub(crate) const FRAME_SIZE_ERROR: u32 = 6;
pub(crate) const CANCEL: u32 = 8;
pub(crate) const COMPRESSION_ERROR: u32 = 9;
pub(crate) const ENHANCE_YOUR_CALM: u32 = 11;

/// `GET http://api.test/`, without Huffman coding (RFC 7541 section 6).
pub(crate) const GET: &[u8] = b"\x82\x86\x84\x41\x08api.test";

/// `431` in Huffman code (RFC 7541 appendix B): 011010, 011001, 00001, and ones to fill.
pub(crate) const HUFFMAN_431: [u8; 3] = [0b0110_1001, 0b1001_0000, 0b1111_1111];

/// A frame of a peer's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    /// The error code of a RST_STREAM or GOAWAY.
    pub(crate) fn code(&self) -> u32 {
        let at = if self.kind == GOAWAY { 4 } else { 0 };
        u32::from_be_bytes(self.payload[at..at + 4].try_into().unwrap())
    }
}

pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// All of a request in one frame.
pub(crate) fn request(stream: u32, block: &[u8]) -> Vec<u8> {
    frame(HEADERS, END_STREAM | END_HEADERS, stream, block)
}

/// A field that is in no table (RFC 7541 section 6.2.2).
pub(crate) fn field(name: &str, value: &str) -> Vec<u8> {
    let length = |text: &str| u8::try_from(text.len()).unwrap();
    [&[0, length(name)], name.as_bytes(), &[length(value)], value.as_bytes()].concat()
}

/// What a client begins with.
pub(crate) fn beginning() -> Vec<u8> {
    [PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()
}

/// The frames in these bytes; the last one may be cut.
pub(crate) fn frames(mut bytes: &[u8]) -> Vec<Frame> {
    let mut found = Vec::new();
    while let Some((head, rest)) = bytes.split_at_checked(9) {
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let Some((payload, rest)) = rest.split_at_checked(length) else { break };
        let stream = u32::from_be_bytes(head[5..9].try_into().unwrap());
        found.push(Frame { kind: head[3], stream, payload: payload.to_vec() });
        bytes = rest;
    }
    found
}

/// What the log calls a code (RFC 9113 section 7).
pub(crate) fn in_words(code: u32) -> &'static str {
    match code {
        PROTOCOL_ERROR => "unspecific protocol error detected",
        FLOW_CONTROL_ERROR => "flow-control protocol violated",
        STREAM_CLOSED => "received frame when stream half-closed",
        FRAME_SIZE_ERROR => "frame with invalid size",
        COMPRESSION_ERROR => "unable to maintain the header compression context",
        _ => panic!("no test expects {code}"),
    }
}

/// Reads to the end, which must come.
pub(crate) fn rest(mut io: impl Read) -> Vec<Frame> {
    let mut bytes = Vec::new();
    match io.read_to_end(&mut bytes) {
        Ok(_) => {}
        // Who closes with unread bytes resets; what came before is what counts.
        Err(error) if [ErrorKind::ConnectionReset, ErrorKind::UnexpectedEof].contains(&error.kind()) => {}
        Err(error) => panic!("{error} after {:?}", frames(&bytes)),
    }
    frames(&bytes)
}

/// Reads frames until there is one of this kind on this stream, which must come.
#[track_caller]
pub(crate) fn wait_for(io: &mut TcpStream, (kind, stream): (u8, u32)) -> Frame {
    let mut seen = Vec::new();
    loop {
        let mut head = [0; 9];
        io.read_exact(&mut head).unwrap_or_else(|error| panic!("{error} after {seen:?}"));
        let mut whole = head.to_vec();
        whole.resize(9 + u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize, 0);
        io.read_exact(&mut whole[9..]).unwrap();
        let frame = frames(&whole).remove(0);
        if (frame.kind, frame.stream) == (kind, stream) {
            return frame;
        }
        seen.push(frame);
    }
}
