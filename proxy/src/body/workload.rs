//! The body of the workload's request, whose unread rest is taken in when nobody wants it.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::runtime::Handle;

/// How much of an unwanted body is taken in, in bytes: what clients send before they look for an answer.
const UNWANTED_BYTES_MAX: usize = 1024 * 1024;
/// How long the end of an unwanted body is waited for.
const UNWANTED_TIMEOUT: Duration = Duration::from_secs(2);

/// A request's body as the workload sends it.
///
/// An answer that does not wait for the request's end is followed by a reset of the stream (RFC 9113
/// section 8.1), or of the connection on HTTP/1. Clients lose the answer by that (curl 7.88 does, where
/// the last frame of a short body is still on its way). So dropping this takes in the rest, within
/// bounds, and throws it away.
#[derive(Debug)]
pub struct WorkloadBody(Option<Incoming>);

impl WorkloadBody {
    /// Wraps the body.
    pub fn new(incoming: Incoming) -> Self {
        Self(Some(incoming))
    }
}

impl Body for WorkloadBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        self.0.as_mut().map_or(Poll::Ready(None), |incoming| Pin::new(incoming).poll_frame(cx))
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(Incoming::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.0.as_ref().map_or_else(|| SizeHint::with_exact(0), Incoming::size_hint)
    }
}

impl Drop for WorkloadBody {
    fn drop(&mut self) {
        if let Some(incoming) = self.0.take().filter(|incoming| !incoming.is_end_stream())
            && let Ok(runtime) = Handle::try_current()
        {
            runtime.spawn(tokio::time::timeout(UNWANTED_TIMEOUT, take_in(incoming)));
        }
    }
}

/// Reads to the end, or to the bound, or until the workload breaks off.
async fn take_in(mut incoming: Incoming) {
    let mut taken = 0;
    while taken < UNWANTED_BYTES_MAX
        && let Some(Ok(frame)) = incoming.frame().await
    {
        taken += frame.data_ref().map_or(0, Bytes::len);
    }
}
