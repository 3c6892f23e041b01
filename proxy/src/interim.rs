//! Interim responses (1xx, RFC 9110 section 15.2): from an upstream to the workload that waits for its
//! answer, and the one that a body waits for.
//!
//! hyper tells of those that come on HTTP/1.1, and sends none itself but `100`: so they are written under
//! it, by what reads the workload's connection ([`crate::head_guard`]). On HTTP/2 it does neither, and they
//! are dropped, as is allowed where a client has not asked for them.
//!
//! **Invariant:** what is written stands after the last byte of the response before and before the first of
//! the one that it announces.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{BufMut, BytesMut};
use futures_util::task::AtomicWaker;
use http::header::{EXPECT, HeaderMap, HeaderValue};
use http::{Request, StatusCode, Version, request};
use http_body::Body;
use tokio::time::{Sleep, sleep, timeout};

use crate::activity::Activity;
use crate::body::RequestBody;
use crate::hop;
use crate::request_head::HEAD_BYTES_MAX;

/// How long a body waits for leave to be sent, where the upstream says nothing: what curl waits, so that
/// such an upstream costs what it costs without the gate.
const CONTINUE_TIMEOUT: Duration = Duration::from_secs(1);

/// How long an answer waits until the interim responses before it can be written. That waits for nothing
/// but bytes of the answer before, which the workload has not read.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);

/// The interim responses of one connection of the workload, of which one exchange at a time has some.
#[derive(Debug, Default)]
pub struct Interim {
    waiting: Mutex<Waiting>,
    writer: AtomicWaker,
    exchange: AtomicWaker,
}

#[derive(Debug, Default)]
struct Waiting {
    /// Counts the exchanges: a late word for one of them is none for the next.
    exchange: u64,
    is_open: bool,
    bytes: BytesMut,
}

impl Interim {
    /// What is to be written now. Only to be asked where all has been written that hyper wrote.
    pub fn take(&self, cx: &Context<'_>) -> BytesMut {
        self.writer.register(cx.waker());
        let bytes = std::mem::take(&mut self.lock().bytes);
        if !bytes.is_empty() {
            self.exchange.wake();
        }
        bytes
    }

    fn open(&self) -> u64 {
        let mut waiting = self.lock();
        waiting.exchange += 1;
        waiting.is_open = true;
        waiting.exchange
    }

    fn push(&self, exchange: u64, status: StatusCode, headers: &HeaderMap) {
        let mut waiting = self.lock();
        let fits = waiting.bytes.len() < HEAD_BYTES_MAX;
        if waiting.is_open && waiting.exchange == exchange && fits {
            write(&mut waiting.bytes, status, headers);
            drop(waiting);
            self.writer.wake();
        }
    }

    async fn close(&self) {
        let is_taken = |cx: &mut Context<'_>| {
            self.exchange.register(cx.waker());
            if self.lock().bytes.is_empty() { Poll::Ready(()) } else { Poll::Pending }
        };
        if !self.lock().bytes.is_empty() {
            drop(timeout(WRITE_TIMEOUT, poll_fn(is_taken)).await);
        }
        let mut waiting = self.lock();
        waiting.is_open = false;
        waiting.bytes.clear();
    }

    /// No panic happens under this lock; if one did, what it holds would still be consistent.
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn write(bytes: &mut BytesMut, status: StatusCode, headers: &HeaderMap) {
    let mut headers = headers.clone();
    hop::strip_response(&mut headers);
    let reason = status.canonical_reason().unwrap_or_default();
    bytes.put_slice(format!("HTTP/1.1 {} {reason}\r\n", status.as_u16()).as_bytes());
    for (name, value) in &headers {
        for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
            bytes.put_slice(part);
        }
    }
    bytes.put_slice(b"\r\n");
}

/// Says that the workload waits for leave to send a request's body.
#[derive(Clone, Copy, Debug)]
struct Expects;

/// Notes that the workload waits for leave, where it does. On HTTP/2 nothing could tell it.
pub fn note_expectation(head: &mut request::Parts, body: &impl Body) {
    let expects =
        head.headers.get(EXPECT).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"));
    if expects && head.version == Version::HTTP_11 && !body.is_end_stream() {
        head.extensions.insert(Expects);
    }
}

/// The way of interim responses to the workload, for one exchange.
#[derive(Clone, Debug)]
pub struct Passing {
    activity: Arc<Activity>,
    exchange: u64,
}

