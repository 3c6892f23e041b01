//! What one run of a handler shares with the functions it calls.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use bytes::Bytes;
use rhai::{NativeCallContext, Position};

use super::api::request::Request;
use super::failure::{Failure, Fallible, ended, thrown};
use super::journal::{Entry, Question, Told};
use super::{
    Answer, BodyHandle, BodySource, BoundHandler, Effect, Environment, HandlerFault, LogLine, watch,
};

/// The most draws of random bytes in one execution.
const RANDOM_DRAWS_MAX: usize = 1024;

/// One run, as the script's handles and Rhai's tag hold it.
#[derive(Clone)]
pub(super) struct Run(Arc<Shared>);

struct Shared {
    bound: Arc<BoundHandler>,
    environment: Arc<Environment>,
    now: SystemTime,
    workload: Request,
    state: Mutex<State>,
}

/// What changes while a run goes on.
#[derive(Default)]
pub(super) struct State {
    /// What is known, from earlier runs.
    pub(super) journal: Vec<Entry>,
    /// How much of it this run has used.
    at: usize,
    effects: usize,
    random_draws: usize,
    bodies: Vec<(BodyHandle, Held)>,
    /// What was logged in this run.
    pub(super) log: Vec<LogLine>,
    /// Why the run ends, if the script did not end it by returning.
    pub(super) stop: Option<Stop>,
}

/// Why a run ends before the script returns. The first reason counts.
#[derive(Debug)]
pub(super) enum Stop {
    /// It asked for something that is not known yet.
    Await(Question, Effect),
    /// It refused.
    Deny(Box<str>),
    /// It went wrong in a way that cannot be caught.
    Failed(Failure),
}

/// What became of a body that the gate holds.
enum Held {
    /// Sent on, or lost in a read that failed.
    Spent,
    /// Taken into memory.
    Read(Bytes),
}

impl Run {
    pub(super) fn new(
        bound: &Arc<BoundHandler>,
        environment: &Arc<Environment>,
        now: SystemTime,
        workload: Request,
        journal: Vec<Entry>,
    ) -> Self {
        Self(Arc::new(Shared {
            bound: Arc::clone(bound),
            environment: Arc::clone(environment),
            now,
            workload,
            state: Mutex::new(State { journal, ..State::default() }),
        }))
    }

    /// The run that this call belongs to.
    ///
    /// # Errors
    /// There is none while a script is loaded.
    pub(super) fn of(context: &NativeCallContext<'_>) -> Fallible<Self> {
        context
            .tag()
            .and_then(|tag| tag.read_lock::<Self>().map(|run| run.clone()))
            .ok_or_else(|| thrown(format!("`{}` can only be used inside of a request", context.fn_name())))
    }

    pub(super) fn bound(&self) -> &BoundHandler {
        &self.0.bound
    }

    pub(super) fn environment(&self) -> &Environment {
        &self.0.environment
    }

    /// When the handler began.
    pub(super) fn now(&self) -> SystemTime {
        self.0.now
    }

    /// The request that the handler was called with.
    pub(super) fn workload(&self) -> &Request {
        &self.0.workload
    }

    /// Takes out what is left when the run is over.
    pub(super) fn take(&self) -> State {
        std::mem::take(&mut *self.lock())
    }

    /// Asks the world: the answer where it is known, else the end of the run.
    ///
    /// # Errors
    /// The end of the run; or an [`Answer::Failed`], which can be caught.
    pub(super) fn perform(
        &self,
        at: Position,
        question: Question,
        effect: impl FnOnce() -> Effect,
    ) -> Fallible<Told> {
        let mut state = self.lock();
        state.effects += 1;
        match self.recall(&mut state, at, question)? {
            Some(Told::Other(Answer::Failed(why))) => Err(thrown(why)),
            Some(told) => Ok(told),
            None if state.effects > self.0.environment.limits.effects => {
                let most = self.0.environment.limits.effects;
                let message = format!("more than {most} fetches, stored values, bodies and questions");
                Err(stop(&mut state, Stop::Failed(Failure::new(HandlerFault::Limit, at, message))))
            }
            None => Err(stop(&mut state, Stop::Await(question, effect()))),
        }
    }

    /// Random bytes; the same in every run.
    ///
    /// # Errors
    /// The end of the run where too many were drawn or none are to be had.
    pub(super) fn random(&self, at: Position, length: usize) -> Fallible<Bytes> {
        let mut state = self.lock();
        let question = Question::new("random", length);
        if let Some(Told::Random(bytes)) = self.recall(&mut state, at, question)? {
            return Ok(bytes);
        }
        state.random_draws += 1;
        let mut bytes = vec![0; length];
        if state.random_draws > RANDOM_DRAWS_MAX || aws_lc_rs::rand::fill(&mut bytes).is_err() {
            let failure = Failure::new(HandlerFault::Limit, at, "too many random values");
            return Err(stop(&mut state, Stop::Failed(failure)));
        }
        let bytes = Bytes::from(bytes);
        state.journal.push(Entry { question, told: Told::Random(bytes.clone()) });
        state.at += 1;
        Ok(bytes)
    }

    /// The next answer of the journal, if there is one.
    fn recall(&self, state: &mut State, at: Position, question: Question) -> Fallible<Option<Told>> {
        if state.stop.is_some() {
            return Err(ended());
        }
        let Some(entry) = state.journal.get(state.at) else {
            return Ok(None);
        };
        if entry.question != question {
            let message = "the handler is not deterministic: run again, it asked for something else";
            return Err(stop(state, Stop::Failed(Failure::new(HandlerFault::Threw, at, message))));
        }
        let told = entry.told.clone();
        state.at += 1;
        Ok(Some(told))
    }

