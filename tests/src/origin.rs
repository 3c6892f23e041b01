//! Servers in the origin namespace that note what reaches them.

use std::convert::Infallible;
use std::future;
use std::io::{self, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use aws_lc_rs::digest;
use http::{Request, Response, Version};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ServerConfig;
use serde_json::json;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;

use crate::certificates::Identity;
use crate::namespace::Namespace;
use crate::reply::{Act, Reply, ReplyBody, hex};
use crate::world::{ORIGIN_IPV4, World};

/// How much of a request body, and of what came in on a connection, is kept to look at.
const KEPT: usize = 64 * 1024;

/// How an origin listens. `Default` is an HTTPS server for every name, with HTTP/2 and HTTP/1.1, on
/// a free port of [`ORIGIN_IPV4`].
#[derive(Clone, Debug)]
pub struct OriginConfig {
    /// An address of the origin namespace; see [`World::add_origin_address`].
    pub address: IpAddr,
    /// 0 takes a free port.
    pub port: u16,
    /// What certificate it shows.
    pub identity: Identity,
    /// What it offers by ALPN. Without TLS, `["h2"]` means HTTP/2 with prior knowledge.
    pub alpn: &'static [&'static str],
}

impl Default for OriginConfig {
    fn default() -> Self {
        Self { address: ORIGIN_IPV4.into(), port: 0, identity: Identity::Trusted, alpn: &["h2", "http/1.1"] }
    }
}

/// A request as it reached an origin.
#[derive(Clone, Debug)]
pub struct Received {
    /// The method.
    pub method: String,
    /// The request target as it was sent: a path, or an absolute URI on HTTP/2.
    pub target: String,
    /// Path and query.
    pub path: String,
    /// `:authority`, or the `Host` header.
    pub authority: String,
    /// The HTTP version.
    pub version: Version,
    /// Every header field in the order of arrival, names in lower case; bytes that are not UTF-8 are
    /// replaced. [`Origin::connections_seen`] has the bytes as they came.
    pub headers: Vec<(String, String)>,
    /// The beginning of the body.
    pub body: Vec<u8>,
    /// Bytes of the whole body.
    pub body_length: u64,
    /// Of the whole body, in lower-case hex.
    pub body_sha256: String,
    /// The fields that followed the body, names in lower case.
    pub trailers: Vec<(String, String)>,
    /// Whether the body came to its end.
    pub complete: bool,
    /// Which of the origin's connections it came by, from 0.
    pub connection: usize,
    /// The TLS handshake of that connection.
    pub handshake: Option<Handshake>,
}

/// What a client negotiated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handshake {
    /// The server name it asked for.
    pub sni: Option<String>,
    /// The protocol that was agreed on.
    pub alpn: Option<String>,
    /// `TLSv1_2` or `TLSv1_3`.
    pub version: String,
}

impl Received {
    /// Every value of a header, in order.
    pub fn header(&self, name: &str) -> Vec<&str> {
        self.headers.iter().filter(|(field, _)| field == name).map(|(_, value)| value.as_str()).collect()
    }

    /// All of it as JSON: the answer of an echo origin.
    pub fn to_json(&self) -> serde_json::Value {
        json!({
            "method": self.method,
            "target": self.target,
            "path": self.path,
            "authority": self.authority,
            "version": format!("{:?}", self.version),
            "headers": self.headers,
            "body_length": self.body_length,
            "body_sha256": self.body_sha256,
            "connection": self.connection,
            "sni": self.handshake.as_ref().and_then(|handshake| handshake.sni.clone()),
            "alpn": self.handshake.as_ref().and_then(|handshake| handshake.alpn.clone()),
        })
    }
}

/// An HTTP server in the origin namespace. Stops when dropped.
#[derive(Debug)]
pub struct Origin {
    address: SocketAddr,
    seen: Arc<Seen>,
    _serving: Serving,
}

