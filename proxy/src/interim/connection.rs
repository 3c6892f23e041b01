//! Interim responses on their way to a workload of HTTP/1.1: bytes for what writes its connection.

use std::future::poll_fn;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{BufMut, BytesMut};
use futures_util::task::AtomicWaker;
use http::StatusCode;
use http::header::HeaderMap;
use tokio::time::timeout;

use super::without_length;
use crate::hop;
use crate::request_head::HEAD_BYTES_MAX;

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

    pub(super) fn open(&self) -> u64 {
        let mut waiting = self.lock();
        waiting.exchange += 1;
        waiting.is_open = true;
        waiting.exchange
    }

    pub(super) fn push(&self, exchange: u64, status: StatusCode, headers: &HeaderMap) {
        let mut waiting = self.lock();
        let fits = waiting.bytes.len() < HEAD_BYTES_MAX;
        if waiting.is_open && waiting.exchange == exchange && fits {
            write(&mut waiting.bytes, status, headers);
            drop(waiting);
            self.writer.wake();
        }
    }

    pub(super) async fn close(&self) {
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
    without_length(&mut headers);
    let reason = status.canonical_reason().unwrap_or_default();
    bytes.put_slice(format!("HTTP/1.1 {} {reason}\r\n", status.as_u16()).as_bytes());
    for (name, value) in &headers {
        for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
            bytes.put_slice(part);
        }
    }
    bytes.put_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;
    use http::HeaderValue;
    use std::task::Waker;

    fn taken(interim: &Interim) -> String {
        let bytes = interim.take(&Context::from_waker(Waker::noop()));
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    #[test]
    fn only_the_exchange_that_goes_on_is_heard() {
        let interim = Interim::default();
        let headers = HeaderMap::from_iter(
            [("link", "</a>"), ("connection", "x-b"), ("x-b", "c"), ("content-length", "0")]
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
}
