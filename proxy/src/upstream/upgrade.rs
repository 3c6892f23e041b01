//! Requests that ask for an upgrade: each on a connection of its own, over which nothing else is sent.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::task::Poll;
use std::time::Duration;

use http::{Request, Response};
use rustls::AlertDescription;
use sluicegate_policy::Scheme;
use tokio::time::{Instant, timeout, timeout_at};

use super::connect::{Sender, http1_over};
use super::http2::{Http2, drive, http2_over};
use super::pool::Origin;
use super::resolve::ChosenBy;
use super::tls::handshake;
use super::way::Way;
use super::{Answered, Failed, Upstream, UpstreamError, shape};
use crate::body::{Arriving, Progress, RequestBody};
use crate::upgrade::{self, Asked};

/// How long an upstream of HTTP/2 has to say that it takes WebSockets: its settings are the first that it
/// sends (RFC 9113 section 3.4).
const SETTINGS_DEADLINE: Duration = Duration::from_secs(5);

impl Upstream {
    /// Sends a request that asks for an upgrade, and waits for the response's head. It goes over HTTP/1.1;
    /// a WebSocket for an upstream that has only HTTP/2 goes as an extended CONNECT (RFC 8441), and what
    /// comes back reads as if it had not. The connection is neither out of the pool nor goes into it.
    ///
    /// # Errors
    /// [`UpstreamError`]; the request may or may not have reached the upstream.
    pub async fn send_upgrade(
        &self,
        origin: &Origin,
        request: Request<RequestBody>,
        progress: &Progress,
    ) -> Result<Answered, UpstreamError> {
        let began = Instant::now();
        let way = self.way(&origin.authority, ChosenBy::Workload).await?;
        let is_websocket = request.extensions().get::<Asked>().is_some_and(Asked::is_websocket);
        let (response, address, connect) = match self.connect_http1(origin, &way).await {
            Ok((sender, address)) => {
                let connect = began.elapsed();
                // What is left of the connection goes with the response, whatever that is.
                let sent = self.exchange(sender, request, origin, progress).await;
                (sent.map_err(Failed::into_error)?.0, address, connect)
            }
            Err(error) if is_websocket && has_only_http2(&error) => {
                let (sender, address) = self.connect_http2(origin, &way).await?;
                let connect = began.elapsed();
                (self.extended_connect(sender, request, (origin, progress)).await?, address, connect)
            }
            Err(error) => return Err(error),
        };
        Ok(Answered { response, lease: None, address, connect, retries: 0, granted: None })
    }

    async fn connect_http1(
        &self,
        origin: &Origin,
        way: &Way<'_>,
    ) -> Result<(Sender, SocketAddr), UpstreamError> {
        let deadline = Instant::now() + self.connect_timeout;
        let (wire, address) = self.dial(way, deadline).await?;
        if origin.scheme == Scheme::Http {
            return Ok((http1_over(wire).await?, address));
        }
        let config = &self.configuration_for(&origin.authority)?.http1;
        let io = timeout_at(deadline, handshake(config, &origin.authority, wire)).await;
        let io = io.map_err(|_| UpstreamError::ConnectTimeout)??;
        Ok((http1_over(io).await?, address))
    }

    /// Connects by HTTP/2, and waits until the upstream has said that it takes an extended CONNECT.
    async fn connect_http2(
        &self,
        origin: &Origin,
        way: &Way<'_>,
    ) -> Result<(Http2, SocketAddr), UpstreamError> {
        let deadline = Instant::now() + self.connect_timeout;
        let (wire, address) = self.dial(way, deadline).await?;
        let config = &self.configuration_for(&origin.authority)?.http2;
        let io = timeout_at(deadline, handshake(config, &origin.authority, wire)).await;
        let io = io.map_err(|_| UpstreamError::ConnectTimeout)??;
        let begun = timeout_at(deadline, http2_over(io)).await;
        let (sender, connection) = begun.map_err(|_| UpstreamError::ConnectTimeout)??;
        let mut connection = Box::pin(connection);
        let is_told = poll_fn(|cx| match connection.as_mut().poll(cx) {
            Poll::Ready(ended) => Poll::Ready(ended.map(|()| false)),
            Poll::Pending if sender.takes_extended_connect() => Poll::Ready(Ok(true)),
            Poll::Pending => Poll::Pending,
        });
        match timeout(SETTINGS_DEADLINE, is_told).await {
            Ok(Ok(true)) => {}
            Ok(Err(error)) => return Err(UpstreamError::Http2(error)),
            Ok(Ok(false)) | Err(_) => {
                return Err(UpstreamError::Upgrade("it has only HTTP/2, and takes no WebSocket over it"));
            }
        }
        tokio::spawn(drive(connection));
        Ok((sender, address))
    }

    async fn extended_connect(
        &self,
        sender: Http2,
        request: Request<RequestBody>,
        (origin, progress): (&Origin, &Progress),
    ) -> Result<Response<Arriving>, UpstreamError> {
        let (mut head, body) = shape::for_http2(request, origin).into_parts();
        let agreement = upgrade::into_connect(&mut head);
        let sent = sender.send(Request::from_parts(head, body), None);
        let response = self.answer(sent, progress).await.map_err(Failed::into_error)?;
        let (mut head, body) = response.into_parts();
        upgrade::out_of_connect(&mut head, agreement)?;
        Ok(Response::from_parts(head, body))
    }
}

/// Whether a handshake failed because the upstream does not speak HTTP/1.1 (RFC 7301 section 3.2).
pub(super) fn has_only_http2(error: &UpstreamError) -> bool {
    let UpstreamError::Tls(error) = error else { return false };
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    matches!(inner, Some(rustls::Error::AlertReceived(AlertDescription::NoApplicationProtocol)))
}