    /// Ends the run as a refusal.
    pub(super) fn deny(&self, reason: &str) -> Box<rhai::EvalAltResult> {
        stop(&mut self.lock(), Stop::Deny(reason.into()))
    }

    /// Ends the run as a failure that cannot be caught.
    pub(super) fn fail(&self, fault: HandlerFault, at: Position, message: &str) -> Box<rhai::EvalAltResult> {
        stop(&mut self.lock(), Stop::Failed(Failure::new(fault, at, message)))
    }

    /// Adds a line to the log.
    ///
    /// # Errors
    /// The end of the run, where there are more than the limit.
    pub(super) fn log(&self, at: Position, line: LogLine) -> Fallible<()> {
        let mut state = self.lock();
        let most = self.0.environment.limits.log_lines;
        if state.log.len() >= most {
            let failure = Failure::new(HandlerFault::Limit, at, format!("more than {most} lines of log"));
            return Err(stop(&mut state, Stop::Failed(failure)));
        }
        state.log.push(line);
        Ok(())
    }

    /// Takes a body to send it: one that the gate holds goes out once, one in memory any number of
    /// times.
    ///
    /// # Errors
    /// It was sent before.
    pub(super) fn send_body(&self, body: &BodySource) -> Fallible<BodySource> {
        let BodySource::Handle(handle) = body else {
            return Ok(body.clone());
        };
        let mut state = self.lock();
        match state.held(*handle) {
            Some(Held::Read(bytes)) => Ok(BodySource::Bytes(bytes.clone())),
            Some(Held::Spent) => Err(spent()),
            None => {
                state.bodies.push((*handle, Held::Spent));
                Ok(BodySource::Handle(*handle))
            }
        }
    }

    /// The bytes of a body, if it is in memory already.
    pub(super) fn bytes_of(&self, body: &BodySource) -> Option<Bytes> {
        match body {
            BodySource::Empty => Some(Bytes::new()),
            BodySource::Bytes(bytes) => Some(bytes.clone()),
            BodySource::Filled(_) => None,
            BodySource::Handle(handle) => match self.lock().held(*handle) {
                Some(Held::Read(bytes)) => Some(bytes.clone()),
                Some(Held::Spent) | None => None,
            },
        }
    }

    /// Takes a body into memory.
    ///
    /// # Errors
    /// It is longer than `limit`, was sent before, or cannot be read; or the run ends.
    pub(super) fn read_body(&self, at: Position, body: &BodySource, limit: i64) -> Fallible<Bytes> {
        let limit = self.body_limit(limit)?;
        if let Some(bytes) = self.bytes_of(body) {
            if bytes.len() > limit {
                return Err(thrown(format!("the body is longer than {limit} bytes")));
            }
            return Ok(bytes);
        }
        let BodySource::Handle(handle) = *body else {
            return Err(thrown("a body that holds a secret cannot be read"));
        };
        if self.lock().held(handle).is_some() {
            return Err(spent());
        }
        let question = Question::new("read_body", (handle, limit));
        let told = self.perform(at, question, || Effect::ReadBody { body: handle, limit });
        let held = match &told {
            Ok(Told::Other(Answer::Bytes(bytes))) => Held::Read(bytes.clone()),
            _ => Held::Spent,
        };
        self.lock().bodies.push((handle, held));
        match told? {
            Told::Other(Answer::Bytes(bytes)) if bytes.len() <= limit => Ok(bytes),
            _ => Err(self.wrong_answer(at)),
        }
    }

    /// Looks at the first bytes of a body, which stays whole: `limit` of them, or all of a shorter body.
    ///
    /// # Errors
    /// It was sent before, or cannot be read; or the run ends.
    pub(super) fn peek_body(&self, at: Position, body: &BodySource, limit: i64) -> Fallible<Bytes> {
        let limit = self.body_limit(limit)?;
        if let Some(bytes) = self.bytes_of(body) {
            return Ok(bytes.slice(..bytes.len().min(limit)));
        }
        let BodySource::Handle(handle) = *body else {
            return Err(thrown("a body that holds a secret cannot be read"));
        };
        if self.lock().held(handle).is_some() {
            return Err(spent());
        }
        let question = Question::new("peek_body", (handle, limit));
        match self.perform(at, question, || Effect::PeekBody { body: handle, limit })? {
            Told::Other(Answer::Bytes(bytes)) if bytes.len() <= limit => Ok(bytes),
            _ => Err(self.wrong_answer(at)),
        }
    }

    fn body_limit(&self, limit: i64) -> Fallible<usize> {
        let most = self.0.environment.limits.body_bytes;
        usize::try_from(limit).ok().filter(|limit| *limit <= most).ok_or_else(|| {
            thrown(format!("the limit of a body is 0 to {most} bytes (body_bytes of [handler_limits])"))
        })
    }

    /// Ends a run that got an answer to another question.
    pub(super) fn wrong_answer(&self, at: Position) -> Box<rhai::EvalAltResult> {
        self.fail(HandlerFault::Threw, at, "the gate gave an answer of the wrong kind; this is a bug in it")
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn held(&self, handle: BodyHandle) -> Option<&Held> {
        self.bodies.iter().find(|(other, _)| *other == handle).map(|(_, held)| held)
    }
}

fn stop(state: &mut State, why: Stop) -> Box<rhai::EvalAltResult> {
    state.stop.get_or_insert(why);
    watch::halt();
    ended()
}

fn spent() -> Box<rhai::EvalAltResult> {
    thrown("this body was sent before: call read_body first to send it more than once")
}
