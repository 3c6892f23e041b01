//! HTTP/2 with an upstream: one connection, on which many send.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body::Body as _;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::AbortHandle;

use super::{Failed, UpstreamError};
use crate::body::{Arriving, RequestBody};
use crate::http2::{self, Gathered, InUse, Patience, Peer, Pump, Received, Tunnel};
use crate::interim::{Hearing, Passing};
use crate::request_head::HEAD_BYTES_MAX;

/// Window of one HTTP/2 stream, in bytes: what keeps a 100 Mbit/s path of 80 ms busy, and the most
/// that a workload which does not read makes us hold for one response.
pub(crate) const STREAM_WINDOW: u32 = 1024 * 1024;

/// Window of an HTTP/2 connection, in bytes: a few streams in full flow.
pub(crate) const CONNECTION_WINDOW: u32 = 4 * STREAM_WINDOW;

/// Requests that are sent before the upstream has said how many it takes at once: RFC 9113 section 6.5.2
/// recommends no fewer.
const FIRST_STREAMS_MAX: usize = 100;

/// What of one request's body waits in the library at most, in bytes: as much as the stream has room for
/// in our own direction.
const SEND_BUFFER_BYTES_MAX: usize = 1024 * 1024;

/// How long an upstream may be silent under a request before it is asked whether it is there. Finds a dead
/// path; idle connections are left alone.
const PING_INTERVAL: Duration = Duration::from_secs(30);

/// How long it then has to send anything.
const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection that requests are sent on.
#[derive(Clone, Debug)]
pub(super) struct Http2 {
    requests: SendRequest<Bytes>,
    peer: Arc<Peer>,
}

/// Speaks HTTP/2 over a connection that is there. What comes besides moves its bytes until it ends, and is
/// to be polled for that.
///
/// # Errors
/// [`UpstreamError::Http2`] where the connection has ended.
pub(super) async fn http2_over<Io>(
    io: Io,
) -> Result<(Http2, impl Future<Output = Result<(), h2::Error>> + Send + use<Io>), UpstreamError>
where
    Io: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let peer = Peer::new();
    let (requests, mut connection) = h2::client::Builder::new()
        .enable_push(false)
        .initial_max_send_streams(FIRST_STREAMS_MAX)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(u32::try_from(HEAD_BYTES_MAX).unwrap_or(u32::MAX))
        .max_send_buffer_size(SEND_BUFFER_BYTES_MAX)
        .handshake(peer.listen(io))
        .await
        .map_err(UpstreamError::Http2)?;
    let pings = connection.ping_pong();
    let http2 = Http2 { requests, peer: Arc::clone(&peer) };
    let driven = async move {
        let Some(pings) = pings else { return connection.await };
        let patience = Patience { interval: PING_INTERVAL, timeout: PING_TIMEOUT };
        tokio::select! {
            biased;
            ended = connection => ended,
            () = peer.gone(pings, patience) => {
                tracing::debug!("an upstream does not answer a ping");
                Ok(())
            }
        }
    };
    Ok((http2, driven))
}

/// Moves a connection's bytes until it ends; its exchanges are told of errors themselves.
pub(super) async fn drive(connection: impl Future<Output = Result<(), h2::Error>>) {
    if let Err(error) = Gathered::new(pin!(connection)).await {
        tracing::debug!(%error, "an upstream connection ended");
    }
}

impl Http2 {
    /// Whether nothing can be sent on it any more.
    pub(super) fn is_closed(&mut self) -> bool {
        let ready = self.requests.poll_ready(&mut Context::from_waker(Waker::noop()));
        matches!(ready, Poll::Ready(Err(_)))
    }

    /// Whether the upstream has said that it takes an extended CONNECT (RFC 8441 section 3).
    pub(super) fn takes_extended_connect(&self) -> bool {
        self.requests.is_extended_connect_protocol_enabled()
    }

