//! Where one WebSocket frame ends and the next begins (RFC 6455 section 5.2), and the frame that ends a
//! WebSocket. Pure; reads no payload.

/// The longest head of a frame: two bytes, eight of length, four of mask.
pub(super) const HEAD_BYTES_MAX: usize = 14;

/// Follows the frames of one direction.
#[derive(Debug, Default)]
pub(super) struct Frames {
    state: State,
    has_closed: bool,
}

#[derive(Debug)]
enum State {
    /// In a head, of which so many bytes are known; with none of them, between two frames.
    Head { known: [u8; HEAD_BYTES_MAX], length: usize },
    /// In a payload, of which so much is to come; never 0.
    Payload { rest: u64, is_close: bool },
    /// A length that no frame has: what follows can be anything.
    Lost,
}

impl Default for State {
    fn default() -> Self {
        Self::Head { known: [0; HEAD_BYTES_MAX], length: 0 }
    }
}

impl Frames {
    /// Takes bytes up to the end of the frame that they are in, and says how many these were.
    pub(super) fn advance(&mut self, bytes: &[u8]) -> usize {
        for (index, &byte) in bytes.iter().enumerate() {
            match &mut self.state {
                State::Lost => break,
                State::Payload { rest, is_close } => {
                    let here = bytes.len() - index;
                    let here = usize::try_from(*rest).map_or(here, |rest| rest.min(here));
                    *rest -= here as u64;
                    if *rest == 0 {
                        self.has_closed |= *is_close;
                        self.state = State::default();
                    }
                    return index + here;
                }
                State::Head { known, length } => {
                    if let Some(place) = known.get_mut(*length) {
                        *place = byte;
                    }
                    *length += 1;
                    let Some(head) = Head::read(known.get(..*length).unwrap_or_default()) else { continue };
                    self.state = match head.payload {
                        None => State::Lost,
                        Some(0) => {
                            self.has_closed |= head.is_close;
                            State::default()
                        }
                        Some(rest) => State::Payload { rest, is_close: head.is_close },
                    };
                    if self.is_between() {
                        return index + 1;
                    }
                }
            }
        }
        bytes.len()
    }

    /// Takes all of these bytes.
    pub(super) fn pass(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            bytes = bytes.get(self.advance(bytes)..).unwrap_or_default();
        }
    }

    /// Whether a frame of ours may stand here.
    pub(super) fn is_between(&self) -> bool {
        matches!(self.state, State::Head { length: 0, .. })
    }

    /// Whether what passes is not WebSocket, so that no frame of ours may stand anywhere.
    pub(super) fn is_lost(&self) -> bool {
        matches!(self.state, State::Lost)
    }

    /// Whether a Close frame has passed, after which no other may (RFC 6455 section 5.5.1).
    pub(super) fn has_closed(&self) -> bool {
        self.has_closed
    }
}

/// What the head of a frame says.
struct Head {
    is_close: bool,
    /// The payload's length in bytes; `None` for one that no frame has.
    payload: Option<u64>,
}

impl Head {
    /// Reads a head; `None` while it is incomplete.
    fn read(known: &[u8]) -> Option<Self> {
        let (&[first, second], rest) = known.split_first_chunk()?;
        let (length, rest) = match second & 0x7f {
            126 => {
                let (length, rest) = rest.split_first_chunk()?;
                (u64::from(u16::from_be_bytes(*length)), rest)
            }
            127 => {
                let (length, rest) = rest.split_first_chunk()?;
                (u64::from_be_bytes(*length), rest)
            }
            length => (u64::from(length), rest),
        };
        if second & 0x80 != 0 && rest.len() < 4 {
            return None;
        }
        // The first bit of a length of eight bytes is never set.
        Some(Self { is_close: first & 0x0f == 0x8, payload: (length >> 63 == 0).then_some(length) })
    }
}

