//! One request on its way through a handler: the handler runs, what it asks for is done, and it runs
//! again, until it has decided.
//!
//! **Invariant:** the handler's code runs without I/O and without secrets; what it fetches passes the
//! lists of the policy, the checks of the address and the bounds of the secrets like anything else.

mod bodies;
mod connection;
mod effects;
mod fetch;
mod message;
mod upgrade;
mod work;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use http::{Extensions, Method, Request, Response, Version};
use sluicegate_policy::{
    Answer, Authority, BodyHandle, BodySource, BoundHandler, DenyReason, Edits, Effect, HandlerError,
    HandlerFault, HandlerInput, HandlerResponse, HeaderEdit, LogLevel, LogLine, Outcome, Refusal, Step,
    Subject,
};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use crate::activity::Active;
use crate::audit::{AuditRecord, Entry, Verdict};
use crate::body::{HeldBody, ResponseBody, WorkloadBody};
use crate::exchange::Connection;
use crate::generation::Generation;
use crate::respond::{self, Failure, HandlerFailure};
use crate::scrub::Scrubber;
use crate::send::Sending;
use crate::upstream::Origin;

use bodies::Begun;
use upgrade::is_upgrade;
use work::Work;

/// A request whose handler is to decide.
#[derive(Clone, Debug)]
pub struct Exchange {
    /// The connection that it came on.
    pub connection: Arc<Connection>,
    /// The generation that judged it.
    pub generation: Arc<Generation>,
    /// Whom it is for.
    pub authority: Authority,
    /// The handler.
    pub handler: Arc<BoundHandler>,
}

/// A request under way in its handler.
struct Handling {
    exchange: Exchange,
    /// The workload's request, as far as a fetch of it needs what the handler does not see.
    version: Version,
    uri: http::Uri,
    extensions: Extensions,
    /// What the rule puts on of secrets, last of all.
    secret_edits: Edits,
    bodies: HashMap<BodyHandle, Held>,
    /// Those that the handler takes piece by piece.
    begun: HashMap<BodyHandle, Begun>,
    next_body: u32,
    /// What the bodies in memory take of the instance's room, until the handler is done.
    room: Vec<OwnedSemaphorePermit>,
    /// What became of the last fetch, if it failed: for the answer when the handler does not catch it.
    failed_fetch: Option<Failure>,
    fetches: u32,
    /// Whether the workload has its answer, and the handler goes on.
    has_answered: bool,
    /// Of the exchange; gone with the response when the handler goes on after it, and none where there
    /// is no request.
    record: Option<AuditRecord>,
    /// What stands for the record from then on.
    afterwards: Option<Box<Entry>>,
}

/// A body that the gate holds for the handler.
struct Held {
    body: HeldBody,
    /// Of the fetch that it answers; written when the body has ended.
    record: Option<AuditRecord>,
    scrubber: Option<Scrubber>,
    extensions: Extensions,
    /// Whether another body has the same bytes, which are counted there.
    is_copy: bool,
}

/// What performing an effect came to.
enum Performed {
    Answer(Answer),
    /// The handler is not asked again.
    End(Failure),
}

/// Where a handler came to.
enum Halt {
    /// It has decided.
    Decided(Outcome),
    /// It has decided, and goes on.
    Answered(Box<HandlerResponse>),
}

impl Exchange {
    /// Runs the handler and does what it decides. `edits` are those of the rule that let the request
    /// through.
    ///
    /// # Errors
    /// The failure to answer with, and the exchange's record.
    pub async fn handle(
        self,
        edits: &Edits,
        request: Request<WorkloadBody>,
        record: AuditRecord,
        active: Active,
    ) -> Result<Response<ResponseBody>, (Failure, AuditRecord)> {
        let method = request.method().clone();
        let (mut handling, input) = match self.begin(edits, request, record) {
            Ok(begun) => begun,
            Err(failed) => return Err(*failed),
        };
        let mut work = match Work::begin(&handling.exchange, input) {
            Ok(work) => work,
            Err(failure) => return Err(handling.fail(failure)),
        };
        let halt = handling.run(&mut work).await;
        handling.note(&mut work).await;
        match halt {
            Ok(Halt::Decided(outcome)) => handling.finish(outcome, &method, active).await,
            Ok(Halt::Answered(response)) => {
                handling.afterwards = handling.record.as_ref().map(|record| Box::new(record.namesake()));
                let response = handling.respond(*response, &method, active)?;
                tokio::spawn(handling.go_on(work));
                Ok(response)
            }
            Err(failure) => Err(handling.fail(failure)),
        }
    }
}

