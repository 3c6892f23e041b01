//! What a decision costs: by rule, and by handler, with the fetch answered at once.
//!
//! `cargo bench -p sluicegate` prints times, and before them how often each takes memory.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a benchmark that cannot be set up ends")]
#![expect(clippy::print_stdout, reason = "a benchmark is for who reads it")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::SystemTime;

use criterion::{Criterion, criterion_group, criterion_main};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version};
use sluicegate::bindings::Bindings;
use sluicegate::generation::{Generation, Places};
use sluicegate_policy::{
    Answer, Authority, Content, Effect, Execution, Exports, HandlerAction, HandlerInput, Identity, Outcome,
    Patience, Policy, Program, RequestFacts, Scheme, ScriptProblem, Sources, Step, Subject, Verdict,
};
use sluicegate_wasm::{Begin, Programs, Running};

const DOCUMENT: &str = r#"
version = 1
allowed_hosts = ["*.test"]

[secrets.TOKEN]
source = "env://PATH"
hosts = ["rule.test", "token.test", "token.js.test"]

[[rules]]
host = "rule.test"
methods = ["GET"]
paths = ["/v1/**"]
set_headers = { authorization = "Bearer ${secret:TOKEN}" }

[outbound_by_host]
"empty.test" = "empty.rhai"
"token.test" = "token.rhai"
"kv.test" = "kv.rhai"
"empty.js.test" = "empty.js"
"token.js.test" = "token.js"
"#;

struct Scripts(Arc<Programs>);