impl Passing {
    /// Opens it for a request whose edits are done, and asks the upstream for leave if the workload does.
    /// `None` for a workload that knows no interim responses, and where `masks` says that nothing may pass
    /// unsearched.
    pub fn begin(activity: &Arc<Activity>, head: &mut request::Parts, masks: bool) -> Option<Self> {
        if head.extensions.remove::<Expects>().is_some() {
            head.headers.insert(EXPECT, HeaderValue::from_static("100-continue"));
        }
        if masks || head.version != Version::HTTP_11 {
            return None;
        }
        let passing = Self { activity: Arc::clone(activity), exchange: activity.interim.open() };
        head.extensions.insert(passing.clone());
        Some(passing)
    }

    /// To be called before the answer is given; what has come until then is written before it.
    pub async fn end(self) {
        self.activity.interim.close().await;
    }
}

/// Has the interim responses of a request on HTTP/1.1 passed on, and its body wait if it asks for leave.
pub fn attend(mut request: Request<RequestBody>) -> Request<RequestBody> {
    let passing = request.extensions().get::<Passing>().cloned();
    let leave = request.headers().contains_key(EXPECT).then(|| request.body_mut().wait_for_leave());
    if passing.is_none() && leave.is_none() {
        return request;
    }
    hyper::ext::on_informational(&mut request, move |response| {
        if let Some(leave) = leave.as_ref().filter(|_| response.status() == StatusCode::CONTINUE) {
            leave.give();
        } else if let Some(passing) = &passing {
            passing.activity.interim.push(passing.exchange, response.status(), response.headers());
        }
    });
    request
}

/// Leave to send a body.
#[derive(Debug, Default)]
pub struct Leave {
    is_given: AtomicBool,
    body: AtomicWaker,
}

impl Leave {
    fn give(&self) {
        self.is_given.store(true, Ordering::Release);
        self.body.wake();
    }
}

/// A body that waits for leave.
#[derive(Debug)]
pub struct Waits {
    leave: Arc<Leave>,
    deadline: Pin<Box<Sleep>>,
}

impl Waits {
    /// Begins to wait, no longer than [`CONTINUE_TIMEOUT`].
    pub fn new() -> (Self, Arc<Leave>) {
        let leave = Arc::<Leave>::default();
        (Self { leave: Arc::clone(&leave), deadline: Box::pin(sleep(CONTINUE_TIMEOUT)) }, leave)
    }

    /// Ready when the body may be sent.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.leave.body.register(cx.waker());
        if self.leave.is_given.load(Ordering::Acquire) {
            return Poll::Ready(());
        }
        self.deadline.as_mut().poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;
    use std::task::Waker;

    fn taken(interim: &Interim) -> String {
        let bytes = interim.take(&Context::from_waker(Waker::noop()));
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    #[test]
    fn only_the_exchange_that_goes_on_is_heard() {
        let interim = Interim::default();
        let headers = HeaderMap::from_iter(
            [("link", "</a>"), ("connection", "x-b"), ("x-b", "c")]
                .map(|(name, value)| (http::HeaderName::from_static(name), HeaderValue::from_static(value))),
        );
        interim.push(0, StatusCode::EARLY_HINTS, &headers);
        assert_eq!(taken(&interim), "");
        let first = interim.open();
        interim.push(first, StatusCode::EARLY_HINTS, &headers);
        assert_eq!(taken(&interim), "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n");
        assert!(interim.close().now_or_never().is_some());
        interim.push(first, StatusCode::EARLY_HINTS, &headers);
        let second = interim.open();
        interim.push(first, StatusCode::EARLY_HINTS, &headers);
        assert_eq!(taken(&interim), "");
        for _ in 0..HEAD_BYTES_MAX {
            interim.push(second, StatusCode::EARLY_HINTS, &headers);
        }
        let length = taken(&interim).len();
        assert!((HEAD_BYTES_MAX..HEAD_BYTES_MAX + 100).contains(&length), "{length}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_waits_for_leave_or_a_second() {
        let (mut waits, leave) = Waits::new();
        assert!(poll_fn(|cx| Poll::Ready(waits.poll(cx).is_pending())).await);
        leave.give();
        assert!(poll_fn(|cx| Poll::Ready(waits.poll(cx).is_ready())).await);
        let (mut waits, _leave) = Waits::new();
        let began = tokio::time::Instant::now();
        poll_fn(|cx| waits.poll(cx)).await;
        assert!(began.elapsed() >= CONTINUE_TIMEOUT);
    }
}
