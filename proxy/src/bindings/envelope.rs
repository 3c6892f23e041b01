//! How a file says more than its content: when it expires, and what its media type is.
//!
//! What needs neither is stored as it is, so that other programs can read and write it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::CONTENT_TYPE_BYTES_MAX;

/// Begins every envelope. Content that begins so by itself is put into an envelope, so that nobody
/// can have content taken for one.
const MAGIC: &[u8; 8] = b"\0sluice\x01";

/// Magic, expiry, length of the media type.
const FIXED_BYTES: usize = 8 + 8 + 1;

/// The longest envelope, in bytes.
pub(super) const ENVELOPE_BYTES_MAX: usize = FIXED_BYTES + CONTENT_TYPE_BYTES_MAX;

/// What is known of a content besides itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Envelope {
    /// When it ends, in milliseconds since 1970; 0 is never.
    pub(super) expires: u64,
    /// Its media type, where one was stated; at most 255 bytes.
    pub(super) content_type: Option<Box<str>>,
}

impl Envelope {
    /// One that lasts `ttl`, or for good.
    pub(super) fn lasting(ttl: Option<Duration>) -> Self {
        let expires = ttl.map_or(0, |ttl| now().saturating_add(milliseconds(ttl)));
        Self { expires, content_type: None }
    }

    /// What stands before a content that begins with `start`, of which it needs the first 8 bytes;
    /// empty where nothing needs to.
    pub(super) fn write(&self, start: &[u8]) -> Bytes {
        if *self == Self::default() && !start.starts_with(MAGIC) {
            return Bytes::new();
        }
        let content_type = self.content_type.as_deref().unwrap_or_default();
        let mut bytes = BytesMut::with_capacity(FIXED_BYTES + content_type.len());
        bytes.put_slice(MAGIC);
        bytes.put_u64(self.expires);
        bytes.put_u8(u8::try_from(content_type.len()).unwrap_or(u8::MAX));
        bytes.put_slice(content_type.as_bytes());
        bytes.freeze()
    }

    /// Reads the envelope at the start of a file, and how many bytes it takes: none for a content
    /// that is stored as it is.
    pub(super) fn read(start: &[u8]) -> (Self, usize) {
        Self::parse(start).unwrap_or_default()
    }

    fn parse(start: &[u8]) -> Option<(Self, usize)> {
        let mut rest = start.strip_prefix(MAGIC)?;
        let expires = rest.try_get_u64().ok()?;
        let length = usize::from(rest.try_get_u8().ok()?);
        let content_type = std::str::from_utf8(rest.get(..length)?).ok()?;
        let content_type = Some(content_type).filter(|text| !text.is_empty()).map(Box::from);
        Some((Self { expires, content_type }, FIXED_BYTES + length))
    }

    /// Whether its time is over.
    pub(super) fn is_over(&self) -> bool {
        self.expires != 0 && self.expires <= now()
    }
}

/// How many bytes decide whether a content needs an envelope.
pub(super) const START_BYTES: usize = MAGIC.len();

fn now() -> u64 {
    milliseconds(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}

/// A duration in whole milliseconds, at least one.
pub(super) fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_needs_no_envelope_gets_none() {
        assert!(Envelope::default().write(b"hello").is_empty());
        assert_eq!(Envelope::read(b"hello"), (Envelope::default(), 0));
        assert_eq!(Envelope::read(b""), (Envelope::default(), 0));
    }

    #[test]
    fn an_envelope_is_read_as_written() {
        for envelope in [
            Envelope { expires: 7, content_type: None },
            Envelope { expires: 0, content_type: Some("text/plain".into()) },
            Envelope { expires: u64::MAX, content_type: Some("x".repeat(255).into()) },
        ] {
            let written = [&envelope.write(b"hello")[..], b"hello"].concat();
            let (read, length) = Envelope::read(&written);
            assert_eq!(read, envelope);
            assert_eq!(&written[length..], b"hello");
            assert!(length <= ENVELOPE_BYTES_MAX);
        }
    }

    #[test]
    fn content_that_looks_like_an_envelope_stays_content() {
        let hostile = Envelope { expires: 1, content_type: Some("text/html".into()) }.write(b"");
        let written = [&Envelope::default().write(&hostile)[..], &hostile].concat();
        let (read, length) = Envelope::read(&written);
        assert_eq!(read, Envelope::default());
        assert_eq!(&written[length..], &hostile[..]);
    }

    #[test]
    fn a_torn_envelope_is_content() {
        let whole = Envelope { expires: 1, content_type: Some("text/html".into()) }.write(b"");
        for length in 0..whole.len() {
            assert_eq!(Envelope::read(&whole[..length]), (Envelope::default(), 0), "{length}");
        }
    }

    #[test]
    fn time_ends_what_has_an_end() {
        assert!(!Envelope::default().is_over());
        assert!(!Envelope::lasting(None).is_over());
        assert!(!Envelope::lasting(Some(Duration::from_secs(60))).is_over());
        assert!(Envelope { expires: 1, content_type: None }.is_over());
    }
}