/// A Close frame with this code. What goes towards a server is masked (RFC 6455 section 5.3).
pub(super) fn close_frame(code: u16, mask: Option<[u8; 4]>) -> Vec<u8> {
    let code = code.to_be_bytes();
    let mut frame = vec![0x88, 2];
    match mask {
        None => frame.extend(code),
        Some(mask) => {
            frame = vec![0x88, 0x80 | 2];
            frame.extend(mask);
            frame.extend(code.iter().zip(mask).map(|(byte, mask)| byte ^ mask));
        }
    }
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame with `length` bytes of payload that look like the heads of others.
    fn frame(opcode: u8, length: usize, masked: bool) -> Vec<u8> {
        let mask_bit = if masked { 0x80 } else { 0 };
        let mut bytes = vec![opcode];
        match length {
            0..=125 => bytes.push(mask_bit | u8::try_from(length).unwrap()),
            126..=0xffff => {
                bytes.push(mask_bit | 126);
                bytes.extend(u16::try_from(length).unwrap().to_be_bytes());
            }
            _ => {
                bytes.push(mask_bit | 127);
                bytes.extend((length as u64).to_be_bytes());
            }
        }
        bytes.extend(if masked { &[1, 2, 3, 4][..] } else { &[] });
        bytes.resize(bytes.len() + length, 0x88);
        bytes
    }

    /// A conversation with every kind of head, and where its frames end.
    fn conversation() -> (Vec<u8>, Vec<usize>) {
        let lengths = [0, 1, 125, 126, 127, 300, 0xffff, 0x1_0000];
        let (mut bytes, mut ends) = (Vec::new(), Vec::new());
        for masked in [false, true] {
            for length in lengths {
                bytes.extend(frame(0x81, length, masked));
                ends.push(bytes.len());
            }
        }
        (bytes, ends)
    }

    #[test]
    fn every_prefix_ends_between_two_frames_or_within_one() {
        let (bytes, ends) = conversation();
        let mut frames = Frames::default();
        for (index, byte) in bytes.iter().enumerate() {
            assert_eq!(frames.advance(&[*byte]), 1);
            assert_eq!(frames.is_between(), ends.contains(&(index + 1)), "after {} bytes", index + 1);
        }
        assert!(!frames.has_closed() && !frames.is_lost());
    }

    #[test]
    fn however_it_is_cut_the_next_end_is_found() {
        let (bytes, ends) = conversation();
        // Linear congruential, so that the cuts are the same in every run (Knuth, MMIX).
        let mut seed: u64 = 7;
        let mut random = move || {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            usize::try_from(seed >> 40).unwrap()
        };
        for _ in 0..500 {
            let (mut frames, mut at) = (Frames::default(), 0);
            while at < bytes.len() {
                let end = (at + 1 + random() % 70_000).min(bytes.len());
                let taken = frames.advance(&bytes[at..end]);
                let next = *ends.iter().find(|end| **end > at).unwrap();
                assert_eq!(at + taken, next.min(end));
                at += taken;
                assert_eq!(frames.is_between(), at == next);
            }
        }
    }

    #[test]
    fn a_close_is_seen_when_all_of_it_has_passed() {
        for masked in [false, true] {
            for length in [0, 2, 60] {
                let close = frame(0x88, length, masked);
                let mut frames = Frames::default();
                frames.pass(&close[..close.len() - 1]);
                assert!(!frames.has_closed());
                frames.pass(&close[close.len() - 1..]);
                assert!(frames.has_closed() && frames.is_between());
            }
        }
        let mut frames = Frames::default();
        frames.pass(&frame(0x89, 8, true));
        assert!(!frames.has_closed());
    }

    #[test]
    fn what_is_no_frame_is_never_taken_for_the_end_of_one() {
        let mut frames = Frames::default();
        frames.pass(&[0x82, 127, 0x80, 0, 0, 0, 0, 0, 0, 0]);
        assert!(frames.is_lost());
        frames.pass(&[0; 100]);
        assert!(frames.is_lost() && !frames.is_between());
    }

    #[test]
    fn our_own_close_is_one_frame_and_masked_where_it_must_be() {
        assert_eq!(close_frame(1012, None), [0x88, 0x02, 0x03, 0xf4]);
        assert_eq!(close_frame(1012, Some([1, 2, 3, 4])), [0x88, 0x82, 1, 2, 3, 4, 0x02, 0xf6]);
        for mask in [None, Some([9, 8, 7, 6])] {
            let mut frames = Frames::default();
            frames.pass(&close_frame(1001, mask));
            assert!(frames.has_closed() && frames.is_between());
        }
    }
}