#[derive(Debug, Default)]
struct Seen {
    requests: Mutex<Vec<Received>>,
    handshakes: Mutex<Vec<Handshake>>,
    connections: Mutex<Vec<Arc<Mutex<Vec<u8>>>>>,
}

type Handler = dyn Fn(&Received) -> Reply + Send + Sync;

impl Origin {
    /// Starts one as [`OriginConfig::default`] says. The handler is called once the body is there.
    pub fn start(world: &World, handler: impl Fn(&Received) -> Reply + Send + Sync + 'static) -> Self {
        Self::start_with(world, OriginConfig::default(), handler)
    }

    /// One that answers `200` with [`Received::to_json`]. That shows credentials to the workload: do
    /// not use it where they must stay away from there.
    pub fn echo(world: &World) -> Self {
        Self::start(world, |request| {
            Reply::new(200, request.to_json().to_string()).header("content-type", "application/json")
        })
    }

    /// Starts one with a configuration.
    pub fn start_with(
        world: &World,
        config: OriginConfig,
        handler: impl Fn(&Received) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = listen(world.origin_namespace(), SocketAddr::new(config.address, config.port));
        let address = listener.local_addr().expect("the listener's address");
        let plain = config.identity == Identity::Plain;
        let tls = (!plain).then(|| {
            world.authority().server_config(config.identity, &config.address.to_string(), config.alpn)
        });
        let seen = Arc::new(Seen::default());
        let server = Arc::new(Server {
            seen: Arc::clone(&seen),
            handler: Box::new(handler),
            tls,
            plain_http2: plain && config.alpn == ["h2"],
        });
        Self { address, seen, _serving: Serving::start(listener, server) }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The requests so far, in the order in which they ended.
    pub fn requests(&self) -> Vec<Received> {
        self.seen.requests.lock().expect("no handler panicked").clone()
    }

    /// The one request there was; fails when there were none or several.
    pub fn only_request(&self) -> Received {
        let mut requests = self.requests();
        assert_eq!(requests.len(), 1, "the origin saw {requests:#?}");
        requests.remove(0)
    }

    /// The TLS handshakes that were completed.
    pub fn handshakes(&self) -> Vec<Handshake> {
        self.seen.handshakes.lock().expect("no handler panicked").clone()
    }

    /// For each accepted TCP connection the first bytes that came in, decrypted.
    pub fn connections_seen(&self) -> Vec<Vec<u8>> {
        let connections = self.seen.connections.lock().expect("no handler panicked");
        connections.iter().map(|bytes| bytes.lock().expect("no reader panicked").clone()).collect()
    }

    /// Fails the test if anybody so much as connected.
    #[track_caller]
    pub fn assert_untouched(&self) {
        let connections = self.connections_seen();
        let seen: Vec<_> = connections.iter().map(|bytes| String::from_utf8_lossy(bytes)).collect();
        assert!(seen.is_empty(), "the origin was touched: {seen:#?}");
    }
}

/// A TCP server in the origin namespace for what HTTP libraries would not do. Stops when dropped.
#[derive(Debug)]
pub struct TcpServer {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    listener: TcpListener,
    thread: Option<JoinHandle<()>>,
}

impl TcpServer {
    /// Starts one on a free port of [`ORIGIN_IPV4`]; each connection gets a thread. Reads and writes
    /// that take longer than 30 s fail. For TLS wrap the stream with
    /// [`TestAuthority::tls_server`](crate::TestAuthority::tls_server).
    pub fn start(world: &World, handler: impl Fn(TcpStream) + Send + Sync + 'static) -> Self {
        Self::start_at(world, SocketAddr::new(ORIGIN_IPV4.into(), 0), handler)
    }

