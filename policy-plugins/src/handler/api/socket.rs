//! `message`: a message of a WebSocket, as `on_message` is asked about it.

use std::sync::Arc;

use rhai::Dynamic;

use super::{Registrar, entry, optional};
use crate::handler::failure::Fallible;
use crate::handler::message::url;
use crate::handler::value::{Blob, text_of};
use crate::handler::{HandlerInput, MessageContent, SocketMessage};
use crate::host::{Authority, Scheme};

/// A message as a script holds it. A type, and no map: a name that is not there is an error.
#[derive(Clone, Debug)]
pub(in crate::handler) struct Message(Arc<Facts>);

#[derive(Debug)]
struct Facts {
    scheme: Scheme,
    authority: Authority,
    path_and_query: http::uri::PathAndQuery,
    message: SocketMessage,
    /// The longest text, in bytes.
    string_bytes: usize,
}

impl Message {
    pub(in crate::handler) fn new(
        input: &HandlerInput,
        message: &SocketMessage,
        string_bytes: usize,
    ) -> Self {
        Self(Arc::new(Facts {
            scheme: input.scheme,
            authority: input.authority.clone(),
            path_and_query: input.path_and_query.clone(),
            message: message.clone(),
            string_bytes,
        }))
    }

    fn text(&self) -> Fallible<Dynamic> {
        match &self.0.message.content {
            MessageContent::Text(text) => text_of(text.as_bytes(), self.0.string_bytes).map(Dynamic::from),
            MessageContent::Binary(_) => Ok(Dynamic::UNIT),
        }
    }

    fn blob(&self) -> Dynamic {
        match &self.0.message.content {
            MessageContent::Text(_) => Dynamic::UNIT,
            MessageContent::Binary(bytes) => Dynamic::from(Blob(bytes.clone())),
        }
    }

    fn url(&self) -> String {
        url(self.0.scheme, &self.0.authority, &self.0.path_and_query)
    }
}

pub(super) fn register(api: &mut Registrar<'_>) {
    api.engine.register_type_with_name::<Message>("message");
    api.section("The message, in on_message(message, env, ctx)");
    api.property(
        entry(
            "message.direction",
            "`sent` by the workload, or by the upstream, to be `received` by the workload",
            "if message.direction == \"received\" { return true; }",
        ),
        |message: &mut Message| message.0.message.direction.as_str().to_owned(),
    );
    api.describe(entry(
        "message.text",
        "Its text, or `()` where it is binary; one longer than `string_bytes` is an error",
        "if message.text != () && message.text.contains(\"DROP TABLE\") { return deny(\"not that\"); }",
    ));
    api.engine.register_get("text", |message: &mut Message| message.text());
    api.property(
        entry(
            "message.blob",
            "Its bytes, or `()` where it is text",
            "if message.blob != () { return deny(\"text only\"); }",
        ),
        |message: &mut Message| message.blob(),
    );
    api.property(
        entry("message.url", "The URL of the request that opened the WebSocket, with `https` or `http`", ""),
        |message: &mut Message| message.url(),
    );
    api.property(
        entry("message.host", "Whom that was for, in the one normal form", ""),
        |message: &mut Message| message.0.authority.host.to_string(),
    );
    api.property(entry("message.port", "The port", ""), |message: &mut Message| {
        i64::from(message.0.authority.port)
    });
    api.property(
        entry("message.path", "Its path as it is written, without the query", ""),
        |message: &mut Message| message.0.path_and_query.path().to_owned(),
    );
    api.property(
        entry("message.subprotocol", "The subprotocol that the two sides agreed on, or `()`", ""),
        |message: &mut Message| optional(message.0.message.subprotocol.as_deref().map(str::to_owned)),
    );
}
