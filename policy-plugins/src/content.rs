//! What a file of a handler holds, with the SHA-256 that names it; shared by all who need it.

use std::fmt;
use std::ops::Deref;
use std::sync::{Arc, Weak};

use crate::digest::Digest;

/// The bytes of a file. A copy is the same bytes; their SHA-256 is taken once, because for a component with an
/// interpreter in it that takes longer than all else that is loaded already.
#[derive(Clone)]
pub struct Content(Arc<Held>);

/// A [`Content`] as long as somebody else has it.
#[derive(Clone)]
pub struct WeakContent(Weak<Held>);

struct Held {
    bytes: Box<[u8]>,
    digest: Digest,
}

impl Content {
    /// SHA-256 of the bytes: two with the same are the same.
    #[must_use]
    pub fn sha256(&self) -> [u8; 32] {
        self.digest().bytes()
    }

    /// The same in hexadecimal, 64 lowercase digits.
    #[must_use]
    pub fn sha256_hex(&self) -> String {
        self.digest().hex()
    }

    /// This content, which does not keep the bytes.
    #[must_use]
    pub fn downgrade(&self) -> WeakContent {
        WeakContent(Arc::downgrade(&self.0))
    }

    pub(crate) fn digest(&self) -> &Digest {
        &self.0.digest
    }
}

impl WeakContent {
    /// The bytes, if somebody has them.
    #[must_use]
    pub fn upgrade(&self) -> Option<Content> {
        self.0.upgrade().map(Content)
    }
}

impl From<Vec<u8>> for Content {
    fn from(bytes: Vec<u8>) -> Self {
        let digest = Digest::of(&bytes);
        Self(Arc::new(Held { bytes: bytes.into(), digest }))
    }
}

impl From<&[u8]> for Content {
    fn from(bytes: &[u8]) -> Self {
        bytes.to_vec().into()
    }
}

impl From<String> for Content {
    fn from(text: String) -> Self {
        text.into_bytes().into()
    }
}

impl Deref for Content {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0.bytes
    }
}

impl PartialEq for Content {
    fn eq(&self, other: &Self) -> bool {
        self.digest() == other.digest()
    }
}

impl Eq for Content {}

impl fmt::Debug for Content {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Content({}, {} bytes)", self.digest().short(), self.len())
    }
}

impl fmt::Debug for WeakContent {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("WeakContent")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_content_is_known_by_its_sum_as_long_as_somebody_has_it() {
        let content = Content::from(b"abc".to_vec());
        assert_eq!(content, Content::from(String::from("abc")));
        assert_ne!(content, Content::from(&b"abd"[..]));
        // The example of FIPS 180-4.
        assert_eq!(content.sha256()[..4], [0xba, 0x78, 0x16, 0xbf]);
        let hex = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(content.sha256_hex(), hex);
        assert_eq!(format!("{content:?}"), "Content(ba7816bf8f01, 3 bytes)");
        let weak = content.downgrade();
        assert_eq!(weak.upgrade().as_deref(), Some(&b"abc"[..]));
        drop(content);
        assert!(weak.upgrade().is_none());
    }
}
