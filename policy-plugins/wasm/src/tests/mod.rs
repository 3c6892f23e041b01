//! Whole programs, from their file to what a request came to.

mod components;
mod connections;
mod hostile;
mod javascript;
mod kept;
mod messages;
mod reference;

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Version};
use sluicegate_policy::{
    Answer, BindingKind, BodySource, BoundHandler, Effect, Entry, Environment, Exports, FlowFacts,
    HandlerAction, HandlerError, HandlerInput, HandlerLimits, HandlerResponse, Identity, LogLine, Outcome,
    Program, ProgramKind, ScriptProblem, SecretName, SocketMessage, Step, Subject,
};

use crate::{Begin, LoadedProgram, Programs, Running};

/// One for all tests: a machine reserves a lot of address space.
pub(super) fn programs() -> &'static Arc<Programs> {
    static PROGRAMS: OnceLock<Arc<Programs>> = OnceLock::new();
    PROGRAMS.get_or_init(|| Programs::new(cache()))
}

/// Beside the program of the tests: each of them is a process of its own, and compiling takes seconds.
fn cache() -> Option<std::path::PathBuf> {
    Some(std::env::current_exe().ok()?.with_file_name("sluicegate-wasm-tests"))
}

pub(super) fn load(kind: ProgramKind, content: &[u8]) -> Result<Arc<LoadedProgram>, ScriptProblem> {
    let file = if kind == ProgramKind::JavaScript { "handler.js" } else { "handler.wasm" };
    programs().load(&Program::new(file, kind, content.into()))
}

/// A component, written as text.
pub(super) fn component(text: &str) -> Vec<u8> {
    wat::parse_str(text).unwrap()
}

/// A request that a test sends through a program.
pub(super) struct Sent {
    pub(super) entry: Entry,
    pub(super) method: Method,
    pub(super) url: &'static str,
    pub(super) body: bool,
    pub(super) params: serde_json::Value,
    /// A connection in place of a request, and the server name in its TLS.
    pub(super) flow: Option<(FlowFacts, Option<Box<str>>)>,
    /// A message in place of a request.
    pub(super) message: Option<SocketMessage>,
    pub(super) limits: HandlerLimits,
}

impl Default for Sent {
    fn default() -> Self {
        Self {
            entry: Entry::Outbound,
            method: Method::GET,
            url: "https://api.example.test/v1/me?q=1",
            body: false,
            params: serde_json::json!({}),
            flow: None,
            message: None,
            // A machine that is busy with other tests is slow with the first use of an engine.
            limits: HandlerLimits { program_cpu: Duration::from_millis(500), ..HandlerLimits::default() },
        }
    }
}

impl Sent {
    pub(super) fn to(url: &'static str) -> Self {
        Self { url, ..Self::default() }
    }

    pub(super) fn with(self, method: Method) -> Self {
        Self { body: method == Method::POST, method, ..self }
    }

    pub(super) fn entry(self, entry: Entry) -> Self {
        Self { entry, ..self }
    }

    fn begin(self, kind: ProgramKind) -> Begin {
        let (scheme, authority, path_and_query) =
            sluicegate_policy::message::parse_url(self.url).expect(self.url);
        let mut headers = HeaderMap::new();
        headers.insert("user-agent", HeaderValue::from_static("test/1"));
        headers.insert("cookie", HeaderValue::from_static("a=b"));
        let (subject, sni) = match (self.flow, self.message) {
            (Some((flow, sni)), _) => (Subject::Connection(flow), sni),
            (None, Some(message)) => (Subject::Message(message), None),
            (None, None) => (Subject::Request, Some("api.example.test".into())),
        };
        let name = if kind == ProgramKind::JavaScript { "handler.js" } else { "handler.wasm" };
        let program =
            Program::new(name, kind, Vec::new().into()).with_entry(self.entry.clone(), &Exports::default());
        let secrets = ["TOKEN", "VCS_TOKEN"].map(|name| SecretName::parse(name).unwrap());
        Begin {
            entry: self.entry,
            bound: Arc::new(BoundHandler {
                name: name.into(),
                action: HandlerAction::Program(Arc::new(program)),
                params: Arc::new(self.params),
                reveal: Arc::from([SecretName::parse("TOKEN").unwrap()]),
            }),
            environment: Arc::new(Environment {
                secrets: secrets.to_vec(),
                bindings: BTreeMap::from([
                    ("kv".into(), BindingKind::Kv),
                    ("KEYS".into(), BindingKind::Kv),
                    ("KV".into(), BindingKind::Kv),
                    ("OBJECTS".into(), BindingKind::Objects),
                    ("objects".into(), BindingKind::Objects),
                ]),
                constants: BTreeMap::new(),
                limits: self.limits,
            }),
            input: HandlerInput {
                method: self.method,
                scheme,
                authority,
                path_and_query,
                headers,
                has_body: self.body,
                identity: Arc::new(Identity {
                    container_id: "c0ffee".into(),
                    instance_id: "instance".into(),
                    labels: BTreeMap::new(),
                }),
                request_id: "req-1".into(),
                original_destination: ([198, 18, 0, 2], 443).into(),
                sni,
                tls: Some("TLSv1_3"),
                version: Version::HTTP_2,
                now: SystemTime::now(),
                subject,
            },
        }
    }
}

