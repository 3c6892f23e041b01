//! One request on its way through one handler.

use std::sync::Arc;
use std::time::Duration;

use rhai::{CallFnOptions, Dynamic, EvalAltResult, ImmutableString, Position, Scope};

use super::api::request::Request;
use super::api::response::Response;
use super::api::{Approval, Env, Flow, Headers, Message, context};
use super::failure::{Failure, thrown};
use super::journal::{Entry, Question, Told};
use super::run::{Run, Stop};
use super::script::{ON_CONNECT, ON_MESSAGE, OUTBOUND};
use super::value::{Blob, kind_of};
use super::watch::{Allowance, Bound, Spent, Watch};
use super::{
    Answer, BoundHandler, Effect, Environment, FlowDecision, HandlerAction, HandlerInput, HandlerResponse,
    MessageContent, MessageVerdict, OutgoingRequest, Script, Subject,
};

/// How far [`Patience::Brief`] goes, in steps of the interpreter.
const BRIEF_OPERATIONS: u64 = 2_000;
/// The most of bodies, stored values and messages that a brief run begins with, in bytes: one call can work
/// through all of them, and nothing stops it within.
const BRIEF_BYTES: usize = 8 * 1024;
/// How long [`Patience::Brief`] goes on, by the clock.
const BRIEF_TIME: Duration = Duration::from_micros(200);

/// A handler at work on a request: run it, perform what it asks for, answer, run it again.
#[derive(Debug)]
pub struct Execution {
    bound: Arc<BoundHandler>,
    environment: Arc<Environment>,
    input: HandlerInput,
    headers: Headers,
    /// `ctx`, made at the first run.
    context: Option<Dynamic>,
    pub(super) journal: Vec<Entry>,
    /// What the last run asked, until it is answered.
    asked: Option<Question>,
    log: Vec<LogLine>,
    operations: u64,
    cpu: Duration,
}

/// How far a run may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// A fraction of a millisecond, for a run among the bytes of other requests. A handler that
    /// needs more is stopped with [`Step::Unfinished`] and begun again elsewhere.
    Brief,
    /// As far as the limits allow. The thread needs a stack of [`Execution::STACK_BYTES`]: a script
    /// can make values nested so deep that dropping them takes as much.
    Full,
}

/// Where a run came to.
#[derive(Debug)]
pub enum Step {
    /// The handler waits: perform this, then [`Execution::answer`].
    Await(Effect),
    /// [`Patience::Brief`] was not enough; nothing has happened yet.
    Unfinished,
    /// The handler has decided.
    Done(Outcome),
    /// The handler is wrong. The request is refused, and the log says where.
    Failed(HandlerError),
}

/// What a handler decided.
#[derive(Debug)]
pub enum Outcome {
    /// Answer the workload with this.
    Respond(HandlerResponse),
    /// Refuse, with this reason.
    Refuse(Box<str>),
    /// Send the workload's request as the handler left it, and answer with what comes back.
    Forward(Box<OutgoingRequest>),
    /// It answered before, by [`Effect::Respond`], and is done now.
    Responded,
    /// What becomes of a connection; only where one is the subject, and then nothing else but a refusal.
    Flow(FlowDecision),
    /// What becomes of a message; likewise.
    Message(MessageVerdict),
}

/// What went wrong in a handler, for the log alone: the workload is not told.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {message}", self.place())]
pub struct HandlerError {
    /// What kind of fault.
    pub fault: HandlerFault,
    /// The script's file as the document writes it.
    pub file: Box<str>,
    /// The line, from 1; 0 where it is not known.
    pub line: usize,
    /// The column, from 1; 0 where it is not known.
    pub column: usize,
    /// What happened; never a secret's value.
    pub message: Box<str>,
}

impl HandlerError {
    /// The file, and the place in it where that is known.
    fn place(&self) -> String {
        let Self { file, line, column, .. } = self;
        if *line == 0 { file.to_string() } else { format!("{file}:{line}:{column}") }
    }
}

/// Kinds of [`HandlerError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandlerFault {
    /// It threw, misused something, or returned what is no response.
    Threw,
    /// It used up a limit other than time.
    Limit,
    /// It used up its processor time.
    Time,
}

/// What a handler logged.
#[derive(Clone, Debug, PartialEq)]
pub struct LogLine {
    /// How important.
    pub level: LogLevel,
    /// What.
    pub message: Box<str>,
    /// More, by name.
    pub fields: serde_json::Map<String, serde_json::Value>,
}

/// How important a [`LogLine`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// For whoever writes the handler.
    Debug,
    /// What happens.
    Info,
    /// What should not.
    Warn,
    /// What must not.
    Error,
}

