//! Scripts run against a world that the test plays.

mod abuse;
mod api;
mod connections;
mod loading;
mod messages;
mod replay;
mod secrets;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version};
use serde_json::json;

use super::*;

/// A run of one script to its end.
struct Bench {
    script: String,
    limits: HandlerLimits,
    input: HandlerInput,
    params: serde_json::Value,
    reveal: Vec<SecretName>,
}

/// What came of it.
struct Ran {
    end: Result<Outcome, HandlerError>,
    log: Vec<LogLine>,
    effects: Vec<Effect>,
}

fn secret(name: &str) -> SecretName {
    SecretName::parse(name).unwrap()
}

fn input() -> HandlerInput {
    let mut headers = HeaderMap::new();
    headers.insert("accept", HeaderValue::from_static("*/*"));
    headers.append("x-many", HeaderValue::from_static("one"));
    headers.append("x-many", HeaderValue::from_static("two"));
    headers.insert("x-bytes", HeaderValue::from_bytes(b"caf\xe9").unwrap());
    headers.insert("content-length", HeaderValue::from_static("5"));
    HandlerInput {
        method: Method::POST,
        scheme: Scheme::Https,
        authority: Authority::parse("api.example.test", 443).unwrap(),
        path_and_query: PathAndQuery::from_static("/v1/things?page=2&q=a+b%21"),
        headers,
        has_body: true,
        identity: Arc::new(Identity {
            container_id: "c0ffee".into(),
            instance_id: "i1".into(),
            labels: BTreeMap::from([("team".into(), "blue".into())]),
        }),
        request_id: "85abe04d-1".into(),
        original_destination: "198.18.0.2:443".parse().unwrap(),
        sni: Some("api.example.test".into()),
        tls: Some("TLSv1_3"),
        version: Version::HTTP_11,
        now: UNIX_EPOCH + Duration::from_millis(1_709_251_199_001),
        subject: Subject::Request,
    }
}

/// A whole script.
fn script(text: &str) -> Bench {
    Bench {
        script: text.to_owned(),
        limits: HandlerLimits { cpu: Duration::from_millis(500), ..HandlerLimits::default() },
        input: input(),
        params: json!({"hosts": ["a.test", "b.test"], "count": 3}),
        reveal: Vec::new(),
    }
}

/// The inside of `outbound`.
fn body(text: &str) -> Bench {
    script(&format!("fn outbound(request, env, ctx) {{ {text} }}"))
}

impl Bench {
    fn limits(mut self, change: impl FnOnce(&mut HandlerLimits)) -> Self {
        change(&mut self.limits);
        self
    }

    fn input(mut self, change: impl FnOnce(&mut HandlerInput)) -> Self {
        change(&mut self.input);
        self
    }

    fn execution(&self) -> Execution {
        let script = Script::compile("handlers/test.rhai", self.script.as_bytes(), &self.limits)
            .unwrap_or_else(|problem| panic!("{problem:?}\n{}", self.script));
        let bound = BoundHandler {
            name: "test".into(),
            action: HandlerAction::Script(Arc::new(script)),
            params: Arc::new(self.params.clone()),
            reveal: self.reveal.clone().into(),
        };
        let environment = Environment {
            secrets: vec![secret("TOKEN"), secret("OTHER")],
            bindings: BTreeMap::from([
                ("kv".into(), BindingKind::Kv),
                ("objects".into(), BindingKind::Objects),
            ]),
            constants: BTreeMap::from([("TEAM".into(), json!("blue"))]),
            limits: self.limits.clone(),
        };
        Execution::new(&Arc::new(bound), &Arc::new(environment), self.input.clone())
    }

    /// Runs to the end; `world` answers.
    fn run(&self, mut world: impl FnMut(&Effect) -> Answer) -> Ran {
        let mut execution = self.execution();
        let mut effects = Vec::new();
        loop {
            let end = match execution.run(Patience::Full) {
                Step::Await(effect) => {
                    execution.answer(world(&effect));
                    effects.push(effect);
                    continue;
                }
                Step::Unfinished => panic!("a full run is never unfinished"),
                Step::Done(outcome) => Ok(outcome),
                Step::Failed(error) => Err(error),
            };
            return Ran { end, log: execution.take_log(), effects };
        }
    }

    /// Runs to the end where nothing but a response can be asked for.
    fn fetched(&self) -> Ran {
        self.run(|_| response(200, Some(BodyHandle(1))))
    }

    /// Runs on a thread as [`Patience::Full`] needs it.
    fn on_its_thread(self) -> Ran {
        std::thread::Builder::new()
            .stack_size(Execution::STACK_BYTES)
            .spawn(move || self.fetched())
            .unwrap()
            .join()
            .unwrap()
    }
}

impl Ran {
    fn response(self) -> HandlerResponse {
        match self.end {
            Ok(Outcome::Respond(response)) => response,
            other => panic!("{other:?}"),
        }
    }

    fn error(self) -> HandlerError {
        match self.end {
            Err(error) => error,
            other => panic!("{other:?}"),
        }
    }

    /// The text of a reply.
    fn text(self) -> String {
        match self.response().body {
            BodySource::Bytes(bytes) => String::from_utf8(bytes.to_vec()).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    fn request(&self, index: usize) -> &OutgoingRequest {
        match &self.effects[index] {
            Effect::Fetch(request) => request,
            other => panic!("{other:?}"),
        }
    }
}

fn response(status: u16, body: Option<BodyHandle>) -> Answer {
    let headers = HeaderMap::from_iter([(
        HeaderName::from_static("content-type"),
        HeaderValue::from_static("text/html"),
    )]);
    Answer::Response { status: StatusCode::from_u16(status).unwrap(), headers, body }
}

/// The value of an expression, as JSON.
fn value_of(expression: &str) -> String {
    body(&format!("reply(200, to_json({expression}))")).fetched().text()
}

/// What an expression throws.
fn thrown_by(statements: &str) -> String {
    let bench = body(&format!(
        "try {{ {statements} }} catch (error) {{ return reply(200, error.to_string()); }} reply(500)"
    ));
    let response = bench.fetched().response();
    assert_eq!(response.status, 200, "{statements} did not throw");
    match response.body {
        BodySource::Bytes(bytes) => String::from_utf8(bytes.to_vec()).unwrap(),
        other => panic!("{other:?}"),
    }
}
