//! What a request costs in a program, with a fresh instance each and the fetch answered at once.
//!
//! `cargo bench -p sluicegate-wasm` prints for each program the time from the request to its end, seen
//! from another thread, and, as `alone`, the processor time that the program itself took of it.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a benchmark that cannot be set up ends")]
#![expect(clippy::print_stdout, reason = "a benchmark is for who reads it")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use criterion::{Criterion, criterion_group, criterion_main};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version};
use sluicegate_policy::{
    Answer, Authority, BindingKind, BoundHandler, Effect, Entry, Environment, HandlerAction, HandlerInput,
    HandlerLimits, Identity, Program, ProgramKind, Scheme, SecretName, Step, Subject,
};
use sluicegate_wasm::{Begin, LoadedProgram, Programs};

/// Fetches the request, and returns what comes back.
const COMPONENT: &str = r#"
(component
  (import "sluicegate:policy/http@0.1.0" (instance $http
    (export "request" (type $request (sub resource)))
    (export "response" (type $response (sub resource)))
    (type $error-type (variant (case "denied" string) (case "timed-out") (case "invalid" string) (case "failed" string)))
    (export "error" (type $error (eq $error-type)))
    (export "fetch" (func (param "request" (own $request)) (param "timeout-ms" (option u32))
      (result (result (own $response) (error $error)))))))
  (alias export $http "request" (type $request))
  (alias export $http "response" (type $response))
  (alias export $http "error" (type $error))
  (alias export $http "fetch" (func $fetch))
  (core module $base
    (memory (export "memory") 17)
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 4096)))
  (core instance $base (instantiate $base))
  (core func $fetch (canon lower (func $fetch)
    (memory (core memory $base "memory")) (realloc (core func $base "realloc"))))
  (core module $main
    (import "host" "fetch" (func $fetch (param i32 i32 i32 i32)))
    (func (export "outbound") (param i32) (result i32)
      (call $fetch (local.get 0) (i32.const 0) (i32.const 0) (i32.const 0))
      (i32.const 0)))
  (core instance $main (instantiate $main (with "host" (instance (export "fetch" (func $fetch))))))
  (func (export "outbound") (param "request" (own $request)) (result (result (own $response) (error $error)))
    (canon lift (core func $main "outbound")
      (memory (core memory $base "memory")) (realloc (core func $base "realloc")))))
"#;

const PASSES: &str = "export default { outbound(request) { return fetch(request); } };";

const TOKEN: &str = r#"
export default {
  async outbound(request, env, ctx) {
    if (request.method !== "GET") return new Response("read only", { status: 405 });
    const tier = await env.kv.get(ctx.containerId);
    const headers = new Headers(request.headers);
    headers.set("authorization", `Bearer ${env.TOKEN}`);
    headers.set("x-tier", String(tier));
    console.log("forwarded", { tier });
    return fetch(new Request(request, { headers }));
  },
};
"#;

/// A program in Rust, where `scripts/rust-guests` has built one; its path `/allow` only fetches.
const RUST: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/guests/conformance-rust.wasm");

struct Bench {
    programs: Arc<Programs>,
    runtime: tokio::runtime::Runtime,
    environment: Arc<Environment>,
    identity: Arc<Identity>,
}

impl Bench {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
        let environment = Environment {
            secrets: vec![SecretName::parse("TOKEN").unwrap()],
            bindings: BTreeMap::from([("kv".into(), BindingKind::Kv)]),
            constants: BTreeMap::new(),
            // The machine may be busy, and this is about how long it takes, not how long it may.
            limits: HandlerLimits { program_cpu: Duration::from_secs(10), ..HandlerLimits::default() },
        };
        let identity = Identity { container_id: "c0ffee".into(), ..Identity::default() };
        Self {
            programs: Programs::new(None),
            runtime,
            environment: Arc::new(environment),
            identity: Arc::new(identity),
        }
    }

    fn load(&self, kind: ProgramKind, content: &[u8]) -> (Arc<LoadedProgram>, Arc<BoundHandler>) {
        let began = Instant::now();
        let program = Arc::new(Program::new("bench", kind, content.into()));
        let loaded = self.programs.load(&program).unwrap();
        println!("loaded {} bytes in {:?}", content.len(), began.elapsed());
        let bound = BoundHandler {
            name: "bench".into(),
            action: HandlerAction::Program(program),
            params: Arc::new(serde_json::json!({})),
            reveal: Arc::default(),
        };
        (loaded, Arc::new(bound))
    }

    /// One request, from its begin to its end; returns the processor time of the program.
    async fn request(&self, program: &Arc<LoadedProgram>, bound: &Arc<BoundHandler>) -> Duration {
        let begin = Begin {
            entry: Entry::Outbound,
            bound: Arc::clone(bound),
            environment: Arc::clone(&self.environment),
            input: self.input(),
        };
        let mut running = self.programs.run(program, begin);
        loop {
            match running.next().await {
                Step::Await(Effect::Fetch(_)) => {
                    let headers = HeaderMap::new();
                    running.answer(Answer::Response { status: StatusCode::OK, headers, body: None });
                }
                Step::Await(_) => running.answer(Answer::Bytes("gold".into())),
                Step::Done(_) => return running.cpu_time(),
                other => panic!("{other:?}"),
            }
        }
    }

    fn input(&self) -> HandlerInput {
        let name = |number| HeaderName::from_bytes(format!("x-header-{number}").as_bytes()).unwrap();
        HandlerInput {
            method: Method::GET,
            scheme: Scheme::Https,
            authority: Authority::parse("api.example.test", 443).unwrap(),
            path_and_query: "/allow?page=7".parse().unwrap(),
            // Twelve, which is what a browser or an SDK sends.
            headers: (0..12)
                .map(|number| (name(number), HeaderValue::from_static("a usual value")))
                .collect(),
            has_body: false,
            identity: Arc::clone(&self.identity),
            request_id: "1".into(),
            original_destination: ([198, 18, 0, 2], 443).into(),
            sni: None,
            tls: Some("TLSv1_3"),
            version: Version::HTTP_11,
            now: SystemTime::UNIX_EPOCH,
            subject: Subject::Request,
        }
    }
}

fn fresh(criterion: &mut Criterion) {
    let bench = Bench::new();
    let component = wat::parse_str(COMPONENT).unwrap();
    let mut programs = vec![
        ("component", ProgramKind::Component, component),
        ("javascript", ProgramKind::JavaScript, PASSES.as_bytes().to_vec()),
        ("javascript, token", ProgramKind::JavaScript, TOKEN.as_bytes().to_vec()),
    ];
    if Path::new(RUST).exists() {
        programs.push(("component, rust", ProgramKind::Component, std::fs::read(RUST).unwrap()));
    }
    for (name, kind, content) in programs {
        let (program, bound) = bench.load(kind, &content);
        criterion.bench_function(name, |timer| {
            timer.iter(|| bench.runtime.block_on(bench.request(&program, &bound)));
        });
        criterion.bench_function(&format!("{name}, alone"), |timer| {
            timer.iter_custom(|count| {
                (0..count).map(|_| bench.runtime.block_on(bench.request(&program, &bound))).sum()
            });
        });
    }
}

criterion_group!(benches, fresh);
criterion_main!(benches);