impl Execution {
    /// The stack that [`Patience::Full`] needs, in bytes; 2 MiB are enough for [`Patience::Brief`].
    pub const STACK_BYTES: usize = 16 * 1024 * 1024;

    /// Begins.
    #[must_use]
    pub fn new(bound: &Arc<BoundHandler>, environment: &Arc<Environment>, input: HandlerInput) -> Self {
        let mut input = input;
        let headers = Headers(Arc::new(std::mem::take(&mut input.headers)));
        Self {
            bound: Arc::clone(bound),
            environment: Arc::clone(environment),
            input,
            headers,
            context: None,
            journal: Vec::new(),
            asked: None,
            log: Vec::new(),
            operations: 0,
            cpu: Duration::ZERO,
        }
    }

    /// Runs the handler up to its next effect or its end.
    pub fn run(&mut self, patience: Patience) -> Step {
        let bound = Arc::clone(&self.bound);
        match &bound.action {
            HandlerAction::Deny(reason) => Step::Done(Outcome::Refuse(reason.clone())),
            HandlerAction::Script(_) if self.asked.is_some() => {
                self.failed(HandlerFault::Threw, "the gate did not answer; this is a bug in it")
            }
            HandlerAction::Program(_) => {
                self.failed(HandlerFault::Threw, "a program was run as a script; this is a bug in the gate")
            }
            HandlerAction::Script(_) if patience == Patience::Brief && self.told_bytes() > BRIEF_BYTES => {
                Step::Unfinished
            }
            HandlerAction::Script(script) => self.run_script(script, patience),
        }
    }

    /// Bytes of bodies, stored values and messages that the script can get at.
    fn told_bytes(&self) -> usize {
        let bytes = |entry: &Entry| match &entry.told {
            Told::Other(Answer::Bytes(bytes)) => bytes.len(),
            _ => 0,
        };
        let message = match &self.input.subject {
            Subject::Message(message) => message.content.bytes().len(),
            Subject::Request | Subject::Connection(_) => 0,
        };
        message + self.journal.iter().map(bytes).sum::<usize>()
    }

    /// Answers the effect that the last run ended with.
    pub fn answer(&mut self, answer: Answer) {
        if let Some(question) = self.asked.take() {
            self.journal.push(Entry { question, told: Told::from(answer) });
        }
    }

    /// What the handler logged, each line once; to be called when it is done.
    pub fn take_log(&mut self) -> Vec<LogLine> {
        std::mem::take(&mut self.log)
    }

    fn run_script(&mut self, script: &Script, patience: Patience) -> Step {
        let Some(allowance) = self.allowance(patience) else {
            return self.failed(HandlerFault::Time, "more processor time than cpu_ms or operations allow");
        };
        let request = Request::of_workload(&self.input, &self.headers);
        let journal = std::mem::take(&mut self.journal);
        let run = Run::new(&self.bound, &self.environment, self.input.now, request, journal);
        let watch = Watch::begin(allowance);
        let returned = self.call(script, &run);
        let outcome =
            returned.and_then(|value| self.outcome(&run, &value)).map_err(|error| Failure::of(*error));
        let spent = watch.end();
        self.operations = self.operations.saturating_add(spent.operations);
        self.cpu = self.cpu.saturating_add(spent.cpu);
        let state = run.take();
        self.journal = state.journal;
        self.log = state.log;
        self.step(patience, spent, state.stop, outcome)
    }

    fn call(&mut self, script: &Script, run: &Run) -> Result<Dynamic, Box<EvalAltResult>> {
        let context = self.context.get_or_insert_with(|| context(&self.input, &self.bound, &script.version));
        let (env, context) = (Env::new(&self.environment), context.clone());
        let (name, about) = match &self.input.subject {
            Subject::Request => (OUTBOUND, Dynamic::from(run.workload().clone())),
            Subject::Connection(facts) => (ON_CONNECT, Dynamic::from(Flow::new(&self.input, facts))),
            Subject::Message(message) => {
                let string_bytes = self.environment.limits.string_bytes;
                (ON_MESSAGE, Dynamic::from(Message::new(&self.input, message, string_bytes)))
            }
        };
        let options = CallFnOptions::new().eval_ast(false).with_tag(run.clone());
        let arguments = (about, env, context);
        script.engine.call_fn_with_options(options, &mut Scope::new(), &script.tree, name, arguments)
    }

    /// What the script decided by what it returned.
    fn outcome(&self, run: &Run, value: &Dynamic) -> Result<Outcome, Box<EvalAltResult>> {
        match &self.input.subject {
            Subject::Request => outcome(run, value),
            Subject::Connection(_) => flow_decision(value).map(Outcome::Flow),
            Subject::Message(_) => message_verdict(value).map(Outcome::Message),
        }
    }

