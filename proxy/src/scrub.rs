//! Masks the values of secrets in what passes to the workload, and in what is logged.
//!
//! Found is a value as it is, in base64 (also within something longer that was encoded whole),
//! percent-encoded, and as JSON writes it; each byte of it becomes one `*`, so that lengths stay.
//!
//! **Invariant:** what is masked does not depend on where a stream was cut into chunks.

mod spelling;

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, HeaderMap, HeaderValue};
use http::response;
use hyper::ext::ReasonPhrase;
use zeroize::Zeroizing;

use spelling::{Found, Spelling, forms};

/// What stands in the place of each byte.
const MASK: u8 = b'*';

/// Knows values and finds them; clones share them.
#[derive(Clone)]
pub struct Scrubber(Arc<Values>);

struct Values {
    forms: Vec<Zeroizing<Vec<u8>>>,
    /// By byte: whether a form, in any spelling, may begin with it.
    beginnings: [bool; 256],
}

impl Scrubber {
    /// A scrubber of these values; an empty one is passed over.
    #[must_use]
    pub fn new(values: &[&[u8]]) -> Self {
        let values = values.iter().filter(|value| !value.is_empty());
        let forms: Vec<_> = values.flat_map(|value| forms(value)).collect();
        let mut beginnings = [false; 256];
        let firsts = forms.iter().filter_map(|form| form.first().copied());
        let escapes = [b'%', b'\\'].into_iter().filter(|_| !forms.is_empty());
        let spaces = forms.iter().filter(|form| form.first() == Some(&b' ')).map(|_| b'+');
        for byte in firsts.chain(escapes).chain(spaces) {
            if let Some(begins) = beginnings.get_mut(usize::from(byte)) {
                *begins = true;
            }
        }
        Self(Arc::new(Values { forms, beginnings }))
    }

    /// Whether the body of a response with these headers can be searched: one with a content coding
    /// (RFC 9110 section 8.4) cannot.
    #[must_use]
    pub fn can_read(headers: &HeaderMap) -> bool {
        let codings = headers.get_all(CONTENT_ENCODING);
        codings.iter().all(|coding| coding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"identity"))
    }

    /// Masks the values of headers, or of trailers.
    pub fn headers(&self, headers: &mut HeaderMap) {
        for (name, value) in headers {
            if *name != CONTENT_LENGTH
                && let Some(masked) = self.masked(value.as_bytes())
                && let Ok(mut masked) = HeaderValue::from_bytes(&masked)
            {
                masked.set_sensitive(value.is_sensitive());
                *value = masked;
            }
        }
    }

    /// Masks the head of a response: its headers, and the phrase after its status on HTTP/1.
    pub fn head(&self, head: &mut response::Parts) {
        self.headers(&mut head.headers);
        let phrase = head.extensions.get::<ReasonPhrase>();
        if phrase.is_some_and(|phrase| self.masked(phrase.as_bytes()).is_some()) {
            head.extensions.remove::<ReasonPhrase>();
        }
    }

    /// Masks a body that is in memory.
    #[must_use]
    pub fn whole(&self, body: Bytes) -> Bytes {
        self.masked(&body).map_or(body, Bytes::from)
    }

    /// Masks a text as it is to be logged.
    pub fn text(&self, text: &mut String) {
        if let Some(masked) = self.masked(text.as_bytes()) {
            // A value that is no UTF-8 may have been cut out of the middle of a character.
            *text = String::from_utf8_lossy(&masked).into_owned();
        }
    }

    /// Masks the start of something longer, and takes away an end that may be the beginning of a
    /// value.
    pub fn start(&self, bytes: &mut Vec<u8>) {
        let mut found = Vec::new();
        let decided = self.search(bytes, false, |range| note(&mut found, range));
        fill(bytes, &found);
        bytes.truncate(decided);
    }

    /// The bytes with the values masked, if there are any in them.
    fn masked(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        let mut found = Vec::new();
        self.search(bytes, true, |range| note(&mut found, range));
        if found.is_empty() {
            return None;
        }
        let mut masked = bytes.to_vec();
        fill(&mut masked, &found);
        Some(masked)
    }

    /// Calls `found` with every stretch that is a value, and returns up to where that is decided: to
    /// the end, or, unless this is the end, to what may be the beginning of one.
    fn search(&self, text: &[u8], is_whole: bool, mut found: impl FnMut(Range<usize>)) -> usize {
        let mut position = 0;
        loop {
            let rest = text.get(position..).unwrap_or_default();
            let Some(skipped) = rest.iter().position(|byte| self.may_begin(*byte)) else {
                return text.len();
            };
            position += skipped;
            match self.longest(rest.get(skipped..).unwrap_or_default()) {
                (_, true) if !is_whole => return position,
                (0, _) => {}
                (length, _) => found(position..position + length),
            }
            // Not past what was found: another value may begin within it.
            position += 1;
        }
    }

    fn may_begin(&self, byte: u8) -> bool {
        self.0.beginnings.get(usize::from(byte)).copied().unwrap_or(false)
    }

    /// The length of the longest value that `text` begins with, or 0; and whether a longer text could
    /// begin with one that this does not.
    fn longest(&self, text: &[u8]) -> (usize, bool) {
        let mut longest = (0, false);
        let first = text.first();
        let is_escape = first.is_some_and(|byte| matches!(byte, b'%' | b'\\' | b'+'));
        for form in self.0.forms.iter().filter(|form| is_escape || form.first() == first) {
            for spelling in Spelling::ALL {
                match spelling.find(form, text) {
                    Found::No => {}
                    Found::Perhaps => longest.1 = true,
                    Found::Yes(length) => longest.0 = longest.0.max(length),
                }
            }
        }
        longest
    }
}

