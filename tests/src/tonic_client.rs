//! A client of tonic's for the service that the tests call, with messages that are bytes.

use bytes::{Buf, BufMut, Bytes};
use http::HeaderMap;
use http::uri::PathAndQuery;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::tokio_stream;
use tonic::codegen::tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Response, Status, Streaming};

/// The longest message, in bytes; tonic takes 4 MiB if it is not told.
pub const MESSAGE_BYTES_MAX: usize = 16 << 20;
/// A codec of messages that are bytes.
#[derive(Clone, Copy, Debug)]
pub struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, message: Bytes, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.put(message);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}

/// tonic's TLS takes the process's provider, which is not told by features where a build has two.
pub fn use_aws_lc() {
    // Another test of this process may have said the same.
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
}

/// Every field of a head, names and values as they came, in no order.
pub fn shown(headers: &HeaderMap) -> Vec<String> {
    let shown = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
        format!("{name}: {}", String::from_utf8_lossy(value.as_bytes()))
    };
    let mut shown: Vec<_> = headers.iter().map(shown).collect();
    shown.sort();
    shown
}

/// A message that says its number first.
pub fn numbered(number: u32, size: u32) -> Bytes {
    let mut message = number.to_be_bytes().to_vec();
    message.resize(4 + size as usize, 0);
    message.into()
}

/// A client of `test.Echo`, as tonic-build would write it.
#[derive(Debug)]
pub struct Client(Grpc<Channel>);

impl Client {
    /// Connects; with TLS, [`use_aws_lc`] comes before.
    pub async fn connect(endpoint: &Endpoint) -> Self {
        let channel = endpoint.connect().await.expect("a connection");
        Self(Grpc::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX))
    }

    async fn path(&mut self, method: &'static str) -> PathAndQuery {
        self.0.ready().await.expect("what the service answers");
        format!("/test.Echo/{method}").parse().expect("what the service answers")
    }

    /// A call with one message each way.
    pub async fn unary(
        &mut self,
        method: &'static str,
        request: Request<Bytes>,
    ) -> Result<Response<Bytes>, Status> {
        let path = self.path(method).await;
        self.0.unary(request, path, Raw).await
    }

    async fn collect(&mut self, messages: Vec<Bytes>) -> Result<Response<Bytes>, Status> {
        let path = self.path("Collect").await;
        self.0.client_streaming(Request::new(tokio_stream::iter(messages)), path, Raw).await
    }

    /// A call that is answered with many messages.
    pub async fn spread(
        &mut self,
        method: &'static str,
        request: Bytes,
    ) -> Result<Response<Streaming<Bytes>>, Status> {
        let path = self.path(method).await;
        self.0.server_streaming(Request::new(request), path, Raw).await
    }

    /// Begins with a message: a server of grpcio sends no head before it has one to answer.
    async fn chat(&mut self, first: Bytes) -> (mpsc::Sender<Bytes>, Response<Streaming<Bytes>>) {
        let (sending, messages) = mpsc::channel(1);
        sending.send(first).await.expect("what the service answers");
        let path = self.path("Chat").await;
        let request = asking(ReceiverStream::new(messages));
        (sending, self.0.streaming(request, path, Raw).await.expect("what the service answers"))
    }
}

/// A request with metadata: text, and bytes.
fn asking<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("x-ask", MetadataValue::from_static("one"));
    request.metadata_mut().insert_bin("x-ask-bin", MetadataValue::from_bytes(&[0, 255, 10]));
    request
}

/// All metadata but the time of day.
fn metadata(of: &MetadataMap) -> Value {
    let mut headers = of.clone().into_headers();
    headers.remove("date");
    json!(shown(&headers))
}

fn failure(status: &Status) -> Value {
    json!([status.code().description(), status.message(), metadata(status.metadata())])
}

/// Makes calls of every kind, and says all that came of them.
pub async fn every_kind(client: &mut Client) -> Value {
    let unary =
        client.unary("Unary", asking(Bytes::from_static(b"hello"))).await.expect("what the service answers");
    let unary = json!([metadata(unary.metadata()), String::from_utf8_lossy(unary.get_ref())]);

    let collected = client
        .collect((0..1000).map(|number| numbered(number, 1020)).collect())
        .await
        .expect("what the service answers");
    let collected = json!([metadata(collected.metadata()), String::from_utf8_lossy(collected.get_ref())]);

    let spread =
        client.spread("Spread", Bytes::from_static(b"[1000, 1020]")).await.expect("what the service answers");
    let (head, mut messages, mut count) = (metadata(spread.metadata()), spread.into_inner(), 0);
    while let Some(message) = messages.message().await.expect("what the service answers") {
        assert_eq!(message, numbered(count, 1020));
        count += 1;
    }
    let spread = json!([
        head,
        count,
        metadata(&messages.trailers().await.expect("what the service answers").unwrap_or_default())
    ]);

    // Each is sent when the one before has come back: whoever held one up would hold up all.
    let (sending, chat) = client.chat(numbered(0, 100)).await;
    let (head, mut messages) = (metadata(chat.metadata()), chat.into_inner());
    for number in 0..200 {
        assert_eq!(
            messages.message().await.expect("what the service answers").expect("what the service answers"),
            numbered(number, 100)
        );
        sending.send(numbered(number + 1, 100)).await.expect("what the service answers");
    }
    assert_eq!(
        messages.message().await.expect("what the service answers").expect("what the service answers"),
        numbered(200, 100)
    );
    drop(sending);
    assert_eq!(messages.message().await.expect("what the service answers"), None);
    let chat = json!([
        head,
        metadata(&messages.trailers().await.expect("what the service answers").unwrap_or_default())
    ]);
    json!({ "unary": unary, "collect": collected, "spread": spread, "chat": chat })
}

/// Makes calls that fail, and says how.
pub async fn every_failure(client: &mut Client) -> Value {
    let mut failures = Vec::new();
    for method in ["Fail", "Missing"] {
        failures
            .push(failure(&client.unary(method, Request::new(Bytes::new())).await.expect_err("a failure")));
    }
    json!(failures)
}
