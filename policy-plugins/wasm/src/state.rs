//! What the functions that a program calls work on: one request on its way through one instance.

use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Instant, SystemTime};

use http::uri::PathAndQuery;
use http::{HeaderMap, Method, Version};
use sluicegate_policy::{
    Answer, Authority, BodyHandle, BoundHandler, Effect, Environment, HandlerAction, HandlerFault,
    HandlerInput, HandlerResponse, Host, LogLine, Placeholders, Scheme, Subject,
};
use tokio::sync::mpsc;
use wasmtime::component::{Resource, ResourceTable, ResourceTableError};

use crate::host::{Body, Refused, Request, Response};
use crate::limits::Limiter;

/// The most requests, responses and bodies that a program holds at once.
const HANDLES_MAX: usize = 1024;

/// What a program logged, as it comes; shared with whoever drives the instance.
pub(crate) type Log = Arc<Mutex<Vec<LogLine>>>;

/// The data of a store: who asks, what the program holds, and what it has used up.
pub(crate) struct State {
    pub(crate) bound: Arc<BoundHandler>,
    pub(crate) environment: Arc<Environment>,
    /// The request that came, without its headers once [`Self::push_request`] has taken them.
    pub(crate) input: HandlerInput,
    pub(crate) began: Instant,
    /// The text of the handler, where it is JavaScript.
    pub(crate) source: Option<Arc<str>>,
    /// Counts memory and tables.
    pub(crate) limiter: Limiter,
    table: ResourceTable,
    /// None until the first is given out: most requests need no nonce.
    placeholders: Option<Placeholders>,
    /// None while a program is loaded: then nobody answers.
    line: Option<Line>,
    effects: usize,
    /// Bytes of bodies and headers that the gate has taken into memory for the program, in all.
    kept: usize,
    log: Log,
    log_lines: usize,
    responded: bool,
    /// Bodies to be dropped before the next effect: others may be waiting for them.
    unwanted: Vec<BodyHandle>,
    stop: Option<Stop>,
}

/// Why the gate ended a program: the reason behind a trap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stop {
    pub(crate) fault: HandlerFault,
    /// In words that hold no secret.
    pub(crate) message: String,
}

/// The instance's end of the line to whoever performs its effects: one effect at a time, each answered
/// before the next.
pub(crate) struct Line {
    effects: mpsc::Sender<Effect>,
    answers: mpsc::Receiver<Answer>,
}

/// The other end of a [`Line`]. Without it, whatever the instance asks ends it.
#[derive(Debug)]
pub(crate) struct LineEnd {
    pub(crate) effects: mpsc::Receiver<Effect>,
    pub(crate) answers: mpsc::Sender<Answer>,
}

impl Line {
    /// Both ends. Neither ever holds more than one effect or answer.
    pub(crate) fn new() -> (Self, LineEnd) {
        let (asked, effects) = mpsc::channel(1);
        let (answers, told) = mpsc::channel(1);
        (Self { effects: asked, answers: told }, LineEnd { effects, answers })
    }

    /// None where the other end is gone.
    async fn exchange(&mut self, effect: Effect) -> Option<Answer> {
        self.effects.send(effect).await.ok()?;
        self.answers.recv().await
    }
}

impl State {
    /// For one request.
    pub(crate) fn new(
        bound: &Arc<BoundHandler>,
        environment: &Arc<Environment>,
        input: HandlerInput,
        line: Line,
        log: &Log,
    ) -> Self {
        let line = Some(line);
        Self { line, log: Arc::clone(log), ..Self::silent(bound, environment, input) }
    }

    /// For loading a program: there is no request, and whatever is asked of the world fails.
    pub(crate) fn loading(environment: &Arc<Environment>) -> Self {
        let bound = BoundHandler {
            name: Box::default(),
            action: HandlerAction::Deny(Box::default()),
            params: Arc::new(serde_json::Value::Null),
            reveal: Arc::default(),
        };
        Self::silent(&Arc::new(bound), environment, no_request())
    }

