//! The start of a body that passes, kept for the log.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::ser::{Serialize, SerializeMap, Serializer};

use crate::scrub::Scrubber;

/// Bytes of a body that are kept at most: what a person reads of a log, and no whole download.
pub const TAP_BYTES_MAX: usize = 64 * 1024;

/// Shared between a record of the log and the body that it is about; clones are the same tap.
///
/// In the log it is `{"text": …}`, or `{"base64": …}` where the bytes are not text, and
/// `"truncated": true` where the body had more.
#[derive(Clone)]
pub struct Tap {
    limit: usize,
    kept: Arc<Mutex<Kept>>,
}

#[derive(Default)]
struct Kept {
    bytes: Vec<u8>,
    is_truncated: bool,
    is_sealed: bool,
}

impl Tap {
    /// A tap that keeps the first `limit` bytes, at most [`TAP_BYTES_MAX`].
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self { limit: limit.min(TAP_BYTES_MAX), kept: Arc::default() }
    }

    /// Takes in the next bytes of the body.
    pub fn take(&self, data: &[u8]) {
        let mut kept = self.lock();
        if kept.is_sealed || kept.is_truncated {
            return;
        }
        let room = self.limit - kept.bytes.len().min(self.limit);
        kept.is_truncated = data.len() > room;
        kept.bytes.extend_from_slice(data.get(..room).unwrap_or(data));
    }

    /// Ends it: the values that `mask` knows are masked, and nothing more is kept. Returns how many
    /// bytes there are.
    pub(crate) fn seal(&self, mask: Option<&Scrubber>) -> usize {
        let mut kept = self.lock();
        if !kept.is_sealed
            && let Some(mask) = mask
        {
            // The rest of a value may be beyond the limit, or not have come.
            mask.start(&mut kept.bytes);
        }
        kept.is_sealed = true;
        kept.bytes.len()
    }

    /// Gives up what was kept.
    pub(crate) fn shed(&self) {
        let mut kept = self.lock();
        *kept = Kept { bytes: Vec::new(), is_truncated: true, is_sealed: true };
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        // Nothing panics half way through a change, so a poisoned state is a whole one.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    /// The bytes as text, if they are. Control characters other than tab and line ends would take six
    /// bytes each in the log, and are no text.
    fn text(&self) -> Option<&str> {
        let text = match std::str::from_utf8(&self.bytes) {
            Ok(text) => text,
            // Cut within a character.
            Err(error) if self.is_truncated && error.error_len().is_none() => {
                let whole = self.bytes.get(..error.valid_up_to()).unwrap_or_default();
                std::str::from_utf8(whole).ok()?
            }
            Err(_) => return None,
        };
        let is_text = |byte: u8| byte >= b' ' || matches!(byte, b'\t' | b'\n' | b'\r');
        text.bytes().all(is_text).then_some(text)
    }
}

impl Serialize for Tap {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let kept = self.lock();
        let mut map = serializer.serialize_map(None)?;
        match kept.text() {
            Some(text) => map.serialize_entry("text", text)?,
            None => map.serialize_entry("base64", &STANDARD.encode(&kept.bytes))?,
        }
        if kept.is_truncated {
            map.serialize_entry("truncated", &true)?;
        }
        map.end()
    }
}

impl fmt::Debug for Tap {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kept = self.lock().bytes.len();
        formatter.debug_struct("Tap").field("limit", &self.limit).field("kept", &kept).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn shown(limit: usize, pieces: &[&[u8]]) -> Value {
        let tap = Tap::new(limit);
        pieces.iter().for_each(|piece| tap.take(piece));
        tap.seal(None);
        serde_json::to_value(&tap).unwrap()
    }

    #[test]
    fn the_start_of_a_body_is_kept_as_text_or_else_as_base64() {
        let cases: [(usize, &[&[u8]], Value); 9] = [
            (9, &[], json!({"text": ""})),
            (9, &[b"one", b" two"], json!({"text": "one two"})),
            (7, &[b"one", b" two"], json!({"text": "one two"})),
            (5, &[b"one", b" two", b"three"], json!({"text": "one t", "truncated": true})),
            (0, &[b"one"], json!({"text": "", "truncated": true})),
            (4, &["aéü".as_bytes()], json!({"text": "aé", "truncated": true})),
            (9, &[b"a\xc3"], json!({"base64": "YcM="})),
            (9, &[b"a\0b"], json!({"base64": "YQBi"})),
            (9, &[b"a\t\r\n"], json!({"text": "a\t\r\n"})),
        ];
        for (limit, pieces, expected) in cases {
            assert_eq!(shown(limit, pieces), expected);
        }
    }

    #[test]
    fn no_more_is_kept_than_the_bound_and_nothing_after_the_end() {
        let tap = Tap::new(usize::MAX);
        tap.take(&vec![b'x'; TAP_BYTES_MAX + 1]);
        assert_eq!(tap.seal(None), TAP_BYTES_MAX);
        let sealed = Tap::new(9);
        sealed.take(b"a");
        assert_eq!(sealed.seal(None), 1);
        sealed.take(b"b");
        assert_eq!(serde_json::to_value(&sealed).unwrap(), json!({"text": "a"}));
        sealed.shed();
        assert_eq!(serde_json::to_value(&sealed).unwrap(), json!({"text": "", "truncated": true}));
    }

    #[test]
    fn values_of_secrets_are_masked_also_where_they_are_cut() {
        let mask = Scrubber::new(&[b"s3cr3t-token"]);
        for (limit, expected) in [(99, "a=************&b=1"), (13, "a="), (14, "a=************")] {
            let tap = Tap::new(limit);
            tap.take(b"a=s3cr3t");
            tap.take(b"-token&b=1");
            tap.seal(Some(&mask));
            assert_eq!(serde_json::to_value(&tap).unwrap()["text"], expected);
            assert!(!format!("{tap:?}").contains("a="));
        }
    }
}
