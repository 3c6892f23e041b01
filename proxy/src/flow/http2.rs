//! Plain or decrypted HTTP/2 of a workload, handed to the h2 library within its limits.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use h2::server::{self, SendResponse};
use h2::{Reason, RecvStream, SendStream};
use http::header::CONTENT_LENGTH;
use http::{Method, Request, Response};
use http_body::Body as _;
use sluicegate_policy::DenyReason;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout};

use super::http::{IDLE_DEADLINE, connection};
use super::{FlowError, Told};
use crate::activity::Activity;
use crate::audit::Verdict;
use crate::body::{Arriving, ResponseBody};
use crate::exchange::Connection;
use crate::frame_watch::{BrokenRequest, FrameWatch};
use crate::gate::Gate;
use crate::http2::{self, Gathered, Patience, Peer, Promised, Pump, Received, Tunnel};
use crate::interim::StreamInterim;
use crate::request_head::HEAD_BYTES_MAX;
use crate::upstream::{CONNECTION_WINDOW, STREAM_WINDOW};

/// HTTP/2 streams that a workload may have open at once on one connection; nginx says 128, and
/// clients open another connection beyond it.
const STREAMS_MAX: u32 = 200;

/// How long a workload may be silent before it is asked whether it is there: one that is gone without a
/// word is found by that, and a live one answers.
const PING_INTERVAL: Duration = Duration::from_secs(60);

/// How long it then has to send anything.
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// Serves HTTP/2 until either side ends it.
///
/// # Errors
/// [`FlowError::Http2`] where it was the gate that ended it, because of what the workload sent.
pub(super) async fn serve_http2<Io>(gate: &Arc<Gate>, told: Told, io: Io) -> Result<(), FlowError>
where
    Io: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let name = told.name.clone();
    let io = FrameWatch::new(io, HEAD_BYTES_MAX, telling(gate, &told));
    let changed_to = io.changed_to();
    let connection = connection(gate, told, Arc::<Activity>::default());
    match Gathered::new(pin!(serve_streams(&connection, io))).await {
        // The library ended it with a GOAWAY of its own (RFC 9113 section 5.4.1). All else is a connection
        // that broke, or that the workload gave up.
        Err(error) if error.is_go_away() && error.is_library() => {
            let source = changed_to.get().map_or(error, |&code| code.into());
            Err(FlowError::Http2 { name, source })
        }
        Err(error) => {
            tracing::debug!(%error, "a connection of the workload ended");
            Ok(())
        }
        Ok(()) => Ok(()),
    }
}

async fn serve_streams<Io>(connection: &Arc<Connection>, io: Io) -> Result<(), h2::Error>
where
    Io: AsyncRead + AsyncWrite + Unpin,
{
    let peer = Peer::new();
    let mut builder = server::Builder::new();
    builder
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(u32::try_from(HEAD_BYTES_MAX).unwrap_or(u32::MAX))
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        // WebSockets over HTTP/2 (RFC 8441).
        .enable_connect_protocol();
    let Ok(begun) = timeout(IDLE_DEADLINE, builder.handshake(peer.listen(io))).await else { return Ok(()) };
    let mut streams = begun?;
    let pings = streams.ping_pong();
    let _always = peer.wait_for();
    let gone = async {
        match pings {
            Some(pings) => {
                peer.gone(pings, Patience { interval: PING_INTERVAL, timeout: PING_TIMEOUT }).await;
            }
            None => std::future::pending().await,
        }
    };
    let (mut gone, mut draining) = (pin!(gone), pin!(connection.gate.draining.cancelled()));
    let mut idle = pin!(sleep(IDLE_DEADLINE));
    let (mut begun, mut is_draining) = (0, false);
    loop {
        tokio::select! {
            biased;
            stream = streams.accept() => match stream {
                Some(Ok((request, reply))) => {
                    tokio::spawn(Stream { reply, tunnel: None }.serve(Arc::clone(connection), request));
                }
                Some(Err(error)) => return Err(error),
                None => return Ok(()),
            },
            () = gone.as_mut() => {
                tracing::debug!("the workload does not answer a ping");
                return Ok(());
            }
            () = draining.as_mut(), if !is_draining => {
                is_draining = true;
                streams.graceful_shutdown();
            }
            () = idle.as_mut() => {
                // Nothing going on, and nothing begun since the last look.
                if !connection.activity.is_active() && connection.activity.begun() == begun {
                    streams.graceful_shutdown();
                }
                begun = connection.activity.begun();
                idle.as_mut().reset(Instant::now() + IDLE_DEADLINE);
            }
        }
    }
}

