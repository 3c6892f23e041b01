//! Upgrades through a handler: the response of its fetch is the answer, and nothing else is.

use http::header::SEC_WEBSOCKET_EXTENSIONS;
use http::{Response, StatusCode, request};
use sluicegate_policy::{BodySource, DenyReason, HandlerResponse, Refusal};

use super::{Handling, failed};
use crate::activity::Active;
use crate::audit::AuditRecord;
use crate::body::{HeldBody, ResponseBody};
use crate::respond::Failure;
use crate::upgrade::{self, Asked, Granted};
use crate::upstream::{Answered, UpstreamError};

/// Whether a response with this status changes the protocol of its connection.
pub(super) fn is_upgrade(status: StatusCode) -> bool {
    status == StatusCode::SWITCHING_PROTOCOLS
}

impl Handling {
    /// Refuses what says that the connection has changed where it has not.
    ///
    /// # Errors
    /// It says so.
    pub(super) fn check_upgrade(&self, answer: &HandlerResponse) -> Result<(), Failure> {
        let held = match &answer.body {
            BodySource::Handle(handle) => self.bodies.get(handle).map(|held| &held.body),
            _ => None,
        };
        if is_upgrade(answer.status) && !matches!(held, Some(HeldBody::Upgrade(_))) {
            let why = "status 101 is given by returning the response of a fetch, whose body was not touched";
            return Err(failed(String::from(why)));
        }
        upgrade::check_answer(&self.extensions, answer.status).map_err(Failure::Refused)
    }

    /// Makes a request for an upgrade into one whose messages can be judged: no extension is offered.
    ///
    /// # Errors
    /// The handler judges messages, and those of what is asked for cannot be read.
    pub(super) fn prepare_messages(&self, head: &mut request::Parts) -> Result<(), Failure> {
        let Some(asked) = head.extensions.get::<Asked>().filter(|_| self.judges_messages()) else {
            return Ok(());
        };
        if !asked.is_websocket() {
            let reason = DenyReason::UpgradeNotSupported;
            let detail = String::from("its handler judges messages, and only a WebSocket has any");
            return Err(Failure::Refused(Refusal { reason, detail }));
        }
        head.headers.remove(SEC_WEBSOCKET_EXTENSIONS);
        Ok(())
    }

    /// Refuses an upstream that agrees to an extension, which nobody has offered it.
    ///
    /// # Errors
    /// It does.
    pub(super) fn check_messages(&self, answered: &Answered) -> Result<(), Failure> {
        let is_judged = answered.granted.is_some() && self.judges_messages();
        if is_judged && answered.response.headers().contains_key(SEC_WEBSOCKET_EXTENSIONS) {
            return Err(UpstreamError::Upgrade("it agrees to an extension that was not offered").into());
        }
        Ok(())
    }

    /// Changes the connection of the workload as its upstream has agreed to.
    pub(super) fn upgrade(
        &self,
        response: Response<()>,
        granted: Granted,
        records: (AuditRecord, Option<AuditRecord>),
        active: Active,
    ) -> Response<ResponseBody> {
        let (head, ()) = response.into_parts();
        let exchange = &self.exchange;
        let granted = if self.judges_messages() {
            granted.judged(exchange.clone(), self.message_input(&records.0), &head.headers)
        } else {
            granted
        };
        granted.pass(head, (&exchange.connection, &exchange.generation), records, active)
    }
}
