//! One request on its way through a handler: the handler runs, what it asks for is done, and it runs
//! again, until it has decided.
//!
//! **Invariant:** the handler's code runs without I/O and without secrets; what it fetches passes the
//! lists of the policy, the checks of the address and the bounds of the secrets like anything else.

mod effects;
mod fetch;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use http::{Extensions, Method, Request, Response, Version};
use sluicegate_policy::{
    Answer, BodyHandle, BodySource, BoundHandler, DenyReason, Edits, Effect, Execution, HandlerAction,
    HandlerError, HandlerFault, HandlerInput, HandlerResponse, HeaderEdit, LogLine, Outcome, Patience,
    Refusal, Step,
};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use crate::activity::Active;
use crate::audit::{AuditRecord, Verdict};
use crate::body::{HeldBody, ResponseBody, WorkloadBody};
use crate::exchange::{Connection, Judged};
use crate::gate::Gate;
use crate::generation::Generation;
use crate::respond::{self, Failure, HandlerFailure};
use crate::scrub::Scrubber;
use crate::send::Sending;
use crate::upstream::Origin;

/// A request whose handler is to decide.
#[derive(Clone, Copy)]
pub struct Exchange<'a> {
    /// The connection that it came on.
    pub connection: &'a Connection,
    /// The generation that judged it.
    pub generation: &'a Arc<Generation>,
    /// What was decided about it.
    pub judged: &'a Judged<'a>,
    /// The handler.
    pub handler: &'a Arc<BoundHandler>,
}

/// A request under way in its handler.
struct Handling<'a> {
    exchange: Exchange<'a>,
    /// The workload's request, as far as a fetch of it needs what the handler does not see.
    version: Version,
    uri: http::Uri,
    extensions: Extensions,
    /// What the rule puts on of secrets, last of all.
    secret_edits: Edits,
    bodies: HashMap<BodyHandle, Held>,
    next_body: u32,
    /// What the bodies in memory take of the instance's room, until the handler is done.
    room: Vec<OwnedSemaphorePermit>,
    /// What became of the last fetch, if it failed: for the answer when the handler does not catch it.
    failed_fetch: Option<Failure>,
    fetches: u32,
    record: AuditRecord,
}

/// A body that the gate holds for the handler.
struct Held {
    body: HeldBody,
    /// Of the fetch that it answers; written when the body has ended.
    record: Option<AuditRecord>,
    scrubber: Option<Scrubber>,
    extensions: Extensions,
}

/// What performing an effect came to.
enum Performed {
    Answer(Answer),
    /// The handler is not asked again.
    End(Failure),
}

impl Exchange<'_> {
    /// Runs the handler and does what it decides.
    ///
    /// # Errors
    /// The failure to answer with, and the exchange's record.
    pub async fn handle(
        self,
        request: Request<WorkloadBody>,
        record: AuditRecord,
        active: Active,
    ) -> Result<Response<ResponseBody>, (Failure, AuditRecord)> {
        let method = request.method().clone();
        let (mut handling, input) = match self.begin(request, record) {
            Ok(begun) => begun,
            Err(failed) => return Err(*failed),
        };
        let environment = self.generation.policy.environment();
        let execution = Execution::new(self.handler, environment, input);
        let (outcome, ended) = handling.run(execution).await;
        if let Some(mut execution) = ended {
            handling.note(&mut execution);
        }
        match outcome {
            Ok(outcome) => handling.finish(outcome, &method, active).await,
            Err(failure) => Err((failure, handling.record)),
        }
    }
}

impl<'a> Exchange<'a> {
    fn begin(
        self,
        request: Request<WorkloadBody>,
        mut record: AuditRecord,
    ) -> Result<(Handling<'a>, HandlerInput), Box<(Failure, AuditRecord)>> {
        // A handler may copy what it was shown, an echoed secret too, into what it logs or throws.
        record.mask = self.generation.secrets.mask();
        record.handler = Some(Arc::from(&*self.handler.name));
        if let HandlerAction::Script(script) = &self.handler.action {
            record.handler_version = Some(Arc::from(script.version()));
        }
        let (plain, secret_edits) = by_secret(self.judged.edits);
        let (mut head, body) = request.into_parts();
        let origin = self.origin(self.judged.authority.clone(), head.version, Vec::new());
        let sending = Sending { generation: self.generation, origin: &origin, edits: &[&plain] };
        if let Err(failure) = sending.put_on(&mut head, &mut record) {
            return Err(Box::new((failure, record)));
        }
        let has_body = !http_body::Body::is_end_stream(&body);
        let input = HandlerInput {
            method: head.method,
            scheme: self.connection.name.scheme,
            authority: self.judged.authority.clone(),
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
        };
        let mut bodies = HashMap::new();
        if has_body {
            let held = Held::new(HeldBody::Workload(body));
            bodies.insert(BodyHandle::WORKLOAD, held);
        }
        let handling = Handling {
            exchange: self,
            version: head.version,
            uri: head.uri,
            extensions: head.extensions,
            secret_edits,
            bodies,
            next_body: 1,
            room: Vec::new(),
            failed_fetch: None,
            fetches: 0,
            record,
        };
        Ok((handling, input))
    }

    fn origin(
        self,
        authority: sluicegate_policy::Authority,
        version: Version,
        credentials: Vec<sluicegate_policy::SecretName>,
    ) -> Origin {
        let scheme = self.connection.name.scheme;
        Origin { scheme, authority, multiplexed: version == Version::HTTP_2, credentials }
    }
}

