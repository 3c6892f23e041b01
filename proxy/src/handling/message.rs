//! A handler that is asked about a message of a WebSocket which it has let through.

use std::sync::Arc;
use std::time::SystemTime;

use http::uri::PathAndQuery;
use http::{HeaderMap, Method};
use sluicegate_policy::{DenyReason, HandlerInput, MessageVerdict, Outcome, Refusal, Subject};

use super::work::Work;
use super::{Exchange, Halt, Handling, failed};
use crate::audit::AuditRecord;
use crate::respond::Failure;

impl Exchange {
    /// Runs the handler on one message, which is the subject of `input`. What it logs and fetches has the id of
    /// the request that opened the WebSocket.
    ///
    /// # Errors
    /// It refuses the message, or has not come to a decision.
    pub async fn ask_about_message(self, input: HandlerInput) -> Result<MessageVerdict, Failure> {
        // Without a record: the WebSocket has that of its request.
        let afterwards = Some(self.entry(&input.request_id));
        let mut handling = Handling { afterwards, ..Handling::new(self, input.version) };
        let mut work = Work::begin(&handling.exchange, input)?;
        let halt = handling.run(&mut work).await;
        handling.note(&mut work).await;
        judged(halt?)
    }
}

impl Handling {
    /// Whether the handler is asked about messages, too.
    pub(super) fn judges_messages(&self) -> bool {
        self.exchange.handler.action.judges_messages()
    }

    /// What it is told of each message of the WebSocket that the workload has asked for, but for the message.
    pub(super) fn message_input(&self, record: &AuditRecord) -> HandlerInput {
        let Exchange { connection, authority, .. } = &self.exchange;
        let path_and_query = self.uri.path_and_query().cloned();
        HandlerInput {
            method: Method::GET,
            scheme: connection.name.scheme,
            authority: authority.clone(),
            path_and_query: path_and_query.unwrap_or_else(|| PathAndQuery::from_static("/")),
            headers: HeaderMap::new(),
            has_body: false,
            identity: Arc::clone(&connection.gate.identity),
            request_id: record.request_id.as_deref().unwrap_or_default().into(),
            original_destination: connection.name.original_destination.0,
            sni: connection.sni.as_deref().map(Into::into),
            tls: record.tls,
            version: self.version,
            now: SystemTime::now(),
            subject: Subject::Request,
        }
    }
}

fn judged(halt: Halt) -> Result<MessageVerdict, Failure> {
    match halt {
        Halt::Decided(Outcome::Message(verdict)) => Ok(verdict),
        Halt::Decided(Outcome::Refuse(reason)) => {
            let (reason, detail) = (DenyReason::DeniedByHandler, String::from(reason));
            Err(Failure::Refused(Refusal { reason, detail }))
        }
        Halt::Decided(_) | Halt::Answered(_) => Err(failed(String::from(
            "it decided about something else, and not this message; this is a bug in the gate",
        ))),
    }
}