    /// Sends a request, and waits for the response's head; interim ones are heard meanwhile. The response
    /// to a CONNECT that is agreed to has a tunnel among its extensions.
    pub(super) async fn send(
        mut self,
        mut request: Request<RequestBody>,
        passing: Option<&Passing>,
    ) -> Result<Response<Arriving>, Failed> {
        if self.is_closed() {
            return Err(Failed::Unsent(Box::new(request)));
        }
        let hearing = Hearing::begin(&mut request, passing);
        let (mut head, body) = request.into_parts();
        http2::strip(&mut head.headers, true);
        state_length(&head.method, &mut head.headers, &body);
        let is_connect = head.method == Method::CONNECT;
        let is_over = body.is_end_stream() && !is_connect;
        let in_use = self.peer.wait_for();
        let (mut response, stream) =
            self.requests.send_request(Request::from_parts(head, ()), is_over).map_err(failed)?;
        let (upload, tunnel) = if is_connect {
            (None, Some(stream))
        } else if is_over {
            (None, None)
        } else {
            (Upload::begin(Pump::new(body, stream), self.peer.wait_for()).await, None)
        };
        let answered = poll_fn(|cx| poll_answer(&mut response, &hearing, cx)).await.map_err(failed)?;
        // A body that waits for leave is not wanted where the answer is an error.
        let is_refused = hearing.is_awaited() && !answered.status().is_success();
        if let Some(upload) = upload.filter(|_| !is_refused) {
            upload.goes_on();
        }
        match tunnel {
            Some(stream) if answered.status() == StatusCode::OK => tunnelled(answered, stream, in_use),
            _ => Ok(received(answered, in_use)),
        }
    }
}

/// Polls for the answer, and takes in what is said before it.
fn poll_answer(
    response: &mut ResponseFuture,
    hearing: &Hearing,
    cx: &mut Context<'_>,
) -> Poll<Result<Response<RecvStream>, h2::Error>> {
    // The library drops interim responses when it is asked for the answer.
    while let Some(interim) = ready!(response.poll_informational(cx)).transpose()? {
        hearing.hear(interim.status(), interim.headers());
    }
    Pin::new(response).poll(cx)
}

fn received(response: Response<RecvStream>, in_use: InUse) -> Response<Arriving> {
    let length = http2::content_length(response.headers());
    response.map(|stream| Arriving::Http2(Received::new(stream, length).awaited(in_use)))
}

/// An answer that makes a tunnel of its stream.
fn tunnelled(
    response: Response<RecvStream>,
    send: SendStream<Bytes>,
    in_use: InUse,
) -> Result<Response<Arriving>, Failed> {
    if http2::content_length(response.headers()).is_some_and(|length| length != 0) {
        let error = UpstreamError::Upgrade("it states the length of a body, where there is none");
        return Err(Failed::Error(error));
    }
    let (mut head, receive) = response.into_parts();
    let (keep, promised) = http2::promise();
    // Nobody can have dropped the promise yet.
    drop(keep.send(Tunnel::new(send, receive, Some(in_use))));
    head.extensions.insert(promised);
    Ok(Response::from_parts(head, Arriving::Nothing))
}

/// States the length of a body that is known, where there is one or the method has one usually.
fn state_length(method: &Method, headers: &mut HeaderMap, body: &RequestBody) {
    let has_usually_none = matches!(*method, Method::GET | Method::HEAD | Method::DELETE | Method::CONNECT);
    if let Some(length) = body.size_hint().exact().filter(|&length| length != 0 || !has_usually_none) {
        http2::state_length(headers, length);
    }
}

fn failed(error: h2::Error) -> Failed {
    Failed::Error(UpstreamError::Http2(error))
}

/// A request's body on its way. Its drop gives it up, which resets the stream if nobody has the response.
#[derive(Debug)]
struct Upload(Option<AbortHandle>);

impl Upload {
    /// Begins to send; `None` where all is sent at once, for which no task is needed.
    async fn begin(mut pump: Pump<RequestBody>, in_use: InUse) -> Option<Self> {
        if poll_fn(|cx| Poll::Ready(Pin::new(&mut pump).poll(cx).is_ready())).await {
            return None;
        }
        let task = tokio::spawn(async move {
            let _in_use = in_use;
            if let Err(error) = pump.await {
                tracing::debug!(%error, "a request's body was not sent to its end");
            }
        });
        Some(Self(Some(task.abort_handle())))
    }

