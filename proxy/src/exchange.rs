//! One request and its response: authority, verdict, credentials, upstream, answer, record.
//!
//! **Invariant:** every path through here returns a response and leaves exactly one record; nothing
//! is sent before the verdict, and no secret is on before the last edit.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use http::{Method, Request, Response, Version, request};
use hyper::body::Incoming;
use hyper::service::Service;
use rustls::ProtocolVersion;
use sluicegate_policy::{Authority, DenyReason, Edits, RequestFacts, Verdict};

use crate::accept::ClientAddress;
use crate::activity::{Active, Activity};
use crate::audit::{self, AuditRecord};
use crate::body::{RequestBody, ResponseBody};
use crate::credentials::Slots;
use crate::gate::Gate;
use crate::hop;
use crate::request_authority::{ConnectionName, authority};
use crate::request_head::HeadFault;
use crate::respond::{self, Failure};
use crate::upstream::Origin;

/// What the exchanges of one connection have in common.
#[derive(Debug)]
pub struct Connection {
    /// The instance.
    pub gate: Arc<Gate>,
    /// The forgeable peer address, for the log.
    pub client: ClientAddress,
    /// What the connection says about whom its requests are for.
    pub name: ConnectionName,
    /// The server name as the workload sent it.
    pub sni: Option<String>,
    /// The TLS version, on TLS.
    pub tls: Option<ProtocolVersion>,
    /// What goes on on it.
    pub activity: Arc<Activity>,
}

/// Answers the requests of one connection.
#[derive(Clone, Debug)]
pub struct Exchanges(pub Arc<Connection>);

impl Service<Request<Incoming>> for Exchanges {
    type Response = Response<ResponseBody>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let connection = Arc::clone(&self.0);
        // Boxed, so that an idle connection does not hold the room for an exchange.
        Box::pin(async move { Ok(connection.exchange(request).await) })
    }
}

impl Connection {
    async fn exchange(&self, request: Request<Incoming>) -> Response<ResponseBody> {
        let (active, fault) = self.activity.begin();
        let mut record = self.begin_record();
        if let Some(fault) = fault {
            return self.fail(&Failure::Malformed(fault), &Method::GET, record);
        }
        let (mut head, body) = request.into_parts();
        record.method = Some(head.method.clone());
        record.client_version = Some(head.version);
        record.set_path(head.uri.path());
        let method = head.method.clone();
        let decided = match self.judge(&mut head, &mut record) {
            Ok(Decided::Forward(origin)) => {
                self.forward(Request::from_parts(head, body), &origin, (record, active)).await
            }
            Ok(Decided::Answered(response)) => Ok(response),
            Err(failure) => Err((failure, record)),
        };
        decided.unwrap_or_else(|(failure, record)| self.fail(&failure, &method, record))
    }

    fn begin_record(&self) -> AuditRecord {
        let original_destination = self.name.original_destination.0;
        let mut record = self.gate.log.exchange(self.client.0, original_destination);
        record.request_id = Some(self.gate.request_id());
        record.scheme = Some(self.name.scheme.as_str());
        record.sni.clone_from(&self.sni);
        record.tls = self.tls.and_then(|version| version.as_str());
        record
    }

    fn fail(&self, failure: &Failure, method: &Method, mut record: AuditRecord) -> Response<ResponseBody> {
        respond::failure(failure, &self.gate.policy, method, &mut record)
    }

