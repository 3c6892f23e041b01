//! A server of tonic's with the methods of `server.py`, written as tonic-build would write them, for messages
//! that are bytes.

use std::convert::Infallible;
use std::future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use e2e::World;
use e2e::tonic_client::{MESSAGE_BYTES_MAX, Raw, numbered, shown, use_aws_lc};
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tonic::body::Body;
use tonic::codegen::tokio_stream::{self, Stream, StreamExt};
use tonic::codegen::{BoxFuture, BoxStream, Service};
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::server::{ClientStreamingService, Grpc, ServerStreamingService, StreamingService, UnaryService};
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Identity, Server, ServerTlsConfig};
use tonic::{Code, Request, Response, Status, Streaming};

use crate::support::{PLAIN, TLS};

/// Longer than anything waits in these tests.
const PATIENCE: Duration = Duration::from_secs(20);

/// What the server saw, as `server.py` prints it.
#[derive(Clone, Debug, Default)]
struct Events(Arc<Mutex<Vec<Value>>>);

impl Events {
    fn say(&self, kind: &str, what: &Value) {
        let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
        self.0.lock().unwrap().push(json!({ "event": kind, "at": at, "what": what }));
    }
}

/// A server without TLS and with it, for `api.test`. Stops when dropped.
#[derive(Debug)]
pub(crate) struct TonicServer {
    events: Events,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl TonicServer {
    pub(crate) fn start(world: &World) -> Self {
        use_aws_lc();
        let listen = |address: SocketAddr| {
            let listener = std::net::TcpListener::bind(address).unwrap();
            listener.set_nonblocking(true).unwrap();
            listener
        };
        let listeners = world.origin_namespace().enter(|| [PLAIN, TLS].map(listen));
        let (certificate, key) = world.authority().issue(&["api.test"]);
        let identity = ServerTlsConfig::new().identity(Identity::from_pem(certificate, key));
        let (stop, stopped) = oneshot::channel();
        let events = Events::default();
        let echo = Echo { events: events.clone() };
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let [plain, tls] = listeners
                    .map(|listener| TcpIncoming::from(tokio::net::TcpListener::from_std(listener).unwrap()));
                let secured = Server::builder().tls_config(identity).unwrap();
                tokio::select! {
                    ended = Server::builder().serve_with_incoming(echo.clone(), plain) => ended.unwrap(),
                    ended = secured.serve_with_incoming(echo.clone(), tls) => ended.unwrap(),
                    _ = stopped => {}
                }
            });
        });
        Self { events, stop: Some(stop), thread: Some(thread) }
    }

    /// Everything that it saw of this kind since this was asked last.
    pub(crate) fn take(&self, kind: &str) -> Vec<Value> {
        let mut events = self.events.0.lock().unwrap();
        let (taken, kept) =
            std::mem::take(&mut *events).into_iter().partition(|event| event["event"] == kind);
        *events = kept;
        taken
    }

    /// Waits until it has seen this, and says what it saw then.
    #[track_caller]
    pub(crate) fn wait_for(&self, kind: &str) -> Value {
        let began = Instant::now();
        loop {
            if let Some(event) = self.take(kind).pop() {
                return event;
            }
            assert!(began.elapsed() < PATIENCE, "the server has not seen {kind}");
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for TonicServer {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// The service `test.Echo`.
#[derive(Clone, Debug)]
struct Echo {
    events: Events,
}

impl Service<http::Request<Body>> for Echo {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let echo = self.clone();
        Box::pin(async move {
            let path = request.uri().path().to_owned();
            echo.events.say("asked", &json!([path, shown(request.headers())]));
            let mut grpc = Grpc::new(Raw).max_decoding_message_size(MESSAGE_BYTES_MAX);
            Ok(match path.as_str() {
                "/test.Echo/Unary" => grpc.unary(Unary, request).await,
                "/test.Echo/Collect" => grpc.client_streaming(Collect, request).await,
                "/test.Echo/Spread" => grpc.server_streaming(Spread, request).await,
                "/test.Echo/Chat" => grpc.streaming(Chat, request).await,
                "/test.Echo/Fail" => grpc.unary(Fail, request).await,
                "/test.Echo/Wait" => grpc.server_streaming(Wait(echo.events), request).await,
                "/test.Echo/Hang" => grpc.unary(Hang(echo.events), request).await,
                _ => Status::new(Code::Unimplemented, "").into_http(),
            })
        })
    }
}

/// What every answer to metadata says in turn.
fn answering(asked: &MetadataMap) -> (MetadataMap, MetadataMap) {
    let (mut initial, mut trailing) = (MetadataMap::new(), MetadataMap::new());
    if let Some(value) = asked.get("x-ask") {
        initial.insert("x-initial", value.clone());
    }
    trailing.insert("x-trailing", MetadataValue::from_static("last"));
    if let Some(value) = asked.get_bin("x-ask-bin") {
        initial.insert_bin("x-initial-bin", value.clone());
        trailing.insert_bin("x-ask-bin", value.clone());
    }
    (initial, trailing)
}

struct Unary;

impl UnaryService<Bytes> for Unary {
    type Response = Bytes;
    type Future = BoxFuture<Response<Bytes>, Status>;

    fn call(&mut self, request: Request<Bytes>) -> Self::Future {
        Box::pin(async {
            let (initial, _) = answering(request.metadata());
            let mut response = Response::new(request.into_inner());
            *response.metadata_mut() = initial;
            Ok(response)
        })
    }
}

struct Collect;

impl ClientStreamingService<Bytes> for Collect {
    type Response = Bytes;
    type Future = BoxFuture<Response<Bytes>, Status>;

    fn call(&mut self, request: Request<Streaming<Bytes>>) -> Self::Future {
        Box::pin(async {
            let (mut messages, mut count, mut total) = (request.into_inner(), 0, 0);
            while let Some(message) = messages.message().await? {
                count += 1;
                total += message.len();
            }
            Ok(Response::new(Bytes::from(json!([count, total]).to_string())))
        })
    }
}

struct Spread;

impl ServerStreamingService<Bytes> for Spread {
    type Response = Bytes;
    type ResponseStream = BoxStream<Bytes>;
    type Future = BoxFuture<Response<Self::ResponseStream>, Status>;

    fn call(&mut self, request: Request<Bytes>) -> Self::Future {
        Box::pin(async move {
            let asked = serde_json::from_slice::<[u32; 2]>(request.get_ref());
            let [count, size] = asked.map_err(|error| Status::invalid_argument(error.to_string()))?;
            let messages = (0..count).map(move |number| Ok(numbered(number, size)));
            Ok(Response::new(Box::pin(tokio_stream::iter(messages)) as Self::ResponseStream))
        })
    }
}

struct Chat;

impl StreamingService<Bytes> for Chat {
    type Response = Bytes;
    type ResponseStream = BoxStream<Bytes>;
    type Future = BoxFuture<Response<Self::ResponseStream>, Status>;

    fn call(&mut self, request: Request<Streaming<Bytes>>) -> Self::Future {
        Box::pin(async {
            let (initial, trailing) = answering(request.metadata());
            // A status that is no failure: tonic has no other place for trailing metadata.
            let end = Err(Status::with_metadata(Code::Ok, "", trailing));
            let messages = request.into_inner().chain(tokio_stream::once(end));
            let mut response = Response::new(Box::pin(messages) as Self::ResponseStream);
            *response.metadata_mut() = initial;
            Ok(response)
        })
    }
}

struct Fail;

impl UnaryService<Bytes> for Fail {
    type Response = Bytes;
    type Future = BoxFuture<Response<Bytes>, Status>;

    fn call(&mut self, _: Request<Bytes>) -> Self::Future {
        Box::pin(async {
            let mut why = MetadataMap::new();
            why.insert("x-why", MetadataValue::from_static("gone"));
            Err(Status::with_metadata(Code::NotFound, "no such thing: 100%", why))
        })
    }
}

/// Says when it is dropped, which is when the client is gone.
struct Held(Events);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.say("ended", &Value::Null);
    }
}

/// Says something, and then nothing until the client is gone.
struct Wait(Events);

struct Waiting {
    first: Option<Bytes>,
    _held: Held,
}

impl Stream for Waiting {
    type Item = Result<Bytes, Status>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.first.take().map_or(Poll::Pending, |first| Poll::Ready(Some(Ok(first))))
    }
}

impl ServerStreamingService<Bytes> for Wait {
    type Response = Bytes;
    type ResponseStream = Waiting;
    type Future = BoxFuture<Response<Waiting>, Status>;

    fn call(&mut self, _: Request<Bytes>) -> Self::Future {
        let held = Held(self.0.clone());
        Box::pin(async {
            Ok(Response::new(Waiting { first: Some(Bytes::from_static(b"began")), _held: held }))
        })
    }
}

/// Says nothing at all until the client is gone.
struct Hang(Events);

impl UnaryService<Bytes> for Hang {
    type Response = Bytes;
    type Future = BoxFuture<Response<Bytes>, Status>;

    fn call(&mut self, _: Request<Bytes>) -> Self::Future {
        let held = Held(self.0.clone());
        Box::pin(async move {
            let never: Infallible = future::pending().await;
            drop(held);
            match never {}
        })
    }
}
