//! Bytes as text and back, and digests.

use crate::bindings::sluicegate::policy::digest;
use crate::{Error, Result};

/// SHA-256, made by the gate.
#[must_use]
pub fn sha256(data: impl AsRef<[u8]>) -> Vec<u8> {
    digest::sha256(data.as_ref())
}

/// Bytes in lower-case hexadecimal.
#[must_use]
pub fn hex(data: impl AsRef<[u8]>) -> String {
    data.as_ref()
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 0xf])
        .map(|half| digit(half, b"0123456789abcdef"))
        .collect()
}

/// Bytes in base64, with padding (RFC 4648 section 4).
#[must_use]
pub fn base64(data: impl AsRef<[u8]>) -> String {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(data.as_ref().len().div_ceil(3) * 4);
    for group in data.as_ref().chunks(3) {
        let byte = |index: usize| group.get(index).copied().unwrap_or_default();
        let (first, second, third) = (byte(0), byte(1), byte(2));
        text.push(digit(first >> 2, ALPHABET));
        text.push(digit((first & 0b11) << 4 | second >> 4, ALPHABET));
        text.push(if group.len() > 1 { digit((second & 0xf) << 2 | third >> 6, ALPHABET) } else { '=' });
        text.push(if group.len() > 2 { digit(third & 0x3f, ALPHABET) } else { '=' });
    }
    text
}

/// Percent-encodes all but letters, digits and `-._~` (RFC 3986 section 2.3), for one part of a path or
/// a query.
#[must_use]
pub fn encode_uri(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(byte.into());
        } else {
            encoded.push('%');
            encoded.push(digit(byte >> 4, b"0123456789ABCDEF"));
            encoded.push(digit(byte & 0xf, b"0123456789ABCDEF"));
        }
    }
    encoded
}

/// The same the other way. What is no encoding stays as it is.
///
/// # Errors
/// The result is not UTF-8.
pub fn decode_uri(text: &str) -> Result<String> {
    String::from_utf8(decode(text.as_bytes()))
        .map_err(|_| Error::Invalid("what is percent-encoded is not UTF-8".to_owned()))
}

/// As a form is decoded: `+` is a space, and what is not UTF-8 is replaced.
pub(crate) fn decode_form(text: &str) -> String {
    String::from_utf8_lossy(&decode(text.replace('+', " ").as_bytes())).into_owned()
}

fn decode(text: &[u8]) -> Vec<u8> {
    let half = |digit: u8| char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok());
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        let encoded = match after {
            [high, low, ..] if *first == b'%' => half(*high).zip(half(*low)),
            _ => None,
        };
        match encoded {
            Some((high, low)) => {
                decoded.push(high << 4 | low);
                rest = after.get(2..).unwrap_or_default();
            }
            None => decoded.push(*first),
        }
    }
    decoded
}

fn digit(value: u8, alphabet: &[u8]) -> char {
    alphabet.get(usize::from(value)).copied().map_or('?', char::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hexadecimal() {
        assert_eq!(hex([0x00, 0x0f, 0xf0, 0xff]), "000ff0ff");
    }

    #[test]
    fn base64_is_that_of_the_standard() {
        // RFC 4648 section 10.
        let all = [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("foobar", "Zm9vYmFy"),
        ];
        for (data, text) in all {
            assert_eq!(base64(data), text);
        }
        assert_eq!(base64([0xff, 0xfe, 0xfd]), "//79");
    }

    #[test]
    fn percent_encoding_goes_both_ways() {
        let text = "a b/ü?%2F-._~";
        assert_eq!(encode_uri(text), "a%20b%2F%C3%BC%3F%252F-._~");
        assert_eq!(decode_uri(&encode_uri(text)), Ok(text.to_owned()));
    }

    #[test]
    fn what_is_no_encoding_stays() {
        assert_eq!(decode_uri("100%, %zz %4"), Ok("100%, %zz %4".to_owned()));
        assert!(decode_uri("%ff").is_err());
        assert_eq!(decode_form("a+b%2B"), "a b+");
    }
}