    fn silent(bound: &Arc<BoundHandler>, environment: &Arc<Environment>, input: HandlerInput) -> Self {
        let mut table = ResourceTable::new();
        table.set_max_capacity(HANDLES_MAX);
        Self {
            bound: Arc::clone(bound),
            environment: Arc::clone(environment),
            input,
            began: Instant::now(),
            source: None,
            limiter: Limiter::new(environment.limits.memory),
            table,
            placeholders: None,
            line: None,
            effects: 0,
            kept: 0,
            log: Log::default(),
            log_lines: 0,
            responded: false,
            unwanted: Vec::new(),
            stop: None,
        }
    }

    /// Asks the world and waits for what it says.
    ///
    /// # Errors
    /// The program has asked too often, or nobody is there to answer: it ends.
    pub(crate) async fn ask(&mut self, effect: Effect) -> wasmtime::Result<Answer> {
        // Chunks are bounded by the bytes that come and by time.
        if !matches!(effect, Effect::NextChunk(_)) {
            let most = self.environment.limits.effects;
            self.effects += 1;
            if self.effects > most {
                let message = format!("more than {most} fetches, stored values, bodies and questions");
                return Err(self.stop(HandlerFault::Limit, message));
            }
        }
        for body in std::mem::take(&mut self.unwanted) {
            self.exchange(Effect::DropBody(body)).await?;
        }
        self.exchange(effect).await
    }

    async fn exchange(&mut self, effect: Effect) -> wasmtime::Result<Answer> {
        let Some(line) = &mut self.line else {
            return Ok(Answer::Failed("this can only be used inside of a request".into()));
        };
        match line.exchange(effect).await {
            Some(answer) => Ok(answer),
            None => Err(self.stop(HandlerFault::Threw, "the request has ended".to_owned())),
        }
    }

    /// Ends the program for this reason, unless there is one already: what is returned is the trap.
    pub(crate) fn stop(&mut self, fault: HandlerFault, message: String) -> wasmtime::Error {
        self.stop.get_or_insert(Stop { fault, message });
        wasmtime::Error::msg("the gate ended the handler")
    }

    /// Ends a program that got an answer to another question.
    pub(crate) fn wrong_answer(&mut self) -> wasmtime::Error {
        let message = "the gate gave an answer of the wrong kind; this is a bug in it";
        self.stop(HandlerFault::Threw, message.to_owned())
    }

    /// Why the gate ended the program, if it did.
    pub(crate) fn stopped(&self) -> Option<&Stop> {
        self.stop.as_ref()
    }

    /// Whether the workload was answered by [`Effect::Respond`].
    pub(crate) fn has_responded(&self) -> bool {
        self.responded
    }

    pub(crate) fn set_responded(&mut self) {
        self.responded = true;
    }

    /// Counts bytes that the gate keeps for the program: as many as the program may have itself.
    ///
    /// # Errors
    /// There are more: the program ends.
    pub(crate) fn keep(&mut self, bytes: usize) -> wasmtime::Result<()> {
        let most = self.environment.limits.memory;
        self.kept = self.kept.saturating_add(bytes);
        if self.kept > most {
            let message = format!("more than {} MiB of bodies and headers: see memory_mib", most >> 20);
            return Err(self.stop(HandlerFault::Limit, message));
        }
        Ok(())
    }

    /// Gives the program a handle.
    ///
    /// # Errors
    /// It has too many: it ends.
    pub(crate) fn push<T: Send + 'static>(&mut self, entry: T) -> wasmtime::Result<Resource<T>> {
        match self.table.push(entry) {
            Ok(handle) => Ok(handle),
            Err(ResourceTableError::Full) => {
                let message = format!("more than {HANDLES_MAX} requests, responses and bodies at once");
                Err(self.stop(HandlerFault::Limit, message))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// What a handle stands for.
    ///
    /// # Errors
    /// Nothing: the runtime checks handles, so this is a bug.
    pub(crate) fn get<T: 'static>(&self, handle: &Resource<T>) -> wasmtime::Result<&T> {
        Ok(self.table.get(handle)?)
    }

    /// As [`Self::get`], to be changed.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub(crate) fn get_mut<T: 'static>(&mut self, handle: &Resource<T>) -> wasmtime::Result<&mut T> {
        Ok(self.table.get_mut(handle)?)
    }

