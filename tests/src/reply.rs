//! What an origin answers with.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::LazyLock;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use aws_lc_rs::digest;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use tokio::time::Sleep;

/// One answer of an origin: a response, or what else may happen to a request.
#[derive(Debug)]
pub struct Reply {
    pub(crate) delay: Duration,
    pub(crate) act: Act,
}

/// What an origin does once the request is there and the delay is over.
#[derive(Debug)]
pub(crate) enum Act {
    Respond(Response<ReplyBody>),
    Hang,
    Reset,
}

/// A body in pieces.
#[derive(Debug, Default)]
pub(crate) struct ReplyBody {
    pieces: VecDeque<Piece>,
    pausing: Option<Pin<Box<Sleep>>>,
    without_length: bool,
}

#[derive(Debug)]
enum Piece {
    Bytes(Bytes),
    PseudoRandom { offset: u64, end: u64 },
    Pause(Duration),
    Trailers(HeaderMap),
    Cut,
}

impl Reply {
    /// A response with this status and body, and its content-length.
    pub fn new(status: u16, body: impl Into<Bytes>) -> Self {
        let body = ReplyBody { pieces: VecDeque::from([Piece::Bytes(body.into())]), ..ReplyBody::default() };
        let mut response = Response::new(body);
        *response.status_mut() = StatusCode::from_u16(status).expect("a status");
        Self { delay: Duration::ZERO, act: Act::Respond(response) }
    }

    /// `200` with a text.
    pub fn text(body: impl Into<Bytes>) -> Self {
        Self::new(200, body).header("content-type", "text/plain; charset=utf-8")
    }

    /// `200` with this many bytes, always the same ones; see [`pseudo_random_sha256`].
    pub fn pseudo_random(length: u64) -> Self {
        Self::new(200, Bytes::new()).piece(Piece::PseudoRandom { offset: 0, end: length })
    }

    /// Never answers; the connection stays open.
    pub fn hang() -> Self {
        Self { delay: Duration::ZERO, act: Act::Hang }
    }

    /// Resets the TCP connection.
    pub fn reset() -> Self {
        Self { delay: Duration::ZERO, act: Act::Reset }
    }

    /// Adds a header; one that is there already is kept.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        let name = HeaderName::from_bytes(name.as_bytes()).expect("a header name");
        let value = HeaderValue::from_bytes(value.as_bytes()).expect("a header value");
        self.response().headers_mut().append(name, value);
        self
    }

    /// Adds bytes to the body.
    #[must_use]
    pub fn then(self, bytes: impl Into<Bytes>) -> Self {
        self.piece(Piece::Bytes(bytes.into()))
    }

    /// Waits before the rest of the body.
    #[must_use]
    pub fn pause(self, pause: Duration) -> Self {
        self.piece(Piece::Pause(pause))
    }

    /// Ends the body with trailers.
    #[must_use]
    pub fn trailer(self, name: &str, value: &str) -> Self {
        let name = HeaderName::from_bytes(name.as_bytes()).expect("a header name");
        let value = HeaderValue::from_bytes(value.as_bytes()).expect("a header value");
        self.piece(Piece::Trailers(HeaderMap::from_iter([(name, value)]))).chunked()
    }

    /// Breaks the connection here, in the middle of the body. State the content-length by a header.
    #[must_use]
    pub fn cut(self) -> Self {
        // hyper writes out what it has while a body makes it wait, and not before an error.
        self.pause(Duration::from_millis(20)).piece(Piece::Cut).chunked()
    }

    /// Sends the body without a content-length: chunked on HTTP/1.1.
    #[must_use]
    pub fn chunked(mut self) -> Self {
        self.response().body_mut().without_length = true;
        self
    }

    /// Waits before answering.
    #[must_use]
    pub fn after(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    fn piece(mut self, piece: Piece) -> Self {
        self.response().body_mut().pieces.push_back(piece);
        self
    }

    fn response(&mut self) -> &mut Response<ReplyBody> {
        match &mut self.act {
            Act::Respond(response) => response,
            Act::Hang | Act::Reset => panic!("a reply without a response has no head and no body"),
        }
    }
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        loop {
            if let Some(pausing) = &mut self.pausing {
                ready!(pausing.as_mut().poll(context));
                self.pausing = None;
            }
            match self.pieces.pop_front() {
                None => return Poll::Ready(None),
                Some(Piece::Bytes(bytes)) if bytes.is_empty() => {}
                Some(Piece::Bytes(bytes)) => return Poll::Ready(Some(Ok(Frame::data(bytes)))),
                Some(Piece::PseudoRandom { offset, end }) if offset >= end => {}
                Some(Piece::PseudoRandom { offset, end }) => {
                    let chunk = pseudo_random_chunk(offset, end);
                    let offset = offset.saturating_add(chunk.len() as u64);
                    self.pieces.push_front(Piece::PseudoRandom { offset, end });
                    return Poll::Ready(Some(Ok(Frame::data(chunk))));
                }
                Some(Piece::Pause(pause)) => self.pausing = Some(Box::pin(tokio::time::sleep(pause))),
                Some(Piece::Trailers(trailers)) => return Poll::Ready(Some(Ok(Frame::trailers(trailers)))),
                Some(Piece::Cut) => {
                    return Poll::Ready(Some(Err(io::Error::other("cut, as the test asked"))));
                }
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        if self.without_length {
            return SizeHint::default();
        }
        let length = |piece: &Piece| match piece {
            Piece::Bytes(bytes) => bytes.len() as u64,
            Piece::PseudoRandom { offset, end } => end.saturating_sub(*offset),
            Piece::Pause(_) | Piece::Trailers(_) | Piece::Cut => 0,
        };
        SizeHint::with_exact(self.pieces.iter().map(length).sum())
    }
}

/// The bytes that [`Reply::pseudo_random`] sends, to send them the other way.
pub fn pseudo_random_chunks(length: u64) -> impl Iterator<Item = Bytes> {
    let mut offset = 0;
    std::iter::from_fn(move || {
        let chunk = (offset < length).then(|| pseudo_random_chunk(offset, length))?;
        offset += chunk.len() as u64;
        Some(chunk)
    })
}

/// The SHA-256, in lower-case hex, of the first `length` bytes that [`Reply::pseudo_random`] sends.
pub fn pseudo_random_sha256(length: u64) -> String {
    let mut context = digest::Context::new(&digest::SHA256);
    pseudo_random_chunks(length).for_each(|chunk| context.update(&chunk));
    hex(context.finish().as_ref())
}

/// The SHA-256 of some bytes, in lower-case hex.
pub fn sha256_hex(bytes: &[u8]) -> String {
    hex(digest::digest(&digest::SHA256, bytes).as_ref())
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Chunks are windows of one block, each at another place of it, so that a lost or repeated chunk
/// changes the hash although nothing is generated while streaming.
fn pseudo_random_chunk(offset: u64, end: u64) -> Bytes {
    const CHUNK: u64 = 64 * 1024;
    const BLOCK: u64 = 1024 * 1024;
    static BYTES: LazyLock<Bytes> = LazyLock::new(|| {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let words = std::iter::repeat_with(move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()
        });
        let length = usize::try_from(BLOCK).expect("a megabyte");
        Bytes::from_iter(words.flatten().take(length))
    });
    let length = CHUNK.min(end.saturating_sub(offset));
    let start = (offset / CHUNK).wrapping_mul(7919) % (BLOCK - CHUNK);
    let window = |at: u64| usize::try_from(at).expect("within the block");
    BYTES.slice(window(start)..window(start + length))
}
