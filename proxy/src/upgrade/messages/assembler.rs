//! From the frames of one direction of a WebSocket to its messages (RFC 6455 section 5), and back: one frame
//! for each. Pure.
//!
//! **Invariant:** what breaks the RFC is an error and never a message, no extension being agreed on; nothing is
//! held of a payload that is longer than a message may be.

use std::sync::Arc;

use bytes::Bytes;
use sluicegate_policy::MessageContent;

use super::super::frames::HEAD_BYTES_MAX;

/// The longest payload of a control frame, in bytes (RFC 6455 section 5.5).
const CONTROL_BYTES_MAX: usize = 125;

/// What a frame is for (RFC 6455 section 11.8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Opcode {
    Continuation,
    Text,
    Binary,
    Close,
    Ping,
    Pong,
}

/// What comes out of the frames, in their order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// A message is whole.
    Message(MessageContent),
    /// A control frame, with its payload.
    Control(Opcode, Vec<u8>),
}

/// Why a direction cannot be read any more. The code is the one to close with (RFC 6455 section 7.4.1).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Violation {
    #[error("a frame breaks RFC 6455: {0}")]
    Frame(&'static str),
    #[error("a text that is not UTF-8")]
    NotText,
    #[error("longer than {0} bytes (body_bytes of [handler_limits])")]
    TooLong(usize),
}

impl Violation {
    /// The code of the Close frame that says so.
    pub(super) fn code(&self) -> u16 {
        match self {
            Self::Frame(_) => 1002,
            Self::NotText => 1007,
            Self::TooLong(_) => 1009,
        }
    }
}

/// Puts the messages of one direction together.
#[derive(Debug)]
pub(super) struct Assembler {
    /// Whether each frame must be masked, as what a client sends, or none.
    is_masked: bool,
    /// The longest message, in bytes.
    bytes_max: usize,
    state: State,
    /// What a message is, and what is known of it, once its first frame has begun.
    message: Option<(Opcode, Vec<u8>)>,
    /// The payload of the control frame that is on its way.
    control: Vec<u8>,
}

#[derive(Debug)]
enum State {
    /// In a head, of which so many bytes are known.
    Head { known: [u8; HEAD_BYTES_MAX], length: usize },
    /// In a payload, of which so much is to come and so much was there.
    Payload { head: Head, rest: usize, seen: usize },
}

/// What the head of a frame says.
#[derive(Clone, Copy, Debug)]
struct Head {
    is_final: bool,
    opcode: Opcode,
    mask: Option<[u8; 4]>,
    length: u64,
}

impl Default for State {
    fn default() -> Self {
        Self::Head { known: [0; HEAD_BYTES_MAX], length: 0 }
    }
}

impl Assembler {
    /// For what a client sends, which is masked, or for what a server does.
    pub(super) fn new(is_masked: bool, bytes_max: usize) -> Self {
        Self { is_masked, bytes_max, state: State::default(), message: None, control: Vec::new() }
    }

    /// Takes bytes up to the next event, and says how many these were: all of them where there is none yet.
    ///
    /// # Errors
    /// They are not WebSocket, or too much of it; what follows cannot be read.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Result<(usize, Option<Event>), Violation> {
        let mut taken = 0;
        while let Some(rest) = bytes.get(taken..).filter(|rest| !rest.is_empty()) {
            let (here, event) = self.step(rest)?;
            taken += here;
            if event.is_some() {
                return Ok((taken, event));
            }
        }
        Ok((taken, None))
    }

    /// How many bytes the message that is on its way takes in memory.
    pub(super) fn held(&self) -> usize {
        self.message.as_ref().map_or(0, |(_, payload)| payload.capacity())
    }

    fn step(&mut self, bytes: &[u8]) -> Result<(usize, Option<Event>), Violation> {
        match &mut self.state {
            State::Head { known, length } => {
                let Some(byte) = bytes.first() else { return Ok((0, None)) };
                if let Some(place) = known.get_mut(*length) {
                    *place = *byte;
                }
                *length += 1;
                let head = Head::read(known.get(..*length).unwrap_or_default(), self.is_masked)?;
                let Some(head) = head else { return Ok((1, None)) };
                let rest = self.begin(head)?;
                self.state = State::Payload { head, rest, seen: 0 };
                let event = if rest == 0 { self.end(head)? } else { None };
                Ok((1, event))
            }
            State::Payload { head, rest, seen } => {
                let here = bytes.get(..bytes.len().min(*rest)).unwrap_or_default();
                let payload = match (&mut self.message, head.opcode.is_control()) {
                    (Some((_, payload)), false) => payload,
                    _ => &mut self.control,
                };
                match head.mask {
                    Some(mask) => {
                        let mask = mask.iter().cycle().skip(*seen % mask.len());
                        payload.extend(here.iter().zip(mask).map(|(byte, mask)| byte ^ mask));
                    }
                    None => payload.extend_from_slice(here),
                }
                *seen += here.len();
                *rest -= here.len();
                let (head, taken) = (*head, here.len());
                let event = if *rest == 0 { self.end(head)? } else { None };
                Ok((taken, event))
            }
        }
    }

    /// A frame begins: whether it may stand here, and how long its payload is.
    fn begin(&mut self, head: Head) -> Result<usize, Violation> {
        let too_long = Violation::TooLong(self.bytes_max);
        let length = usize::try_from(head.length).map_err(|_| too_long.clone())?;
        if head.opcode.is_control() {
            return Ok(length);
        }
        let held = match (&self.message, head.opcode) {
            (Some((_, payload)), Opcode::Continuation) => payload.len(),
            (None, Opcode::Continuation) => {
                return Err(Violation::Frame("it goes on with a message that has not begun"));
            }
            (Some(_), _) => return Err(Violation::Frame("a message begins within another")),
            (None, opcode) => {
                self.message = Some((opcode, Vec::new()));
                0
            }
        };
        if held.saturating_add(length) > self.bytes_max {
            return Err(too_long);
        }
        Ok(length)
    }

    /// A frame is whole.
    fn end(&mut self, head: Head) -> Result<Option<Event>, Violation> {
        self.state = State::default();
        if head.opcode.is_control() {
            let payload = std::mem::take(&mut self.control);
            if head.opcode == Opcode::Close && payload.len() == 1 {
                return Err(Violation::Frame("a Close with half a code"));
            }
            return Ok(Some(Event::Control(head.opcode, payload)));
        }
        if !head.is_final {
            return Ok(None);
        }
        let Some((opcode, payload)) = self.message.take() else { return Ok(None) };
        let content = match opcode {
            Opcode::Text => {
                let text = String::from_utf8(payload).map_err(|_| Violation::NotText)?;
                MessageContent::Text(Arc::from(text))
            }
            _ => MessageContent::Binary(Bytes::from(payload)),
        };
        Ok(Some(Event::Message(content)))
    }
}

