//! Where one frame of HTTP/2 ends and the next begins, wherever the bytes are cut (RFC 9113 section 4.1).

/// A frame's head, in bytes.
const HEAD_BYTES: usize = 9;

// Types and flags of frames (RFC 9113 section 6).
pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const PRIORITY: u8 = 2;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PUSH_PROMISE: u8 = 5;
pub(super) const PING: u8 = 6;
pub(super) const GOAWAY: u8 = 7;
pub(super) const WINDOW_UPDATE: u8 = 8;
pub(super) const CONTINUATION: u8 = 9;
pub(super) const ACK: u8 = 1;
pub(super) const END_STREAM: u8 = 1;
pub(super) const END_HEADERS: u8 = 4;
pub(super) const PADDED: u8 = 8;
pub(super) const WITH_PRIORITY: u8 = 32;

/// What a frame says of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) length: usize,
    pub(super) kind: u8,
    flags: u8,
    pub(super) stream: u32,
}

impl Head {
    pub(super) fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// What the next bytes are.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece<'bytes> {
    /// Of a head that is not whole yet.
    Cut,
    /// The end of a head: the frame begins that it describes. It ends as well where its length is 0.
    Head(Head),
    /// Some of the payload, or all of it; a payload is never empty here.
    Payload(&'bytes [u8]),
}

/// A place in the frames of one direction.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Cursor {
    head: [u8; HEAD_BYTES],
    /// How much of the head was seen.
    seen: usize,
    /// How much of the payload behind it was not.
    left: usize,
}

impl Cursor {
    /// Takes the next piece off `bytes`, which are not empty.
    pub(super) fn next<'bytes>(&mut self, bytes: &mut &'bytes [u8]) -> Piece<'bytes> {
        if self.is_at_end() {
            self.seen = 0;
        }
        let Some(slot) = self.head.get_mut(self.seen..).filter(|slot| !slot.is_empty()) else {
            let (piece, rest) = bytes.split_at(self.left.min(bytes.len()));
            self.left -= piece.len();
            *bytes = rest;
            return Piece::Payload(piece);
        };
        let (piece, rest) = bytes.split_at(slot.len().min(bytes.len()));
        if let Some(slot) = slot.get_mut(..piece.len()) {
            slot.copy_from_slice(piece);
        }
        self.seen += piece.len();
        *bytes = rest;
        if self.seen < HEAD_BYTES {
            return Piece::Cut;
        }
        let head = self.head();
        self.left = head.length;
        Piece::Head(head)
    }

    /// The frame that the last piece was of.
    pub(super) fn head(&self) -> Head {
        let [high, middle, low, kind, flags, stream @ ..] = self.head;
        Head {
            length: u32::from_be_bytes([0, high, middle, low]) as usize,
            kind,
            flags,
            // Its first bit says nothing.
            stream: u32::from_be_bytes(stream) & (u32::MAX >> 1),
        }
    }

    /// How much of its payload was seen.
    pub(super) fn within(&self) -> usize {
        self.head().length - self.left
    }

    /// Whether the last piece was the last one of its frame.
    pub(super) fn is_at_end(&self) -> bool {
        self.seen == HEAD_BYTES && self.left == 0
    }
}
