//! Text from outside, cut to the bound of its field.

use crate::scrub::Scrubber;

/// The mark of a cut.
const CUT: char = '…';

/// The start of `bytes` as text of at most `limit` bytes.
pub(super) fn bounded(bytes: &[u8], limit: usize) -> String {
    // One byte more than the limit, so that `bound` sees that there was more.
    let start = bytes.get(..=limit).unwrap_or(bytes);
    let mut text = String::from_utf8_lossy(start).into_owned();
    bound(&mut text, limit);
    text
}

/// Cuts `text` to `limit` bytes, the mark of the cut included.
pub(super) fn bound(text: &mut String, limit: usize) {
    if text.len() > limit {
        text.truncate(text.floor_char_boundary(limit.saturating_sub(CUT.len_utf8())));
        text.push(CUT);
        text.shrink_to_fit();
    }
}

/// Masks a text that may have been cut in the middle of a value.
pub(super) fn mask_bounded(text: &mut String, mask: &Scrubber) {
    match text.strip_suffix(CUT) {
        Some(start) => {
            let mut start = start.as_bytes().to_vec();
            mask.start(&mut start);
            *text = String::from_utf8_lossy(&start).into_owned();
            text.push(CUT);
        }
        None => mask.text(text),
    }
}