impl Opcode {
    fn read(first: u8) -> Result<Self, Violation> {
        Ok(match first & 0x0f {
            0x0 => Self::Continuation,
            0x1 => Self::Text,
            0x2 => Self::Binary,
            0x8 => Self::Close,
            0x9 => Self::Ping,
            0xa => Self::Pong,
            _ => return Err(Violation::Frame("its opcode is not known")),
        })
    }

    fn bits(self) -> u8 {
        match self {
            Self::Continuation => 0x0,
            Self::Text => 0x1,
            Self::Binary => 0x2,
            Self::Close => 0x8,
            Self::Ping => 0x9,
            Self::Pong => 0xa,
        }
    }

    fn is_control(self) -> bool {
        self.bits() & 0x8 != 0
    }

    /// That of a message.
    pub(super) fn of(content: &MessageContent) -> Self {
        match content {
            MessageContent::Text(_) => Self::Text,
            MessageContent::Binary(_) => Self::Binary,
        }
    }
}

impl Head {
    /// Reads a head; `None` while it is incomplete. Its first two bytes are judged as soon as they are there.
    fn read(known: &[u8], is_masked: bool) -> Result<Option<Self>, Violation> {
        let Some((&[first, second], rest)) = known.split_first_chunk() else { return Ok(None) };
        if first & 0x70 != 0 {
            return Err(Violation::Frame("it has bits of an extension, and none was agreed on"));
        }
        let (is_final, opcode) = (first & 0x80 != 0, Opcode::read(first)?);
        if (second & 0x80 != 0) != is_masked {
            return Err(Violation::Frame(if is_masked { "it is not masked" } else { "it is masked" }));
        }
        let short = second & 0x7f;
        if opcode.is_control() && (!is_final || usize::from(short) > CONTROL_BYTES_MAX) {
            return Err(Violation::Frame("a control frame in pieces, or of more than 125 bytes"));
        }
        let (length, least, rest) = match short {
            126 => {
                let Some((length, rest)) = rest.split_first_chunk() else { return Ok(None) };
                (u64::from(u16::from_be_bytes(*length)), 126, rest)
            }
            127 => {
                let Some((length, rest)) = rest.split_first_chunk() else { return Ok(None) };
                (u64::from_be_bytes(*length), 0x1_0000, rest)
            }
            short => (u64::from(short), 0, rest),
        };
        if length < least || length >> 63 != 0 {
            return Err(Violation::Frame("its length is not written as lengths are"));
        }
        let mask = match (is_masked, rest.first_chunk()) {
            (true, None) => return Ok(None),
            (true, Some(mask)) => Some(*mask),
            (false, _) => None,
        };
        Ok(Some(Self { is_final, opcode, mask, length }))
    }
}

/// One whole frame. What goes towards a server is masked (RFC 6455 section 5.3).
pub(super) fn frame(opcode: Opcode, payload: &[u8], mask: Option<[u8; 4]>) -> Vec<u8> {
    let mut frame = Vec::with_capacity(payload.len() + HEAD_BYTES_MAX);
    frame.push(0x80 | opcode.bits());
    let is_masked = if mask.is_some() { 0x80 } else { 0 };
    match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
        (Ok(short @ 0..126), _) => frame.push(is_masked | short),
        (_, Ok(length)) => {
            frame.push(is_masked | 126);
            frame.extend(length.to_be_bytes());
        }
        _ => {
            frame.push(is_masked | 127);
            frame.extend((payload.len() as u64).to_be_bytes());
        }
    }
    match mask {
        None => frame.extend_from_slice(payload),
        Some(mask) => {
            frame.extend(mask);
            frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        }
    }
    frame
}

#[cfg(test)]
mod tests;
