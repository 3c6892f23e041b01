//! One request that a handler sends: the lists first, then the secrets, then the wire.

use std::sync::Arc;

use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::{Request, Response, Version};
use sluicegate_policy::{
    Answer, BodyHandle, BodyPart, BodySource, DenyReason, Edits, OutgoingRequest, Scheme,
};

use super::{Exchange, Handling, Held, Performed, already_sent};
use crate::audit::AuditRecord;
use crate::body::{HeldBody, Progress, RequestBody};
use crate::causes::in_words;
use crate::respond::{self, Failure};
use crate::send::{Sending, credentials};
use crate::upstream::{Answered, Origin, UpstreamError};

impl Handling {
    /// Sends what the handler fetches, and keeps the answer's body for it.
    pub(super) async fn fetch(&mut self, outgoing: OutgoingRequest) -> Performed {
        let mut record = self.fetch_record(&outgoing);
        let patience = outgoing.timeout;
        let sent = self.send(outgoing, &mut record);
        let sent = match patience {
            Some(patience) => tokio::time::timeout(patience, Box::pin(sent)).await.ok(),
            None => Some(sent.await),
        };
        let Some(sent) = sent else {
            let failure = Failure::Upstream(UpstreamError::ResponseTimeout);
            respond::note(&failure, &mut record);
            self.failed_fetch = Some(failure);
            return Performed::Answer(Answer::TimedOut);
        };
        match sent {
            Ok((response, held)) => {
                let status = response.status();
                let headers = response.into_parts().0.headers;
                let body = held.map(|held| self.hold(Held { record: Some(record), ..held }));
                Performed::Answer(Answer::Response { status, headers, body })
            }
            Err(failure) => {
                respond::note(&failure, &mut record);
                match failure {
                    Failure::Upstream(error) => {
                        let words = in_words(&error);
                        self.failed_fetch = Some(Failure::Upstream(error));
                        Performed::Answer(Answer::Failed(words.into()))
                    }
                    refused => Performed::End(refused),
                }
            }
        }
    }

    fn fetch_record(&mut self, outgoing: &OutgoingRequest) -> AuditRecord {
        self.fetches += 1;
        let mut record = self.exchange.connection.gate.log.fetch();
        record.generation = Some(Arc::clone(&self.exchange.generation.id));
        let fetches = self.fetches;
        let entry = self.entry();
        entry.fetches = Some(fetches);
        record.mask.clone_from(&entry.mask);
        record.request_id.clone_from(&entry.request_id);
        record.handler.clone_from(&entry.handler);
        record.handler_version.clone_from(&entry.handler_version);
        record.scheme = Some(outgoing.scheme.as_str());
        record.method = Some(outgoing.method.clone());
        record.host = Some(outgoing.authority.host.to_string());
        record.port = Some(outgoing.authority.port);
        record.set_path(outgoing.path_and_query.path());
        record
    }

    /// Sends one request of the handler's: the lists first, then the secrets, then the wire.
    async fn send(
        &mut self,
        outgoing: OutgoingRequest,
        record: &mut AuditRecord,
    ) -> Result<(Response<()>, Option<Held>), Failure> {
        let Exchange { connection, generation, authority, .. } = &self.exchange;
        let (generation, scheme) = (Arc::clone(generation), connection.name.scheme);
        if !connection.gate.log.is_healthy() {
            return Err(DenyReason::AuditUnavailable.into());
        }
        let admitted = generation.policy.admits_fetch(outgoing.scheme, &outgoing.authority);
        let would_refuse = admitted.map_err(Failure::Refused)?;
        record.would_refuse = would_refuse.map(|refusal| refusal.reason.as_str());
        let is_same = outgoing.authority == *authority && outgoing.scheme == scheme;
        let rule_edits =
            if outgoing.is_workloads && is_same { self.secret_edits.clone() } else { Edits::NONE };
        let edits = [&outgoing.secrets, &rule_edits];
        let origin = Origin {
            scheme: outgoing.scheme,
            authority: outgoing.authority,
            // Without TLS nothing is agreed on: it is spoken to whom the workload speaks it.
            multiplexed: self.version == Version::HTTP_2 && (is_same || outgoing.scheme == Scheme::Https),
            credentials: credentials(&edits),
        };
        let sending = Sending { generation: &generation, origin: &origin, edits: &edits };
        let mut head = Request::new(()).into_parts().0;
        head.method = outgoing.method;
        head.uri = outgoing.path_and_query.into();
        head.version = self.version;
        head.headers = outgoing.headers;
        if outgoing.is_workloads {
            // How the workload wrote its header names.
            head.extensions = self.extensions.clone();
        }
        sending.put_on(&mut head, record)?;
        self.prepare_messages(&mut head)?;
        if outgoing.body == BodySource::Handle(BodyHandle::WORKLOAD) {
            record.share_request_bytes(self.entry().request_bytes_counter());
        } else {
            head.headers.remove(CONTENT_LENGTH);
        }
        let (body, progress) = self.body(outgoing.body, &sending, record)?;
        let body = body.tapped(outgoing.tap.map(|limit| record.tap_request(limit)));
        let answered = sending.send(Request::from_parts(head, body), &progress, record).await?;
        self.check_messages(&answered)?;
        received(answered, &sending, record)
    }

    /// The body of a request, its secrets in place.
    fn body(
        &mut self,
        source: BodySource,
        sending: &Sending<'_>,
        record: &mut AuditRecord,
    ) -> Result<(RequestBody, Progress), Failure> {
        let counter = record.request_bytes_counter();
        Ok(match source {
            BodySource::Empty => RequestBody::bytes(Bytes::new(), counter),
            BodySource::Bytes(bytes) => RequestBody::bytes(bytes, counter),
            BodySource::Filled(parts) => {
                let body = sending.slots().fill_body(&parts)?;
                record.credentials.extend(secrets_of(&parts));
                record.credentials.sort_unstable();
                record.credentials.dedup();
                RequestBody::bytes(body, counter)
            }
            BodySource::Handle(handle) => {
                let held = self.bodies.remove(&handle).ok_or_else(already_sent)?;
                RequestBody::held(held.body, counter, self.idle())
            }
        })
    }
}

/// The head of an answer, and its body, if there is one, for the handler.
fn received(
    answered: Answered,
    sending: &Sending<'_>,
    record: &mut AuditRecord,
) -> Result<(Response<()>, Option<Held>), Failure> {
    let (mut head, body) = answered.response.into_parts();
    let scrubber = sending.scrub(&mut head)?;
    if let Some(granted) = answered.granted {
        let held = Held::new(HeldBody::Upgrade(Box::new(granted)));
        let held = Held { extensions: head.extensions.clone(), ..held };
        return Ok((Response::from_parts(head, ()), Some(held)));
    }
    record.complete = Some(http_body::Body::is_end_stream(&body));
    if record.complete == Some(true) {
        if let Some(lease) = answered.lease {
            lease.give_back();
        }
        return Ok((Response::from_parts(head, ()), None));
    }
    let body = HeldBody::Response { incoming: body, lease: answered.lease };
    let held = Held { scrubber, extensions: head.extensions.clone(), ..Held::new(body) };
    Ok((Response::from_parts(head, ()), Some(held)))
}

fn secrets_of(parts: &[BodyPart]) -> impl Iterator<Item = String> {
    parts.iter().filter_map(|part| match part {
        BodyPart::Literal(_) => None,
        BodyPart::Secret(name, _) => Some(name.to_string()),
    })
}
