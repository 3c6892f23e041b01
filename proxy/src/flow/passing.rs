//! Flows that pass unread: dialled by our resolution of whom they are for, and closed when a newer
//! policy no longer lets them pass.

use std::sync::Arc;

use sluicegate_policy::{Authority, BoundHandler, DenyReason, FlowsOnPublish, Policy, Scheme, Transport};

use super::Untouched;
use crate::audit::{AuditRecord, Verdict};
use crate::causes::in_words;
use crate::gate::Gate;
use crate::generation::Generation;
use crate::sniff::reset;
use crate::splice::{break_off, splice};

/// What lets a flow pass unread.
pub(super) enum Ground {
    /// A rule with `intercept = false`, for its TLS.
    Rule,
    /// The list `tcp`.
    List,
    /// What `on_connect` said of a connection.
    Handler { handler: Arc<BoundHandler>, is_tls: bool },
}

impl Ground {
    /// Whether it lets the flow pass under this policy.
    fn holds(&self, policy: &Policy, authority: &Authority) -> bool {
        match self {
            Self::Rule => policy.splices(authority).is_some(),
            Self::List => policy.decide_flow(Transport::Tcp, authority).is_ok(),
            Self::Handler { handler, is_tls } => {
                let admitted = if *is_tls {
                    policy.admits_fetch(Scheme::Https, authority)
                } else {
                    policy.admits_flow(authority)
                };
                admitted.is_ok() && policy.on_connect().is_some_and(|other| handler.is_same_as(other))
            }
        }
    }
}

/// A flow that may pass.
pub(super) struct Passing<'flow> {
    pub(super) gate: &'flow Arc<Gate>,
    pub(super) generation: &'flow Generation,
    pub(super) authority: &'flow Authority,
    pub(super) ground: Ground,
}

impl Passing<'_> {
    /// Dials, and passes bytes on both ways to the end. What fails is reset on both sides.
    pub(super) async fn pass(self, untouched: Untouched, mut record: AuditRecord) {
        let Untouched { seen, io: mut workload } = untouched;
        record.generation = Some(Arc::clone(&self.generation.id));
        record.verdict = Some(Verdict::Failed);
        if !self.gate.log.is_healthy() {
            record.verdict = Some(Verdict::Refused);
            record.reason = Some(DenyReason::AuditUnavailable.as_str());
            return reset(workload);
        }
        let (mut upstream, address) = match self.generation.upstream.connect_raw(self.authority).await {
            Ok(connected) => connected,
            Err(error) => {
                record.verdict = Some(error.verdict());
                record.reason = Some(error.code());
                record.set_detail(in_words(&error));
                return reset(workload);
            }
        };
        record.verdict = Some(Verdict::Allowed);
        record.upstream = Some(address);
        let counters = (record.request_bytes_counter(), record.response_bytes_counter());
        let idle = self.generation.policy.upstream().idle_timeout;
        let moved = tokio::select! {
            moved = splice(&mut workload, &mut upstream, seen, counters, idle) => {
                moved.map_err(|error| error.to_string())
            }
            () = self.until_not_allowed() => {
                Err(String::from("closed: a newer policy does not pass this flow on"))
            }
        };
        record.complete = Some(moved.is_ok());
        if let Err(why) = moved {
            record.set_detail(why);
            reset(workload);
            break_off(upstream);
        }
    }

    /// Ends when a policy comes that does not pass the flow on, and does not say to keep such flows.
    async fn until_not_allowed(&self) {
        let refuses = |generation: &Generation| {
            generation.policy.flows_on_publish() == FlowsOnPublish::Judge
                && !self.ground.holds(&generation.policy, self.authority)
        };
        self.gate.until(refuses).await;
    }
}
