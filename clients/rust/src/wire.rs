//! HTTP/1.1 on a UNIX socket: one connection for each request, bounded in time and length.

use std::collections::VecDeque;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::UnixStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::error::{Refused, SandboxError};

/// From the first byte to the last; the gate itself takes a minute at most.
pub(crate) const ANSWER_DEADLINE: Duration = Duration::from_secs(70);

/// The longest answer; the largest is a policy with all its lines.
const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The longest event; the largest is a question with a long path.
const EVENT_BYTES_MAX: usize = 1024 * 1024;

/// How long a stream of events may say nothing: three of its heartbeats.
pub(crate) const SILENCE_DEADLINE: Duration = Duration::from_secs(45);

/// How long a gate may take until it serves: some seconds where it compiles handlers for the first time.
pub(crate) const READY_DEADLINE: Duration = Duration::from_secs(70);

/// What a request carries.
pub(crate) enum Content {
    Nothing,
    Json(Value),
    Bytes(Vec<u8>),
}

/// Asks, and returns the whole answer.
pub(crate) async fn exchange(
    socket: &Path,
    (method, target): (&str, &str),
    content: Content,
) -> Result<Bytes, SandboxError> {
    let request = request(method, target, content)?;
    let whole = async {
        let (response, _connection) = accepted(socket, request).await?;
        whole(response.into_body()).await
    };
    timeout(ANSWER_DEADLINE, whole).await.unwrap_or(Err(SandboxError::Late))
}

/// Asks for a stream of events.
pub(crate) async fn follow(socket: &Path, target: &str) -> Result<Events, SandboxError> {
    let accepted = accepted(socket, request("GET", target, Content::Nothing)?);
    let (response, connection) =
        timeout(ANSWER_DEADLINE, accepted).await.unwrap_or(Err(SandboxError::Late))?;
    Ok(Events {
        body: response.into_body(),
        lines: Lines::default(),
        told: VecDeque::new(),
        _connection: connection,
    })
}

fn request(method: &str, target: &str, content: Content) -> Result<Request<Full<Bytes>>, SandboxError> {
    let builder = Request::builder().method(method).uri(target).header(header::HOST, "localhost");
    let built = match content {
        Content::Nothing => builder.body(Full::default()),
        Content::Json(value) => {
            builder.header(header::CONTENT_TYPE, "application/json").body(Full::new(value.to_string().into()))
        }
        Content::Bytes(bytes) => {
            builder.header(header::CONTENT_TYPE, "application/octet-stream").body(Full::new(bytes.into()))
        }
    };
    built.map_err(|error| SandboxError::Request(error.to_string()))
}

/// The answer where it is a yes, its body unread, with its connection.
async fn accepted(
    socket: &Path,
    request: Request<Full<Bytes>>,
) -> Result<(Response<Incoming>, Connection), SandboxError> {
    let unreachable = |source| SandboxError::Unreachable { socket: socket.to_owned(), source };
    let stream = UnixStream::connect(socket).await.map_err(unreachable)?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    let connection = Connection(tokio::spawn(async move { drop(connection.await) }));
    let response = sender.send_request(request).await.map_err(broken)?;
    let status = response.status();
    if status.is_success() {
        return Ok((response, connection));
    }
    let problem = whole(response.into_body()).await?;
    Err(Box::new(Refused::read(status.as_u16(), &problem)).into())
}

async fn whole(body: Incoming) -> Result<Bytes, SandboxError> {
    #[expect(clippy::disallowed_methods, reason = "wrapped in http_body_util::Limited")]
    let collected = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
    Ok(collected.map_err(SandboxError::Broken)?.to_bytes())
}

fn broken(error: hyper::Error) -> SandboxError {
    SandboxError::Broken(error.into())
}

/// What moves the bytes of a connection; it ends with this.
#[derive(Debug)]
struct Connection(JoinHandle<()>);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What happens in an instance, as it happens.
#[derive(Debug)]
pub struct Events {
    body: Incoming,
    lines: Lines,
    told: VecDeque<Value>,
    _connection: Connection,
}

impl Events {
    /// The next event, an object whose `event` says what it is; none when the instance has ended. What was told
    /// is kept when this is dropped before it is ready.
    ///
    /// # Errors
    /// [`SandboxError::Silent`] where the gate does not send its heartbeat either, and what is broken.
    pub async fn next(&mut self) -> Result<Option<Value>, SandboxError> {
        loop {
            if let Some(event) = self.told.pop_front() {
                return Ok(Some(event));
            }
            match timeout(SILENCE_DEADLINE, self.body.frame()).await {
                Err(_) => return Err(SandboxError::Silent),
                Ok(None) => return Ok(None),
                Ok(Some(frame)) => {
                    let frame = frame.map_err(broken)?;
                    self.told.extend(self.lines.take(frame.data_ref().map_or(&[], |data| data.as_ref()))?);
                }
            }
        }
    }
}

/// Server-sent events of which each has one line of data, put together from whatever pieces they come in.
#[derive(Debug, Default)]
struct Lines(Vec<u8>);

impl Lines {
    fn take(&mut self, bytes: &[u8]) -> Result<Vec<Value>, SandboxError> {
        let mut events = Vec::new();
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            if self.0.len() + piece.len() > EVENT_BYTES_MAX {
                return Err(SandboxError::Unreadable("an event is too long".into()));
            }
            self.0.extend_from_slice(piece);
            if piece.ends_with(b"\n") {
                let line = std::mem::take(&mut self.0);
                if let Some(data) = line.strip_prefix(b"data:") {
                    events.push(read(data)?);
                }
            }
        }
        Ok(events)
    }
}

/// Reads JSON; nothing is null.
pub(crate) fn read(body: &[u8]) -> Result<Value, SandboxError> {
    let body = if body.is_empty() { b"null" } else { body };
    serde_json::from_slice(body).map_err(|error| SandboxError::Unreadable(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_in_pieces() {
        let text =
            ":\n\nevent: a\ndata: {\"event\":\"a\"}\n\nevent: b\ndata:{\"event\":\"b\"}\n\ndata: {\"ev";
        for cut in 0..text.len() {
            let (first, second) = text.as_bytes().split_at(cut);
            let mut lines = Lines::default();
            let mut events = lines.take(first).unwrap();
            events.extend(lines.take(second).unwrap());
            assert_eq!(events, [serde_json::json!({"event": "a"}), serde_json::json!({"event": "b"})]);
        }
        assert!(Lines::default().take(b"data: {\n").is_err());
    }

    #[test]
    fn an_event_is_bounded() {
        let mut lines = Lines::default();
        assert!(lines.take(&vec![b'x'; EVENT_BYTES_MAX]).is_ok());
        assert!(lines.take(b"x").is_err());
    }

    #[test]
    fn an_empty_answer_is_null() {
        assert_eq!(read(b"").unwrap(), Value::Null);
        assert!(read(b"{").is_err());
    }
}
