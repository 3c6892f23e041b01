//! One request and its response: authority, verdict, handler, credentials, upstream, answer, record.
//!
//! **Invariant:** every path through here returns a response and leaves exactly one record of the
//! exchange; nothing is sent before the verdict, and no secret is on before the last edit. One
//! generation of the policy is held from the verdict to the response's end.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use http::{Method, Request, Response, Version, request};
use hyper::body::Incoming;
use hyper::service::Service;
use rustls::ProtocolVersion;
use sluicegate_policy::{Ask, Authority, BoundHandler, DenyReason, Edits, Refusal, RequestFacts, Verdict};

use crate::accept::ClientAddress;
use crate::activity::{Active, Activity};
use crate::approvals::{self, Question};
use crate::audit::AuditRecord;
use crate::body::{Arriving, RequestBody, ResponseBody, WorkloadBody};
use crate::gate::Gate;
use crate::generation::Generation;
use crate::handling;
use crate::interim::{self, Passing, StreamInterim};
use crate::request_authority::{ConnectionName, authority};
use crate::request_head::HeadFault;
use crate::respond::{self, Failure};
use crate::send::{Sending, credentials};
use crate::upgrade::{self, Ground};
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
        Box::pin(async move { Ok(connection.answer(request.map(Arriving::Http1), None).await) })
    }
}

/// What a request has been judged to be.
#[derive(Debug)]
pub struct Judged<'generation> {
    /// Whom it is for.
    pub authority: Authority,
    /// What the rule that let it through changes.
    pub edits: &'generation Edits,
    /// What it is given to instead of being sent.
    pub handler: Option<&'generation Arc<BoundHandler>>,
    /// Whether a person has to agree first.
    pub ask: Option<&'generation Ask>,
}

enum Decided<'generation> {
    Judged(Judged<'generation>),
    Answered(Response<ResponseBody>),
}

impl Connection {
    /// Answers one request; `interim` takes what is said before, on HTTP/2.
    pub async fn answer(
        self: &Arc<Self>,
        request: Request<Arriving>,
        interim: Option<Arc<StreamInterim>>,
    ) -> Response<ResponseBody> {
        let (request, upload) = WorkloadBody::of(request, interim);
        let response = self.exchange(request).await;
        if let Some(upload) = upload {
            upload.taken_in().await;
        }
        response
    }

    async fn exchange(self: &Arc<Self>, request: Request<WorkloadBody>) -> Response<ResponseBody> {
        let (active, fault) = self.activity.begin();
        let generation = self.gate.generation();
        let mut record = self.begin_record(&generation);
        if let Some(fault) = fault {
            let failure = Failure::Malformed(fault);
            return respond::failure(&failure, &generation.policy, &Method::GET, &mut record);
        }
        let (mut head, body) = request.into_parts();
        upgrade::translate(&mut head);
        interim::note_expectation(&mut head, &body);
        record.method = Some(head.method.clone());
        record.client_version = Some(head.version);
        record.set_path(head.uri.path());
        let method = head.method.clone();
        let answered = match self.judge(&generation, &mut head, &mut record) {
            Ok(Decided::Judged(judged)) => {
                let request = Request::from_parts(head, body);
                self.carry_out(&generation, judged, request, (record, active)).await
            }
            Ok(Decided::Answered(response)) => Ok(response),
            Err(failure) => Err((failure, record)),
        };
        answered.unwrap_or_else(|(failure, mut record)| {
            respond::failure(&failure, &generation.policy, &method, &mut record)
        })
    }

    fn begin_record(&self, generation: &Generation) -> AuditRecord {
        let original_destination = self.name.original_destination.0;
        let mut record = self.gate.log.exchange(self.client.0, original_destination);
        record.generation = Some(Arc::clone(&generation.id));
        record.request_id = Some(self.gate.request_id());
        record.scheme = Some(self.name.scheme.as_str());
        record.sni.clone_from(&self.sni);
        record.tls = self.tls.and_then(|version| version.as_str());
        record
    }

