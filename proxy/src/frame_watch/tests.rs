use std::cell::RefCell;

use super::cursor::{DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PADDED, PING, RST_STREAM, SETTINGS};
use super::streams::Streams;
use super::*;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

fn reset(stream: u32, reason: Reason) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, &u32::from(reason).to_be_bytes())
}

/// Streams of which some have a head that is too large: those that the workload has ended, and those that it has
/// not.
fn streams(large: &[u32], and_open: &[u32]) -> Streams {
    let mut streams = Streams::default();
    for stream in (1..200).step_by(2) {
        streams.begin(stream);
        if !and_open.contains(&stream) {
            streams.end(stream);
        }
    }
    large.iter().chain(and_open).for_each(|&stream| streams.set_too_large(stream));
    streams
}

/// What is told of these bytes when they come in pieces of `size`.
fn told(bytes: &[u8], size: usize, mut streams: Streams) -> Vec<BrokenRequest> {
    let told = RefCell::new(Vec::new());
    let mut written = Written::default();
    for piece in bytes.chunks(size) {
        written.follow(piece, &mut streams, |broken| told.borrow_mut().push(broken));
    }
    assert!(written.is_quiet(), "{written:?}");
    told.into_inner()
}

#[test]
fn requests_that_only_the_library_answered_are_told_wherever_the_bytes_are_cut() {
    let bytes = [
        frame(4, 0, 0, &[0; 18]),
        // An exchange whose request broke off in the midst of its answer.
        frame(HEADERS, END_HEADERS, 1, &[0x88]),
        frame(DATA, 0, 1, b"some"),
        reset(3, Reason::PROTOCOL_ERROR),
        reset(1, Reason::PROTOCOL_ERROR),
        // Exchanges that end as they should.
        frame(HEADERS, END_HEADERS, 5, &[0x88]),
        frame(DATA, END_STREAM, 5, b""),
        frame(HEADERS, END_HEADERS | END_STREAM, 7, &[0x88]),
        reset(7, Reason::NO_ERROR),
        // One with trailers.
        frame(HEADERS, END_HEADERS, 9, &[0x88]),
        frame(HEADERS, END_HEADERS | END_STREAM, 9, &[0x88]),
        reset(9, Reason::CANCEL),
        reset(11, Reason::INTERNAL_ERROR),
        reset(13, Reason::REFUSED_STREAM),
        reset(15, Reason::FLOW_CONTROL_ERROR),
        // 431, to clients that had ended their requests and to one that had not, whose reset comes later; and an
        // origin's own 431.
        frame(HEADERS, END_HEADERS | END_STREAM, 17, &[0x48, 0x83, 0x69, 0x90, 0xff]),
        frame(HEADERS, END_HEADERS | END_STREAM, 19, &[0xbe]),
        frame(HEADERS, END_HEADERS | END_STREAM, 21, &[0xbe]),
        frame(HEADERS, END_HEADERS | END_STREAM, 23, &[0xbe]),
        reset(19, Reason::PROTOCOL_ERROR),
        frame(6, 1, 0, &[7; 8]),
    ]
    .concat();
    let broken = |stream, reason| BrokenRequest { stream, reason };
    let expected = [
        broken(3, Some(Reason::PROTOCOL_ERROR)),
        broken(15, Some(Reason::FLOW_CONTROL_ERROR)),
        broken(17, None),
        broken(19, None),
        broken(23, None),
    ];
    for size in 1..=bytes.len() {
        assert_eq!(told(&bytes, size, streams(&[17, 23], &[19])), expected, "in pieces of {size}");
    }
}

/// A connection that gives and takes so many bytes at once.
struct Narrow {
    size: usize,
    incoming: Vec<u8>,
    written: Vec<u8>,
}

