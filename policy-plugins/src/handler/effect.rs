//! What a handler asks of the world, and what it is told: data that the proxy acts on.
//!
//! Every front end (Rhai, JavaScript, components) speaks these words, so that they mean the same in each.

use std::time::Duration;

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderMap, Method, StatusCode};

use crate::edits::Edits;
use crate::host::{Authority, Scheme};
use crate::secret::SecretName;

/// A body that the host holds; the handler holds this number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BodyHandle(pub u32);

impl BodyHandle {
    /// The body of the workload's request.
    pub const WORKLOAD: Self = Self(0);
}

/// Where the body of a message comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BodySource {
    /// There is none.
    Empty,
    /// A body that the host holds is passed on as it streams; it can be sent once.
    Handle(BodyHandle),
    /// The handler wrote it.
    Bytes(Bytes),
    /// The handler wrote it around secrets that are put in at egress. Requests only.
    Filled(Vec<BodyPart>),
}

/// A stretch of a body with secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BodyPart {
    /// Bytes as they are.
    Literal(Bytes),
    /// The value of a secret.
    Secret(SecretName, Encoding),
}

/// How a secret's value is written where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// As it is.
    Raw,
    /// As the inside of a JSON string (RFC 8259 section 7).
    Json,
    /// As a form value (`application/x-www-form-urlencoded`, WHATWG URL section 5).
    Form,
}

/// A request that a handler has fetched.
#[derive(Clone, Debug)]
pub struct OutgoingRequest {
    /// The method.
    pub method: Method,
    /// How it travels.
    pub scheme: Scheme,
    /// Whom it is for.
    pub authority: Authority,
    /// Path and query.
    pub path_and_query: PathAndQuery,
    /// The headers, none of which holds a secret.
    pub headers: HeaderMap,
    /// The slots that secrets go into, last of all.
    pub secrets: Edits,
    /// The body.
    pub body: BodySource,
    /// Whether it is the workload's own request, changed or not: what the rule puts on goes onto it
    /// where its authority is still the same, and onto no other.
    pub is_workloads: bool,
    /// How many bytes of the body are to be logged, if any.
    pub tap: Option<usize>,
    /// How long to wait for the response's head, where the handler says it; the handler's own deadline
    /// counts too.
    pub timeout: Option<Duration>,
}

/// What a handler returned as the response.
#[derive(Clone, Debug)]
pub struct HandlerResponse {
    /// The status, 200 to 599.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: BodySource,
    /// How many bytes of the body are to be logged, if any.
    pub tap: Option<usize>,
}

/// Something that the handler waits for.
#[derive(Clone, Debug)]
pub enum Effect {
    /// Send a request. Answered by [`Answer::Response`].
    Fetch(Box<OutgoingRequest>),
    /// Take a body into memory. Answered by [`Answer::Bytes`], and the handle is spent: the bytes
    /// stand in its place from then on.
    ReadBody {
        /// Which.
        body: BodyHandle,
        /// The most bytes that the handler will take; a longer body is a failure.
        limit: usize,
    },
    /// Look at the first bytes of a body, which stays whole. Answered by [`Answer::Bytes`]: as many as
    /// `limit`, or all of a shorter body.
    PeekBody {
        /// Which.
        body: BodyHandle,
        /// How many bytes.
        limit: usize,
    },
    /// Take the next bytes of a body as they come. Answered by [`Answer::Bytes`], and by
    /// [`Answer::Nothing`] at its end. From the first one on the body cannot be sent.
    NextChunk(BodyHandle),
    /// Make a second body that gets the bytes of the first as that is sent or read. Answered by
    /// [`Answer::Body`].
    TeeBody(BodyHandle),
    /// Nothing more is wanted of a body. Answered by [`Answer::Done`].
    DropBody(BodyHandle),
    /// Answer the workload now; the handler goes on. Answered by [`Answer::Done`].
    Respond(Box<HandlerResponse>),
    /// Wait. Answered by [`Answer::Done`].
    Sleep(Duration),
    /// Use a key-value binding.
    Kv {
        /// The binding's name.
        binding: Box<str>,
        /// What to do.
        operation: KvOperation,
    },
    /// Use an object binding.
    Objects {
        /// The binding's name.
        binding: Box<str>,
        /// What to do.
        operation: ObjectsOperation,
    },
    /// HMAC-SHA-256 with a secret as the key. Answered by [`Answer::Bytes`].
    Hmac {
        /// The key.
        secret: SecretName,
        /// The message.
        data: Bytes,
    },
    /// The value of a secret, for a handler that was granted it. Answered by [`Answer::Bytes`].
    Reveal(SecretName),
    /// Ask a person. Answered by [`Answer::Done`]; a no or a timeout ends the handler.
    Ask {
        /// What the person is told.
        reason: Box<str>,
        /// How long to wait.
        patience: Duration,
    },
}

/// What can be done with a key-value binding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KvOperation {
    /// The value. Answered by [`Answer::Bytes`] or [`Answer::Nothing`].
    Get(Box<str>),
    /// Write a value, for a time or for good. Answered by [`Answer::Done`].
    Put {
        /// The key.
        key: Box<str>,
        /// The value.
        value: Bytes,
        /// How long it is kept.
        ttl: Option<Duration>,
    },
    /// Remove a value. Answered by [`Answer::Done`], there or not.
    Delete(Box<str>),
    /// The keys that begin with this, in order. Answered by [`Answer::Keys`].
    List(Box<str>),
    /// Add to a number, which begins at 0; nothing comes between. Answered by [`Answer::Number`].
    Increment {
        /// The key.
        key: Box<str>,
        /// What is added.
        by: i64,
        /// How long the number is kept, from its first increment.
        ttl: Option<Duration>,
    },
}

/// What can be done with an object binding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ObjectsOperation {
    /// The object. Answered by [`Answer::Object`] or [`Answer::Nothing`].
    Get(Box<str>),
    /// What is known of the object. Answered by [`Answer::Object`] without body, or [`Answer::Nothing`].
    Head(Box<str>),
    /// Write an object; a body of a handle streams. Answered by [`Answer::Done`].
    Put {
        /// The key.
        key: Box<str>,
        /// The content.
        body: BodySource,
        /// Its media type.
        content_type: Option<Box<str>>,
    },
    /// Remove an object. Answered by [`Answer::Done`], there or not.
    Delete(Box<str>),
    /// The keys that begin with this, in order. Answered by [`Answer::Keys`].
    List(Box<str>),
}

/// What came of an [`Effect`].
#[derive(Clone, Debug)]
pub enum Answer {
    /// The upstream's response.
    Response {
        /// The status.
        status: StatusCode,
        /// The headers, without those of the hop.
        headers: HeaderMap,
        /// The body, if there is one.
        body: Option<BodyHandle>,
    },
    /// Bytes.
    Bytes(Bytes),
    /// Another body.
    Body(BodyHandle),
    /// Keys, in order.
    Keys(Vec<Box<str>>),
    /// A number.
    Number(i64),
    /// An object.
    Object(Object),
    /// There is none.
    Nothing,
    /// It is done.
    Done,
    /// It took longer than the handler gave it; the handler may catch this.
    TimedOut,
    /// It did not work; the handler may catch this. The words hold nothing that is secret.
    Failed(Box<str>),
}

/// An object of an object binding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// Its content, where it was asked for.
    pub body: Option<BodyHandle>,
    /// Its length in bytes.
    pub length: u64,
    /// Its media type, where one was stored.
    pub content_type: Option<Box<str>>,
    /// Its entity tag, where the store gives one.
    pub etag: Option<Box<str>>,
}
