//! Speaks with one running instance: HTTP/1.1 over its control socket.

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::runtime::Runtime;

use super::error::CommandError;
use crate::control::api::{Event, ProblemAnswer};

/// From the first byte to the last, for every answer but the stream of events: longer than the gate serves a request,
/// so that it is the gate that says why.
const ANSWER_DEADLINE: Duration = Duration::from_secs(70);

/// The longest answer, in bytes; the largest is a policy with all its lines.
const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The longest event, in bytes; the largest is a question with a long path.
const EVENT_BYTES_MAX: usize = 1024 * 1024;

/// A running instance.
#[derive(Debug)]
pub(crate) struct Client {
    runtime: Runtime,
    socket: PathBuf,
}

impl Client {
    /// For the instance that listens at `socket`; nothing is sent yet.
    ///
    /// # Errors
    /// When the system gives no event queue.
    pub(crate) fn new(socket: PathBuf) -> Result<Self, CommandError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| CommandError::System("wait for answers", error))?;
        Ok(Self { runtime, socket })
    }

    /// Asks. `path` begins with `/v1/`.
    ///
    /// # Errors
    /// When the instance cannot be reached, says no, or answers what cannot be read.
    pub(crate) fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, CommandError> {
        read(&self.exchange(request(Method::GET, path, None)?)?)
    }

    /// Asks for what is not JSON.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub(crate) fn get_bytes(&self, path: &str) -> Result<Bytes, CommandError> {
        self.exchange(request(Method::GET, path, None)?)
    }

    /// Sends a JSON body.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub(crate) fn send<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, CommandError> {
        let body = serde_json::to_vec(body).map_err(|error| CommandError::Unreadable(error.to_string()))?;
        read(&self.exchange(request(method, path, Some(("application/json", body.into())))?)?)
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub(crate) fn put_bytes(&self, path: &str, body: Bytes) -> Result<(), CommandError> {
        let body = Some(("application/octet-stream", body));
        self.exchange(request(Method::PUT, path, body)?).map(drop)
    }

    /// Sends a request without a body.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub(crate) fn call<T: DeserializeOwned>(&self, method: Method, path: &str) -> Result<T, CommandError> {
        read(&self.exchange(request(method, path, None)?)?)
    }

    /// Has something removed.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub(crate) fn delete(&self, path: &str) -> Result<(), CommandError> {
        self.exchange(request(Method::DELETE, path, None)?).map(drop)
    }

    /// Calls `began` once events are listened for, then `each` with what it gave and every event
    /// until the instance ends.
    ///
    /// # Errors
    /// As [`Self::get`], and what `began` and `each` return.
    pub(crate) fn events<S>(
        &self,
        began: impl FnOnce() -> Result<S, CommandError>,
        mut each: impl FnMut(&mut S, Event) -> Result<(), CommandError>,
    ) -> Result<(), CommandError> {
        let request = request(Method::GET, "/v1/events", None)?;
        let head = self.within_deadline(self.head(request))?;
        let mut body = self.within_deadline(accepted(head))?;
        let mut state = began()?;
        let mut stream = EventStream::default();
        // An instance that ends breaks the stream off.
        while let Some(Ok(frame)) = self.runtime.block_on(body.frame()) {
            for event in stream.take(frame.data_ref().map_or(&[], |data| data.as_ref()))? {
                each(&mut state, event)?;
            }
        }
        Ok(())
    }

    fn exchange(&self, request: Request<Full<Bytes>>) -> Result<Bytes, CommandError> {
        self.within_deadline(async {
            let body = accepted(self.head(request).await?).await?;
            whole(body).await
        })
    }

    async fn head(&self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, CommandError> {
        let stream = UnixStream::connect(&self.socket)
            .await
            .map_err(|source| CommandError::Unreachable { socket: self.socket.clone(), source })?;
        let no_answer = |error: hyper::Error| CommandError::NoAnswer(error.into());
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(no_answer)?;
        tokio::spawn(connection);
        sender.send_request(request).await.map_err(no_answer)
    }

    fn within_deadline<T>(
        &self,
        work: impl Future<Output = Result<T, CommandError>>,
    ) -> Result<T, CommandError> {
        self.runtime
            .block_on(async { tokio::time::timeout(ANSWER_DEADLINE, work).await })
            .unwrap_or_else(|late| Err(CommandError::NoAnswer(late.into())))
    }
}

/// One segment of a path, with everything escaped that could end it.
pub(crate) fn segment(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}