    /// What the next run may use up, or `None` if nothing is left.
    fn allowance(&self, patience: Patience) -> Option<Allowance> {
        let limits = &self.environment.limits;
        let operations = limits.operations.checked_sub(self.operations)?;
        let cpu = limits.cpu.checked_sub(self.cpu)?;
        Some(match patience {
            Patience::Full => Allowance { operations, cpu, elapsed: limits.wall },
            Patience::Brief => {
                Allowance { operations: operations.min(BRIEF_OPERATIONS), cpu, elapsed: BRIEF_TIME }
            }
        })
    }

    /// Where the run came to. What stopped it counts before what the script made of it.
    fn step(
        &mut self,
        patience: Patience,
        spent: Spent,
        stop: Option<Stop>,
        outcome: Result<Outcome, Failure>,
    ) -> Step {
        match stop {
            Some(Stop::Await(question, effect)) => {
                self.asked = Some(question);
                return Step::Await(effect);
            }
            Some(Stop::Deny(reason)) => return Step::Done(Outcome::Refuse(reason)),
            Some(Stop::Failed(failure)) => return self.failed_at(failure),
            None => {}
        }
        let limits = &self.environment.limits;
        let at = outcome.as_ref().err().map_or(Position::NONE, |failure| failure.at);
        let failure = match spent.stopped_by {
            None => return outcome.map_or_else(|failure| self.failed_at(failure), Step::Done),
            Some(_) if patience == Patience::Brief && self.allowance(patience).is_some() => {
                return Step::Unfinished;
            }
            Some(Bound::Operations) => {
                let message = format!("more than {} operations", limits.operations);
                Failure::new(HandlerFault::Limit, at, message)
            }
            Some(Bound::Cpu | Bound::Elapsed) => {
                let message = format!("more than {} ms of processor time", limits.cpu.as_millis());
                Failure::new(HandlerFault::Time, at, message)
            }
        };
        self.failed_at(failure)
    }

    fn failed(&self, fault: HandlerFault, message: &str) -> Step {
        self.failed_at(Failure::new(fault, Position::NONE, message))
    }

    fn failed_at(&self, failure: Failure) -> Step {
        let file = self.bound.action.file_and_version().map_or(&*self.bound.name, |(file, _)| file);
        Step::Failed(failure.in_file(file))
    }
}

/// What a script decided about a request.
fn outcome(run: &Run, value: &Dynamic) -> Result<Outcome, Box<EvalAltResult>> {
    if let Some(response) = value.read_lock::<Response>() {
        return response.send(run).map(Outcome::Respond);
    }
    if value.read_lock::<Approval>().is_some() {
        return run.workload().send(run).map(Box::new).map(Outcome::Forward);
    }
    let what = if value.is_unit() { "nothing".to_owned() } else { format!("a {}", kind_of(value)) };
    let message =
        format!("{OUTBOUND} returned {what}: return fetch(request), reply(..), deny(..) or ask(..)");
    Err(thrown(message))
}

/// What a script decided about a connection. Nothing at all leaves it to the document.
fn flow_decision(value: &Dynamic) -> Result<FlowDecision, Box<EvalAltResult>> {
    if value.is_unit() {
        return Ok(FlowDecision::Judge);
    }
    let named = value.read_lock::<ImmutableString>().and_then(|name| FlowDecision::named(&name));
    named.ok_or_else(|| {
        let what = kind_of(value);
        let what = if what == "text" { String::from("another text") } else { format!("a {what}") };
        thrown(format!("{ON_CONNECT} returned {what}: return \"judge\", \"pass\" or deny(..)"))
    })
}

/// What a script decided about a message. Nothing at all lets it pass.
fn message_verdict(value: &Dynamic) -> Result<MessageVerdict, Box<EvalAltResult>> {
    if value.is_unit() {
        return Ok(MessageVerdict::Pass);
    }
    if let Ok(goes_on) = value.as_bool() {
        return Ok(if goes_on { MessageVerdict::Pass } else { MessageVerdict::Drop });
    }
    if let Some(text) = value.read_lock::<ImmutableString>() {
        return Ok(MessageVerdict::Replace(MessageContent::Text(text.as_str().into())));
    }
    if let Some(blob) = value.read_lock::<Blob>() {
        return Ok(MessageVerdict::Replace(MessageContent::Binary(blob.0.clone())));
    }
    let what = kind_of(value);
    Err(thrown(format!("{ON_MESSAGE} returned a {what}: return true, false, a text, a blob or deny(..)")))
}
