//! The functions that programs call, called as they call them; a task stands for the world.

mod bodies;
mod limits;
mod messages;
mod secrets;
mod stores;

use std::sync::{Arc, Mutex};

use http::{HeaderMap, HeaderValue, StatusCode};
use sluicegate_policy::{
    Answer, BindingKind, BodyHandle, BoundHandler, Effect, Environment, HandlerAction, HandlerInput,
    OutgoingRequest, SecretName,
};
use wasmtime::component::Resource;

use super::{Body, Refused, Request};
use crate::bindings::policy::http::{self as api, Error, Host as _, HostBody, HostRequest};
use crate::state::{Line, Log, State};

/// A state, and what it has asked for so far.
struct World {
    state: State,
    asked: Arc<Mutex<Vec<Effect>>>,
    log: Log,
}

fn secret(name: &str) -> SecretName {
    SecretName::parse(name).unwrap()
}

fn environment() -> Environment {
    Environment {
        secrets: vec![secret("TOKEN"), secret("OTHER")],
        bindings: [("kv".into(), BindingKind::Kv), ("objects".into(), BindingKind::Objects)].into(),
        constants: [("TEAM".into(), serde_json::json!("blue"))].into(),
        ..Environment::default()
    }
}

fn input() -> HandlerInput {
    let mut input = State::loading(&Arc::default()).input;
    input.method = "POST".parse().unwrap();
    input.authority = sluicegate_policy::Authority::parse("api.example.test", 443).unwrap();
    input.path_and_query = "/v1/things?q=a+b%21&page=2".parse().unwrap();
    let headers = [
        ("host", "api.example.test"),
        ("content-length", "5"),
        ("accept", "a"),
        ("accept", "b"),
        ("connection", "keep-alive"),
    ];
    for (name, value) in headers {
        input.headers.append(name, HeaderValue::from_static(value));
    }
    input.has_body = true;
    input
}

/// A world that answers with what `answer` makes of each effect.
fn world_of(environment: Environment, mut answer: impl FnMut(&Effect) -> Answer + Send + 'static) -> World {
    let bound = BoundHandler {
        name: "gate".into(),
        action: HandlerAction::Deny("".into()),
        params: Arc::new(serde_json::json!({ "a": 1 })),
        reveal: [secret("TOKEN")].into(),
    };
    let (line, mut end) = Line::new();
    let log = Log::default();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let state = State::new(&Arc::new(bound), &Arc::new(environment), input(), line, &log);
    let kept = Arc::clone(&asked);
    tokio::spawn(async move {
        while let Some(effect) = end.effects.recv().await {
            let answered = answer(&effect);
            kept.lock().unwrap().push(effect);
            end.answers.send(answered).await.unwrap();
        }
    });
    World { state, asked, log }
}

/// A world in which everything works, and every body is `hello`.
fn world() -> World {
    world_of(environment(), |effect| match effect {
        Effect::Fetch(_) => Answer::Response {
            status: StatusCode::OK,
            headers: HeaderMap::from_iter([(http::header::CONTENT_LENGTH, HeaderValue::from_static("5"))]),
            body: Some(BodyHandle(7)),
        },
        Effect::ReadBody { .. } => Answer::Bytes("hello".into()),
        Effect::PeekBody { limit, .. } => {
            Answer::Bytes(bytes::Bytes::from_static(b"hello").slice(..(*limit).min(5)))
        }
        Effect::NextChunk(_) => Answer::Bytes("he".into()),
        Effect::TeeBody(_) => Answer::Body(BodyHandle(9)),
        Effect::Hmac { .. } | Effect::Reveal(_) => Answer::Bytes("bytes".into()),
        _ => Answer::Done,
    })
}

impl World {
    fn request(&mut self) -> Resource<Request> {
        self.state.push_request().unwrap()
    }

    fn create(&mut self, url: &str) -> Resource<Request> {
        told(self.state.create_request("POST", url)).unwrap()
    }

    fn body(&mut self, content: &str) -> Resource<Body> {
        self.state.new(content.as_bytes().to_vec()).unwrap()
    }

    fn placeholder(&mut self, name: &str) -> String {
        told(crate::bindings::policy::secrets::Host::placeholder(&mut self.state, name.to_owned())).unwrap()
    }

    /// What goes out when this is fetched, or what the program is told.
    async fn send(&mut self, request: Resource<Request>) -> Result<OutgoingRequest, Error> {
        told(self.state.fetch(request, None).await)?;
        match self.effects().pop() {
            Some(Effect::Fetch(outgoing)) => Ok(*outgoing),
            other => panic!("{other:?}"),
        }
    }

    fn effects(&self) -> Vec<Effect> {
        self.asked.lock().unwrap().clone()
    }
}

impl State {
    fn create_request(&mut self, method: &str, url: &str) -> Result<Resource<Request>, Refused> {
        HostRequest::create(self, method.to_owned(), url.to_owned())
    }
}

/// What the program gets. It must not have ended.
fn told<T>(result: Result<T, Refused>) -> Result<T, Error> {
    result.map_err(|refused| match refused {
        Refused::Told(error) => error,
        Refused::Ended(error) => panic!("ended: {error:?}"),
    })
}

/// What an invalid call is told.
fn invalid<T>(result: Result<T, Refused>) -> String {
    match told(result) {
        Err(Error::Invalid(message)) => message,
        Err(other) => panic!("{other:?}"),
        Ok(_) => panic!("it was accepted"),
    }
}

/// Checks that the program ended.
fn ended<T>(result: Result<T, Refused>) {
    assert!(matches!(result, Err(Refused::Ended(_))));
}

fn plain(headers: &[(&str, &str)]) -> Vec<(String, String)> {
    headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// Another handle to the same, as a call borrows it.
fn lent<T: 'static>(handle: &Resource<T>) -> Resource<T> {
    Resource::new_borrow(handle.rep())
}
