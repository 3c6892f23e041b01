//! Follows what the library reads: faults of a connection that RFC 9113 has a code for, and heads that are too
//! large.
//!
//! A frame with such a fault is handed over alone. The library reads on only when it has nothing more to do with
//! what it has, so that frames before it are without fault when it gets there, and what it says before it reads on
//! again is about that frame.

use h2::Reason;

use super::cursor::{
    ACK, CONTINUATION, Cursor, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, Head, PADDED, PING, PRIORITY,
    PUSH_PROMISE, Piece, RST_STREAM, SETTINGS, WINDOW_UPDATE, WITH_PRIORITY,
};
use super::field_blocks::FieldBlocks;
use super::streams::Streams;

/// What a client begins with (RFC 9113 section 3.4), in bytes.
const PREFACE_BYTES: usize = 24;

/// Longer frames are refused by their heads (RFC 9113 section 4.2): our SETTINGS ask for none.
const FRAME_BYTES_MAX: u32 = 16_384;

/// One setting (RFC 9113 section 6.5.1), in bytes.
const SETTING_BYTES: usize = 6;

// Settings that may not have each value (RFC 9113 section 6.5.2, RFC 8441 section 3).
const ENABLE_PUSH: u16 = 2;
const INITIAL_WINDOW_SIZE: u16 = 4;
const MAX_FRAME_SIZE: u16 = 5;
const ENABLE_CONNECT_PROTOCOL: u16 = 8;

/// The largest window that there is (RFC 9113 section 6.9.1), in bytes.
const WINDOW_MAX: u32 = (1 << 31) - 1;
/// The largest frames that may be asked for (RFC 9113 section 4.2), in bytes.
const ASKED_FRAME_BYTES_MAX: u32 = (1 << 24) - 1;

/// A block of fields that is under way.
#[derive(Clone, Copy, Debug)]
struct Block {
    stream: u32,
    /// Whether it is a request's head, and not its trailers.
    is_head: bool,
    /// Whether its stream had ended before.
    is_late: bool,
}

/// What is looked at in the payload of a frame.
#[derive(Clone, Copy, Debug, Default)]
enum Look {
    #[default]
    Nowhere,
    Settings {
        one: [u8; SETTING_BYTES],
        seen: usize,
    },
    /// How long the padding is; `before` are the bytes between that and the fields.
    Padding {
        before: usize,
    },
    /// Fields, and what is before them.
    Fields {
        before: usize,
        left: usize,
    },
}

/// The frames that the library reads.
#[derive(Debug)]
pub(super) struct Received {
    preface_left: usize,
    cursor: Cursor,
    look: Look,
    block: Option<Block>,
    blocks: FieldBlocks,
    pub(super) streams: Streams,
    head_bytes_max: usize,
    /// The fault of the frame that the cursor is in.
    found: Option<Reason>,
    /// Bytes that were followed and not handed over: the beginning of a frame with a fault.
    ahead: usize,
    /// The fault of the frame that was handed over last.
    at_fault: Option<Reason>,
}

impl Received {
    /// Follows a connection from its preface on. The library answers heads of `head_bytes_max` with 431.
    pub(super) fn new(head_bytes_max: usize) -> Self {
        Self {
            preface_left: PREFACE_BYTES,
            cursor: Cursor::default(),
            look: Look::Nowhere,
            block: None,
            blocks: FieldBlocks::default(),
            streams: Streams::default(),
            head_bytes_max,
            found: None,
            ahead: 0,
            at_fault: None,
        }
    }

    /// The code for what the library finds wrong now.
    pub(super) fn at_fault(&self) -> Option<Reason> {
        self.at_fault
    }

    /// The library reads on: it found nothing in what it has.
    pub(super) fn read_on(&mut self) {
        if self.ahead == 0 && self.cursor.is_at_end() {
            self.at_fault = None;
            self.found = None;
        }
    }

    /// Takes what comes next. Returns how much of it may be handed over, which is never nothing; the rest must come
    /// again.
    pub(super) fn follow(&mut self, bytes: &[u8]) -> usize {
        if self.ahead > 0 {
            let known = self.ahead.min(bytes.len());
            self.ahead -= known;
            self.at_fault = self.found;
            return known;
        }
        let preface = self.preface_left.min(bytes.len());
        self.preface_left -= preface;
        let mut frame_start = preface;
        let mut rest = bytes.get(preface..).unwrap_or_default();
        while !rest.is_empty() {
            self.next(&mut rest);
            let here = bytes.len() - rest.len();
            let is_at_end = self.cursor.is_at_end();
            if self.found.is_some() && (is_at_end || rest.is_empty()) {
                if frame_start > 0 {
                    self.ahead = here - frame_start;
                    return frame_start;
                }
                self.at_fault = self.found;
                return here;
            }
            if is_at_end {
                frame_start = here;
            }
        }
        bytes.len()
    }

    fn next(&mut self, bytes: &mut &[u8]) {
        match self.cursor.next(bytes) {
            Piece::Cut => return,
            Piece::Head(head) => {
                self.look = Look::Nowhere;
                self.begin_frame(head);
            }
            Piece::Payload(piece) => self.look_at(piece),
        }
        if self.cursor.is_at_end() {
            self.end_frame();
        }
    }