    /// Has it go on by itself: the response may come while it is sent.
    fn goes_on(mut self) {
        self.0 = None;
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if let Some(task) = self.0.take() {
            task.abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::body::{BodyError, HeldBody};
    use h2::Reason;
    use http::Version;
    use http_body::Frame;
    use http_body_util::StreamBody;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

    /// A connection, and the side of its upstream.
    async fn connected() -> (Http2, h2::server::Connection<DuplexStream, Bytes>) {
        let (ours, theirs) = tokio::io::duplex(64 * 1024);
        let upstream = tokio::spawn(h2::server::handshake(theirs));
        let (http2, connection) = http2_over(ours).await.unwrap();
        tokio::spawn(drive(connection));
        (http2, upstream.await.unwrap().unwrap())
    }

    fn put(body: RequestBody) -> Request<RequestBody> {
        let request = Request::builder().method("PUT").uri("https://a.test/").version(Version::HTTP_2);
        request.body(body).unwrap()
    }

    #[tokio::test]
    async fn a_request_that_is_given_up_resets_its_stream() {
        let (http2, mut upstream) = connected().await;
        let never = futures_util::stream::pending::<Result<Frame<Bytes>, BodyError>>();
        let body = HeldBody::stored(StreamBody::new(never));
        let (body, _) = RequestBody::held(body, Arc::default(), Duration::from_secs(60));
        let sent = tokio::spawn(http2.send(put(body), None));
        let (_request, mut reply) = upstream.accept().await.unwrap().unwrap();
        tokio::spawn(async move { while upstream.accept().await.is_some() {} });
        sent.abort();
        let reason = poll_fn(|cx| reply.poll_reset(cx)).await.unwrap();
        assert_eq!(reason, Reason::CANCEL);
    }

    #[tokio::test]
    async fn what_a_connection_that_has_ended_cannot_send_comes_back() {
        let (mut http2, upstream) = connected().await;
        assert!(!http2.is_closed());
        drop(upstream);
        while !http2.is_closed() {
            tokio::task::yield_now().await;
        }
        let (body, _) = RequestBody::bytes(Bytes::from("hello"), Arc::default());
        let sent = http2.send(put(body), None).await;
        let Err(Failed::Unsent(request)) = sent else { panic!("it is not there") };
        assert_eq!(request.body().size_hint().exact(), Some(5));
    }

    /// Reads what a client sends, up to the head of its request.
    async fn read_head(io: &mut DuplexStream) {
        let mut preface = [0; 24];
        io.read_exact(&mut preface).await.unwrap();
        // RFC 9113 section 4.1: three bytes of length, then the type; HEADERS are 1.
        let mut frame = [0; 9];
        while frame[3] != 1 {
            io.read_exact(&mut frame).await.unwrap();
            let mut payload = vec![0; usize::from(frame[1]) * 256 + usize::from(frame[2])];
            io.read_exact(&mut payload).await.unwrap();
        }
    }

    #[tokio::test]
    async fn what_a_goaway_leaves_out_was_not_looked_at_unless_it_tells_of_an_error() {
        for (code, is_unanswered) in [(0, true), (11, false)] {
            let (ours, mut upstream) = tokio::io::duplex(64 * 1024);
            let (http2, connection) = http2_over(ours).await.unwrap();
            tokio::spawn(drive(connection));
            let sent = tokio::spawn(http2.send(put(RequestBody::empty()), None));
            read_head(&mut upstream).await;
            let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
            // No stream was looked at (RFC 9113 section 6.8).
            let goaway = [0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, code];
            upstream.write_all(&[&settings[..], &goaway].concat()).await.unwrap();
            let failed = sent.await.unwrap().unwrap_err();
            assert_eq!(failed.is_unanswered(), is_unanswered, "{code}: {failed:?}");
        }
    }

    #[tokio::test]
    async fn a_body_that_waits_for_leave_is_not_sent_behind_a_refusal() {
        let (http2, mut upstream) = connected().await;
        let (body, _) = RequestBody::bytes(Bytes::from("hello"), Arc::default());
        let mut request = put(body);
        request.headers_mut().insert("expect", "100-continue".parse().unwrap());
        let sent = tokio::spawn(http2.send(request, None));
        let (mut request, mut reply) = upstream.accept().await.unwrap().unwrap();
        tokio::spawn(async move { while upstream.accept().await.is_some() {} });
        drop(reply.send_response(Response::builder().status(417).body(()).unwrap(), true).unwrap());
        assert_eq!(sent.await.unwrap().unwrap().status(), 417);
        let end = request.body_mut().data().await.unwrap().unwrap_err();
        assert_eq!(end.reason(), Some(Reason::CANCEL));
    }
}