/// One stream, until it is answered.
struct Stream {
    reply: SendResponse<Bytes>,
    /// Of a CONNECT: what the stream becomes if that is agreed to.
    tunnel: Option<(RecvStream, oneshot::Sender<Tunnel>)>,
}

impl Stream {
    /// Has the request answered, and sends the answer. Ends early where the workload gives the stream up.
    async fn serve(mut self, connection: Arc<Connection>, request: Request<RecvStream>) {
        let interim = Arc::<StreamInterim>::default();
        let request = self.arriving(request);
        let told = Arc::clone(&interim);
        // Boxed, so that an answer in motion does not hold the room for an exchange.
        let answered = Box::pin(async move { connection.answer(request, Some(told)).await });
        let Some(response) = self.wait_for(answered, &interim).await else { return };
        match self.answer(response) {
            Ok(Some(pump)) => {
                if let Err(error) = pump.await {
                    tracing::debug!(%error, "a response was not sent to its end");
                }
            }
            Ok(None) => {}
            Err(error) => tracing::debug!(%error, "a response was not sent"),
        }
    }

    /// The request with its body; a CONNECT has none, but its stream may become a tunnel.
    fn arriving(&mut self, request: Request<RecvStream>) -> Request<Arriving> {
        let (mut head, stream) = request.into_parts();
        if head.method != Method::CONNECT {
            let length = http2::content_length(&head.headers);
            return Request::from_parts(head, Arriving::Http2(Received::new(stream, length)));
        }
        let (keep, promised) = http2::promise();
        head.extensions.insert::<Promised>(promised);
        self.tunnel = Some((stream, keep));
        Request::from_parts(head, Arriving::Nothing)
    }

    /// Waits for the answer, and sends what is said before it. `None` where the workload has reset the
    /// stream, or its connection has ended.
    async fn wait_for(
        &mut self,
        mut answered: Pin<Box<impl Future<Output = Response<ResponseBody>>>>,
        interim: &StreamInterim,
    ) -> Option<Response<ResponseBody>> {
        poll_fn(|cx| {
            let response = answered.as_mut().poll(cx);
            if self.is_reset(cx) {
                return Poll::Ready(None);
            }
            while let Some(head) = interim.take(cx) {
                if let Err(error) = self.reply.send_informational(head) {
                    tracing::debug!(%error, "an interim response was not sent");
                }
            }
            if response.is_ready() {
                interim.close();
            }
            response.map(Some)
        })
        .await
    }

    fn is_reset(&mut self, cx: &mut Context<'_>) -> bool {
        self.reply.poll_reset(cx).is_ready()
    }

    /// Sends the head of an answer. What is returned sends the body, if there is one.
    fn answer(mut self, response: Response<ResponseBody>) -> Result<Option<Pump<ResponseBody>>, h2::Error> {
        let (mut head, body) = response.into_parts();
        http2::strip(&mut head.headers, false);
        let is_agreed = head.status.is_success();
        if let Some((receive, keep)) = self.tunnel.take().filter(|_| is_agreed) {
            head.headers.remove(CONTENT_LENGTH);
            let send = self.send(Response::from_parts(head, ()), false)?;
            // Who does not wait for it any more drops it.
            drop(keep.send(Tunnel::new(send, receive, None)));
            return Ok(None);
        }
        let is_over = body.is_end_stream();
        if let Some(length) = body.size_hint().exact().filter(|_| !is_over) {
            http2::state_length(&mut head.headers, length);
        }
        let stream = self.send(Response::from_parts(head, ()), is_over)?;
        Ok((!is_over).then(|| Pump::new(body, stream)))
    }

    fn send(&mut self, head: Response<()>, is_over: bool) -> Result<SendStream<Bytes>, h2::Error> {
        let sent = self.reply.send_response(head, is_over);
        if sent.is_err() {
            self.reply.send_reset(Reason::INTERNAL_ERROR);
        }
        sent
    }
}

/// Logs what the library ended by itself: nobody judged it, and nothing of it went anywhere.
fn telling(gate: &Arc<Gate>, told: &Told) -> impl Fn(BrokenRequest) + Send + use<> {
    let (gate, from, name) = (Arc::clone(gate), told.from, told.name.clone());
    move |BrokenRequest { stream, reason }| {
        let mut record = from.fault(&gate, name.as_ref());
        record.verdict = Some(Verdict::Refused);
        record.reason = Some(DenyReason::MalformedRequest.as_str());
        record.set_detail(match reason {
            Some(reason) => {
                format!("the workload broke the rules of HTTP/2: stream {stream} was reset, {reason:?}")
            }
            None => format!("the head of stream {stream} has more than {} KiB: 431", HEAD_BYTES_MAX / 1024),
        });
    }
}
