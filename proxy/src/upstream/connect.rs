//! From a connection to an upstream to one that requests can be sent on: verified TLS, HTTP handshake.

mod store;

use std::net::SocketAddr;
use std::time::Duration;

use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use sluicegate_policy::{Authority, Scheme};
use tokio::time::{Instant, timeout_at};

use super::pool::Origin;
use super::tls::{Configuration, handshake};
use super::upgrade::has_only_http2;
use super::way::Way;
use super::{Upstream, UpstreamError};
use crate::body::RequestBody;
use crate::request_head::{HEAD_BYTES_MAX, HEADERS_MAX};

/// Window of one HTTP/2 stream, in bytes: what keeps a 100 Mbit/s path of 80 ms busy, and the most
/// that a workload which does not read makes us hold for one response.
pub(crate) const STREAM_WINDOW: u32 = 1024 * 1024;

/// Window of an HTTP/2 connection, in bytes: a few streams in full flow.
pub(crate) const CONNECTION_WINDOW: u32 = 4 * STREAM_WINDOW;

/// An established connection, ready for a request.
#[derive(Debug)]
pub(super) enum Sender {
    Http1(http1::SendRequest<RequestBody>),
    Http2(http2::SendRequest<RequestBody>),
}

impl Upstream {
    /// Connects, verifies, and agrees on the version of HTTP. `way` is that of the origin's authority.
    ///
    /// Over TLS, what the workload speaks as HTTP/1.1 goes by HTTP/2 where the upstream has nothing else.
    pub(super) async fn connect(
        &self,
        origin: &Origin,
        way: &Way<'_>,
    ) -> Result<(Sender, SocketAddr), UpstreamError> {
        let deadline = Instant::now() + self.connect_timeout;
        match self.connect_as(origin, way, (origin.multiplexed, deadline)).await {
            Err(error) if !origin.multiplexed && has_only_http2(&error) => {
                self.connect_as(origin, way, (true, deadline)).await
            }
            connected => connected,
        }
    }

    async fn connect_as(
        &self,
        origin: &Origin,
        way: &Way<'_>,
        (multiplexed, deadline): (bool, Instant),
    ) -> Result<(Sender, SocketAddr), UpstreamError> {
        let (wire, address) = self.dial(way, deadline).await?;
        let sender = match origin.scheme {
            // Nothing is agreed on: both sides know beforehand (RFC 9113 section 3.3).
            Scheme::Http if multiplexed => http2_over(wire).await?,
            Scheme::Http => http1_over(wire).await?,
            Scheme::Https => {
                let configuration = self.configuration_for(&origin.authority)?;
                let config = if multiplexed { &configuration.http2 } else { &configuration.http1 };
                let io = timeout_at(deadline, handshake(config, &origin.authority, wire))
                    .await
                    .map_err(|_| UpstreamError::ConnectTimeout)??;
                if io.get_ref().1.alpn_protocol() == Some(b"h2") {
                    http2_over(io).await?
                } else {
                    http1_over(io).await?
                }
            }
        };
        Ok((sender, address))
    }

    /// How TLS is spoken with this authority: with the client certificate that it is shown, if any.
    pub(super) fn configuration_for(&self, authority: &Authority) -> Result<&Configuration, UpstreamError> {
        self.tls.configuration(self.policy.upstream().client_certificate(authority))
    }
}

/// HTTP/1.1 over a connection that is there.
pub(super) async fn http1_over<Io>(io: Io) -> Result<Sender, UpstreamError>
where
    Io: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
{
    let (sender, connection) = http1::Builder::new()
        .preserve_header_case(true)
        .max_headers(HEADERS_MAX)
        .max_header_size(HEAD_BYTES_MAX)
        .handshake(TokioIo::new(io))
        .await
        .map_err(UpstreamError::Http)?;
    tokio::spawn(drive(connection.with_upgrades()));
    Ok(Sender::Http1(sender))
}

async fn http2_over<Io>(io: Io) -> Result<Sender, UpstreamError>
where
    Io: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
{
    let (sender, connection) = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(u32::try_from(HEAD_BYTES_MAX).unwrap_or(u32::MAX))
        // Finds a dead path under waiting requests; idle connections are left alone.
        .keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(10))
        .handshake(TokioIo::new(io))
        .await
        .map_err(UpstreamError::Http)?;
    tokio::spawn(drive(connection));
    Ok(Sender::Http2(sender))
}

/// Moves a connection's bytes until it ends; its exchanges are told of errors themselves.
pub(super) async fn drive(connection: impl Future<Output = hyper::Result<()>>) {
    if let Err(error) = connection.await {
        tracing::debug!(%error, "an upstream connection ended");
    }
}
