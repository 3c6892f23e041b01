//! A client of HTTP/1.1 and HTTP/2 over TLS that sees all of an answer.

use std::future::Future;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use bytes::Bytes;
use e2e::Attached;
use http::{HeaderMap, Request, Response, Version};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use tokio_rustls::TlsConnector;

use crate::support::{ANYWHERE, DEADLINE};

/// The longest answer of these tests, in bytes.
const BODY_MAX: usize = 1 << 20;

/// A body of a request.
pub(crate) type Body = BoxBody<Bytes, std::convert::Infallible>;

/// An answer, read to its end.
#[derive(Debug)]
pub(crate) struct Whole {
    pub(crate) head: http::response::Parts,
    pub(crate) body: Bytes,
    pub(crate) trailers: HeaderMap,
}

/// A connection through the gate, before its handshake.
pub(crate) struct Line {
    io: TcpStream,
    config: Arc<ClientConfig>,
    version: Version,
}

impl Line {
    /// Opens one for a version of HTTP.
    pub(crate) fn open(gate: &Attached<'_>, version: Version) -> Self {
        let config = trusting(gate, if version == Version::HTTP_2 { b"h2" } else { b"http/1.1" });
        let address = SocketAddr::new(ANYWHERE.into(), 443);
        let io = gate.namespace().enter(|| TcpStream::connect_timeout(&address, DEADLINE)).unwrap();
        io.set_nonblocking(true).unwrap();
        io.set_nodelay(true).unwrap();
        Self { io, config, version }
    }

    /// Sends a request to `https://api.test`, and gives the answer's head to `then`.
    pub(crate) fn ask<T, F>(self, request: Request<Body>, then: impl FnOnce(Response<Incoming>) -> F) -> T
    where
        F: Future<Output = T>,
    {
        self.speak(async |mut sender| then(sender.send(request).await).await)
    }

    /// The connection itself, for bytes in TLS that no library would send.
    pub(crate) fn raw(self) -> StreamOwned<ClientConnection, TcpStream> {
        self.io.set_nonblocking(false).unwrap();
        self.io.set_read_timeout(Some(DEADLINE)).unwrap();
        let name = ServerName::try_from("api.test").unwrap();
        StreamOwned::new(ClientConnection::new(self.config, name).unwrap(), self.io)
    }

    /// Gives what sends requests to `https://api.test` on this connection to `calls`.
    pub(crate) fn speak<T>(self, calls: impl AsyncFnOnce(Sender) -> T) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let io = tokio::net::TcpStream::from_std(self.io).unwrap();
            let name = ServerName::try_from("api.test").unwrap();
            let io = TokioIo::new(TlsConnector::from(self.config).connect(name, io).await.unwrap());
            let sender = if self.version == Version::HTTP_2 {
                let (sender, connection) = http2::handshake(TokioExecutor::new(), io).await.unwrap();
                tokio::spawn(connection);
                Sender::Http2(sender)
            } else {
                let (sender, connection) = http1::handshake(io).await.unwrap();
                tokio::spawn(connection);
                Sender::Http1(sender)
            };
            calls(sender).await
        })
    }
}

/// Sends requests to `https://api.test` on one connection.
pub(crate) enum Sender {
    /// One after the other.
    Http1(http1::SendRequest<Body>),
    /// As many at once as there are clones.
    Http2(http2::SendRequest<Body>),
}

impl Sender {
    /// Sends one, and waits for the answer's head.
    pub(crate) async fn send(&mut self, mut request: Request<Body>) -> Response<Incoming> {
        match self {
            Self::Http1(sender) => {
                request.headers_mut().insert("host", "api.test".parse().unwrap());
                sender.send_request(request).await.unwrap()
            }
            Self::Http2(sender) => {
                *request.uri_mut() = format!("https://api.test{}", request.uri().path()).parse().unwrap();
                sender.send_request(request).await.unwrap()
            }
        }
    }
}

/// Sends a request to `https://api.test` through the gate, and reads the answer to its end.
pub(crate) fn call(gate: &Attached<'_>, version: Version, request: Request<Body>) -> Whole {
    Line::open(gate, version).ask(request, async |response| {
        let (head, body) = response.into_parts();
        #[expect(clippy::disallowed_methods, reason = "it is limited")]
        let collected = Limited::new(body, BODY_MAX).collect().await.expect("the whole body");
        let trailers = collected.trailers().cloned().unwrap_or_default();
        Whole { head, body: collected.to_bytes(), trailers }
    })
}

fn trusting(gate: &Attached<'_>, protocol: &[u8]) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(gate.ca_file()).unwrap()).unwrap();
    let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![protocol.to_vec()];
    Arc::new(config)
}
