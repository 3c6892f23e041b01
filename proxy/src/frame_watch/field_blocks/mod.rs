//! Follows HPACK (RFC 7541) as far as lengths go: whether a block of fields can be decoded, and how large its
//! list is.
//!
//! The h2 library says PROTOCOL_ERROR of a block that cannot be decoded and of a field that may not be, which are
//! two things (RFC 9113 sections 4.3 and 8.2.1). What fields say is not looked at here: texts are counted.

mod huffman;
mod static_table;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use huffman::Huffman;
use static_table::STATIC_TABLE;

/// What a field counts beside its two texts, in the table (RFC 7541 section 4.1) and in a list (RFC 9113
/// section 6.5.2).
const FIELD_OVERHEAD: usize = 32;

/// How large the workload's table may be: what holds where our SETTINGS say nothing (RFC 9113 section 6.5.2).
const TABLE_BYTES_MAX: usize = 4096;

/// The longest integer that the library takes; there are no longer ones that mean anything here (RFC 7541
/// section 5.1).
const INTEGER_BYTES_MAX: u32 = 5;

/// A block that the RFC gives no meaning to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Undecodable;

/// How long a field's texts are.
#[derive(Clone, Copy, Debug)]
struct Field {
    name: usize,
    value: usize,
}

impl Field {
    fn bytes(self) -> usize {
        self.name.saturating_add(self.value).saturating_add(FIELD_OVERHEAD)
    }
}

/// One of a field's texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Text {
    Name,
    Value,
}

/// What an integer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Integer {
    /// The index of a whole field.
    Field,
    /// The index of a name, or 0 where the name is a text.
    Name,
    /// How many bytes a text has, and whether they are Huffman code.
    Length(Text, bool),
    /// A new size of the table.
    TableSize,
}

/// What the next byte belongs to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Step {
    /// A field begins.
    #[default]
    Field,
    /// A text begins.
    Text(Text),
    /// An integer goes on.
    Integer { of: Integer, value: u32, bytes: u32 },
    /// A text goes on: bytes left, and its length as decoded.
    Within { text: Text, left: usize, length: usize, huffman: Option<Huffman> },
}

/// All blocks of one direction of a connection, which share a table.
#[derive(Debug)]
pub(super) struct FieldBlocks {
    /// The latest comes first.
    table: VecDeque<Field>,
    table_bytes: usize,
    table_bytes_max: usize,
    step: Step,
    /// Of the field that is under way.
    name: usize,
    goes_into_table: bool,
    /// Of the block so far.
    list_bytes: usize,
    has_field: bool,
    /// After a block that has no meaning the table has none either.
    is_lost: bool,
}

impl Default for FieldBlocks {
    fn default() -> Self {
        Self {
            table: VecDeque::new(),
            table_bytes: 0,
            table_bytes_max: TABLE_BYTES_MAX,
            step: Step::Field,
            name: 0,
            goes_into_table: false,
            list_bytes: 0,
            has_field: false,
            is_lost: false,
        }
    }
}

impl FieldBlocks {
    /// Takes more of a block.
    ///
    /// # Errors
    /// [`Undecodable`], once; whatever comes then is not looked at.
    pub(super) fn follow(&mut self, mut bytes: &[u8]) -> Result<(), Undecodable> {
        while !self.is_lost
            && let Some((&byte, rest)) = bytes.split_first()
        {
            let taken = if let Step::Within { left, .. } = self.step {
                let (piece, rest) = bytes.split_at(left.min(bytes.len()));
                bytes = rest;
                self.go_on(piece)
            } else {
                bytes = rest;
                self.take(byte)
            };
            if taken.is_err() {
                self.is_lost = true;
                return taken;
            }
        }
        Ok(())
    }

    /// Ends the block. Returns how large its list of fields is (RFC 9113 section 6.5.2).
    ///
    /// # Errors
    /// [`Undecodable`] where it ends in the midst of a field.
    pub(super) fn end(&mut self) -> Result<usize, Undecodable> {
        self.has_field = false;
        let list_bytes = std::mem::take(&mut self.list_bytes);
        if !self.is_lost && self.step != Step::Field {
            self.is_lost = true;
            return Err(Undecodable);
        }
        Ok(list_bytes)
    }