impl Exchange {
    fn begin(
        self,
        edits: &Edits,
        request: Request<WorkloadBody>,
        mut record: AuditRecord,
    ) -> Result<(Handling, HandlerInput), Box<(Failure, AuditRecord)>> {
        // A handler may copy what it was shown, an echoed secret too, into what it logs or throws.
        record.mask = self.generation.secrets.mask();
        record.handler = Some(Arc::from(&*self.handler.name));
        record.handler_version =
            self.handler.action.file_and_version().map(|(_, version)| Arc::from(version));
        let (plain, secret_edits) = by_secret(edits);
        let (mut head, body) = request.into_parts();
        let origin = self.origin(head.version);
        let sending = Sending { generation: &self.generation, origin: &origin, edits: &[&plain] };
        if let Err(failure) = sending.put_on(&mut head, &mut record) {
            return Err(Box::new((failure, record)));
        }
        let has_body = !http_body::Body::is_end_stream(&body);
        let input = HandlerInput {
            method: head.method,
            scheme: self.connection.name.scheme,
            authority: self.authority.clone(),
            path_and_query: head
                .uri
                .path_and_query()
                .cloned()
                .unwrap_or_else(|| http::uri::PathAndQuery::from_static("/")),
            headers: head.headers,
            has_body,
            identity: Arc::clone(&self.connection.gate.identity),
            request_id: record.request_id.as_deref().unwrap_or_default().into(),
            original_destination: self.connection.name.original_destination.0,
            sni: self.connection.sni.as_deref().map(Into::into),
            tls: record.tls,
            version: head.version,
            now: SystemTime::now(),
            subject: Subject::Request,
        };
        let mut bodies = HashMap::new();
        if has_body {
            let held = Held::new(HeldBody::Workload(body));
            bodies.insert(BodyHandle::WORKLOAD, held);
        }
        let version = head.version;
        let handling = Handling {
            uri: head.uri,
            extensions: head.extensions,
            secret_edits,
            bodies,
            record: Some(record),
            ..Handling::new(self, version)
        };
        Ok((handling, input))
    }

    fn origin(&self, version: Version) -> Origin {
        let scheme = self.connection.name.scheme;
        let multiplexed = version == Version::HTTP_2;
        Origin { scheme, authority: self.authority.clone(), multiplexed, credentials: Vec::new() }
    }
}

impl Handling {
    /// Before anything was asked, of a handler that was given nothing.
    fn new(exchange: Exchange, version: Version) -> Self {
        Self {
            exchange,
            version,
            uri: http::Uri::default(),
            extensions: Extensions::new(),
            secret_edits: Edits::NONE,
            bodies: HashMap::new(),
            begun: HashMap::new(),
            next_body: 1,
            room: Vec::new(),
            failed_fetch: None,
            fetches: 0,
            has_answered: false,
            record: None,
            afterwards: None,
        }
    }

    /// Runs the handler until it has decided. Time that a person takes is not the handler's, and that
    /// of a body which it reads after its answer is the body's.
    async fn run(&mut self, work: &mut Work) -> Result<Halt, Failure> {
        let gate = Arc::clone(&self.exchange.connection.gate);
        let mut deadline = Instant::now() + self.exchange.generation.policy.environment().limits.wall;
        loop {
            let began = Instant::now();
            let step = work.next(&gate, deadline).await?;
            *self.entry().handler_time.get_or_insert_default() += began.elapsed();
            let effect = match step {
                Step::Await(Effect::Respond(response)) if self.record.is_some() => {
                    return Ok(Halt::Answered(response));
                }
                Step::Await(effect) => effect,
                Step::Done(outcome) => return Ok(Halt::Decided(outcome)),
                Step::Failed(error) => return Err(self.handler_failed(&error)),
                Step::Unfinished => return Err(timed_out("it was not done in a full run")),
            };
            let asked = Instant::now();
            let has_own_time = match &effect {
                Effect::Ask { .. } => true,
                Effect::NextChunk(_) => self.has_answered,
                _ => false,
            };
            let performed = if has_own_time {
                let performed = Box::pin(self.perform(effect)).await;
                deadline += asked.elapsed();
                performed
            } else {
                match tokio::time::timeout_at(deadline, Box::pin(self.perform(effect))).await {
                    Ok(performed) => performed,
                    Err(_) => return Err(timed_out("it was still waiting")),
                }
            };
            match performed {
                Performed::Answer(answer) => work.answer(answer),
                Performed::End(failure) => return Err(failure),
            }
        }
    }