    /// Starts one at an address of the origin namespace.
    pub fn start_at(
        world: &World,
        address: SocketAddr,
        handler: impl Fn(TcpStream) + Send + Sync + 'static,
    ) -> Self {
        let listener = listen(world.origin_namespace(), address);
        let address = listener.local_addr().expect("the listener's address");
        let connections = Arc::new(AtomicUsize::new(0));
        let (accepting, counting) =
            (listener.try_clone().expect("duplicate the listener"), Arc::clone(&connections));
        let handler = Arc::new(handler);
        let thread = thread::spawn(move || {
            while let Ok((stream, _)) = accepting.accept() {
                counting.fetch_add(1, Ordering::SeqCst);
                stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a timeout");
                stream.set_write_timeout(Some(Duration::from_secs(30))).expect("a timeout");
                let handler = Arc::clone(&handler);
                thread::spawn(move || handler(stream));
            }
        });
        Self { address, connections, listener, thread: Some(thread) }
    }

    /// One that sends fixed bytes once a request head has come, and closes.
    pub fn answering(world: &World, bytes: impl Into<Vec<u8>>) -> Self {
        let bytes = bytes.into();
        Self::start(world, move |mut stream| {
            if read_head(&mut stream).is_ok() {
                let _ = stream.write_all(&bytes);
            }
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many connections were accepted.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

impl Drop for TcpServer {
    fn drop(&mut self) {
        // On Linux this ends a blocked accept.
        let _ = SockRef::from(&self.listener).shutdown(Shutdown::Both);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Reads up to the empty line that ends a request head.
fn read_head(stream: &mut impl io::Read) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && head.len() < KEPT {
        stream.read_exact(&mut byte)?;
        head.extend_from_slice(&byte);
    }
    Ok(head)
}

/// A socket belongs to the namespace in which it was made, and so do those it accepts.
pub(crate) fn listen(namespace: &Namespace, address: SocketAddr) -> TcpListener {
    namespace
        .enter(|| TcpListener::bind(address))
        .unwrap_or_else(|error| panic!("listen on {address}: {error}"))
}

/// The thread that an origin runs on.
#[derive(Debug)]
struct Serving {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Serving {
    fn start(listener: TcpListener, server: Arc<Server>) -> Self {
        listener.set_nonblocking(true).expect("a non-blocking listener");
        let (stop, stopped) = oneshot::channel();
        let thread = thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                tokio::select! {
                    () = server.accept(listener) => {}
                    _ = stopped => {}
                }
            });
        });
        Self { stop: Some(stop), thread: Some(thread) }
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Server {
    seen: Arc<Seen>,
    handler: Box<Handler>,
    tls: Option<Arc<ServerConfig>>,
    plain_http2: bool,
}

impl Server {
    async fn accept(self: Arc<Self>, listener: TcpListener) {
        let listener = tokio::net::TcpListener::from_std(listener).expect("a tokio listener");
        while let Ok((stream, _)) = listener.accept().await {
            stream.set_nodelay(true).expect("TCP_NODELAY");
            tokio::spawn(Arc::clone(&self).connection(stream));
        }
    }

    async fn connection(self: Arc<Self>, stream: tokio::net::TcpStream) {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let number = {
            let mut connections = self.seen.connections.lock().expect("no handler panicked");
            connections.push(Arc::clone(&bytes));
            connections.len() - 1
        };
        let stream = stream.into_std().expect("a std stream");
        let socket = Arc::new(stream.try_clone().expect("duplicate the socket"));
        let stream = tokio::net::TcpStream::from_std(stream).expect("a tokio stream");
        let Some(config) = self.tls.clone() else {
            let http2 = self.plain_http2;
            return self
                .serve(Tee { io: stream, bytes }, Connection { number, handshake: None, socket }, http2)
                .await;
        };
        let Ok(stream) = TlsAcceptor::from(config).accept(stream).await else { return };
        let (_, tls) = stream.get_ref();
        let handshake = Handshake {
            sni: tls.server_name().map(str::to_owned),
            alpn: tls.alpn_protocol().map(|name| String::from_utf8_lossy(name).into_owned()),
            version: tls.protocol_version().map(|version| format!("{version:?}")).unwrap_or_default(),
        };
        self.seen.handshakes.lock().expect("no handler panicked").push(handshake.clone());
        let http2 = handshake.alpn.as_deref() == Some("h2");
        self.serve(
            Tee { io: stream, bytes },
            Connection { number, handshake: Some(handshake), socket },
            http2,
        )
        .await;
    }

    async fn serve<S>(self: Arc<Self>, io: Tee<S>, connection: Connection, http2: bool)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let connection = Arc::new(connection);
        let service = service_fn(move |request| Arc::clone(&self).answer(request, Arc::clone(&connection)));
        // How a connection ends is the client's affair; what the test asks about has been noted.
        let _ = if http2 {
            http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(io), service).await
        } else {
            http1::Builder::new().half_close(true).serve_connection(TokioIo::new(io), service).await
        };
    }

    async fn answer(
        self: Arc<Self>,
        request: Request<Incoming>,
        connection: Arc<Connection>,
    ) -> io::Result<Response<ReplyBody>> {
        let received = receive(request, &connection).await;
        self.seen.requests.lock().expect("no handler panicked").push(received.clone());
        if !received.complete {
            return Err(io::Error::other("the request body was cut"));
        }
        let reply = (self.handler)(&received);
        tokio::time::sleep(reply.delay).await;
        match reply.act {
            Act::Respond(response) => Ok(response),
            Act::Hang => {
                let never: Infallible = future::pending().await;
                match never {}
            }
            Act::Reset => {
                // With no time to linger, closing sends a reset.
                SockRef::from(&*connection.socket).set_linger(Some(Duration::ZERO))?;
                Err(io::Error::other("reset, as the test asked"))
            }
        }
    }
}

struct Connection {
    number: usize,
    handshake: Option<Handshake>,
    socket: Arc<TcpStream>,
}

async fn receive(request: Request<Incoming>, connection: &Connection) -> Received {
    let (head, mut incoming) = request.into_parts();
    let (mut body, mut body_length, mut complete) = (Vec::new(), 0_u64, true);
    let mut hash = digest::Context::new(&digest::SHA256);
    let mut trailers: Option<http::HeaderMap> = None;
    while let Some(frame) = incoming.frame().await {
        let Ok(frame) = frame else {
            complete = false;
            break;
        };
        let bytes = match frame.into_data() {
            Ok(bytes) => bytes,
            Err(frame) => {
                trailers = frame.into_trailers().ok();
                continue;
            }
        };
        hash.update(&bytes);
        body_length += bytes.len() as u64;
        body.extend_from_slice(bytes.get(..bytes.len().min(KEPT - body.len())).unwrap_or_default());
    }
    let header = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
        (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned())
    };
    let headers: Vec<_> = head.headers.iter().map(header).collect();
    let trailers = trailers.iter().flatten().map(header).collect();
    let host = || headers.iter().find(|(name, _)| name == "host").map(|(_, value)| value.clone());
    Received {
        method: head.method.to_string(),
        target: head.uri.to_string(),
        path: head.uri.path_and_query().map(ToString::to_string).unwrap_or_default(),
        authority: head.uri.authority().map(ToString::to_string).or_else(host).unwrap_or_default(),
        version: head.version,
        headers,
        body,
        body_length,
        body_sha256: hex(hash.finish().as_ref()),
        trailers,
        complete,
        connection: connection.number,
        handshake: connection.handshake.clone(),
    }
}

/// Keeps the first bytes that are read through it.
struct Tee<S> {
    io: S,
    bytes: Arc<Mutex<Vec<u8>>>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Tee<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(context, buffer))?;
        let new = buffer.filled().get(before..).unwrap_or_default();
        let mut bytes = self.bytes.lock().expect("no reader panicked");
        let room = KEPT - bytes.len();
        bytes.extend_from_slice(new.get(..new.len().min(room)).unwrap_or_default());
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Tee<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}
