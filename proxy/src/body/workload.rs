//! The body of the workload's request, whose unread rest is taken in when nobody wants it.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::EXPECT;
use http::{HeaderMap, Request, StatusCode, Version};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::{Arriving, BodyError};
use crate::interim::StreamInterim;
use crate::upstream::STREAM_WINDOW;

/// How much of an unwanted body is taken in, in bytes: most uploads, in a fraction of a second.
const UNWANTED_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// How long an unwanted body is taken in.
const UNWANTED_TIMEOUT: Duration = Duration::from_secs(10);
/// How long its next piece is waited for: whoever pauses has had time to see the answer.
const UNWANTED_IDLE_TIMEOUT: Duration = Duration::from_secs(2);

/// A request's body as the workload sends it.
///
/// An answer that does not wait for the request's end is followed by a reset of the stream without an
/// error, which must not cost the client the answer (RFC 9113 section 8.1), or by the end of the
/// connection on HTTP/1. It does cost it: curl 7.88 fails where the last frame of a short body is still
/// on its way. So dropping this takes in the rest, within bounds, and throws it away; only then comes the
/// reset. For long ones see [`Upload`].
#[derive(Debug)]
pub struct WorkloadBody {
    incoming: Option<Arriving>,
    /// Tells the [`Upload`] that nobody wants it.
    unwanted: Option<oneshot::Sender<JoinHandle<()>>>,
    /// Whether the client waits to be told to send it, which asking for it does.
    is_awaited: bool,
    /// What tells it so on HTTP/2; on HTTP/1 hyper does.
    interim: Option<Arc<StreamInterim>>,
    /// What has come without that.
    ahead: Option<Option<Result<Frame<Bytes>, BodyError>>>,
}

/// A body of a stated length that a client cannot have sent before it sees the answer.
///
/// Once curl 7.88 has an answer on HTTP/2 it looks for nothing more, neither for a reset nor for leave to
/// send more than a window, and goes round in circles until its own time is over. So an upload that
/// nobody wants is taken in before the answer is given: [`Self::taken_in`].
#[derive(Debug)]
pub struct Upload(oneshot::Receiver<JoinHandle<()>>);

impl WorkloadBody {
    /// Wraps the body of a request; `interim` is that of its stream on HTTP/2.
    pub fn of(
        request: Request<Arriving>,
        interim: Option<Arc<StreamInterim>>,
    ) -> (Request<Self>, Option<Upload>) {
        let (head, incoming) = request.into_parts();
        // Such a client sends nothing before it is told to.
        let is_awaited = head.headers.contains_key(EXPECT);
        let is_upload = head.version == Version::HTTP_2
            && incoming.size_hint().lower() > u64::from(STREAM_WINDOW)
            && !is_awaited;
        let (unwanted, upload) = is_upload.then(oneshot::channel).unzip();
        let is_awaited = is_awaited && head.version >= Version::HTTP_11;
        let body = Self { incoming: Some(incoming), unwanted, is_awaited, interim, ahead: None };
        (Request::from_parts(head, body), upload.map(Upload))
    }

    /// The interim responses of its stream, on HTTP/2.
    pub fn interim(&self) -> Option<&Arc<StreamInterim>> {
        self.interim.as_ref()
    }

    /// Whether something of it has come although nobody asked for it, on HTTP/2. On HTTP/1 to look is to
    /// ask.
    pub(super) fn has_come(&mut self, cx: &mut Context<'_>) -> bool {
        if self.interim.is_some()
            && self.ahead.is_none()
            && let Poll::Ready(frame) = self.poll_incoming(cx)
        {
            self.is_awaited = false;
            self.ahead = Some(frame);
        }
        self.ahead.is_some()
    }

    fn poll_incoming(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.incoming.as_mut().map_or(Poll::Ready(None), |incoming| Pin::new(incoming).poll_frame(cx))
    }
}

impl Upload {
    /// To be called before the answer is given. Where the body was dropped unread, this waits until it
    /// has been taken in, within the same bounds; where somebody has it, for nothing.
    pub async fn taken_in(mut self) {
        if let Ok(taking_in) = self.0.try_recv() {
            drop(taking_in.await);
        }
    }
}

impl Body for WorkloadBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(frame) = self.ahead.take() {
            return Poll::Ready(frame);
        }
        let was_awaited = std::mem::take(&mut self.is_awaited);
        let frame = self.poll_incoming(cx);
        if was_awaited
            && frame.is_pending()
            && let Some(interim) = &self.interim
        {
            interim.push(StatusCode::CONTINUE, HeaderMap::new());
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.ahead.is_none() && self.incoming.as_ref().is_none_or(Arriving::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let ahead = self.ahead.as_ref().and_then(|frame| frame.as_ref()?.as_ref().ok()?.data_ref());
        let ahead = ahead.map_or(0, |data| data.len() as u64);
        let hint = self.incoming.as_ref().map_or_else(|| SizeHint::with_exact(0), Arriving::size_hint);
        match hint.exact() {
            Some(left) => SizeHint::with_exact(left.saturating_add(ahead)),
            None => hint,
        }
    }
}

impl Drop for WorkloadBody {
    fn drop(&mut self) {
        if let Some(incoming) = self.incoming.take().filter(|incoming| !incoming.is_end_stream())
            // On HTTP/2 it has been told by the answer, and may have begun.
            && (!self.is_awaited || self.interim.is_some())
            && let Ok(runtime) = Handle::try_current()
        {
            let taking_in = runtime.spawn(take_in(incoming));
            if let Some(unwanted) = self.unwanted.take() {
                drop(unwanted.send(taking_in));
            }
        }
    }
}

/// Reads to the end, or to a bound, or until the workload breaks off.
async fn take_in(mut incoming: Arriving) {
    let all = async {
        let mut taken = 0;
        while taken < UNWANTED_BYTES_MAX
            && let Ok(Some(Ok(frame))) = timeout(UNWANTED_IDLE_TIMEOUT, incoming.frame()).await
        {
            taken += frame.data_ref().map_or(0, |data| data.len() as u64);
        }
    };
    // Whatever ended it: what is left is reset.
    drop(timeout(UNWANTED_TIMEOUT, all).await);
}
