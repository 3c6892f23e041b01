//! What of the workload's streams the two directions need to know from each other.

use std::collections::VecDeque;

/// Streams of one connection that are remembered at once, of either kind. As many may be open by far not, so that
/// only who floods loses something by it: an error's more exact name, or a line of the log.
const STREAMS_KEPT_MAX: usize = 1024;

/// A head that is larger than the library takes.
#[derive(Debug)]
struct LargeHead {
    stream: u32,
    /// Whether its 431 was written.
    is_told: bool,
}

/// The streams of a connection, as the workload uses them.
#[derive(Debug, Default)]
pub(super) struct Streams {
    /// The highest that it has begun.
    highest: u32,
    /// From here on it left none out.
    gapless_from: u32,
    /// Those on which it has more to say.
    open: Vec<u32>,
    large: VecDeque<LargeHead>,
}

impl Streams {
    /// A head came. Returns whether it begins a stream.
    pub(super) fn begin(&mut self, stream: u32) -> bool {
        if stream <= self.highest || stream.is_multiple_of(2) {
            return false;
        }
        if self.highest == 0 || stream != self.highest + 2 {
            self.gapless_from = stream;
        }
        self.highest = stream;
        if self.open.len() >= STREAMS_KEPT_MAX {
            self.open.clear();
            self.gapless_from = u32::MAX;
        }
        self.open.push(stream);
        true
    }

    /// The workload says no more on it, or nobody listens any more.
    pub(super) fn end(&mut self, stream: u32) {
        if let Some(at) = self.open.iter().position(|&one| one == stream) {
            self.open.swap_remove(at);
        }
    }

    /// Whether it was begun and has ended. Not of one that was left out: it is none.
    pub(super) fn has_ended(&self, stream: u32) -> bool {
        !stream.is_multiple_of(2)
            && (self.gapless_from..=self.highest).contains(&stream)
            && !self.open.contains(&stream)
    }

    /// Its head is too large, and the library will say so.
    pub(super) fn set_too_large(&mut self, stream: u32) {
        if self.large.len() >= STREAMS_KEPT_MAX {
            self.large.pop_front();
        }
        self.large.push_back(LargeHead { stream, is_told: false });
    }

    /// An answer begins. Returns whether it is the library's, to a head that is too large.
    pub(super) fn is_too_large(&mut self, stream: u32) -> bool {
        let Some(at) = self.large.iter().position(|one| one.stream == stream && !one.is_told) else {
            return false;
        };
        // Where the workload has more to say, the library resets the stream as well.
        if self.open.contains(&stream)
            && let Some(large) = self.large.get_mut(at)
        {
            large.is_told = true;
        } else {
            self.large.remove(at);
        }
        true
    }

    /// The gate resets it. Returns whether that is the end of a 431.
    pub(super) fn reset(&mut self, stream: u32) -> bool {
        self.end(stream);
        let at = self.large.iter().position(|one| one.stream == stream);
        at.and_then(|at| self.large.remove(at)).is_some_and(|large| large.is_told)
    }
}
