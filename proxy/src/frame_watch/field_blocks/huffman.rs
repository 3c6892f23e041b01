//! Where symbols of Huffman code end (RFC 7541 section 5.2); what they are is of no matter here.

use super::Undecodable;

/// How many symbols have a code of so many bits (RFC 7541 appendix B). Codes of one length follow each other, and
/// those that are longer, so that these numbers tell where each code ends.
const CODES_OF_LENGTH: [u32; 31] =
    [0, 0, 0, 0, 0, 10, 26, 32, 6, 0, 5, 3, 2, 6, 2, 3, 0, 0, 0, 3, 8, 13, 26, 29, 12, 4, 15, 19, 29, 0, 4];

/// The last code of all says that a text ends, and may stand in none.
const END_OF_TEXT: (u32, usize) = ((1 << 30) - 1, 30);

/// A place in Huffman code: what of a symbol was seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Huffman {
    code: u32,
    bits: usize,
    /// The first code of as many bits.
    first: u32,
}

impl Huffman {
    /// Returns how many symbols ended.
    pub(super) fn take(&mut self, byte: u8) -> Result<usize, Undecodable> {
        let codes = |bits| CODES_OF_LENGTH.get(bits).copied().ok_or(Undecodable);
        let mut symbols = 0;
        for shift in (0..8).rev() {
            self.first = (self.first + codes(self.bits)?) << 1;
            self.code = self.code << 1 | u32::from(byte >> shift & 1);
            self.bits += 1;
            if self.code < self.first + codes(self.bits)? {
                if (self.code, self.bits) == END_OF_TEXT {
                    return Err(Undecodable);
                }
                *self = Self::default();
                symbols += 1;
            }
        }
        Ok(symbols)
    }

    /// Whether a text may end here: behind a symbol are at most seven bits, all of them 1 (RFC 7541 section 5.2).
    pub(super) fn is_filled_up(&self) -> bool {
        self.bits < 8 && self.code == (1 << self.bits) - 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_of_texts_is_complete() {
        assert_eq!(CODES_OF_LENGTH.iter().sum::<u32>(), 257);
        let of_all: u64 =
            (0..).zip(CODES_OF_LENGTH).map(|(bits, codes)| u64::from(codes) << (30 - bits)).sum();
        assert_eq!(of_all, 1 << 30, "each sequence of bits is the beginning of some text");
    }
}