/// What a request came to.
#[derive(Debug)]
pub(super) struct Came {
    pub(super) step: Step,
    pub(super) effects: Vec<Effect>,
    pub(super) log: Vec<LogLine>,
    pub(super) cpu: Duration,
}

impl Came {
    pub(super) fn response(&self) -> &HandlerResponse {
        match &self.step {
            Step::Done(Outcome::Respond(response)) => response,
            other => panic!("{other:?} after {:?}", self.effects),
        }
    }

    pub(super) fn status(&self) -> StatusCode {
        self.response().status
    }

    /// The body that the handler wrote.
    pub(super) fn text(&self) -> &str {
        match &self.response().body {
            BodySource::Bytes(bytes) => std::str::from_utf8(bytes).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn error(&self) -> &HandlerError {
        match &self.step {
            Step::Failed(error) => error,
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn refused(&self) -> &str {
        match &self.step {
            Step::Done(Outcome::Refuse(reason)) => reason,
            other => panic!("{other:?}"),
        }
    }
}

/// Runs a request, with a world that says yes to everything.
pub(super) async fn run(program: &Arc<LoadedProgram>, kind: ProgramKind, sent: Sent) -> Came {
    run_in(program, kind, sent, answer).await
}

/// Runs a request in a world of the test's.
pub(super) async fn run_in(
    program: &Arc<LoadedProgram>,
    kind: ProgramKind,
    sent: Sent,
    mut world: impl FnMut(&Effect) -> Answer,
) -> Came {
    let mut running: Running = programs().run(program, sent.begin(kind));
    let mut effects = Vec::new();
    loop {
        let next = tokio::time::timeout(Duration::from_secs(30), running.next());
        match next.await.expect("the program neither asks nor ends") {
            Step::Await(effect) => {
                running.answer(world(&effect));
                effects.push(effect);
            }
            step => return Came { step, effects, log: running.take_log(), cpu: running.cpu_time() },
        }
    }
}

/// What a world says that has everything.
pub(super) fn answer(effect: &Effect) -> Answer {
    match effect {
        Effect::Fetch(_) => Answer::Response {
            status: StatusCode::OK,
            headers: HeaderMap::new(),
            body: Some(sluicegate_policy::BodyHandle(7)),
        },
        Effect::ReadBody { .. } | Effect::PeekBody { .. } => Answer::Bytes(Bytes::from_static(b"body")),
        Effect::NextChunk(_) | Effect::Kv { .. } | Effect::Objects { .. } => Answer::Nothing,
        Effect::TeeBody(_) => Answer::Body(sluicegate_policy::BodyHandle(8)),
        Effect::Hmac { .. } | Effect::Reveal(_) => Answer::Bytes(Bytes::from_static(b"bytes")),
        Effect::DropBody(_) | Effect::Respond(_) | Effect::Sleep(_) | Effect::Ask { .. } => Answer::Done,
    }
}

/// The authority and the method of a fetch.
pub(super) fn fetched(effect: &Effect) -> (String, Method) {
    match effect {
        Effect::Fetch(request) => (request.authority.to_string(), request.method.clone()),
        other => panic!("{other:?}"),
    }
}