    /// Takes what a handle stands for; the handle is gone.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub(crate) fn take<T: 'static>(&mut self, handle: Resource<T>) -> wasmtime::Result<T> {
        Ok(self.table.delete(handle)?)
    }

    /// Lets go of a body.
    pub(crate) fn discard(&mut self, body: Option<Body>) {
        self.drop_later(body.as_ref().and_then(Body::to_drop));
    }

    /// Has a body dropped before the next effect.
    pub(crate) fn drop_later(&mut self, body: Option<BodyHandle>) {
        self.unwanted.extend(body);
    }

    /// The placeholders that were given out, if any.
    pub(crate) fn placeholders(&self) -> Option<&Placeholders> {
        self.placeholders.as_ref()
    }

    /// The placeholders, to give one out.
    ///
    /// # Errors
    /// There is no chance to be had from the operating system.
    pub(crate) fn placeholders_mut(&mut self) -> wasmtime::Result<&mut Placeholders> {
        if self.placeholders.is_none() {
            let mut nonce = [0; 16];
            if aws_lc_rs::rand::fill(&mut nonce).is_err() {
                return Err(self.stop(HandlerFault::Threw, "no random bytes to be had".to_owned()));
            }
            self.placeholders = Some(Placeholders::new(nonce));
        }
        match &mut self.placeholders {
            Some(placeholders) => Ok(placeholders),
            None => Err(wasmtime::Error::msg("no placeholders")),
        }
    }

    /// Whether the placeholder of a secret stands in these bytes.
    pub(crate) fn holds_secret(&self, bytes: &[u8]) -> bool {
        self.placeholders.as_ref().is_some_and(|placeholders| placeholders.stand_in(bytes))
    }

    /// A text of the program's for people: secrets by their names, and cut where it is too long.
    pub(crate) fn shown(&self, text: &str, bytes_max: usize) -> String {
        let shown = self.placeholders.as_ref().map(|placeholders| placeholders.shown(text));
        let text = shown.as_deref().unwrap_or(text);
        text.get(..text.floor_char_boundary(bytes_max)).unwrap_or_default().to_owned()
    }

    /// Adds a line to the log.
    ///
    /// # Errors
    /// There are too many: the program ends.
    pub(crate) fn write_log(&mut self, line: LogLine) -> wasmtime::Result<()> {
        let most = self.environment.limits.log_lines;
        if self.log_lines >= most {
            return Err(self.stop(HandlerFault::Limit, format!("more than {most} lines of log")));
        }
        self.log_lines += 1;
        self.log.lock().unwrap_or_else(PoisonError::into_inner).push(line);
        Ok(())
    }

    /// A handle to the request that came, for the program to begin with. To be called once.
    ///
    /// # Errors
    /// As [`Self::push`].
    pub(crate) fn push_request(&mut self) -> wasmtime::Result<Resource<Request>> {
        let headers = std::mem::take(&mut self.input.headers);
        let request = Request::of_workload(&self.input, headers);
        self.push(request)
    }

    /// The response that a program returned, for the workload.
    ///
    /// # Errors
    /// It cannot be sent, in words for whoever wrote the program.
    pub(crate) fn take_response(&mut self, handle: Resource<Response>) -> Result<HandlerResponse, Refused> {
        let response = self.take(handle)?;
        self.answer_of(response)
    }
}

/// What stands where a program is loaded, for want of a request.
fn no_request() -> HandlerInput {
    HandlerInput {
        method: Method::GET,
        scheme: Scheme::Https,
        authority: Authority { host: Host::Ip(Ipv4Addr::UNSPECIFIED.into()), port: 443 },
        path_and_query: PathAndQuery::from_static("/"),
        headers: HeaderMap::new(),
        has_body: false,
        identity: Arc::default(),
        request_id: Box::default(),
        original_destination: (Ipv4Addr::UNSPECIFIED, 443).into(),
        sni: None,
        tls: None,
        version: Version::HTTP_11,
        now: SystemTime::UNIX_EPOCH,
        subject: Subject::Request,
    }
}