impl AsyncRead for Narrow {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let count = self.size.min(self.incoming.len()).min(buf.remaining());
        buf.put_slice(&self.incoming.drain(..count).collect::<Vec<_>>());
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Narrow {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let count = self.size.min(buf.len());
        self.written.extend(&buf[..count]);
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

fn watched(incoming: &[u8], size: usize) -> FrameWatch<Narrow> {
    let io = Narrow { size, incoming: incoming.to_vec(), written: Vec::new() };
    FrameWatch::new(io, 1 << 16, |broken| panic!("{broken:?}"))
}

/// Where the frames end behind the preface.
fn ends(bytes: &[u8]) -> Vec<usize> {
    let mut ends = Vec::new();
    let mut at = PREFACE.len();
    while at < bytes.len() {
        at += 9 + usize::from(bytes[at + 1]) * 256 + usize::from(bytes[at + 2]);
        ends.push(at);
    }
    ends
}

/// A connection with faults, of which the library is to take each for itself, and the code of each frame.
fn faults() -> (Vec<u8>, Vec<Option<Reason>>) {
    let (size, hpack) = (Some(Reason::FRAME_SIZE_ERROR), Some(Reason::COMPRESSION_ERROR));
    let frames = [
        (frame(SETTINGS, 0, 0, &[0, 4, 0x7f, 0xff, 0xff, 0xff]), None),
        (frame(PING, 0, 0, &[7; 8]), None),
        (frame(HEADERS, END_HEADERS | PADDED, 1, &[2, 0x82, 0x86, 0x84, 0xff, 0xff]), None),
        (frame(DATA, 0, 1, &[0xff; 300]), None),
        (frame(PING, 0, 0, &[7; 7]), size),
        (frame(DATA, END_STREAM, 1, &[0xff; 20]), None),
        (frame(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 0, 0, 4, 0x80, 0, 0, 0]), Some(Reason::FLOW_CONTROL_ERROR)),
        (frame(SETTINGS, 0, 0, &[0, 2, 0, 0, 0, 2, 0, 4, 0x80, 0, 0, 0]), Some(Reason::PROTOCOL_ERROR)),
        (frame(DATA, 0, 1, &[]), Some(Reason::STREAM_CLOSED)),
        (frame(HEADERS, END_HEADERS | END_STREAM, 1, &[0x82]), Some(Reason::STREAM_CLOSED)),
        (frame(SETTINGS, 1, 0, &[0; 6]), size),
        (frame(SETTINGS, 1, 0, &[]), None),
        // One that was left out is none that has ended.
        (frame(HEADERS, END_STREAM, 7, &[0x82, 0x86]), None),
        (frame(9, END_HEADERS, 7, &[0x84]), None),
        (frame(HEADERS, END_HEADERS | END_STREAM, 5, &[0x82]), None),
        (frame(RST_STREAM, 0, 7, &[0; 5]), size),
        (frame(8, 0, 0, &[0; 3]), size),
        (frame(7, 0, 0, &[0; 7]), size),
        (frame(2, 0, 1, &[0; 4]), size),
        (frame(DATA, PADDED, 9, &[]), size),
        (frame(HEADERS, END_HEADERS | PADDED | 32, 9, &[0; 5]), size),
        // What is at a wrong place is that first.
        (frame(PING, 0, 1, &[7; 7]), None),
        (frame(SETTINGS, 0, 1, &[7; 7]), None),
        (frame(99, 0, 1, &[7; 7]), None),
        (frame(HEADERS, 0, 9, &[0x82, 0x86]), None),
        (frame(9, END_HEADERS, 9, &[0x84, 0xff]), hpack),
        (frame(PING, 0, 0, &[7; 8]), None),
    ];
    let codes = frames.iter().map(|(_, code)| *code).collect();
    ([PREFACE.to_vec(), frames.map(|(bytes, _)| bytes).concat()].concat(), codes)
}

#[tokio::test]
async fn a_frame_with_a_fault_is_handed_over_alone_wherever_the_bytes_are_cut() {
    let (bytes, codes) = faults();
    let ends = ends(&bytes);
    for (size, room) in (1..=bytes.len()).flat_map(|size| [(size, 13), (size, 1000)]) {
        let mut watch = watched(&bytes, size);
        let mut handed: Vec<u8> = Vec::new();
        let mut at_fault = vec![None; codes.len()];
        loop {
            let mut buf = vec![0; room];
            let count = watch.read(&mut buf).await.unwrap();
            if count == 0 {
                break;
            }
            let new = handed.len()..handed.len() + count;
            handed.extend(&buf[..count]);
            // What the library finds wrong now is in a frame that has just become whole.
            let whole: Vec<_> = ends.iter().filter(|&&end| new.contains(&(end - 1))).collect();
            if let Some(code) = watch.received.at_fault()
                && let [end] = whole[..]
            {
                assert_eq!(new.end, *end, "in pieces of {size}");
                at_fault[ends.iter().position(|one| one == end).unwrap()] = Some(code);
            } else {
                assert!(watch.received.at_fault().is_none() || whole.is_empty(), "in pieces of {size}");
            }
        }
        assert_eq!(handed, bytes, "in pieces of {size}");
        assert_eq!(at_fault, codes, "in pieces of {size}");
    }
}

#[tokio::test]
async fn the_code_of_a_goaway_is_put_right_wherever_the_bytes_are_cut() {
    let goaway = |code: Reason| {
        let code = u32::from(code).to_be_bytes();
        frame(GOAWAY, 0, 0, &[&[0, 0, 0, 1], &code[..], b"more"].concat())
    };
    let written = |code| {
        let data = frame(DATA, 0, 1, &[1; 40]);
        [frame(SETTINGS, 0, 0, &[1; 6]), goaway(Reason::NO_ERROR), data, goaway(code)].concat()
    };
    let fault = [PREFACE, &frame(PING, 0, 0, &[7; 7])].concat();
    let none = [PREFACE, &frame(PING, 0, 0, &[7; 8])].concat();
    let (general, calm, size) =
        (Reason::PROTOCOL_ERROR, Reason::ENHANCE_YOUR_CALM, Some(Reason::FRAME_SIZE_ERROR));
    for (incoming, code, changed_to) in
        [(&fault, general, size), (&fault, calm, None), (&none, general, None)]
    {
        let bytes = written(code);
        for (taken, given) in (1..=bytes.len()).flat_map(|size| [(size, bytes.len()), (1000, size)]) {
            let mut watch = watched(incoming, 1000);
            let mut buf = [0; 100];
            while watch.received.at_fault().is_none() && watch.read(&mut buf).await.unwrap() > 0 {}
            watch.io.size = taken;
            for piece in bytes.chunks(given) {
                watch.write_all(piece).await.unwrap();
            }
            assert_eq!(watch.io.written, written(changed_to.unwrap_or(code)), "{taken}, {given}");
            assert_eq!(watch.changed_to().get().copied(), changed_to);
        }
    }
}

#[tokio::test]
async fn heads_that_are_too_large_are_found_by_their_lists() {
    // A field of 1024 bytes goes into the table, and is repeated; the last one has a value of its own.
    let text = |length: usize| {
        let [low, high] =
            [(length - 127) % 128 + 128, (length - 127) / 128].map(|part| u8::try_from(part).unwrap());
        [&[0x7f, low, high][..], &vec![b'x'; length]].concat()
    };
    let block = |fields: usize, last: usize| {
        [&[0x40, 1, b'a'][..], &text(991), &vec![0xbe; fields - 1], &[0, 1, b'b'], &text(last)].concat()
    };
    let head = |stream, fields, last| {
        // In two frames, and behind new sizes of the table.
        let sizes = frame(HEADERS, END_STREAM, stream, &[0x20, 0x3f, 0xe1, 0x1f]);
        [sizes, frame(9, END_HEADERS, stream, &block(fields, last))].concat()
    };
    let bytes = [
        PREFACE.to_vec(),
        head(1, 63, 990),
        // A byte more is as much as the library refuses.
        head(3, 63, 991),
        frame(HEADERS, END_HEADERS, 5, &[0x82]),
        // As trailers, it is none.
        frame(HEADERS, END_STREAM | END_HEADERS, 5, &block(70, 500)),
        head(7, 63, 200),
    ]
    .concat();
    let mut watch = watched(&bytes, 100);
    let mut handed = Vec::new();
    watch.read_to_end(&mut handed).await.unwrap();
    assert_eq!(handed, bytes);
    let found: Vec<_> = (1..9).filter(|&stream| watch.received.streams.is_too_large(stream)).collect();
    assert_eq!(found, [3]);
}

#[test]
fn a_flood_of_streams_is_not_remembered() {
    let mut streams = Streams::default();
    for stream in (1..10_000).step_by(2) {
        assert!(streams.begin(stream) && !streams.has_ended(stream));
        streams.set_too_large(stream);
    }
    // The oldest are forgotten, and whether one has ended is not told any more.
    assert!(!streams.is_too_large(1) && streams.is_too_large(9_999));
    streams.end(9_999);
    assert!(!streams.has_ended(9_999) && !streams.has_ended(1));
}
