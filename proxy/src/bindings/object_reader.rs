//! An object on its way out of a store.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use opendal_core::FuturesBytesStream;
use tokio::time::{Instant, Sleep};

use super::{Fault, IDLE};

/// The content of an object as a body: streamed, exactly as long as it was said to be, and given up
/// when nothing comes for a minute.
pub struct ObjectReader {
    content: Option<axum::body::Body>,
    left: u64,
    idle: Option<Pin<Box<Sleep>>>,
}

impl fmt::Debug for ObjectReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ObjectReader").field("left", &self.left).finish_non_exhaustive()
    }
}

impl ObjectReader {
    /// `content` of `length` bytes.
    pub(super) fn new(content: FuturesBytesStream, length: u64) -> Self {
        // The body at hand that is made of a stream.
        Self { content: Some(axum::body::Body::from_stream(content)), left: length, idle: None }
    }

    /// Nothing.
    pub(super) fn empty() -> Self {
        Self { content: None, left: 0, idle: None }
    }

    fn end(&mut self, fault: Fault) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        self.content = None;
        self.left = 0;
        Poll::Ready(Some(Err(fault)))
    }

    fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.idle.get_or_insert_with(|| Box::pin(tokio::time::sleep(IDLE))).as_mut().poll(cx)
    }
}

impl Body for ObjectReader {
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        let this = &mut *self;
        let Some(content) = this.content.as_mut().filter(|_| this.left > 0) else {
            this.content = None;
            return Poll::Ready(None);
        };
        let Poll::Ready(frame) = Pin::new(content).poll_frame(cx) else {
            ready!(this.poll_idle(cx));
            return this.end(Fault::Timeout);
        };
        if let Some(idle) = &mut this.idle {
            idle.as_mut().reset(Instant::now() + IDLE);
        }
        let bytes = match frame {
            Some(Ok(frame)) => frame.into_data().unwrap_or_default(),
            Some(Err(error)) => return this.end(fault_of(&error)),
            None => return this.end(Fault::Failed),
        };
        match this.left.checked_sub(bytes.len() as u64) {
            Some(left) => this.left = left,
            None => return this.end(Fault::Failed),
        }
        Poll::Ready(Some(Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

/// Finds what we said ourselves below what others wrapped it in.
fn fault_of(error: &(dyn std::error::Error + 'static)) -> Fault {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(fault) = error.downcast_ref::<Fault>() {
            return *fault;
        }
        // Neither of these names what it wraps as its source, but what that was caused by.
        next = match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    Fault::Failed
}