impl Sources for Scripts {
    fn read(&self, path: &str) -> Result<Content, String> {
        let body = match path {
            "empty.rhai" => "reply(200)",
            "token.rhai" => "request.set_bearer(env.secrets.TOKEN); fetch(request)",
            "kv.rhai" => {
                "let token = env.kv.get(ctx.container_id);
                 if token == () { return deny(\"no token\"); }
                 request.set_header(\"authorization\", token);
                 fetch(request)"
            }
            "empty.js" => return Ok(module("return new Response();")),
            "token.js" => {
                let body =
                    "request.headers.set('authorization', `Bearer ${env.TOKEN}`); return fetch(request);";
                return Ok(module(body));
            }
            other => return Err(format!("no script {other}")),
        };
        Ok(format!("fn outbound(request, env, ctx) {{ {body} }}").into())
    }

    fn program(&self, program: &Program) -> Result<Exports, ScriptProblem> {
        self.0.load(program).map(|loaded| loaded.exports().clone())
    }
}

fn module(body: &str) -> Content {
    format!("export default {{ async outbound(request, env, ctx) {{ {body} }} }};").into()
}

/// A policy at work, and the runtime that its stores need.
struct Bench {
    generation: Generation,
    identity: Arc<Identity>,
    programs: Arc<Programs>,
    runtime: tokio::runtime::Runtime,
    _folder: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let identity = Arc::new(Identity {
            container_id: "c0ffee".into(),
            instance_id: "bench".into(),
            ..Identity::default()
        });
        let programs = Programs::new(None);
        let places = Places {
            folder: "/".into(),
            stores: folder.path().to_owned(),
            identity: Arc::clone(&identity),
            programs: Arc::clone(&programs),
        };
        let policy = Policy::compile("bench.toml", DOCUMENT, &Scripts(Arc::clone(&programs))).unwrap().policy;
        let generation = Generation::new(policy, &places, None).unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let bench = Self { generation, identity, programs, runtime: runtime.unwrap(), _folder: folder };
        let put = sluicegate_policy::KvOperation::Put {
            key: "c0ffee".into(),
            value: "Bearer abc".into(),
            ttl: None,
        };
        bench.runtime.block_on(bench.bindings().kv("kv", put)).unwrap();
        bench
    }

    fn bindings(&self) -> &Bindings {
        &self.generation.bindings
    }

    /// The verdict alone; returns whether it lets the request go on.
    fn decide(&self, authority: &Authority) -> bool {
        let facts = RequestFacts {
            scheme: Scheme::Https,
            authority,
            method: &Method::GET,
            path: "/v1/users/7",
            carries_dns: false,
        };
        let decision = self.generation.policy.decide(black_box(&facts));
        matches!(decision.verdict, Verdict::Forward(_) | Verdict::Handle(..))
    }

    /// The whole handler of `host`, its fetch answered at once and its stored values in earnest.
    fn handle(&self, host: &str) -> Outcome {
        let authority = Authority::parse(host, 443).unwrap();
        let facts = RequestFacts {
            scheme: Scheme::Https,
            authority: &authority,
            method: &Method::GET,
            path: "/v1/users/7",
            carries_dns: false,
        };
        let Verdict::Handle(bound, _) = self.generation.policy.decide(&facts).verdict else {
            panic!("{host} has no handler");
        };
        let environment = self.generation.policy.environment();
        if let HandlerAction::Program(program) = &bound.action {
            let begin = Begin {
                entry: program.entry.clone(),
                bound: Arc::clone(bound),
                environment: Arc::clone(environment),
                input: self.input(authority.clone()),
            };
            let loaded = self.generation.program(program).unwrap();
            return self.runtime.block_on(run(self.programs.run(loaded, begin)));
        }
        let mut execution = Execution::new(bound, environment, self.input(authority.clone()));
        loop {
            match execution.run(Patience::Brief) {
                Step::Await(Effect::Fetch(_)) => {
                    let headers = headers();
                    execution.answer(Answer::Response { status: StatusCode::OK, headers, body: None });
                }
                Step::Await(Effect::Kv { binding, operation }) => {
                    let answer = self.runtime.block_on(self.bindings().kv(&binding, operation));
                    execution.answer(answer.unwrap());
                }
                Step::Done(outcome) => return outcome,
                other => panic!("{other:?}"),
            }
        }
    }

    fn input(&self, authority: Authority) -> HandlerInput {
        HandlerInput {
            method: Method::GET,
            scheme: Scheme::Https,
            authority,
            path_and_query: "/v1/users/7".parse().unwrap(),
            headers: headers(),
            has_body: false,
            identity: Arc::clone(&self.identity),
            request_id: "1".into(),
            original_destination: "198.18.0.2:443".parse().unwrap(),
            sni: None,
            tls: Some("TLSv1_3"),
            version: Version::HTTP_11,
            now: SystemTime::UNIX_EPOCH,
            subject: Subject::Request,
        }
    }
}

/// A program to its end, its fetches answered at once.
async fn run(mut running: Running) -> Outcome {
    loop {
        match running.next().await {
            Step::Await(Effect::Fetch(_)) => {
                running.answer(Answer::Response { status: StatusCode::OK, headers: headers(), body: None });
            }
            Step::Done(outcome) => return outcome,
            other => panic!("{other:?}"),
        }
    }
}

/// Twelve, which is what a browser or an SDK sends.
fn headers() -> HeaderMap {
    let name = |number| HeaderName::from_bytes(format!("x-header-{number}").as_bytes()).unwrap();
    (0..12).map(|number| (name(number), HeaderValue::from_static("a usual value"))).collect()
}

fn handlers(criterion: &mut Criterion) {
    let bench = Bench::new();
    let rule = Authority::parse("rule.test", 443).unwrap();
    let allocations = |name: &str, work: &dyn Fn()| {
        work();
        let measured = allocation_counter::measure(work);
        println!("{name}: {} allocations, {} bytes", measured.count_total, measured.bytes_total);
    };
    let hosts = [
        ("rhai, empty", "empty.test"),
        ("rhai, token", "token.test"),
        ("rhai, kv", "kv.test"),
        ("javascript, empty", "empty.js.test"),
        ("javascript, token", "token.js.test"),
    ];
    allocations("input of 12 headers", &|| drop(black_box(bench.input(rule.clone()))));
    allocations("declarative", &|| assert!(bench.decide(&rule)));
    for (name, host) in hosts {
        allocations(name, &|| drop(black_box(bench.handle(host))));
    }
    criterion.bench_function("input of 12 headers", |timer| timer.iter(|| bench.input(rule.clone())));
    criterion.bench_function("declarative", |timer| timer.iter(|| bench.decide(&rule)));
    for (name, host) in hosts {
        criterion.bench_function(name, |timer| timer.iter(|| bench.handle(host)));
    }
}

criterion_group!(benches, handlers);
criterion_main!(benches);