    fn begin_frame(&mut self, head: Head) {
        let Head { length, kind, stream, .. } = head;
        // The library sees no more of it than its head.
        if length > FRAME_BYTES_MAX as usize {
            return;
        }
        if let Some(block) = self.block {
            // Nothing else may stand between (RFC 9113 section 6.10), and that is the fault then.
            if kind == CONTINUATION && stream == block.stream {
                self.look = Look::Fields { before: 0, left: length };
            }
            return;
        }
        let is_right_length = match kind {
            SETTINGS if head.has(ACK) => length == 0,
            SETTINGS => length.is_multiple_of(SETTING_BYTES),
            PING => length == 8,
            GOAWAY => length >= 8,
            PRIORITY => length == 5,
            RST_STREAM | WINDOW_UPDATE => length == 4,
            DATA => length >= usize::from(head.has(PADDED)),
            HEADERS => length >= usize::from(head.has(PADDED)) + if head.has(WITH_PRIORITY) { 5 } else { 0 },
            _ => true,
        };
        let is_right_place = match kind {
            SETTINGS | PING | GOAWAY => stream == 0,
            WINDOW_UPDATE => true,
            _ => stream != 0,
        };
        match kind {
            // A frame at a wrong place is that before all else, and the library's code is the right one.
            _ if !is_right_place => {}
            _ if !is_right_length => self.found = Some(Reason::FRAME_SIZE_ERROR),
            SETTINGS => self.look = Look::Settings { one: [0; SETTING_BYTES], seen: 0 },
            DATA => {
                if self.streams.has_ended(stream) {
                    self.found = Some(Reason::STREAM_CLOSED);
                }
                if head.has(END_STREAM) {
                    self.streams.end(stream);
                }
            }
            RST_STREAM => self.streams.end(stream),
            HEADERS | PUSH_PROMISE => self.begin_block(head),
            _ => {}
        }
    }

    fn begin_block(&mut self, head: Head) {
        let Head { length, kind, stream, .. } = head;
        let is_request = kind == HEADERS;
        let is_late = is_request && self.streams.has_ended(stream);
        let is_head = is_request && self.streams.begin(stream);
        if is_request && head.has(END_STREAM) {
            self.streams.end(stream);
        }
        self.block = Some(Block { stream, is_head, is_late });
        let before = match kind {
            HEADERS if head.has(WITH_PRIORITY) => 5,
            HEADERS => 0,
            // The stream that is promised. No client may promise one; only its fields count here.
            _ => 4,
        };
        self.look = if head.has(PADDED) {
            Look::Padding { before }
        } else {
            Look::Fields { before, left: length.saturating_sub(before) }
        };
    }

    fn look_at(&mut self, mut piece: &[u8]) {
        if let Look::Padding { before } = self.look
            && let Some((&padding, rest)) = piece.split_first()
        {
            piece = rest;
            let fields = self.cursor.head().length.checked_sub(1 + before + usize::from(padding));
            // Padding beyond the frame's end is the library's PROTOCOL_ERROR (RFC 9113 section 6.2).
            self.look = fields.map_or(Look::Nowhere, |left| Look::Fields { before, left });
        }
        match &mut self.look {
            Look::Nowhere | Look::Padding { .. } => {}
            Look::Settings { one, seen } => {
                for &byte in piece {
                    if let Some(slot) = one.get_mut(*seen) {
                        *slot = byte;
                    }
                    *seen = (*seen + 1) % SETTING_BYTES;
                    if *seen == 0 {
                        self.found = self.found.or_else(|| fault_of_setting(*one));
                    }
                }
            }
            Look::Fields { before, left } => {
                let skipped = piece.get((*before).min(piece.len())..).unwrap_or_default();
                *before -= piece.len() - skipped.len();
                let fields = skipped.get(..(*left).min(skipped.len())).unwrap_or_default();
                *left -= fields.len();
                if self.blocks.follow(fields).is_err() {
                    self.found = Some(Reason::COMPRESSION_ERROR);
                }
            }
        }
    }

    fn end_frame(&mut self) {
        let Some(block) = self.block else { return };
        let head = self.cursor.head();
        if !head.has(END_HEADERS) || !matches!(self.look, Look::Fields { .. }) {
            return;
        }
        self.block = None;
        match self.blocks.end() {
            Err(_) => self.found = Some(Reason::COMPRESSION_ERROR),
            // The library takes what is shorter.
            Ok(list_bytes) if block.is_head && list_bytes >= self.head_bytes_max => {
                self.streams.set_too_large(block.stream);
            }
            Ok(_) => {}
        }
        if block.is_late && self.found.is_none() {
            self.found = Some(Reason::STREAM_CLOSED);
        }
    }
}

/// What is wrong with a setting; the first in a frame is what the library stops at.
fn fault_of_setting([name @ .., a, b, c, d]: [u8; SETTING_BYTES]) -> Option<Reason> {
    let value = u32::from_be_bytes([a, b, c, d]);
    match u16::from_be_bytes(name) {
        INITIAL_WINDOW_SIZE if value > WINDOW_MAX => Some(Reason::FLOW_CONTROL_ERROR),
        ENABLE_PUSH | ENABLE_CONNECT_PROTOCOL if value > 1 => Some(Reason::PROTOCOL_ERROR),
        MAX_FRAME_SIZE if !(FRAME_BYTES_MAX..=ASKED_FRAME_BYTES_MAX).contains(&value) => {
            Some(Reason::PROTOCOL_ERROR)
        }
        _ => None,
    }
}