impl Handling<'_> {
    /// Runs the handler to its end, and hands it back for what it logged. Time that a person takes is not the handler's.
    async fn run(&mut self, mut execution: Execution) -> (Result<Outcome, Failure>, Option<Execution>) {
        let mut deadline = Instant::now() + self.exchange.generation.policy.environment().limits.wall;
        let outcome = loop {
            let began = Instant::now();
            let step = match execution.run(Patience::Brief) {
                Step::Unfinished => {
                    match run_apart(&self.exchange.connection.gate, execution, deadline).await {
                        Ok((back, step)) => {
                            execution = back;
                            step
                        }
                        Err(failure) => return (Err(failure), None),
                    }
                }
                step => step,
            };
            *self.record.handler_time.get_or_insert_default() += began.elapsed();
            let effect = match step {
                Step::Await(effect) => effect,
                Step::Done(outcome) => break Ok(outcome),
                Step::Failed(error) => break Err(self.handler_failed(&error)),
                Step::Unfinished => break Err(timed_out("it was not done in a full run")),
            };
            let performed = if let Effect::Ask { reason, patience } = effect {
                let asked = Instant::now();
                let performed = self.ask(&reason, patience).await;
                deadline += asked.elapsed();
                performed
            } else {
                match tokio::time::timeout_at(deadline, Box::pin(self.perform(effect))).await {
                    Ok(performed) => performed,
                    Err(_) => break Err(timed_out("it was still waiting")),
                }
            };
            match performed {
                Performed::Answer(answer) => execution.answer(answer),
                Performed::End(failure) => break Err(failure),
            }
        };
        (outcome, Some(execution))
    }

    /// Writes down what the handler logged and how long it ran.
    fn note(&mut self, execution: &mut Execution) {
        for LogLine { level, message, fields } in execution.take_log() {
            let mut record = self.exchange.connection.gate.log.handler_line();
            record.mask.clone_from(&self.record.mask);
            record.set_handler_line(level, &message, fields);
            record.generation = Some(Arc::clone(&self.exchange.generation.id));
            record.request_id.clone_from(&self.record.request_id);
            record.handler.clone_from(&self.record.handler);
            record.handler_version.clone_from(&self.record.handler_version);
        }
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
                return Err((Failure::Refused(Refusal { reason, detail }), self.record));
            }
            Outcome::Forward(outgoing) => match self.fetch(*outgoing).await {
                Performed::Answer(Answer::Response { status, headers, body }) => {
                    let body = body.map_or(BodySource::Empty, BodySource::Handle);
                    HandlerResponse { status, headers, body, tap: None }
                }
                Performed::End(failure) => return Err((failure, self.record)),
                Performed::Answer(_) => {
                    let failure = self.failed_fetch.take().unwrap_or_else(already_sent);
                    return Err((failure, self.record));
                }
            },
        };
        self.respond(response, method, active)
    }

    fn respond(
        mut self,
        answer: HandlerResponse,
        method: &Method,
        active: Active,
    ) -> Result<Response<ResponseBody>, (Failure, AuditRecord)> {
        self.record.verdict = Some(if self.fetches > 0 { Verdict::Allowed } else { Verdict::Answered });
        let mut response = Response::new(());
        *response.status_mut() = answer.status;
        *response.headers_mut() = answer.headers;
        let own = match answer.body {
            BodySource::Empty => Bytes::new(),
            BodySource::Bytes(bytes) => bytes,
            BodySource::Filled(_) => {
                return Err((failed(String::from("a response cannot hold a secret")), self.record));
            }
            BodySource::Handle(handle) => {
                let Some(held) = self.bodies.remove(&handle) else {
                    return Err((already_sent(), self.record));
                };
                return Ok(self.pass_on(response, held, answer.tap, active));
            }
        };
        if let Some(limit) = answer.tap {
            self.record.tap_response(limit).take(&own);
        }
        let response = response.map(|()| ResponseBody::own(own));
        Ok(respond::by_handler(response, method, &mut self.record))
    }

    /// A body that the gate holds, as it streams; the records go with it.
    fn pass_on(
        mut self,
        mut response: Response<()>,
        held: Held,
        tap: Option<usize>,
        active: Active,
    ) -> Response<ResponseBody> {
        *response.extensions_mut() = held.extensions;
        self.record.status = Some(response.status().as_u16());
        self.record.mark_first_byte();
        if let Some(limit) = tap {
            drop(self.record.tap_response(limit));
        }
        let idle = self.exchange.generation.policy.upstream().idle_timeout;
        let body = ResponseBody::handled(held.body, idle, (self.record, held.record), active);
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

impl Held {
    fn new(body: HeldBody) -> Self {
        Self { body, record: None, scrubber: None, extensions: Extensions::new() }
    }
}

/// Runs a handler that needs more than a moment on a thread where nobody waits for bytes.
async fn run_apart(
    gate: &Gate,
    mut execution: Execution,
    deadline: Instant,
) -> Result<(Execution, Step), Failure> {
    let free = Arc::clone(&gate.handler_threads).acquire_owned();
    let Ok(Ok(place)) = tokio::time::timeout_at(deadline, free).await else {
        return Err(timed_out("no handler thread was free"));
    };
    let ran = tokio::task::spawn_blocking(move || {
        // Held by the run and not by the request, which may be given up before.
        let _place = place;
        let step = execution.run(Patience::Full);
        (execution, step)
    });
    ran.await.map_err(|_| failed(String::from("the handler's thread ended")))
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
