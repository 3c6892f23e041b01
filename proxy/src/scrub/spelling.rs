//! The ways in which a value may be spelled within a text, and whether one of them stands here.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use zeroize::Zeroizing;

/// The shortest stretch of base64 that is looked for when a value is encoded together with its
/// neighbours: a shorter one would turn up in unrelated text.
const CORE_BYTES_MIN: usize = 8;

/// How the bytes of a value are written.
#[derive(Clone, Copy, Debug)]
pub(super) enum Spelling {
    /// As they are.
    Plain,
    /// Some or all as `%XX` (RFC 3986 section 2.1), a space perhaps as `+`.
    Percent,
    /// As the inside of a JSON string (RFC 8259 section 7).
    Json,
}

/// Whether a value stands at the beginning of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// It does not.
    No,
    /// The text ends before that can be told.
    Perhaps,
    /// It does, and takes so many bytes of the text.
    Yes(usize),
}

/// One unit of a text: some bytes of what is spelled, and how many bytes of the text spell them.
enum Unit {
    /// The text ends within it.
    Cut,
    /// It spells nothing.
    Invalid,
    Byte(u8, usize),
    Character(char, usize),
}

impl Spelling {
    pub(super) const ALL: [Self; 3] = [Self::Plain, Self::Percent, Self::Json];

    /// Whether `text` begins with `value`, spelled this way.
    pub(super) fn find(self, value: &[u8], text: &[u8]) -> Found {
        if matches!(self, Self::Plain) {
            return plain(value, text);
        }
        let (mut value, mut rest) = (value, text);
        while let Some(&expected) = value.first() {
            let (matched, spent) = match self.unit(rest) {
                Unit::Cut => return Found::Perhaps,
                Unit::Invalid => return Found::No,
                Unit::Byte(b'+', spent) if expected == b' ' && matches!(self, Self::Percent) => (1, spent),
                Unit::Byte(byte, spent) if byte == expected => (1, spent),
                Unit::Byte(..) => return Found::No,
                Unit::Character(character, spent) => {
                    let mut bytes = [0; 4];
                    let bytes = character.encode_utf8(&mut bytes).as_bytes();
                    if !value.starts_with(bytes) {
                        return Found::No;
                    }
                    (bytes.len(), spent)
                }
            };
            value = value.get(matched..).unwrap_or_default();
            rest = rest.get(spent..).unwrap_or_default();
        }
        Found::Yes(text.len() - rest.len())
    }

    fn unit(self, rest: &[u8]) -> Unit {
        match (self, rest) {
            (_, []) => Unit::Cut,
            (Self::Percent, [b'%', digits @ ..]) => match hexadecimal(digits, 2) {
                Ok(Some(byte)) => u8::try_from(byte).map_or(Unit::Invalid, |byte| Unit::Byte(byte, 3)),
                Ok(None) => Unit::Cut,
                Err(NotADigit) => Unit::Invalid,
            },
            (Self::Json, [b'\\', escape @ ..]) => json_escape(escape),
            (_, [byte, ..]) => Unit::Byte(*byte, 1),
        }
    }
}

/// A value, and the base64 forms in which it may stand alone or within something longer, such as the
/// user and password of basic authentication.
pub(super) fn forms(value: &[u8]) -> Vec<Zeroizing<Vec<u8>>> {
    let mut forms = vec![Zeroizing::new(value.to_vec())];
    for engine in [&STANDARD_NO_PAD, &URL_SAFE_NO_PAD] {
        forms.push(Zeroizing::new(engine.encode(value).into_bytes()));
        for shift in 0..3 {
            let mut shifted = Zeroizing::new(vec![0; shift]);
            shifted.extend_from_slice(value);
            let encoded = Zeroizing::new(engine.encode(shifted.as_slice()));
            // Of the characters that carry six bits each, those that hold bits of the value alone.
            let own = (8 * shift).div_ceil(6)..8 * shifted.len() / 6;
            let core = encoded.as_bytes().get(own).unwrap_or_default();
            if core.len() >= CORE_BYTES_MIN {
                forms.push(Zeroizing::new(core.to_vec()));
            }
        }
    }
    forms.sort_unstable_by(|one, other| one.as_slice().cmp(other));
    forms.dedup();
    forms
}

fn plain(value: &[u8], text: &[u8]) -> Found {
    let alike = value.iter().zip(text).take_while(|(one, other)| one == other).count();
    if alike == value.len() {
        Found::Yes(alike)
    } else if alike == text.len() {
        Found::Perhaps
    } else {
        Found::No
    }
}

/// What follows a backslash.
fn json_escape(escape: &[u8]) -> Unit {
    match escape {
        [] => Unit::Cut,
        [byte @ (b'"' | b'\\' | b'/'), ..] => Unit::Byte(*byte, 2),
        [b'u', digits @ ..] => unicode_escape(digits).unwrap_or(Unit::Invalid),
        // The others stand for control characters, which no secret has.
        [..] => Unit::Invalid,
    }
}

/// What follows `\u`.
fn unicode_escape(digits: &[u8]) -> Result<Unit, NotADigit> {
    let Some(first) = hexadecimal(digits, 4)? else { return Ok(Unit::Cut) };
    if !(0xd800..0xdc00).contains(&first) {
        return Ok(char::from_u32(first).map_or(Unit::Invalid, |character| Unit::Character(character, 6)));
    }
    let second = match digits.get(4..).unwrap_or_default() {
        [] | [b'\\'] => None,
        [b'\\', b'u', digits @ ..] => hexadecimal(digits, 4)?,
        [..] => return Err(NotADigit),
    };
    Ok(match second {
        None => Unit::Cut,
        Some(second @ 0xdc00..0xe000) => {
            let character = 0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00);
            char::from_u32(character).map_or(Unit::Invalid, |character| Unit::Character(character, 12))
        }
        Some(_) => Unit::Invalid,
    })
}

struct NotADigit;

/// The value of the first `count` digits; `None` when the text ends within them.
fn hexadecimal(text: &[u8], count: usize) -> Result<Option<u32>, NotADigit> {
    let digits = text.get(..count).unwrap_or(text);
    let mut value = 0;
    for digit in digits {
        value = value << 4 | char::from(*digit).to_digit(16).ok_or(NotADigit)?;
    }
    Ok((digits.len() == count).then_some(value))
}
