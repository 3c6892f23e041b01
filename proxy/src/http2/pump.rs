//! A body on its way into a stream of HTTP/2.

use std::error::Error as StdError;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::{Reason, SendStream};
use http_body::Body;

/// Sends a body to its end: data as the peer takes it, then trailers or the end of the stream.
///
/// A body that fails resets the stream, with the code that it failed with if it came by HTTP/2 itself.
pub struct Pump<B> {
    body: B,
    stream: SendStream<Bytes>,
    /// A piece that waits for room, and whether it is the last.
    waiting: Option<(Bytes, bool)>,
}

impl<B> Pump<B>
where
    B: Body<Data = Bytes, Error: StdError + 'static> + Unpin,
{
    /// Sends `body` on `stream`, whose head is sent.
    pub fn new(body: B, stream: SendStream<Bytes>) -> Self {
        Self { body, stream, waiting: None }
    }

    /// Ready when the stream has room for a piece, however small: the rest waits in the library.
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), h2::Error>> {
        while self.stream.capacity() == 0 {
            match ready!(self.stream.poll_capacity(cx)) {
                Some(Ok(_)) => {}
                Some(Err(error)) => return Poll::Ready(Err(error)),
                // The stream is over, whoever ended it.
                None => return Poll::Ready(Err(Reason::STREAM_CLOSED.into())),
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Takes the body's next frame; says whether all is sent.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, h2::Error>> {
        let frame = match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
            Some(Ok(frame)) => frame,
            Some(Err(error)) => {
                let reason = reason_of(&error);
                self.stream.send_reset(reason);
                return Poll::Ready(Err(reason.into()));
            }
            None => {
                self.stream.send_data(Bytes::new(), true)?;
                return Poll::Ready(Ok(true));
            }
        };
        match frame.into_data() {
            Ok(data) => {
                let is_last = self.body.is_end_stream();
                if data.is_empty() {
                    self.stream.send_data(data, is_last)?;
                    return Poll::Ready(Ok(is_last));
                }
                // Only now, and only one byte: what is reserved is taken from the connection's other
                // streams. The library asks for the rest when it has the piece.
                self.stream.reserve_capacity(1);
                self.waiting = Some((data, is_last));
                Poll::Ready(Ok(false))
            }
            Err(frame) => match frame.into_trailers() {
                Ok(trailers) => {
                    self.stream.reserve_capacity(0);
                    self.stream.send_trailers(trailers)?;
                    Poll::Ready(Ok(true))
                }
                Err(_) => Poll::Ready(Ok(false)),
            },
        }
    }
}

impl<B> Future for Pump<B>
where
    B: Body<Data = Bytes, Error: StdError + 'static> + Unpin,
{
    type Output = Result<(), h2::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        loop {
            // Also has us woken when the peer resets the stream while we wait for the body.
            if let Poll::Ready(reason) = this.stream.poll_reset(cx)? {
                return Poll::Ready(Err(reason.into()));
            }
            if this.waiting.is_some() {
                ready!(this.poll_room(cx))?;
            }
            let is_over = match this.waiting.take() {
                Some((data, is_last)) => {
                    this.stream.send_data(data, is_last)?;
                    is_last
                }
                None => ready!(this.poll_next(cx))?,
            };
            if is_over {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

/// The code of the error of HTTP/2 that this comes from (RFC 9113 section 7).
fn reason_of(error: &(dyn StdError + 'static)) -> Reason {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<h2::Error>() {
            return error.reason().unwrap_or(Reason::INTERNAL_ERROR);
        }
        cause = error.source();
    }
    Reason::INTERNAL_ERROR
}
