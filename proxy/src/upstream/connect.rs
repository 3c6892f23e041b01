//! From a connection to an upstream to one that requests can be sent on: verified TLS, HTTP handshake.

mod store;

use std::net::SocketAddr;

use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use sluicegate_policy::{Authority, Scheme};
use tokio::time::{Instant, timeout_at};

use super::http2::{Http2, drive, http2_over};
use super::pool::Origin;
use super::tls::{Configuration, handshake};
use super::upgrade::has_only_http2;
use super::way::Way;
use super::{Upstream, UpstreamError};
use crate::body::RequestBody;
use crate::request_head::{HEAD_BYTES_MAX, HEADERS_MAX};

/// An established connection, ready for a request.
#[derive(Debug)]
pub(super) enum Sender {
    Http1(http1::SendRequest<RequestBody>),
    Http2(Http2),
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
            Scheme::Http if multiplexed => shared(wire, deadline).await?,
            Scheme::Http => http1_over(wire).await?,
            Scheme::Https => {
                let configuration = self.configuration_for(&origin.authority)?;
                let config = if multiplexed { &configuration.http2 } else { &configuration.http1 };
                let io = timeout_at(deadline, handshake(config, &origin.authority, wire))
                    .await
                    .map_err(|_| UpstreamError::ConnectTimeout)??;
                if io.get_ref().1.alpn_protocol() == Some(b"h2") {
                    shared(io, deadline).await?
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
    tokio::spawn(async move {
        // Its exchanges are told of errors themselves.
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "an upstream connection ended");
        }
    });
    Ok(Sender::Http1(sender))
}

/// HTTP/2 over a connection that is there, shared by all who send on it.
async fn shared<Io>(io: Io, deadline: Instant) -> Result<Sender, UpstreamError>
where
    Io: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
{
    let begun = timeout_at(deadline, http2_over(io)).await;
    let (http2, connection) = begun.map_err(|_| UpstreamError::ConnectTimeout)??;
    tokio::spawn(drive(connection));
    Ok(Sender::Http2(http2))
}