    fn take(&mut self, byte: u8) -> Result<(), Undecodable> {
        match self.step {
            Step::Field => self.begin(byte),
            Step::Text(text) => self.integer(Integer::Length(text, byte & 0x80 != 0), byte, 7),
            Step::Integer { of, value, bytes } => {
                let value = value + (u32::from(byte & 0x7f) << (7 * (bytes - 1)));
                let bytes = bytes + 1;
                if byte & 0x80 == 0 {
                    return self.known(of, value as usize);
                }
                self.step = Step::Integer { of, value, bytes };
                if bytes < INTEGER_BYTES_MAX { Ok(()) } else { Err(Undecodable) }
            }
            Step::Within { .. } => Ok(()),
        }
    }

    /// The kinds of fields, and what else begins like one (RFC 7541 section 6).
    fn begin(&mut self, byte: u8) -> Result<(), Undecodable> {
        if byte & 0xe0 == 0x20 {
            return self.integer(Integer::TableSize, byte, 5);
        }
        self.has_field = true;
        self.goes_into_table = byte & 0xc0 == 0x40;
        match byte {
            0x80.. => self.integer(Integer::Field, byte, 7),
            0x40.. => self.integer(Integer::Name, byte, 6),
            _ => self.integer(Integer::Name, byte, 4),
        }
    }

    fn integer(&mut self, of: Integer, byte: u8, prefix_bits: u32) -> Result<(), Undecodable> {
        let all = (1 << prefix_bits) - 1;
        let value = u32::from(byte) & all;
        if value < all {
            return self.known(of, value as usize);
        }
        self.step = Step::Integer { of, value, bytes: 1 };
        Ok(())
    }

    fn known(&mut self, of: Integer, value: usize) -> Result<(), Undecodable> {
        self.step = match of {
            Integer::Field => {
                let field = self.entry(value)?;
                self.list_bytes = self.list_bytes.saturating_add(field.bytes());
                Step::Field
            }
            Integer::Name if value == 0 => Step::Text(Text::Name),
            Integer::Name => {
                self.name = self.entry(value)?.name;
                Step::Text(Text::Value)
            }
            Integer::Length(text, _) if value == 0 => self.end_text(text, 0),
            Integer::Length(text, is_huffman) => {
                let huffman = is_huffman.then(Huffman::default);
                Step::Within { text, left: value, length: 0, huffman }
            }
            // A size stands before all fields (RFC 7541 section 4.2).
            Integer::TableSize if self.has_field || value > TABLE_BYTES_MAX => return Err(Undecodable),
            Integer::TableSize => {
                self.table_bytes_max = value;
                self.make_room(0);
                Step::Field
            }
        };
        Ok(())
    }

    fn go_on(&mut self, piece: &[u8]) -> Result<(), Undecodable> {
        let Step::Within { text, mut left, mut length, mut huffman } = self.step else { return Ok(()) };
        left -= piece.len();
        match &mut huffman {
            Some(huffman) => {
                for &byte in piece {
                    length += huffman.take(byte)?;
                }
                if left == 0 && !huffman.is_filled_up() {
                    return Err(Undecodable);
                }
            }
            None => length += piece.len(),
        }
        self.step = match left {
            0 => self.end_text(text, length),
            _ => Step::Within { text, left, length, huffman },
        };
        Ok(())
    }

    fn end_text(&mut self, text: Text, length: usize) -> Step {
        if text == Text::Name {
            self.name = length;
            return Step::Text(Text::Value);
        }
        let field = Field { name: self.name, value: length };
        self.list_bytes = self.list_bytes.saturating_add(field.bytes());
        if self.goes_into_table {
            self.make_room(field.bytes());
            // One that is larger than the table empties it (RFC 7541 section 4.4).
            if field.bytes() <= self.table_bytes_max {
                self.table_bytes += field.bytes();
                self.table.push_front(field);
            }
        }
        Step::Field
    }

    fn make_room(&mut self, bytes: usize) {
        while self.table_bytes.saturating_add(bytes) > self.table_bytes_max
            && let Some(oldest) = self.table.pop_back()
        {
            self.table_bytes -= oldest.bytes();
        }
    }

    fn entry(&self, index: usize) -> Result<Field, Undecodable> {
        let index = index.checked_sub(1).ok_or(Undecodable)?;
        if let Some(&(name, value)) = STATIC_TABLE.get(index) {
            return Ok(Field { name: name.len(), value: value.len() });
        }
        self.table.get(index - STATIC_TABLE.len()).copied().ok_or(Undecodable)
    }
}
