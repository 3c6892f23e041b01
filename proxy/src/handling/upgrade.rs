//! Upgrades through a handler: the response of its fetch is the answer, and nothing else is.

use http::{Response, StatusCode};
use sluicegate_policy::{BodySource, HandlerResponse};

use super::{Handling, failed};
use crate::activity::Active;
use crate::audit::AuditRecord;
use crate::body::{HeldBody, ResponseBody};
use crate::respond::Failure;
use crate::upgrade::{self, Granted};

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
        granted.pass(head, (&exchange.connection, &exchange.generation), records, active)
    }
}
