//! Opens a connection to an upstream: TCP to a checked address, verified TLS, HTTP handshake.

mod store;

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use sluicegate_policy::{Host, Scheme};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;

use super::UpstreamError;
use super::pool::Origin;
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

/// Makes connections under one verification profile.
#[derive(Debug)]
pub(super) struct Connector {
    extra_roots: Vec<CertificateDer<'static>>,
    tls: OnceLock<Tls>,
    deadline: Duration,
}

/// The client configurations; they differ in what they offer, and share roots and sessions.
#[derive(Debug)]
struct Tls {
    http1: Arc<ClientConfig>,
    http2: Arc<ClientConfig>,
}

impl Connector {
    /// `extra_roots` are trusted besides the system's; `deadline` bounds name to handshake.
    pub(super) fn new(extra_roots: Vec<CertificateDer<'static>>, deadline: Duration) -> Self {
        Self { extra_roots, tls: OnceLock::new(), deadline }
    }

    /// Whether exactly these certificates are trusted besides the system's.
    pub(super) fn trusts(&self, extra_roots: &[CertificateDer<'static>]) -> bool {
        self.extra_roots == extra_roots
    }

    /// Connects to the first of `addresses` that answers.
    pub(super) async fn connect(
        &self,
        origin: &Origin,
        addresses: &[SocketAddr],
    ) -> Result<(Sender, SocketAddr), UpstreamError> {
        let deadline = Instant::now() + self.deadline;
        let (io, address) = dial(addresses, deadline).await?;
        let sender = match origin.scheme {
            Scheme::Http => http1_over(io).await?,
            Scheme::Https => {
                let tls = self.tls()?;
                let config = if origin.multiplexed { &tls.http2 } else { &tls.http1 };
                let connector = TlsConnector::from(Arc::clone(config));
                let name = server_name(&origin.authority.host)?;
                // Boxed: a handshake's state is tens of KiB and lives for milliseconds.
                let handshake = Box::pin(connector.connect(name, io));
                let io = timeout_at(deadline, handshake)
                    .await
                    .map_err(|_| UpstreamError::ConnectTimeout)?
                    .map_err(UpstreamError::Tls)?;
                if io.get_ref().1.alpn_protocol() == Some(b"h2") {
                    http2_over(io).await?
                } else {
                    http1_over(io).await?
                }
            }
        };
        Ok((sender, address))
    }

    /// Made when the first TLS connection needs it: reading the system's roots costs milliseconds
    /// and a megabyte that a gate in front of nothing never pays.
    fn tls(&self) -> Result<&Tls, UpstreamError> {
        if let Some(tls) = self.tls.get() {
            return Ok(tls);
        }
        let mut roots = RootCertStore::empty();
        let system = rustls_native_certs::load_native_certs();
        for error in &system.errors {
            tracing::warn!(%error, "a system root certificate cannot be read");
        }
        roots.add_parsable_certificates(system.certs);
        roots.add_parsable_certificates(self.extra_roots.iter().cloned());
        if roots.is_empty() {
            return Err(UpstreamError::NoRoots);
        }
        let mut http1 =
            ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
                .with_safe_default_protocol_versions()
                .map_err(|error| UpstreamError::Tls(io::Error::other(error)))?
                .with_root_certificates(roots)
                .with_no_client_auth();
        let mut http2 = http1.clone();
        http1.alpn_protocols = vec![b"http/1.1".to_vec()];
        http2.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(self.tls.get_or_init(|| Tls { http1: Arc::new(http1), http2: Arc::new(http2) }))
    }
}

/// Reads certificates out of PEM text.
///
/// # Errors
/// When it holds none, or one that is not PEM.
pub(crate) fn certificates(
    pem: &[u8],
) -> Result<Vec<CertificateDer<'static>>, rustls::pki_types::pem::Error> {
    let found = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>()?;
    if found.is_empty() {
        return Err(rustls::pki_types::pem::Error::NoItemsFound);
    }
    Ok(found)
}

#[expect(
    clippy::disallowed_methods,
    reason = "this is the place that dials: the verdict and the address check came before"
)]
async fn dial(addresses: &[SocketAddr], deadline: Instant) -> Result<(TcpStream, SocketAddr), UpstreamError> {
    let mut last = UpstreamError::NoAddress;
    for address in addresses {
        match timeout_at(deadline, TcpStream::connect(address)).await {
            Err(_) => return Err(UpstreamError::ConnectTimeout),
            Ok(Err(error)) => last = UpstreamError::Connect { address: *address, source: error },
            Ok(Ok(io)) => {
                // A request's head and body are two writes; without this the second waits.
                io.set_nodelay(true)
                    .map_err(|source| UpstreamError::Connect { address: *address, source })?;
                return Ok((io, *address));
            }
        }
    }
    Err(last)
}

/// Dials without TLS or HTTP, for a flow that is spliced.
pub(super) async fn dial_raw(
    addresses: &[SocketAddr],
    limit: Duration,
) -> Result<(TcpStream, SocketAddr), UpstreamError> {
    dial(addresses, Instant::now() + limit).await
}

fn server_name(host: &Host) -> Result<ServerName<'static>, UpstreamError> {
    match host {
        Host::Ip(ip) => Ok(ServerName::from(*ip)),
        Host::Dns(name) => ServerName::try_from(name.to_string()).map_err(|_| UpstreamError::NameNotFound),
    }
}

async fn http1_over<Io>(io: Io) -> Result<Sender, UpstreamError>
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
    tokio::spawn(drive(connection));
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
async fn drive(connection: impl Future<Output = hyper::Result<()>>) {
    if let Err(error) = connection.await {
        tracing::debug!(%error, "an upstream connection ended");
    }
}