    /// Lets a handler go on that has answered. What becomes of it changes no answer, and stands in the
    /// log alone.
    async fn go_on(mut self, mut work: Work) {
        self.has_answered = true;
        work.answer(Answer::Done);
        let halt = self.run(&mut work).await;
        self.note(&mut work).await;
        let message = match halt {
            Ok(_) => return,
            Err(Failure::Handler(HandlerFailure { detail, .. })) => detail,
            Err(Failure::Refused(refusal)) => refusal.detail,
            Err(Failure::Upstream(error)) => error.to_string(),
            Err(Failure::Malformed(fault)) => fault.to_string(),
        };
        let message = format!("after its answer: {message}").into();
        drop(self.line(LogLine { level: LogLevel::Error, message, fields: serde_json::Map::new() }));
    }

    /// What is known of the exchange, for the log; of no consequence once the workload was answered.
    fn entry(&mut self) -> &mut Entry {
        match &mut self.record {
            Some(record) => record,
            None => self.afterwards.get_or_insert_with(Box::default),
        }
    }

    /// Gives the record up.
    fn take_record(&mut self) -> AuditRecord {
        // Without a record the workload was answered, and nobody takes a second one.
        self.record.take().unwrap_or_else(|| self.exchange.connection.gate.log.handler_line())
    }

    fn fail(mut self, failure: Failure) -> (Failure, AuditRecord) {
        let record = self.take_record();
        (failure, record)
    }

    /// Writes down what the handler logged and how long it ran.
    async fn note(&mut self, work: &mut Work) {
        // Made before the wait, so that they are written too where the workload hangs up meanwhile.
        let mut records: Vec<_> = work.take_log().into_iter().map(|line| self.line(line)).collect();
        if records.is_empty() {
            return;
        }
        let mut room = self.exchange.connection.gate.log.room_for_lines(records.len()).await;
        for record in &mut records {
            record.room = room.as_mut().and_then(|room| room.split(1));
        }
    }

    fn line(&mut self, LogLine { level, message, fields }: LogLine) -> AuditRecord {
        let mut record = self.exchange.connection.gate.log.handler_line();
        let entry = self.entry();
        record.mask.clone_from(&entry.mask);
        record.set_handler_line(level, &message, fields);
        record.request_id.clone_from(&entry.request_id);
        record.handler.clone_from(&entry.handler);
        record.handler_version.clone_from(&entry.handler_version);
        record.generation = Some(Arc::clone(&self.exchange.generation.id));
        record
    }

    async fn finish(
        mut self,
        outcome: Outcome,
        method: &Method,
        active: Active,
    ) -> Result<Response<ResponseBody>, (Failure, AuditRecord)> {
        let response = match outcome {
            Outcome::Respond(response) => response,
            Outcome::Refuse(reason) => {
                let (reason, detail) = (DenyReason::DeniedByHandler, String::from(reason));
                return Err(self.fail(Failure::Refused(Refusal { reason, detail })));
            }
            Outcome::Responded => {
                let why =
                    String::from("it says that it has answered, and has not; this is a bug in the gate");
                return Err(self.fail(failed(why)));
            }
            Outcome::Flow(_) | Outcome::Message(_) => {
                let why = String::from(
                    "it decided about something else, and not this request; this is a bug in the gate",
                );
                return Err(self.fail(failed(why)));
            }
            Outcome::Forward(outgoing) => match self.fetch(*outgoing).await {
                Performed::Answer(Answer::Response { status, headers, body }) => {
                    let body = body.map_or(BodySource::Empty, BodySource::Handle);
                    HandlerResponse { status, headers, body, tap: None }
                }
                Performed::End(failure) => return Err(self.fail(failure)),
                Performed::Answer(_) => {
                    let failure = self.failed_fetch.take().unwrap_or_else(already_sent);
                    return Err(self.fail(failure));
                }
            },
        };
        self.respond(response, method, active)
    }

