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

#[derive(Debug)]
struct Moving {
    incoming: Incoming,
    bytes: Arc<AtomicU64>,
    idle: IdleDeadline,
}

impl RequestBody {
    /// Wraps `incoming`, counting into `bytes`; a body that is empty costs nothing.
    pub fn new(incoming: Incoming, bytes: Arc<AtomicU64>, idle: Duration) -> (Self, Progress) {
        let progress = Progress { bytes: Arc::clone(&bytes) };
        let moving = (!incoming.is_end_stream())
            .then(|| Box::new(Moving { incoming, bytes, idle: IdleDeadline::new(idle) }));
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
        let Some(moving) = self.0.as_mut() else {
            return Poll::Ready(None);
        };
        let frame = ready!(poll_moving(&mut moving.incoming, &mut moving.idle, cx));
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
        {
            moving.bytes.fetch_add(data.len() as u64, Ordering::Relaxed);
        }
        Poll::Ready(frame)
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
    incoming: Incoming,
    bytes: Arc<AtomicU64>,
    idle: IdleDeadline,
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
        let mut body = Box::new(UpstreamBody {
            incoming,
            bytes: record.response_bytes_counter(),
            idle: IdleDeadline::new(idle),
            record,
            lease,
            _active: active,
        });
        body.end_if_over();
        Self::Upstream(body)
    }
}

impl UpstreamBody {
    fn end_if_over(&mut self) {
        // The server stops asking once the stated length is there: the end of an HTTP/2 stream may
        // follow in a frame of its own.
        if self.incoming.is_end_stream() || self.incoming.size_hint().exact() == Some(0) {
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
        let frame = ready!(poll_moving(&mut body.incoming, &mut body.idle, cx));
        match &frame {
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    body.bytes.fetch_add(data.len() as u64, Ordering::Relaxed);
                }
                body.end_if_over();
            }
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
            Self::Upstream(body) => body.incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Own(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |b| b.len() as u64)),
            Self::Upstream(body) => body.incoming.size_hint(),
        }
    }
}

fn poll_moving(
    incoming: &mut Incoming,
    idle: &mut IdleDeadline,
    cx: &mut Context<'_>,
) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
    match Pin::new(incoming).poll_frame(cx) {
        Poll::Ready(frame) => {
            idle.moved();
            Poll::Ready(frame.map(|frame| frame.map_err(BodyError::Cut)))
        }
        Poll::Pending => idle.poll(cx).map(|error| Some(Err(error))),
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
