//! Messages of WebSockets: what a program is told of the one that it is asked about, and what it says.

use std::sync::Arc;

use sluicegate_policy::{MessageContent, MessageDirection, MessageVerdict, Subject, message};

use crate::bindings::message::sluicegate::policy::websocket::{Content, Direction, Host, Message, Verdict};
use crate::state::State;

impl Host for State {}

impl State {
    /// The message.
    ///
    /// # Errors
    /// There is something else in its place: the gate has mixed something up.
    pub(crate) fn message(&self) -> wasmtime::Result<Message> {
        let input = &self.input;
        let Subject::Message(message) = &input.subject else {
            return Err(wasmtime::Error::msg(
                "asked about something else as a message; this is a bug in the gate",
            ));
        };
        Ok(Message {
            direction: match message.direction {
                MessageDirection::Sent => Direction::Sent,
                MessageDirection::Received => Direction::Received,
            },
            content: match &message.content {
                MessageContent::Text(text) => Content::Text(text.to_string()),
                MessageContent::Binary(bytes) => Content::Binary(bytes.to_vec()),
            },
            url: message::url(input.scheme, &input.authority, &input.path_and_query),
            host: input.authority.host.to_string(),
            port: input.authority.port,
            path: input.path_and_query.path().to_owned(),
            subprotocol: message.subprotocol.as_deref().map(str::to_owned),
        })
    }
}

impl From<Verdict> for MessageVerdict {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Pass => Self::Pass,
            Verdict::Drop => Self::Drop,
            Verdict::Replace(Content::Text(text)) => Self::Replace(MessageContent::Text(Arc::from(text))),
            Verdict::Replace(Content::Binary(bytes)) => Self::Replace(MessageContent::Binary(bytes.into())),
        }
    }
}
