//! Asks `on_connect` about a connection that has no request yet.

use std::sync::Arc;

use sluicegate_policy::{Authority, FlowDecision, FlowFacts, Host, Refusal, Scheme};

use super::From;
use super::passing::Ground;
use crate::activity::Activity;
use crate::audit::{AuditRecord, Entry};
use crate::exchange::Connection;
use crate::gate::Gate;
use crate::generation::Generation;
use crate::handling;
use crate::request_authority::ConnectionName;
use crate::respond::{self, Failure};

/// A connection that a handler may be asked about.
pub(super) struct Asking<'flow> {
    pub(super) gate: &'flow Arc<Gate>,
    pub(super) generation: &'flow Arc<Generation>,
    pub(super) from: From,
    pub(super) authority: &'flow Authority,
    pub(super) sni: Option<&'flow Host>,
}

/// What becomes of a connection.
pub(super) enum Said {
    /// What the document says; also where there is nobody to ask.
    Judge,
    /// It passes unread; the record of it tells who said so.
    Pass(Ground, AuditRecord),
    /// It is refused, and that is logged.
    Refused,
}

impl Asking<'_> {
    /// Asks, if there is a handler for connections.
    pub(super) async fn ask(&self, facts: FlowFacts) -> Said {
        let policy = &self.generation.policy;
        let Some(handler) = policy.on_connect() else {
            return Said::Judge;
        };
        let is_tls = facts.is_tls;
        let asked = handling::Exchange {
            connection: self.connection(is_tls),
            generation: Arc::clone(self.generation),
            authority: self.authority.clone(),
            handler: Arc::clone(handler),
        };
        // Boxed: most policies have no such handler, and a connection shall not have the room for it.
        let (decision, entry) = Box::pin(asked.ask_about_connection(facts)).await;
        let admitted = match decision {
            Ok(FlowDecision::Judge) => return Said::Judge,
            Ok(FlowDecision::Pass) if is_tls => policy.admits_fetch(Scheme::Https, self.authority),
            Ok(FlowDecision::Pass) => policy.admits_flow(self.authority),
            Err(failure) => return self.refuse(&failure, &entry),
        };
        match admitted {
            Ok(would_refuse) => {
                let mut record = self.record(&entry);
                record.would_refuse = would_refuse.map(|refusal: Refusal| refusal.reason.as_str());
                Said::Pass(Ground::Handler { handler: Arc::clone(handler), is_tls }, record)
            }
            Err(refusal) => self.refuse(&Failure::Refused(refusal), &entry),
        }
    }

    fn refuse(&self, failure: &Failure, entry: &Entry) -> Said {
        respond::note(failure, &mut self.record(entry));
        Said::Refused
    }

    /// A record of the flow that names the handler.
    fn record(&self, entry: &Entry) -> AuditRecord {
        let mut record = self.from.record(self.gate, self.authority);
        record.generation = Some(Arc::clone(&self.generation.id));
        record.sni = self.sni.map(ToString::to_string);
        record.mask.clone_from(&entry.mask);
        record.request_id.clone_from(&entry.request_id);
        record.handler.clone_from(&entry.handler);
        record.handler_version.clone_from(&entry.handler_version);
        record.handler_time = entry.handler_time;
        record.fetches = entry.fetches;
        record
    }

    fn connection(&self, is_tls: bool) -> Arc<Connection> {
        Arc::new(Connection {
            gate: Arc::clone(self.gate),
            client: self.from.client,
            name: ConnectionName {
                scheme: if is_tls { Scheme::Https } else { Scheme::Http },
                tls_name: is_tls.then(|| self.authority.host.clone()),
                original_destination: self.from.original_destination,
            },
            sni: self.sni.map(ToString::to_string),
            tls: None,
            activity: Arc::<Activity>::default(),
        })
    }
}