    /// Everything up to the verdict; sends nothing.
    fn judge<'generation>(
        &self,
        generation: &'generation Generation,
        head: &mut request::Parts,
        record: &mut AuditRecord,
    ) -> Result<Decided<'generation>, Failure> {
        let authority = self.read_authority(head, record)?;
        let facts = RequestFacts {
            scheme: self.name.scheme,
            authority: &authority,
            method: &head.method,
            path: head.uri.path(),
            carries_dns: RequestFacts::carry_dns(&head.headers),
        };
        let decision = generation.policy.decide(&facts);
        record.rule = decision.rule.map(String::from);
        record.would_refuse = decision.would_refuse.as_ref().map(|refusal| refusal.reason.as_str());
        let ground = Ground::new(&facts, &decision);
        let (edits, handler) = match decision.verdict {
            Verdict::Forward(edits) => (edits, None),
            Verdict::Handle(handler, edits) => (edits, Some(handler)),
            Verdict::Refuse(mut refusal) => {
                let unnamed = matches!(refusal.reason, DenyReason::NotNamed | DenyReason::NotInAllowedHosts);
                if unnamed && self.name.tls_name.is_some() && self.sni.is_none() {
                    // The address stood in for a name, which is what was missing.
                    refusal.reason = DenyReason::ServerNameMissing;
                }
                return Err(Failure::Refused(refusal));
            }
            Verdict::Respond(answer) => {
                upgrade::check_answer(&head.extensions, answer.status).map_err(Failure::Refused)?;
                return Ok(Decided::Answered(respond::fixed(answer, &head.method, record)));
            }
        };
        upgrade::strip(head, ground).map_err(Failure::Refused)?;
        Ok(Decided::Judged(Judged { authority, edits, handler, ask: decision.ask }))
    }

    /// The one authority that the request is judged, sent and logged by.
    fn read_authority(&self, head: &request::Parts, record: &mut AuditRecord) -> Result<Authority, Failure> {
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
        Ok(authority)
    }

    /// Acts on a verdict that lets the request go on.
    async fn carry_out(
        self: &Arc<Self>,
        generation: &Arc<Generation>,
        judged: Judged<'_>,
        request: Request<WorkloadBody>,
        (mut record, active): (AuditRecord, Active),
    ) -> Result<Response<ResponseBody>, (Failure, AuditRecord)> {
        if let Some(ask) = judged.ask {
            let question = Question {
                reason: ask.reason.clone(),
                asked_by: record.rule.as_deref().unwrap_or_default().into(),
                patience: ask.patience,
                ..self.question(&judged.authority, request.method(), request.uri(), &record)
            };
            if let Err(failure) = self.approve(question, &mut record).await {
                return Err((failure, record));
            }
        }
        match judged.handler {
            // Boxed: most requests have no handler, and shall not have the room for one.
            Some(handler) => {
                let exchange = handling::Exchange {
                    connection: Arc::clone(self),
                    generation: Arc::clone(generation),
                    authority: judged.authority,
                    handler: Arc::clone(handler),
                };
                Box::pin(exchange.handle(judged.edits, request, record, active)).await
            }
            None => self.forward(generation, judged, request, (record, active)).await,
        }
    }

    /// Sends the request and wraps the answer; the record goes with the answer's body.
    async fn forward(
        self: &Arc<Self>,
        generation: &Arc<Generation>,
        judged: Judged<'_>,
        request: Request<WorkloadBody>,
        (mut record, active): (AuditRecord, Active),
    ) -> Result<Response<ResponseBody>, (Failure, AuditRecord)> {
        let edits = [judged.edits];
        let (mut head, body) = request.into_parts();
        let origin = Origin {
            scheme: self.name.scheme,
            authority: judged.authority,
            multiplexed: head.version == Version::HTTP_2,
            credentials: credentials(&edits),
        };
        let sending = Sending { generation, origin: &origin, edits: &edits };
        if let Err(failure) = sending.put_on(&mut head, &mut record) {
            return Err((failure, record));
        }
        let passing = Passing::begin(&self.activity, (&mut head, &body), sending.masks());
        let idle = generation.policy.upstream().idle_timeout;
        let (body, mut progress) = RequestBody::new(body, record.request_bytes_counter(), idle);
        progress.passing.clone_from(&passing);
        let sent = sending.send(Request::from_parts(head, body), &progress, &mut record).await;
        if let Some(passing) = passing {
            passing.end().await;
        }
        let answered = match sent {
            Ok(answered) => answered,
            Err(failure) => return Err((failure, record)),
        };
        let (mut head, body) = answered.response.into_parts();
        let scrubber = match sending.scrub(&mut head) {
            Ok(scrubber) => scrubber,
            Err(failure) => return Err((failure, record)),
        };
        if let Some(granted) = answered.granted {
            return Ok(granted.pass(head, (self, generation), (record, None), active));
        }
        let body = ResponseBody::upstream(body, idle, record, answered.lease, active);
        Ok(Response::from_parts(head, body.scrubbed(scrubber)))
    }

    /// What a person is told about a request, but for who asks and why.
    pub fn question(
        &self,
        authority: &Authority,
        method: &Method,
        uri: &http::Uri,
        record: &AuditRecord,
    ) -> Question {
        Question {
            request_id: record.request_id.as_deref().unwrap_or_default().into(),
            instance: self.gate.identity.instance_id.clone(),
            method: method.clone(),
            scheme: self.name.scheme,
            authority: authority.clone(),
            target: uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str).into(),
            reason: Box::default(),
            asked_by: Box::default(),
            patience: std::time::Duration::ZERO,
        }
    }

    /// Holds a request until a person has answered.
    ///
    /// # Errors
    /// The refusal, where nobody allowed it.
    pub async fn approve(&self, question: Question, record: &mut AuditRecord) -> Result<(), Failure> {
        let asked = question.reason.clone();
        let verdict = tokio::select! {
            verdict = self.gate.approvals.ask(question) => Some(verdict),
            () = self.activity.left() => None,
        };
        let (id, reason, detail) = match verdict {
            Some(approvals::Verdict::Allowed { id, .. }) => {
                record.approval = Some(id);
                return Ok(());
            }
            Some(approvals::Verdict::Denied { id }) => {
                (Some(id), DenyReason::ApprovalDenied, "a person said no")
            }
            Some(approvals::Verdict::TimedOut { id }) => {
                (Some(id), DenyReason::ApprovalTimeout, "nobody answered")
            }
            Some(approvals::Verdict::Full) => (None, DenyReason::ApprovalsFull, "too many requests wait"),
            None => (None, DenyReason::ApprovalTimeout, "the workload no longer waits"),
        };
        record.approval = id;
        Err(Failure::Refused(Refusal { reason, detail: format!("{detail}; asked was: {asked}") }))
    }
}