    /// The response to the workload; the record goes with it.
    fn respond(
        &mut self,
        answer: HandlerResponse,
        method: &Method,
        active: Active,
    ) -> Result<Response<ResponseBody>, (Failure, AuditRecord)> {
        let mut record = self.take_record();
        if let Err(failure) = self.check_upgrade(&answer) {
            return Err((failure, record));
        }
        record.verdict = Some(if self.fetches > 0 { Verdict::Allowed } else { Verdict::Answered });
        let mut response = Response::new(());
        *response.status_mut() = answer.status;
        *response.headers_mut() = answer.headers;
        let own = match answer.body {
            BodySource::Empty => Bytes::new(),
            BodySource::Bytes(bytes) => bytes,
            BodySource::Filled(_) => {
                return Err((failed(String::from("a response cannot hold a secret")), record));
            }
            BodySource::Handle(handle) => {
                let Some(held) = self.bodies.remove(&handle) else { return Err((already_sent(), record)) };
                match held.body {
                    HeldBody::Upgrade(granted) if is_upgrade(answer.status) => {
                        *response.extensions_mut() = held.extensions;
                        return Ok(self.upgrade(response, *granted, (record, held.record), active));
                    }
                    // Something else is answered, and the upstream's connection ends.
                    HeldBody::Upgrade(_) => Bytes::new(),
                    _ => return Ok(self.pass_on(response, held, (record, answer.tap), active)),
                }
            }
        };
        if let Some(limit) = answer.tap {
            record.tap_response(limit).take(&own);
        }
        let response = response.map(|()| ResponseBody::own(own));
        Ok(respond::by_handler(response, method, &mut record))
    }

    /// A body that the gate holds, as it streams; the records go with it.
    fn pass_on(
        &self,
        mut response: Response<()>,
        held: Held,
        (mut record, tap): (AuditRecord, Option<usize>),
        active: Active,
    ) -> Response<ResponseBody> {
        *response.extensions_mut() = held.extensions;
        record.status = Some(response.status().as_u16());
        record.mark_first_byte();
        if let Some(limit) = tap {
            drop(record.tap_response(limit));
        }
        let body = ResponseBody::handled(held.body, self.idle(), (record, held.record), active);
        response.map(|()| body.scrubbed(held.scrubber))
    }

    fn handler_failed(&mut self, error: &HandlerError) -> Failure {
        // A fetch that failed and was not caught: the workload is told what it would be told without
        // a handler.
        match self.failed_fetch.take() {
            Some(failure) if error.fault == HandlerFault::Threw => failure,
            _ => Failure::Handler(HandlerFailure {
                timed_out: error.fault == HandlerFault::Time,
                detail: error.to_string(),
            }),
        }
    }
}

/// A rule's edits without secrets, which the handler sees, and those with, which it does not.
fn by_secret(edits: &Edits) -> (Edits, Edits) {
    let (mut plain, mut secret) = (Edits::NONE, Edits::NONE);
    for edit in &edits.headers {
        let holds = matches!(edit, HeaderEdit::Set(_, value) if value.secrets().next().is_some());
        if holds { &mut secret } else { &mut plain }.headers.push(edit.clone());
    }
    for edit in &edits.query {
        let holds = edit.value.secrets().next().is_some();
        if holds { &mut secret } else { &mut plain }.query.push(edit.clone());
    }
    secret.basic_auth.clone_from(&edits.basic_auth);
    (plain, secret)
}

fn timed_out(detail: &str) -> Failure {
    Failure::Handler(HandlerFailure { timed_out: true, detail: detail.to_owned() })
}

fn failed(detail: String) -> Failure {
    Failure::Handler(HandlerFailure { timed_out: false, detail })
}

fn already_sent() -> Failure {
    failed(String::from("the body was sent or read already"))
}
