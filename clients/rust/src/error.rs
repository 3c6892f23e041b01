//! What can go wrong between a platform and an instance.

use std::error::Error;
use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;

use serde_json::Value;

use crate::wire::{ANSWER_DEADLINE, READY_DEADLINE, SILENCE_DEADLINE};

/// Why an instance did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SandboxError {
    /// The gate did not do it; nothing has changed.
    #[error(transparent)]
    Refused(#[from] Box<Refused>),
    /// There is no instance, or it is another user's.
    #[error("the instance cannot be reached at {}", socket.display())]
    Unreachable {
        /// Its control socket.
        socket: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The connection broke before the answer was whole, or the answer is too long. Whether the gate did what it
    /// was asked for is not known.
    #[error("the instance's answer did not come whole")]
    Broken(#[source] Box<dyn Error + Send + Sync>),
    /// No answer in time. Whether the gate did what it was asked for is not known.
    #[error("the instance has not answered within {} s", ANSWER_DEADLINE.as_secs())]
    Late,
    /// A stream of events without even a heartbeat.
    #[error("the instance has told nothing for {} s", SILENCE_DEADLINE.as_secs())]
    Silent,
    /// The answer is something else than was asked for.
    #[error("the instance's answer cannot be read: {0}")]
    Unreadable(String),
    /// What was asked for cannot be sent: a program's name or a request that cannot be one.
    #[error("the request cannot be made: {0}")]
    Request(String),
    /// `sluicegate attach` is not there, or cannot be started.
    #[error("{} cannot be started", program.display())]
    Start {
        /// Which program.
        program: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// `sluicegate attach` ended before it served. Its own message is on standard error.
    #[error("sluicegate attach ended with {0}: see its message")]
    Ended(ExitStatus),
    /// `sluicegate attach` has not said that it serves; it was ended.
    #[error("the gate is not ready after {} s", READY_DEADLINE.as_secs())]
    NotReady,
}

/// What the gate said when it did not do something (RFC 9457).
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Refused {
    /// The HTTP status.
    pub status: u16,
    /// Such as `sluicegate:policy-refused`; empty where the gate did not say.
    pub kind: String,
    /// All that the gate said.
    pub problem: Value,
    message: String,
}

impl Refused {
    pub(crate) fn read(status: u16, body: &[u8]) -> Self {
        let problem = serde_json::from_slice(body)
            .unwrap_or_else(|_| serde_json::json!({ "detail": String::from_utf8_lossy(body) }));
        let text = |name: &str| problem.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
        let message = ["rendered", "detail", "title"].into_iter().find_map(text);
        let message = message.map_or_else(|| format!("the gate answered {status}"), str::to_owned);
        let kind = text("type").unwrap_or_default().to_owned();
        Self { status, kind, problem, message }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_telling_words_are_the_message() {
        let told = |body: &str| {
            let refused = Refused::read(422, body.as_bytes());
            (refused.to_string(), refused.kind)
        };
        let whole = r#"{"type":"sluicegate:x","title":"t","detail":"d","rendered":"r"}"#;
        assert_eq!(told(whole), ("r".into(), "sluicegate:x".into()));
        assert_eq!(told(r#"{"title":"t","detail":"d"}"#), ("d".into(), String::new()));
        assert_eq!(told("<html>"), ("<html>".into(), String::new()));
        assert_eq!(told("[]"), ("the gate answered 422".into(), String::new()));
        assert_eq!(told(""), ("the gate answered 422".into(), String::new()));
    }
}
