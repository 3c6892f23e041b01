//! A handler that is asked about a connection, before there is a request.

use std::sync::Arc;
use std::time::SystemTime;

use http::uri::PathAndQuery;
use http::{HeaderMap, Method, Version};
use sluicegate_policy::{DenyReason, FlowDecision, FlowFacts, HandlerInput, Outcome, Refusal, Subject};

use super::work::Work;
use super::{Exchange, Halt, Handling, failed};
use crate::audit::Entry;
use crate::respond::Failure;

impl Exchange {
    /// Runs the handler on what is known of a connection. What comes back besides its decision says for
    /// the log who decided.
    pub async fn ask_about_connection(self, facts: FlowFacts) -> (Result<FlowDecision, Failure>, Box<Entry>) {
        let request_id = self.connection.gate.request_id();
        let entry = self.entry(&request_id);
        let input = self.connection_input(facts, request_id);
        // Without a record: nobody is answered, and the flow has one of its own.
        let mut handling = Handling { afterwards: Some(entry), ..Handling::new(self, Version::HTTP_11) };
        let decision = match Work::begin(&handling.exchange, input) {
            Ok(mut work) => {
                let halt = handling.run(&mut work).await;
                handling.note(&mut work).await;
                halt.and_then(decided)
            }
            Err(failure) => Err(failure),
        };
        (decision, handling.afterwards.take().unwrap_or_default())
    }

    /// What stands for a record where nobody waits for an answer: who is asked, for the log.
    pub(super) fn entry(&self, request_id: &str) -> Box<Entry> {
        let mut entry = Box::<Entry>::default();
        entry.mask = self.generation.secrets.mask();
        entry.handler = Some(Arc::from(&*self.handler.name));
        entry.handler_version = self.handler.action.file_and_version().map(|(_, version)| Arc::from(version));
        entry.request_id = Some(request_id.to_owned());
        entry
    }

    /// A connection in the words of a request: what it would be if it asked for a tunnel.
    fn connection_input(&self, facts: FlowFacts, request_id: String) -> HandlerInput {
        HandlerInput {
            method: Method::CONNECT,
            scheme: self.connection.name.scheme,
            authority: self.authority.clone(),
            path_and_query: PathAndQuery::from_static("/"),
            headers: HeaderMap::new(),
            has_body: false,
            identity: Arc::clone(&self.connection.gate.identity),
            request_id: request_id.into(),
            original_destination: self.connection.name.original_destination.0,
            sni: self.connection.sni.as_deref().map(Into::into),
            tls: None,
            version: Version::HTTP_11,
            now: SystemTime::now(),
            subject: Subject::Connection(facts),
        }
    }
}

fn decided(halt: Halt) -> Result<FlowDecision, Failure> {
    match halt {
        Halt::Decided(Outcome::Flow(decision)) => Ok(decision),
        Halt::Decided(Outcome::Refuse(reason)) => {
            let (reason, detail) = (DenyReason::DeniedByHandler, String::from(reason));
            Err(Failure::Refused(Refusal { reason, detail }))
        }
        Halt::Decided(_) | Halt::Answered(_) => Err(failed(String::from(
            "it gave a response, and there is no request; this is a bug in the gate",
        ))),
    }
}
