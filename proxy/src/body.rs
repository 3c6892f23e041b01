//! Bodies on their way: streamed, counted, and given up when nothing moves.
//!
//! **Invariant:** a body is never held whole; at most one frame of it is in our hands.

use std::error::Error as StdError;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep};

use crate::activity::Active;
use crate::audit::AuditRecord;
use crate::upstream::Lease;

/// Why a body ended before its end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BodyError {
    /// The side that sends it broke off.
    #[error("the body was cut short")]
    Cut(#[source] hyper::Error),
    /// The side that sends it sent nothing for too long.
    #[error("nothing of the body came for {} s", .0.as_secs())]
    Idle(Duration),
}

/// What is known of a request body while it passes, for the exchange that waits for an answer.
#[derive(Debug)]
pub struct Progress {
    bytes: Arc<AtomicU64>,
}

impl Progress {
    /// A counter that grows as the body moves; it has ended at `u64::MAX` set by nobody else.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}

/// The workload's request body, on its way to the upstream.
#[derive(Debug)]
pub struct RequestBody(Option<Box<Moving>>);

/// A body in motion: its bytes are counted, and its silences bounded.
#[derive(Debug)]
struct Moving {
    incoming: Incoming,
    bytes: Arc<AtomicU64>,
    idle: IdleDeadline,
}

impl Moving {
    fn new(incoming: Incoming, bytes: Arc<AtomicU64>, idle: Duration) -> Self {
        Self { incoming, bytes, idle: IdleDeadline::new(idle) }
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Poll::Ready(frame) = Pin::new(&mut self.incoming).poll_frame(cx) else {
            return self.idle.poll(cx).map(|error| Some(Err(error)));
        };
        self.idle.moved();
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
        {
            self.bytes.fetch_add(data.len() as u64, Ordering::Relaxed);
        }
        Poll::Ready(frame.map(|frame| frame.map_err(BodyError::Cut)))
    }
}

impl RequestBody {
    /// Wraps `incoming`, counting into `bytes`; a body that is empty costs nothing.
    pub fn new(incoming: Incoming, bytes: Arc<AtomicU64>, idle: Duration) -> (Self, Progress) {
        let progress = Progress { bytes: Arc::clone(&bytes) };
        let moving = (!incoming.is_end_stream()).then(|| Box::new(Moving::new(incoming, bytes, idle)));
        (Self(moving), progress)
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.0.as_mut().map_or(Poll::Ready(None), |moving| moving.poll_frame(cx))
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(|moving| moving.incoming.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.0.as_ref().map_or_else(|| SizeHint::with_exact(0), |moving| moving.incoming.size_hint())
    }
}

/// What goes back to the workload.
#[derive(Debug)]
pub enum ResponseBody {
    /// An answer of the gate's own.
    Own(Option<Bytes>),
    /// The upstream's answer.
    Upstream(Box<UpstreamBody>),
}

/// An upstream's body with what must live as long as it.
#[derive(Debug)]
pub struct UpstreamBody {
    moving: Moving,
    /// Written when this is dropped: after the last byte, or when either side gave up.
    record: AuditRecord,
    lease: Option<Lease>,
    _active: Active,
}

impl ResponseBody {
    /// An answer of the gate's own.
    pub fn own(bytes: impl Into<Bytes>) -> Self {
        Self::Own(Some(bytes.into()).filter(|bytes| !bytes.is_empty()))
    }

    /// The upstream's answer; `lease` gives its connection back at the end.
    pub fn upstream(
        incoming: Incoming,
        idle: Duration,
        mut record: AuditRecord,
        lease: Option<Lease>,
        active: Active,
    ) -> Self {
        let moving = Moving::new(incoming, record.response_bytes_counter(), idle);
        let mut body = Box::new(UpstreamBody { moving, record, lease, _active: active });
        body.end_if_over();
        Self::Upstream(body)
    }
}

impl UpstreamBody {
    fn end_if_over(&mut self) {
        // The server stops asking once the stated length is there: the end of an HTTP/2 stream may
        // follow in a frame of its own.
        if self.moving.incoming.is_end_stream() || self.moving.incoming.size_hint().exact() == Some(0) {
            self.end();
        } else {
            self.record.complete = Some(false);
        }
    }

    fn end(&mut self) {
        self.record.complete = Some(true);
        if let Some(lease) = self.lease.take() {
            lease.give_back();
        }
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
            Self::Upstream(body) => body,
        };
        let frame = ready!(body.moving.poll_frame(cx));
        match &frame {
            Some(Ok(_)) => body.end_if_over(),
            Some(Err(error)) => {
                let cause = error.source().map(ToString::to_string);
                body.record.complete = Some(false);
                body.record.set_detail(cause.unwrap_or_else(|| error.to_string()));
            }
            None => body.end(),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Own(bytes) => bytes.is_none(),
            Self::Upstream(body) => body.moving.incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Own(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |b| b.len() as u64)),
            Self::Upstream(body) => body.moving.incoming.size_hint(),
        }
    }
}

/// Ends a wait in which nothing moves. The timer is made at the first wait and moved only when it
/// fires, so that a body in full flow pays one reading of the clock a frame.
#[derive(Debug)]
struct IdleDeadline {
    limit: Duration,
    last: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl IdleDeadline {
    fn new(limit: Duration) -> Self {
        Self { limit, last: None, timer: None }
    }

    fn moved(&mut self) {
        if self.timer.is_some() {
            self.last = Some(Instant::now());
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<BodyError> {
        let limit = self.limit;
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        while timer.as_mut().poll(cx).is_ready() {
            let Some(last) = self.last.take() else {
                return Poll::Ready(BodyError::Idle(limit));
            };
            timer.as_mut().reset(last + limit);
        }
        Poll::Pending
    }
}
