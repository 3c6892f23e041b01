//! The routes over a real socket, on a real controller.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use sluicegate_certs::{CertificateAuthority, DEFAULT_CAPACITY, LeafCache};
use sluicegate_policy::{Authority, Identity, Policy, Scheme};
use sluicegate_wasm::Programs;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::{Semaphore, broadcast, watch};

use crate::approvals::{Approvals, Question, Verdict};
use crate::audit::{Destination, OpenedLog};
use crate::control::ControlSocket;
use crate::controller::{About, Beginning, Controller, Sealing};
use crate::document::Bundle;
use crate::gate::Gate;
use crate::generation::{Generation, Places};
use crate::name_server::NameServer;
use crate::state::{State, StateFile};

const DOCUMENT: &str = "\
version = 1
allowed_hosts = [\"a.test\"]
[outbound_handlers]
no_http = { deny = \"the network is closed\" }
greet = \"greet.rhai\"
";

/// An instance without a workload, controlled over a socket.
struct Served {
    folder: tempfile::TempDir,
    socket: PathBuf,
    gate: Arc<Gate>,
    task: tokio::task::JoinHandle<()>,
}

impl Served {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("sluicegate.toml");
        std::fs::write(&file, DOCUMENT).unwrap();
        let script = "fn outbound(request, env, ctx) { reply(200, ctx.params.greeting) }";
        std::fs::write(folder.path().join("greet.rhai"), script).unwrap();
        let (document, compiled) = Bundle::read(&file, &Programs::new(None)).unwrap();
        let (controller, gate) = controller(folder.path(), document, compiled.policy);
        let socket = folder.path().join("agent.sock");
        let serving = ControlSocket::bind(&socket).unwrap().serve(controller, std::future::pending());
        let task = tokio::spawn(async move { serving.await.unwrap() });
        Self { folder, socket, gate, task }
    }

    /// Sends a request as it stands, and reads the answer to its end.
    async fn send(&self, request: String) -> (u16, Value) {
        let mut stream = UnixStream::connect(&self.socket).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let read = stream.read_to_end(&mut answer);
        tokio::time::timeout(Duration::from_secs(20), read).await.unwrap().unwrap();
        let answer = String::from_utf8(answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let is_problem = head.contains("application/problem+json");
        assert_eq!(is_problem, status >= 400, "{head}");
        let value = serde_json::from_str(body).unwrap_or_else(|_| Value::String(body.to_owned()));
        (status, value)
    }

    async fn ask(&self, route: &str, body: &str) -> (u16, Value) {
        let length = body.len();
        self.send(format!("{route} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {length}\r\n\r\n{body}"))
            .await
    }

    /// What must succeed.
    async fn done(&self, route: &str, body: Value) -> Value {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let (status, answer) = self.ask(route, &body).await;
        assert!((200..300).contains(&status), "{route}: {status} {answer}");
        answer
    }

    async fn verdict(&self, url: &str) -> Value {
        self.done("POST /v1/policy/test", json!({ "url": url })).await["verdict"].clone()
    }
}

fn controller(folder: &Path, document: Bundle, base: Policy) -> (Arc<Controller>, Arc<Gate>) {
    let identity = Arc::new(Identity {
        container_id: "box-1".into(),
        instance_id: "agent".into(),
        labels: [("team".into(), "blue".into())].into(),
    });
    let stores = folder.join("agent.stores");
    let programs = Programs::new(None);
    let places = Places {
        folder: folder.to_owned(),
        stores,
        identity: Arc::clone(&identity),
        programs: Arc::clone(&programs),
    };
    let generation = Generation::new(base.clone(), &places, None).unwrap();
    let authority = Arc::new(CertificateAuthority::generate("agent", SystemTime::now()).unwrap());
    let destination = Destination::File(folder.join("agent.jsonl"));
    let id = generation.id.to_string();
    let log = OpenedLog::new(&destination).unwrap().start("agent".into(), id).unwrap();
    let (events, _) = broadcast::channel(64);
    let gate = Arc::new(Gate {
        leaves: LeafCache::new(Arc::clone(&authority), DEFAULT_CAPACITY),
        log: log.clone(),
        names: NameServer::new(log),
        identity,
        approvals: Arc::new(Approvals::new(events.clone())),
        handler_threads: Arc::new(Semaphore::new(1)),
        handler_memory: Arc::new(Semaphore::new(1024)),
        programs,
        run: 1,
        requests: AtomicU64::new(0),
        draining: tokio_util::sync::CancellationToken::new(),
        current: watch::Sender::new(Arc::new(generation)),
    });
    let about = About {
        authority_pem: authority.certificate_pem().to_owned(),
        log_file: Some(folder.join("agent.jsonl")),
        started: SystemTime::now(),
        sealing: Sealing::Apart,
    };
    let state_file = Some(StateFile::new(folder, "agent"));
    let beginning =
        Beginning { document: Some(document), base, state: State::default(), state_file, places, events };
    (Arc::new(Controller::new(Arc::clone(&gate), about, beginning)), gate)
}

fn question() -> Question {
    Question {
        request_id: "00000001-1".into(),
        instance: "agent".into(),
        method: http::Method::POST,
        scheme: Scheme::Https,
        authority: Authority::parse("a.test", 443).unwrap(),
        target: "/x".into(),
        reason: "really?".into(),
        asked_by: "write".into(),
        patience: Duration::from_secs(30),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_instance_tells_of_itself() {
    let served = Served::start();
    let status = served.done("GET /v1/status", Value::Null).await;
    let status: crate::control::api::Status = serde_json::from_value(status).unwrap();
    assert_eq!((status.instance.as_str(), status.container_id.as_str()), ("agent", "box-1"));
    assert_eq!((status.mode.as_str(), status.overridden), ("enforce", false));
    let ca = served.done("GET /v1/ca", Value::Null).await;
    assert!(ca.as_str().unwrap().starts_with("-----BEGIN CERTIFICATE-----"));
    let description = served.done("GET /v1/openapi.json", Value::Null).await;
    assert!(description["paths"]["/v1/status"]["get"].is_object());
    let effective = served.done("GET /v1/policy", Value::Null).await;
    let effective: crate::control::api::EffectivePolicy = serde_json::from_value(effective).unwrap();
    assert_eq!(effective.generation, status.generation);
    let handlers = served.done("GET /v1/handlers", Value::Null).await;
    assert!(handlers["available"].to_string().contains("no_http"), "{handlers}");
    assert_eq!(handlers["bound"], json!([]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p31_overrides_are_made_and_undone() {
    let served = Served::start();
    assert_eq!(served.verdict("https://b.test/").await, "refuse");
    let published = served.done("PUT /v1/allowed-hosts/b.test", Value::Null).await;
    assert_eq!(published["changed"], true);
    assert_eq!(served.verdict("https://b.test/").await, "forward");
    served.done("PUT /v1/denied-hosts/10.0.0.0%2F8", Value::Null).await;
    served.done("PUT /v1/outbound", json!({ "handler": "no_http" })).await;
    assert_eq!(served.verdict("https://b.test/").await, "refuse");
    let handlers = served.done("GET /v1/handlers", Value::Null).await;
    assert!(handlers["bound"].to_string().contains("no_http"), "{handlers}");
    served.done("DELETE /v1/outbound", Value::Null).await;
    assert_eq!(served.verdict("https://b.test/").await, "forward");
    let by_host = json!({ "handler": "greet", "params": { "greeting": "hello" } });
    served.done("PUT /v1/outbound-by-host/b.test", by_host).await;
    assert_eq!(served.verdict("https://b.test/").await, "handle");
    served.done("DELETE /v1/outbound-by-host/b.test", Value::Null).await;
    assert_eq!(served.verdict("https://b.test/").await, "forward");
    served.done("PUT /v1/outbound-by-host", json!({ "b.test": { "handler": "no_http" } })).await;
    assert_eq!(served.verdict("https://b.test/").await, "refuse");
    served.done("DELETE /v1/overrides", Value::Null).await;
    assert_eq!(served.verdict("https://a.test/").await, "forward");
    served.done("PUT /v1/allowed-hosts", json!({ "patterns": [] })).await;
    assert_eq!(served.verdict("https://a.test/").await, "refuse");

    for (route, body) in [
        ("PUT /v1/outbound", json!({ "handler": "no_htp" })),
        ("PUT /v1/allowed-hosts/**.test", Value::Null),
        ("PUT /v1/allowed-hosts", json!({ "pattern": [] })),
        ("PUT /v1/outbound", Value::Null),
    ] {
        let before = served.gate.generation().id.clone();
        let (status, problem) = served.ask(route, &body.to_string()).await;
        assert_eq!((status, &problem["type"]), (400, &json!("sluicegate:invalid")), "{route}: {problem}");
        assert_eq!(served.gate.generation().id, before);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h07_a_policy_that_does_not_compile_changes_nothing_and_says_where() {
    let served = Served::start();
    let before = served.gate.generation().id.clone();
    let file = served.folder.path().join("next.toml");
    let upload = |document: &str| json!({ "file": file, "document": document });
    let bad = "version = 1\nallowed_host = []\n";
    let (status, problem) = served.ask("PUT /v1/policy", &upload(bad).to_string()).await;
    assert_eq!((status, &problem["type"]), (422, &json!("sluicegate:policy-refused")), "{problem}");
    let first = &problem["problems"][0];
    assert_eq!((&first["line"], &first["severity"]), (&json!(2), &json!("error")), "{problem}");
    assert!(first["file"].as_str().unwrap().ends_with("next.toml"), "{problem}");
    assert!(problem["rendered"].as_str().unwrap().contains("allowed_host = []"), "{problem}");
    assert_eq!(served.gate.generation().id, before);

    let relative = json!({ "file": "next.toml", "document": "version = 1\n" });
    assert_eq!(served.ask("PUT /v1/policy", &relative.to_string()).await.0, 400);
    let published = served.done("PUT /v1/policy", upload("version = 1\ninternet = true\n")).await;
    assert_eq!(published["previous"], *before);
    assert_eq!(served.verdict("https://b.test/").await, "forward");
    assert_eq!(served.done("GET /v1/status", Value::Null).await["policy"]["source"], "upload");
    let published = served.done("DELETE /v1/policy", Value::Null).await;
    assert_eq!(published["generation"], *before);
    assert_eq!(served.verdict("https://b.test/").await, "refuse");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_answers_and_front_ends_are_told() {
    let served = Served::start();
    let mut events = UnixStream::connect(&served.socket).await.unwrap();
    events.write_all(b"GET /v1/events HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut told = vec![0; 4_096];
    let length = events.read(&mut told).await.unwrap();
    assert!(String::from_utf8_lossy(&told[..length]).contains("text/event-stream"));

    let approvals = Arc::clone(&served.gate.approvals);
    let asker = tokio::spawn(async move { approvals.ask(question()).await });
    let mut seen = String::new();
    while !seen.contains("approval_asked") {
        let length = events.read(&mut told).await.unwrap();
        seen.push_str(&String::from_utf8_lossy(&told[..length]));
    }
    let pending = served.done("GET /v1/approvals", Value::Null).await;
    assert_eq!(pending["pending"][0]["id"], "a1");
    assert_eq!(served.ask("POST /v1/approvals/a1", r#"{"allow": true, "remember_seconds": 0}"#).await.0, 400);
    assert_eq!(served.ask("POST /v1/approvals/a2", r#"{"allow": true}"#).await.0, 404);
    served.done("POST /v1/approvals/a1", json!({ "allow": true, "remember_seconds": 3600 })).await;
    assert_eq!(asker.await.unwrap(), Verdict::Allowed { id: "a1".into(), remembered: false });
    while !seen.contains("approval_decided") {
        let length = events.read(&mut told).await.unwrap();
        seen.push_str(&String::from_utf8_lossy(&told[..length]));
    }
    let remembered = served.done("GET /v1/approvals/remembered", Value::Null).await;
    let id = remembered["remembered"][0]["id"].as_str().unwrap().to_owned();
    served.done(&format!("DELETE /v1/approvals/remembered/{id}"), Value::Null).await;
    assert_eq!(served.ask(&format!("DELETE /v1/approvals/remembered/{id}"), "").await.0, 404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_puts_values_into_a_store() {
    let served = Served::start();
    assert_eq!(served.ask("GET /v1/bindings/kv/tokens%2Fa", "").await.0, 404);
    served.done("PUT /v1/bindings/kv/tokens%2Fa", json!("secret")).await;
    served.done("PUT /v1/bindings/kv/other?ttl_seconds=60", json!(1)).await;
    assert_eq!(served.done("GET /v1/bindings/kv/tokens%2Fa", Value::Null).await, "secret");
    let keys = served.done("GET /v1/bindings/kv?prefix=tokens%2F", Value::Null).await;
    assert_eq!(keys, json!({ "keys": ["tokens/a"] }));
    served.done("DELETE /v1/bindings/kv/tokens%2Fa", Value::Null).await;
    assert_eq!(served.done("GET /v1/bindings/kv", Value::Null).await, json!({ "keys": ["other"] }));
    for (route, status) in [
        ("GET /v1/bindings/nothing/a", 404),
        ("GET /v1/bindings/objects/a", 400),
        ("PUT /v1/bindings/kv/a?ttl_seconds=0", 400),
        ("PUT /v1/bindings/kv/a?ttl_seconds=x", 400),
        ("PUT /v1/bindings/kv/a?ttl=60", 400),
    ] {
        assert_eq!(served.ask(route, "").await.0, status, "{route}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_route_or_comes_from_a_web_page_is_a_problem() {
    let served = Served::start();
    assert_eq!(served.ask("GET /", "").await.1["type"], "sluicegate:no-such-path");
    assert_eq!(served.ask("GET /v1/nothing", "").await.0, 404);
    assert_eq!(served.ask("PATCH /v1/policy", "").await.0, 405);
    assert_eq!(served.ask("PUT /v1/allowed-hosts/%ff", "").await.0, 400);
    let page = "GET /v1/status HTTP/1.1\r\nhost: localhost\r\norigin: https://evil.test\r\n\r\n";
    let (status, problem) = served.send(page.into()).await;
    assert_eq!((status, &problem["type"]), (403, &json!("sluicegate:web-page")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_does_nothing_holds_nobody_up() {
    let served = Served::start();
    let mut idle = Vec::new();
    for _ in 0..20 {
        let mut stream = UnixStream::connect(&served.socket).await.unwrap();
        stream.write_all(b"GET /v1/sta").await.unwrap();
        idle.push(stream);
    }
    let asked = served.done("GET /v1/status", Value::Null);
    tokio::time::timeout(Duration::from_secs(5), asked).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn followers_have_a_limit_and_leave_room() {
    let served = Served::start();
    let mut followers = Vec::new();
    let follow = b"GET /v1/events HTTP/1.1\r\nhost: x\r\n\r\n";
    let mut told = vec![0; 4_096];
    for _ in 0..16 {
        let mut stream = UnixStream::connect(&served.socket).await.unwrap();
        stream.write_all(follow).await.unwrap();
        assert!(stream.read(&mut told).await.unwrap() > 0);
        followers.push(stream);
    }
    assert_eq!(served.ask("GET /v1/events", "").await.0, 503);
    served.done("GET /v1/status", Value::Null).await;
    // One that hangs up makes room.
    followers.pop();
    let room = async {
        while served.done("GET /v1/status", Value::Null).await.is_object() {
            let mut stream = UnixStream::connect(&served.socket).await.unwrap();
            stream.write_all(follow).await.unwrap();
            let length = stream.read(&mut told).await.unwrap();
            if told[..length].starts_with(b"HTTP/1.1 200") {
                return;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(10), room).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_socket_goes_with_what_serves_it() {
    let Served { folder: _folder, socket, task, .. } = Served::start();
    drop(UnixStream::connect(&socket).await.unwrap());
    task.abort();
    assert!(task.await.unwrap_err().is_cancelled());
    assert!(!socket.exists());
}