fn request(
    method: Method,
    path: &str,
    body: Option<(&'static str, Bytes)>,
) -> Result<Request<Full<Bytes>>, CommandError> {
    let builder = Request::builder().method(method).uri(path).header(header::HOST, "sluicegate");
    let built = match body {
        Some((kind, body)) => builder.header(header::CONTENT_TYPE, kind).body(Full::new(body)),
        None => builder.body(Full::default()),
    };
    built.map_err(|error| CommandError::Usage(error.to_string()))
}

/// The body, where the answer is a yes.
async fn accepted(response: Response<Incoming>) -> Result<Incoming, CommandError> {
    let (head, body) = response.into_parts();
    if head.status.is_success() {
        return Ok(body);
    }
    Err(CommandError::Refused(Box::new(problem(head.status, &whole(body).await?))))
}

async fn whole(body: Incoming) -> Result<Bytes, CommandError> {
    #[expect(clippy::disallowed_methods, reason = "wrapped in http_body_util::Limited")]
    let collected = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
    Ok(collected.map_err(CommandError::NoAnswer)?.to_bytes())
}

/// What the instance says is wrong; something of ours where it does not.
fn problem(status: StatusCode, body: &[u8]) -> ProblemAnswer {
    let told = serde_json::from_slice::<ProblemAnswer>(body).unwrap_or_default();
    let title = if told.title.is_empty() { format!("the instance answered {status}") } else { told.title };
    ProblemAnswer { status: status.as_u16(), title, ..told }
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, CommandError> {
    // An answer without a body is to be read as nothing.
    let body = if body.is_empty() { b"null" } else { body };
    serde_json::from_slice(body).map_err(|error| CommandError::Unreadable(error.to_string()))
}

/// Server-sent events, put together from whatever pieces they come in.
#[derive(Debug, Default)]
struct EventStream {
    line: Vec<u8>,
    data: Vec<u8>,
}

impl EventStream {
    /// The events that end in `bytes`. Kinds that this program does not know are passed over.
    fn take(&mut self, bytes: &[u8]) -> Result<Vec<Event>, CommandError> {
        let mut events = Vec::new();
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            if self.line.len() + self.data.len() + piece.len() > EVENT_BYTES_MAX {
                return Err(CommandError::Unreadable("an event is too long".into()));
            }
            self.line.extend_from_slice(piece);
            if piece.ends_with(b"\n") {
                events.extend(self.line_ends());
            }
        }
        Ok(events)
    }

    fn line_ends(&mut self) -> Option<Event> {
        let line = std::mem::take(&mut self.line);
        let line = line.trim_ascii_end();
        if line.is_empty() {
            return serde_json::from_slice(&std::mem::take(&mut self.data)).ok();
        }
        if let Some(data) = line.strip_prefix(b"data:") {
            self.data.extend_from_slice(data);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_cannot_leave_its_place() {
        assert_eq!(segment("*.example.org"), "%2A%2Eexample%2Eorg");
        assert_eq!(segment("../a/b?c#d"), "%2E%2E%2Fa%2Fb%3Fc%23d");
        assert_eq!(segment("https://h.test:8443"), "https%3A%2F%2Fh%2Etest%3A8443");
        assert_eq!(segment("é"), "%C3%A9");
    }

    #[test]
    fn a_refusal_without_words_is_told_by_its_status() {
        let told =
            problem(StatusCode::NOT_FOUND, br#"{"type":"t","title":"nothing","status":1,"detail":"d"}"#);
        assert_eq!((told.status, told.title.as_str(), told.detail.as_str()), (404, "nothing", "d"));
        let untold = problem(StatusCode::BAD_GATEWAY, b"<html>");
        assert_eq!((untold.status, untold.title.as_str()), (502, "the instance answered 502 Bad Gateway"));
    }

    #[test]
    fn an_empty_answer_is_nothing() {
        read::<()>(b"").unwrap();
        assert_eq!(read::<Option<u8>>(b"").unwrap(), None);
        assert!(read::<u8>(b"").is_err());
    }

    #[test]
    fn events_come_in_pieces() {
        let text = ": heartbeat\n\nevent: approval_lapsed\r\ndata: {\"event\":\"approval_lapsed\",\"id\":\"a1\"}\r\n\r\n\
                    event: unheard_of\ndata: {\"event\":\"unheard_of\"}\n\n\
                    data: {\"event\":\"lagged\",\ndata: \"missed\":3}\n\ndata: {\"event\"";
        let expected = [Event::ApprovalLapsed { id: "a1".into() }, Event::Lagged { missed: 3 }];
        for cut in 0..text.len() {
            let (first, second) = text.as_bytes().split_at(cut);
            let mut stream = EventStream::default();
            let mut events = stream.take(first).unwrap();
            events.extend(stream.take(second).unwrap());
            assert_eq!(events, expected, "cut at {cut}");
        }
    }

    #[test]
    fn an_event_is_bounded() {
        let mut stream = EventStream::default();
        assert!(stream.take(&vec![b'x'; EVENT_BYTES_MAX]).is_ok());
        assert!(stream.take(b"x").is_err());
        let mut stream = EventStream::default();
        let line = [b"data:".as_slice(), &vec![b'x'; EVENT_BYTES_MAX / 2], b"\n"].concat();
        assert!(stream.take(&line).is_ok());
        assert!(stream.take(&line).is_err());
    }
}
