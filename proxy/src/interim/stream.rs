//! Interim responses on their way to a workload of HTTP/2: heads for the task that answers their stream.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Context;

use futures_util::task::AtomicWaker;
use http::header::HeaderMap;
use http::{Response, StatusCode, Version};

use super::{size, without_length};
use crate::http2;
use crate::request_head::HEAD_BYTES_MAX;

/// The interim responses of one stream.
#[derive(Debug, Default)]
pub struct StreamInterim {
    waiting: Mutex<Waiting>,
    sender: AtomicWaker,
}

#[derive(Debug, Default)]
struct Waiting {
    heads: VecDeque<(StatusCode, HeaderMap)>,
    /// All that was taken in so far, in bytes: whether it has left the gate cannot be seen here.
    bytes: usize,
    is_closed: bool,
}

impl StreamInterim {
    /// Has a head sent, unless the answer has been given or there were more than [`HEAD_BYTES_MAX`] bytes of
    /// them before.
    pub fn push(&self, status: StatusCode, headers: HeaderMap) {
        let mut waiting = self.lock();
        if waiting.is_closed || waiting.bytes >= HEAD_BYTES_MAX {
            return;
        }
        waiting.bytes += size(&headers);
        waiting.heads.push_back((status, headers));
        drop(waiting);
        self.sender.wake();
    }

    /// What is to be sent now.
    pub fn take(&self, cx: &Context<'_>) -> Option<Response<()>> {
        self.sender.register(cx.waker());
        let (status, mut headers) = self.lock().heads.pop_front()?;
        http2::strip(&mut headers, false);
        without_length(&mut headers);
        let mut response = Response::new(());
        *response.status_mut() = status;
        *response.version_mut() = Version::HTTP_2;
        *response.headers_mut() = headers;
        Some(response)
    }

    /// To be called when all has been taken and the answer is given: what comes later is too late.
    pub fn close(&self) {
        self.lock().is_closed = true;
    }

    /// No panic happens under this lock; if one did, what it holds would still be consistent.
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderName, HeaderValue};
    use std::task::Waker;

    fn taken(interim: &StreamInterim) -> Option<Response<()>> {
        interim.take(&Context::from_waker(Waker::noop()))
    }

    fn headers() -> HeaderMap {
        HeaderMap::from_iter(
            [("link", "</a>"), ("connection", "x-b"), ("x-b", "c"), ("te", "a"), ("content-length", "0")]
                .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))),
        )
    }

    #[test]
    fn heads_are_taken_in_their_order_without_what_is_of_a_hop() {
        let interim = StreamInterim::default();
        interim.push(StatusCode::CONTINUE, HeaderMap::new());
        interim.push(StatusCode::EARLY_HINTS, headers());
        let (first, second) = (taken(&interim).unwrap(), taken(&interim).unwrap());
        assert_eq!((first.status(), first.headers().len()), (StatusCode::CONTINUE, 0));
        assert_eq!(second.status(), StatusCode::EARLY_HINTS);
        assert_eq!(second.headers().iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["link"]);
        assert!(taken(&interim).is_none());
    }

    #[test]
    fn what_is_too_late_or_too_much_is_dropped() {
        let interim = StreamInterim::default();
        let mut bytes = 0;
        for _ in 0..HEAD_BYTES_MAX {
            interim.push(StatusCode::EARLY_HINTS, headers());
            // Taken or not: the workload may not read.
            bytes += taken(&interim).map_or(0, |_| size(&headers()));
        }
        assert!((HEAD_BYTES_MAX..HEAD_BYTES_MAX + 1000).contains(&bytes), "{bytes}");
        let interim = StreamInterim::default();
        interim.close();
        interim.push(StatusCode::EARLY_HINTS, headers());
        assert!(taken(&interim).is_none());
    }
}