    /// Everything up to the verdict; sends nothing.
    fn judge(&self, head: &mut request::Parts, record: &mut AuditRecord) -> Result<Decided, Failure> {
        if !self.gate.log.is_healthy() {
            return Err(DenyReason::AuditUnavailable.into());
        }
        if head.method == Method::CONNECT {
            record.host = head.uri.host().map(String::from);
            record.port = head.uri.port_u16();
            return Err(DenyReason::ConnectRefused.into());
        }
        // RFC 9113 section 8.3.1: `*` is for OPTIONS alone; on HTTP/1 the head guard saw to it.
        if head.uri.path() == "*" && head.method != Method::OPTIONS {
            return Err(Failure::Malformed(HeadFault::Target));
        }
        let authority = authority(head, &self.name).map_err(|fault| {
            record.host = fault.asked_for().or(self.name.tls_name.as_ref()).map(ToString::to_string);
            record.port = Some(self.name.original_destination.port());
            Failure::from(fault)
        })?;
        record.host = Some(authority.host.to_string());
        record.port = Some(authority.port);
        let decision = self.gate.policy.decide(&RequestFacts {
            scheme: self.name.scheme,
            authority: &authority,
            method: &head.method,
            path: head.uri.path(),
        });
        record.rule = decision.rule.map(String::from);
        let edits = match decision.verdict {
            Verdict::Forward(edits) => edits,
            Verdict::Refuse(mut refusal) => {
                let unnamed = matches!(refusal.reason, DenyReason::NotNamed | DenyReason::NotInAllowedHosts);
                if unnamed && self.name.tls_name.is_some() && self.sni.is_none() {
                    // The address stood in for a name, which is what was missing.
                    refusal.reason = DenyReason::ServerNameMissing;
                }
                return Err(Failure::Refused(refusal));
            }
            Verdict::Respond(answer) => {
                return Ok(Decided::Answered(respond::fixed(answer, &head.method, record)));
            }
        };
        if hop::asks_for_upgrade(&head.headers) {
            return Err(DenyReason::UpgradeNotSupported.into());
        }
        hop::strip_request(&mut head.headers);
        self.put_on(edits, head, &authority, record)?;
        let credentials = edits.secrets().cloned().collect();
        let scheme = self.name.scheme;
        let multiplexed = head.version == Version::HTTP_2;
        Ok(Decided::Forward(Origin { scheme, authority, multiplexed, credentials }))
    }

    fn put_on(
        &self,
        edits: &Edits,
        head: &mut request::Parts,
        authority: &Authority,
        record: &mut AuditRecord,
    ) -> Result<(), Failure> {
        if edits.is_empty() {
            return Ok(());
        }
        let slots = Slots {
            policy: &self.gate.policy,
            secrets: &self.gate.secrets,
            authority,
            scheme: self.name.scheme,
        };
        slots.apply(edits, head)?;
        record.credentials = edits.secrets().map(ToString::to_string).collect();
        record.credentials.dedup();
        Ok(())
    }

    /// Sends the request and wraps the answer; the record goes with the answer's body.
    async fn forward(
        &self,
        request: Request<Incoming>,
        origin: &Origin,
        (mut record, active): (AuditRecord, Active),
    ) -> Result<Response<ResponseBody>, (Failure, AuditRecord)> {
        let idle = self.gate.policy.upstream().idle_timeout;
        let bytes = record.request_bytes_counter();
        let (head, body) = request.into_parts();
        let (body, progress) = RequestBody::new(body, bytes, idle);
        let sent = self.gate.upstream.send(origin, Request::from_parts(head, body), &progress);
        let answered = match Box::pin(sent).await {
            Ok(answered) => answered,
            Err(error) => {
                if !error.was_sent() {
                    record.credentials.clear();
                }
                return Err((error.into(), record));
            }
        };
        record.mark_first_byte();
        record.verdict = Some(audit::Verdict::Allowed);
        record.upstream = Some(answered.address);
        record.connect = Some(answered.connect);
        record.retries = Some(answered.retries).filter(|&retries| retries > 0);
        let (mut head, body) = answered.response.into_parts();
        record.upstream_version = Some(head.version);
        record.upstream_status = Some(head.status.as_u16());
        record.status = Some(head.status.as_u16());
        hop::strip_response(&mut head.headers);
        let body = ResponseBody::upstream(body, idle, record, answered.lease, active);
        Ok(Response::from_parts(head, body))
    }
}

/// What comes after the verdict.
enum Decided {
    Forward(Origin),
    Answered(Response<ResponseBody>),
}
