//! Bodies on their way: streamed, counted, and given up when nothing moves.
//!
//! **Invariant:** a body that passes is never held whole; at most one frame of it is in our hands, and
//! what may be the beginning of a secret. Whole is only what a handler asked for ([`HeldBody::read`]).

mod arriving;
mod chunks;
mod held;
mod moving;
mod tee;
mod workload;

use std::error::Error as StdError;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderName;
use http_body::{Body, Frame, SizeHint};

use crate::activity::Active;
use crate::audit::AuditRecord;
use crate::interim::{Leave, Passing, Waits};
use crate::scrub::Scrubber;
use crate::tap::Tap;
use crate::upstream::Lease;

pub use arriving::Arriving;
pub use chunks::Chunks;
pub use held::HeldBody;
use moving::Moving;
pub use workload::{Upload, WorkloadBody};

/// Why a body ended before its end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BodyError {
    /// The side that sends it broke off.
    #[error("the body was cut short")]
    Cut(#[source] Box<dyn StdError + Send + Sync>),
    /// The side that sends it sent nothing for too long.
    #[error("nothing of the body came for {} s", .0.as_secs())]
    Idle(Duration),
    /// It is longer than was asked for.
    #[error("the body has more than {limit} bytes")]
    TooLong {
        /// How many were asked for.
        limit: usize,
    },
    /// The body that this is a copy of broke off, which its first reader was told the cause of.
    #[error("the body was cut short")]
    CopyCut,
    /// It is that of a 101, after which there are no bodies.
    #[error("the connection was upgraded: the response can be returned, and its body not be read")]
    Upgrade,
    /// The store that it is read from failed. The source's words hold nothing that is secret.
    #[error("the stored object could not be read to its end")]
    Store(#[source] Box<dyn StdError + Send + Sync>),
}

/// What is known of a request while it is sent, for the exchange that waits for an answer.
#[derive(Debug)]
pub struct Progress {
    bytes: Arc<AtomicU64>,
    /// Of a body of the workload's: whether that broke off.
    cut: Option<Arc<AtomicBool>>,
    /// Where the upstream's interim responses go meanwhile, if anywhere.
    pub passing: Option<Passing>,
}

impl Progress {
    /// The bytes of the body that have passed so far.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Whether the workload broke its body off, or wrote what is none.
    pub fn is_cut(&self) -> bool {
        self.cut.as_ref().is_some_and(|cut| cut.load(Ordering::Relaxed))
    }
}

/// A request's body on its way to an upstream: the workload's, or one of a handler's.
#[derive(Debug)]
pub struct RequestBody {
    moving: Option<Box<Moving>>,
    waits: Option<Waits>,
    /// Tells [`Progress`] that the workload broke it off.
    cut: Option<Arc<AtomicBool>>,
}

impl RequestBody {
    /// Wraps `incoming`, counting into `bytes`; a body that is empty costs nothing.
    pub fn new(incoming: WorkloadBody, bytes: Arc<AtomicU64>, idle: Duration) -> (Self, Progress) {
        Self::held(HeldBody::Workload(incoming), bytes, idle)
    }

    /// A body that a handler wrote.
    pub fn bytes(body: Bytes, bytes: Arc<AtomicU64>) -> (Self, Progress) {
        // It is all there, so that nothing waits for it.
        Self::held(HeldBody::Bytes(body), bytes, Duration::MAX)
    }

    /// No body.
    pub fn empty() -> Self {
        Self { moving: None, waits: None, cut: None }
    }

    /// A body that the gate held for a handler. It counts into `bytes`, and gives its own connection
    /// back at its end.
    pub fn held(mut body: HeldBody, bytes: Arc<AtomicU64>, idle: Duration) -> (Self, Progress) {
        let mut progress = Progress { bytes: Arc::clone(&bytes), cut: None, passing: None };
        if body.is_end_stream() {
            body.release();
            return (Self::empty(), progress);
        }
        progress.cut = matches!(body, HeldBody::Workload(_)).then(Arc::default);
        let cut = progress.cut.clone();
        let moving = Some(Box::new(Moving::new(body, bytes, idle)));
        (Self { moving, waits: None, cut }, progress)
    }

    /// The same body, whose start goes to `tap` too, if there is one.
    #[must_use]
    pub fn tapped(mut self, tap: Option<Tap>) -> Self {
        if let Some(moving) = &mut self.moving {
            moving.tap = tap;
        }
        self
    }

    /// Takes these fields off its trailers: what is set or removed in the head must not come in again
    /// behind the body.
    pub fn bar_trailers(&mut self, names: Vec<HeaderName>) {
        if let Some(moving) = &mut self.moving {
            moving.barred = names;
        }
    }

    /// Holds it back until the upstream gives leave, a moment is over, or it comes unasked.
    pub fn wait_for_leave(&mut self) -> Arc<Leave> {
        let (waits, leave) = Waits::new();
        self.waits = Some(waits);
        leave
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        if let Some(waits) = &mut this.waits {
            let has_come = this.moving.as_mut().is_some_and(|moving| moving.has_come(cx));
            if !has_come {
                ready!(waits.poll(cx));
            }
            waits.end();
            this.waits = None;
        }
        let frame = this.moving.as_mut().map_or(Poll::Ready(None), |moving| moving.poll_frame(cx));
        if let (Poll::Ready(Some(Err(BodyError::Cut(_)))), Some(cut)) = (&frame, &this.cut) {
            cut.store(true, Ordering::Relaxed);
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.moving.as_ref().is_none_or(|moving| moving.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.moving.as_ref().map_or_else(|| SizeHint::with_exact(0), |moving| moving.size_hint())
    }
}

/// What goes back to the workload.
#[derive(Debug)]
pub enum ResponseBody {
    /// An answer of the gate's own, whose record is written already.
    Own(Option<Bytes>),
    /// A body that passes: an upstream's, or one of a handler's.
    Passing(Box<PassingBody>),
}

/// A body that passes, with what must live as long as it.
#[derive(Debug)]
pub struct PassingBody {
    moving: Moving,
    /// Written when this is dropped: after the last byte, or when either side gave up.
    record: AuditRecord,
    /// The record of the handler's request whose answer this is; written likewise.
    fetch: Option<AuditRecord>,
    _active: Active,
}

impl ResponseBody {
    /// An answer of the gate's own.
    pub fn own(bytes: impl Into<Bytes>) -> Self {
        Self::Own(Some(bytes.into()).filter(|bytes| !bytes.is_empty()))
    }

    /// The upstream's answer; `lease` gives its connection back at the end.
    pub fn upstream(
        incoming: Arriving,
        idle: Duration,
        record: AuditRecord,
        lease: Option<Lease>,
        active: Active,
    ) -> Self {
        Self::handled(HeldBody::Response { incoming, lease }, idle, (record, None), active)
    }

    /// The answer of a handler. Both records, that of the exchange and that of the fetch which the
    /// body comes from, get its bytes and its end; the exchange's gets the start of it as the workload
    /// sees it, if it was tapped before ([`crate::audit::Entry::tap_response`]).
    pub fn handled(
        body: HeldBody,
        idle: Duration,
        (mut record, mut fetch): (AuditRecord, Option<AuditRecord>),
        active: Active,
    ) -> Self {
        let bytes = record.response_bytes_counter();
        if let Some(fetch) = &mut fetch {
            fetch.share_response_bytes(Arc::clone(&bytes));
        }
        let mut moving = Moving::new(body, bytes, idle);
        moving.tap = record.response_tap();
        let mut passing = Box::new(PassingBody { moving, record, fetch, _active: active });
        passing.note_end();
        Self::Passing(passing)
    }

    /// The same body with the values masked that `scrubber` knows, if there is one. The caller has
    /// seen to it that it can be searched ([`Scrubber::can_read`]), and masks the head.
    #[must_use]
    pub fn scrubbed(mut self, scrubber: Option<Scrubber>) -> Self {
        let Some(scrubber) = scrubber else { return self };
        match &mut self {
            Self::Own(bytes) => *bytes = bytes.take().map(|bytes| scrubber.whole(bytes)),
            Self::Passing(body) => body.moving.scrub(scrubber),
        }
        self
    }
}

impl PassingBody {
    /// The server stops asking once the stated length is there, so the end is noted with the last byte.
    fn note_end(&mut self) {
        self.set_complete(self.moving.is_over());
    }

    fn set_complete(&mut self, complete: bool) {
        self.record.complete = Some(complete);
        if let Some(fetch) = &mut self.fetch {
            fetch.complete = Some(complete);
        }
    }

    fn note_error(&mut self, error: &BodyError) {
        self.set_complete(false);
        let cause = error.source().map(ToString::to_string);
        let cause = cause.unwrap_or_else(|| error.to_string());
        if let Some(fetch) = &mut self.fetch {
            fetch.set_detail(&cause);
        }
        self.record.set_detail(cause);
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let body = match &mut *self {
            Self::Own(bytes) => return Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Passing(body) => body,
        };
        let frame = ready!(body.moving.poll_frame(cx));
        match &frame {
            Some(Ok(_)) => body.note_end(),
            Some(Err(error)) => body.note_error(error),
            None => body.set_complete(true),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Own(bytes) => bytes.is_none(),
            Self::Passing(body) => body.moving.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Own(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |b| b.len() as u64)),
            Self::Passing(body) => body.moving.size_hint(),
        }
    }
}

#[cfg(test)]
mod tests;
