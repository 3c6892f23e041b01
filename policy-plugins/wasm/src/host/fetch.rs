//! Sending requests, and answering the workload early.

use std::time::Duration;

use sluicegate_policy::{Answer, Effect, Subject};
use wasmtime::component::Resource;

use super::{Refused, Request, Response, invalid};
use crate::bindings::policy::http::{Error, Host};
use crate::state::State;

impl Host for State {
    async fn fetch(
        &mut self,
        request: Resource<Request>,
        timeout_ms: Option<u32>,
    ) -> Result<Resource<Response>, Refused> {
        let request = self.take(request)?;
        let mut outgoing = self.outgoing(request)?;
        outgoing.timeout = timeout_ms.map(|timeout| Duration::from_millis(timeout.into()));
        match self.ask(Effect::Fetch(Box::new(outgoing))).await? {
            Answer::Response { status, headers, body } => {
                Ok(self.push(Response::of_upstream(status, headers, body))?)
            }
            other => Err(self.unanswered(other)),
        }
    }

    async fn respond(&mut self, response: Resource<Response>) -> Result<(), Refused> {
        let response = self.take(response)?;
        match self.input.subject {
            Subject::Request => {}
            Subject::Connection(_) => {
                return Err(invalid("a connection is asked about: there is no request to answer yet"));
            }
            Subject::Message(_) => {
                return Err(invalid("a message is asked about: its request was answered before"));
            }
        }
        if self.has_responded() {
            return Err(invalid("the workload was answered before"));
        }
        let response = self.answer_of(response)?;
        let answer = self.ask(Effect::Respond(Box::new(response))).await?;
        self.done(answer)?;
        self.set_responded();
        Ok(())
    }

    fn convert_error(&mut self, refused: Refused) -> wasmtime::Result<Error> {
        match refused {
            Refused::Told(error) => Ok(error),
            Refused::Ended(error) => Err(error),
        }
    }
}
