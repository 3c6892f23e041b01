//! Follows what is written on a connection of HTTP/2, for the requests that the library answers by itself.
//!
//! A request that breaks the rules never gets to hyper's service: the h2 library resets its stream, or answers an
//! over-long head with 431 and resets then. The frames that it writes are the only sign of it, and they are in
//! the clear here, between the library and TLS.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use h2::Reason;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

// Frames and flags that matter here (RFC 9113 section 6).
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const END_STREAM: u8 = 1;

/// How a block ends that says no more than status 431, where it says so for the first time: three bytes of
/// Huffman code (RFC 7541 section 5.2). Later ones are an index into a table, whose state is the encoder's.
const STATUS_431: u32 = 0x8369_90ff;
/// The longest such block: the status may stand behind new sizes of that table.
const STATUS_BLOCK_BYTES_MAX: usize = 12;

/// A frame's head (RFC 9113 section 4.1), in bytes.
const FRAME_HEAD_BYTES: usize = 9;

/// A request that the library ended without anybody being asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BrokenRequest {
    /// Its stream.
    pub stream: u32,
    /// The code that it was reset with; none where its head is too large, which is answered with 431. Of those
    /// the first on a connection is told.
    pub reason: Option<Reason>,
}

/// Tells about each [`BrokenRequest`] as soon as its end is written. What is read and written is not changed.
pub struct FrameWatch<Io> {
    io: Io,
    frames: Frames,
    tell: Box<dyn Fn(BrokenRequest) + Send>,
}

impl<Io> FrameWatch<Io> {
    /// Follows the frames that are written to `io`, the first of which is the next one.
    pub fn new(io: Io, tell: impl Fn(BrokenRequest) + Send + 'static) -> Self {
        Self { io, frames: Frames::default(), tell: Box::new(tell) }
    }
}

impl<Io: AsyncRead + Unpin> AsyncRead for FrameWatch<Io> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl<Io: AsyncWrite + Unpin> AsyncWrite for FrameWatch<Io> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let count = ready!(Pin::new(&mut this.io).poll_write(cx, buf))?;
        this.frames.follow(buf.get(..count).unwrap_or(buf), &this.tell);
        Poll::Ready(Ok(count))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let count = ready!(Pin::new(&mut this.io).poll_write_vectored(cx, bufs))?;
        let mut left = count;
        for buf in bufs {
            let written = buf.get(..left).unwrap_or(buf);
            this.frames.follow(written, &this.tell);
            left -= written.len();
        }
        Poll::Ready(Ok(count))
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// The frames of one direction, wherever the bytes are cut.
#[derive(Debug, Default)]
struct Frames {
    head: [u8; FRAME_HEAD_BYTES],
    /// How much of the head was seen.
    head_seen: usize,
    /// How much of the payload behind it was not.
    payload_left: usize,
    /// Whether the payload is short enough to be one that is looked at.
    is_short: bool,
    /// The last four bytes of the payload so far, of frames that it matters for.
    last: u32,
    /// Streams whose answer goes on: they have an exchange, which says itself what became of it. No more than
    /// may be open at once.
    answering: Vec<u32>,
    /// The stream of the frame before, where that was a 431.
    too_large: u32,
}

impl Frames {
    fn follow(&mut self, mut bytes: &[u8], tell: impl Fn(BrokenRequest)) {
        while !bytes.is_empty() {
            if let Some(slot) = self.head.get_mut(self.head_seen..).filter(|slot| !slot.is_empty()) {
                let count = slot.len().min(bytes.len());
                let (seen, rest) = bytes.split_at(count);
                if let Some(slot) = slot.get_mut(..count) {
                    slot.copy_from_slice(seen);
                }
                self.head_seen += count;
                bytes = rest;
                if self.head_seen < FRAME_HEAD_BYTES {
                    return;
                }
                let [high, middle, low, ..] = self.head;
                self.payload_left = u32::from_be_bytes([0, high, middle, low]) as usize;
                self.is_short = self.payload_left <= STATUS_BLOCK_BYTES_MAX;
            }
            let (seen, rest) = bytes.split_at(self.payload_left.min(bytes.len()));
            if self.is_short {
                self.last = seen.iter().fold(self.last, |last, &byte| last << 8 | u32::from(byte));
            }
            self.payload_left -= seen.len();
            bytes = rest;
            if self.payload_left == 0 {
                self.head_seen = 0;
                self.end_frame(&tell);
            }
        }
    }

    fn end_frame(&mut self, tell: impl Fn(BrokenRequest)) {
        let [_, _, _, kind, flags, stream @ ..] = self.head;
        let stream = u32::from_be_bytes(stream);
        let is_end = flags & END_STREAM != 0;
        let last = std::mem::take(&mut self.last);
        let too_large = std::mem::take(&mut self.too_large);
        let is_last = kind == RST_STREAM || (is_end && [HEADERS, DATA].contains(&kind));
        let was_answering = is_last && self.forget(stream);
        match kind {
            HEADERS if !is_end => self.answering.push(stream),
            // The first frame of an answer, and the last one: there is no body.
            HEADERS if !was_answering && self.is_short && last == STATUS_431 => {
                self.too_large = stream;
                tell(BrokenRequest { stream, reason: None });
            }
            RST_STREAM if !was_answering && too_large != stream => {
                let reason = Reason::from(last);
                if is_of_the_library(reason) {
                    tell(BrokenRequest { stream, reason: Some(reason) });
                }
            }
            _ => {}
        }
    }

    /// Returns whether the answer of `stream` was going on.
    fn forget(&mut self, stream: u32) -> bool {
        let found = self.answering.iter().position(|&one| one == stream);
        found.map(|at| self.answering.swap_remove(at)).is_some()
    }
}

/// Whether the library resets a stream with this because of what was sent on it. `NO_ERROR` and `CANCEL` end what
/// nobody wants any more and `INTERNAL_ERROR` an exchange that failed; what got `REFUSED_STREAM` may be sent
/// again (RFC 9113 section 8.7).
fn is_of_the_library(reason: Reason) -> bool {
    ![Reason::NO_ERROR, Reason::CANCEL, Reason::INTERNAL_ERROR, Reason::REFUSED_STREAM].contains(&reason)
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    const END_HEADERS: u8 = 4;

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
    }

    fn reset(stream: u32, reason: Reason) -> Vec<u8> {
        frame(RST_STREAM, 0, stream, &u32::from(reason).to_be_bytes())
    }

    /// What is told of these bytes when they come in pieces of `size`.
    fn told(bytes: &[u8], size: usize) -> Vec<BrokenRequest> {
        let told = RefCell::new(Vec::new());
        let mut frames = Frames::default();
        for piece in bytes.chunks(size) {
            frames.follow(piece, |broken| told.borrow_mut().push(broken));
        }
        assert!(frames.head_seen == 0 && frames.answering.is_empty(), "{frames:?}");
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
            // 431, from a client that had ended its request, and from one that had not.
            frame(HEADERS, END_HEADERS | END_STREAM, 17, &[0x48, 0x83, 0x69, 0x90, 0xff]),
            frame(HEADERS, END_HEADERS | END_STREAM, 19, &[0x3f, 0xe1, 0x1f, 0x48, 0x83, 0x69, 0x90, 0xff]),
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
        ];
        for size in 1..=bytes.len() {
            assert_eq!(told(&bytes, size), expected, "in pieces of {size}");
        }
    }
}
