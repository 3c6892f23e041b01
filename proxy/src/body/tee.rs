//! One body for two readers, each of which sees all of its bytes.

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::{BodyError, HeldBody};

/// How far one reader may be ahead of the other, in bytes: beyond the frames that are under way anyway,
/// and little beside what a handler may have.
const AHEAD_BYTES_MAX: usize = 256 * 1024;

/// One of the two readers of a body. The one that is ahead waits for the other, unless that is gone.
pub struct TeeBody {
    shared: Arc<Mutex<Shared>>,
    side: usize,
}

struct Shared {
    source: HeldBody,
    /// Whether the source has given its last frame.
    is_done: bool,
    sides: [Side; 2],
}

#[derive(Default)]
struct Side {
    waiting: VecDeque<Bytes>,
    bytes: usize,
    is_gone: bool,
    /// The source broke off, which this side has not been told yet.
    is_cut: bool,
    waker: Option<Waker>,
}

impl TeeBody {
    /// Two readers of `source`. Trailers are given to the first alone.
    pub(super) fn split(source: HeldBody) -> (Self, Self) {
        let shared = Shared { source, is_done: false, sides: [Side::default(), Side::default()] };
        let shared = Arc::new(Mutex::new(shared));
        (Self { shared: Arc::clone(&shared), side: 0 }, Self { shared, side: 1 })
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_end_stream(&self) -> bool {
        self.lock().is_over(self.side)
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        let shared = self.lock();
        let Side { bytes, is_cut, .. } = shared.own(self.side);
        let own = *bytes as u64;
        let mut hint = SizeHint::new();
        if *is_cut {
            hint.set_lower(own);
            return hint;
        }
        let rest = if shared.is_done { SizeHint::with_exact(0) } else { shared.source.size_hint() };
        hint.set_lower(rest.lower() + own);
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper + own);
        }
        hint
    }

    pub(super) fn poll_frame(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.lock().poll(self.side, cx)
    }
}

impl Shared {
    fn own(&self, side: usize) -> &Side {
        let [first, second] = &self.sides;
        if side == 0 { first } else { second }
    }

    fn both(&mut self, side: usize) -> (&mut Side, &mut Side) {
        let [first, second] = &mut self.sides;
        if side == 0 { (first, second) } else { (second, first) }
    }

    fn is_over(&self, side: usize) -> bool {
        let own = self.own(side);
        own.waiting.is_empty() && !own.is_cut && (self.is_done || self.source.is_end_stream())
    }

    fn poll(&mut self, side: usize, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let is_done = self.is_done;
        let (own, other) = self.both(side);
        if let Some(data) = own.waiting.pop_front() {
            own.bytes -= data.len();
            other.wake();
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        if std::mem::take(&mut own.is_cut) {
            return Poll::Ready(Some(Err(BodyError::CopyCut)));
        }
        if is_done {
            return Poll::Ready(None);
        }
        own.waker = Some(cx.waker().clone());
        if !other.is_gone && other.bytes >= AHEAD_BYTES_MAX {
            return Poll::Pending;
        }
        let Poll::Ready(frame) = Pin::new(&mut self.source).poll_frame(cx) else { return Poll::Pending };
        self.pass(side, frame)
    }

    /// Hands a frame, or the end, to the side that asked, and keeps the other's share.
    fn pass(
        &mut self,
        side: usize,
        frame: Option<Result<Frame<Bytes>, BodyError>>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.is_done = !matches!(&frame, Some(Ok(frame)) if frame.is_data());
        if self.is_done {
            self.source.release();
        }
        let (_, other) = self.both(side);
        match &frame {
            Some(Ok(frame)) if !other.is_gone => {
                if let Some(data) = frame.data_ref() {
                    other.bytes += data.len();
                    other.waiting.push_back(data.clone());
                }
            }
            Some(Err(_)) => other.is_cut = true,
            _ => {}
        }
        other.wake();
        match frame {
            Some(Ok(frame)) if frame.is_trailers() && side != 0 => Poll::Ready(None),
            frame => Poll::Ready(frame),
        }
    }
}

impl Side {
    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

impl Drop for TeeBody {
    fn drop(&mut self) {
        let mut shared = self.lock();
        let (own, other) = shared.both(self.side);
        own.is_gone = true;
        own.waiting.clear();
        // It may have waited for this side, or for the source by this side's waker.
        other.wake();
    }
}

impl fmt::Debug for TeeBody {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("TeeBody").field("side", &self.side).finish_non_exhaustive()
    }
}
