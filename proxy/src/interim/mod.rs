//! Interim responses (1xx, RFC 9110 section 15.2): from an upstream to the workload that waits for its
//! answer, and the one that a body waits for.
//!
//! They come from hyper on HTTP/1.1 and from the h2 library on HTTP/2. hyper sends none itself but `100`, so
//! towards an HTTP/1.1 workload they are written under it, by what reads the connection
//! ([`crate::head_guard`]); towards one of HTTP/2 the task that answers the stream sends them.
//!
//! **Invariant:** what is sent stands after the last byte of the response before and before the first of
//! the one that it announces.

mod connection;
mod leave;
mod stream;

use std::sync::Arc;

use http::header::{CONTENT_LENGTH, EXPECT, HeaderMap, HeaderName, HeaderValue};
use http::{Request, StatusCode, Version, request};
use http_body::Body;

use crate::activity::Activity;
use crate::body::{RequestBody, WorkloadBody};

pub use connection::Interim;
pub use leave::{Leave, Waits};
pub use stream::StreamInterim;

/// What a field of a head counts besides its bytes (RFC 9113 section 6.5.2), and what a head does.
const FIELD_BYTES: usize = 32;

/// Says that the workload waits for leave to send a request's body.
#[derive(Clone, Copy, Debug)]
struct Expects;

/// Notes that the workload waits for leave, where it does.
pub fn note_expectation(head: &mut request::Parts, body: &impl Body) {
    let expects =
        head.headers.get(EXPECT).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"));
    if expects && head.version >= Version::HTTP_11 && !body.is_end_stream() {
        head.extensions.insert(Expects);
    }
}

/// The way of interim responses to the workload, for one exchange.
#[derive(Clone, Debug)]
pub struct Passing(Way);

#[derive(Clone, Debug)]
enum Way {
    Connection { activity: Arc<Activity>, exchange: u64 },
    Stream(Arc<StreamInterim>),
}

impl Passing {
    /// Opens it for a request whose edits are done, and asks the upstream for leave if the workload does.
    /// `None` for a workload that knows no interim responses, and where `masks` says that nothing may pass
    /// unsearched.
    pub fn begin(
        activity: &Arc<Activity>,
        (head, body): (&mut request::Parts, &WorkloadBody),
        masks: bool,
    ) -> Option<Self> {
        if head.extensions.remove::<Expects>().is_some() {
            head.headers.insert(EXPECT, HeaderValue::from_static("100-continue"));
        }
        if masks {
            return None;
        }
        match (head.version, body.interim()) {
            (_, Some(stream)) => Some(Self(Way::Stream(Arc::clone(stream)))),
            (Version::HTTP_11, None) => {
                let (activity, exchange) = (Arc::clone(activity), activity.interim.open());
                Some(Self(Way::Connection { activity, exchange }))
            }
            _ => None,
        }
    }

    /// To be called before the answer is given; what has come until then is sent before it.
    pub async fn end(self) {
        match self.0 {
            Way::Connection { activity, .. } => activity.interim.close().await,
            // What gives the answer sees to it.
            Way::Stream(_) => {}
        }
    }

    fn push(&self, status: StatusCode, headers: &HeaderMap) {
        match &self.0 {
            Way::Connection { activity, exchange } => activity.interim.push(*exchange, status, headers),
            Way::Stream(stream) => stream.push(status, headers.clone()),
        }
    }
}

/// Hears what an upstream says before it answers one request.
#[derive(Debug)]
pub struct Hearing {
    passing: Option<Passing>,
    leave: Option<Arc<Leave>>,
}

impl Hearing {
    /// Begins; the request's body waits from now on if it asks for leave.
    pub fn begin(request: &mut Request<RequestBody>, passing: Option<&Passing>) -> Self {
        let leave = request.headers().contains_key(EXPECT).then(|| request.body_mut().wait_for_leave());
        Self { passing: passing.cloned(), leave }
    }

    /// Takes in an interim response: gives leave, or passes it on.
    pub fn hear(&self, status: StatusCode, headers: &HeaderMap) {
        if let Some(leave) = self.leave.as_ref().filter(|_| status == StatusCode::CONTINUE) {
            leave.give();
        } else if let Some(passing) = &self.passing
            // HTTP/2 has no such status (RFC 9113 section 8.6); on HTTP/1.1 it is a last answer.
            && status != StatusCode::SWITCHING_PROTOCOLS
        {
            passing.push(status, headers);
        }
    }

    /// Whether the body waits for leave still.
    pub fn is_awaited(&self) -> bool {
        self.leave.as_ref().is_some_and(|leave| !leave.is_given())
    }

    fn is_of_use(&self) -> bool {
        self.passing.is_some() || self.leave.is_some()
    }
}

/// Has the interim responses of a request on HTTP/1.1 heard.
pub fn attend(mut request: Request<RequestBody>, passing: Option<&Passing>) -> Request<RequestBody> {
    let hearing = Hearing::begin(&mut request, passing);
    if hearing.is_of_use() {
        hyper::ext::on_informational(&mut request, move |response| {
            hearing.hear(response.status(), response.headers());
        });
    }
    request
}

/// Fields that an interim response does not have (RFC 9110 section 8.6).
fn without_length(headers: &mut HeaderMap) {
    headers.remove(CONTENT_LENGTH);
}

/// What a head counts, in bytes.
fn size(headers: &HeaderMap) -> usize {
    let field = |(name, value): (&HeaderName, &HeaderValue)| name.as_str().len() + value.len() + FIELD_BYTES;
    FIELD_BYTES + headers.iter().map(field).sum::<usize>()
}