impl fmt::Debug for Scrubber {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("<scrubber>")
    }
}

/// A stream that is being scrubbed.
pub(crate) struct Scrubbing {
    scrubber: Scrubber,
    /// What was taken in and may be the beginning of a value. Never longer than a value is spelled.
    held: Vec<u8>,
    /// How many of the next bytes belong to a value whose beginning has left.
    covered: usize,
}

impl Scrubbing {
    pub(crate) fn new(scrubber: Scrubber) -> Self {
        Self { scrubber, held: Vec::new(), covered: 0 }
    }

    /// Takes in the next bytes and gives out those that are decided; with `is_last`, all.
    pub(crate) fn pass(&mut self, chunk: Bytes, is_last: bool) -> Bytes {
        let mut text = if self.held.is_empty() {
            chunk
        } else {
            self.held.extend_from_slice(&chunk);
            Bytes::from(std::mem::take(&mut self.held))
        };
        let mut found = Vec::new();
        if self.covered > 0 {
            found.push(0..self.covered);
        }
        let decided = self.scrubber.search(&text, is_last, |range| note(&mut found, range));
        self.covered = found.last().map_or(0, |range| range.end.saturating_sub(decided));
        self.held = text.get(decided..).unwrap_or_default().to_vec();
        text.truncate(decided);
        if found.is_empty() {
            return text;
        }
        let mut text = BytesMut::from(text);
        fill(&mut text, &found);
        text.freeze()
    }

    /// Masks trailers.
    pub(crate) fn trailers(&self, trailers: &mut HeaderMap) {
        self.scrubber.headers(trailers);
    }

    /// How many bytes are held back.
    pub(crate) fn held(&self) -> usize {
        self.held.len()
    }
}

impl fmt::Debug for Scrubbing {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Scrubbing").field("held", &self.held.len()).finish_non_exhaustive()
    }
}

/// Adds a stretch that begins no earlier than those before; what overlaps becomes one.
fn note(found: &mut Vec<Range<usize>>, range: Range<usize>) {
    match found.last_mut() {
        Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
        _ => found.push(range),
    }
}

/// Masks as much of the stretches as is there.
fn fill(bytes: &mut [u8], found: &[Range<usize>]) {
    for range in found {
        let end = range.end.min(bytes.len());
        bytes.get_mut(range.start..end).unwrap_or_default().fill(MASK);
    }
}

#[cfg(test)]
mod tests;
