//! Follows what the library writes: requests that it ends by itself, and the code that it ends a connection with.

use h2::Reason;

use super::BrokenRequest;
use super::cursor::{Cursor, DATA, END_STREAM, GOAWAY, HEADERS, Head, Piece, RST_STREAM};
use super::streams::Streams;

/// Where the last byte of a GOAWAY's code stands in its payload (RFC 9113 section 6.8). All codes fit in it.
const LAST_OF_CODE: usize = 7;

/// The frames that the library writes.
#[derive(Debug, Default)]
pub(super) struct Written {
    cursor: Cursor,
    /// The payload of RST_STREAM so far.
    code: u32,
    /// Streams whose answer goes on: they have an exchange, which says itself what became of it. No more than
    /// may be open at once.
    answering: Vec<u32>,
}

impl Written {
    pub(super) fn follow(&mut self, mut bytes: &[u8], streams: &mut Streams, tell: impl Fn(BrokenRequest)) {
        while !bytes.is_empty() {
            let piece = self.cursor.next(&mut bytes);
            if let Piece::Payload(seen) = piece
                && self.cursor.head().kind == RST_STREAM
            {
                self.code = seen.iter().fold(self.code, |code, &byte| code << 8 | u32::from(byte));
            }
            if self.cursor.is_at_end() {
                self.end_frame(streams, &tell);
            }
        }
    }

    /// Where in `bytes`, which come next, the last byte of a GOAWAY's PROTOCOL_ERROR is.
    pub(super) fn protocol_error_in(&self, bytes: &[u8]) -> Option<usize> {
        let mut cursor = self.cursor;
        let mut rest = bytes;
        while !rest.is_empty() {
            let piece = cursor.next(&mut rest);
            let Piece::Payload(seen) = piece else { continue };
            let end = cursor.within();
            if cursor.head().kind == GOAWAY
                && (end - seen.len()..end).contains(&LAST_OF_CODE)
                && let Some(at) = (bytes.len() - rest.len()).checked_sub(end - LAST_OF_CODE)
                && bytes.get(at).is_some_and(|&code| u32::from(code) == u32::from(Reason::PROTOCOL_ERROR))
            {
                return Some(at);
            }
        }
        None
    }

    fn end_frame(&mut self, streams: &mut Streams, tell: impl Fn(BrokenRequest)) {
        let head @ Head { kind, stream, .. } = self.cursor.head();
        let is_end = head.has(END_STREAM) && [HEADERS, DATA].contains(&kind);
        let was_answering = (is_end || kind == RST_STREAM) && self.forget(stream);
        match kind {
            HEADERS if !is_end => self.answering.push(stream),
            // The first frame of an answer, and the last one: there is no body.
            HEADERS if !was_answering && streams.is_too_large(stream) => {
                tell(BrokenRequest { stream, reason: None });
            }
            RST_STREAM => {
                let reason = Reason::from(std::mem::take(&mut self.code));
                let ends_a_431 = streams.reset(stream);
                if !was_answering && !ends_a_431 && is_of_the_library(reason) {
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

    #[cfg(test)]
    pub(super) fn is_quiet(&self) -> bool {
        self.cursor.is_at_end() && self.answering.is_empty()
    }
}

/// Whether the library resets a stream with this because of what was sent on it. `NO_ERROR` and `CANCEL` end what
/// nobody wants any more and `INTERNAL_ERROR` an exchange that failed; what got `REFUSED_STREAM` may be sent
/// again (RFC 9113 section 8.7).
fn is_of_the_library(reason: Reason) -> bool {
    ![Reason::NO_ERROR, Reason::CANCEL, Reason::INTERNAL_ERROR, Reason::REFUSED_STREAM].contains(&reason)
}
