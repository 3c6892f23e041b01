//! Every scenario: what the handler does, and what comes of it, written once for all languages.

use e2e::{Received, sha256_hex, wait_until};
use serde_json::json;
use std::time::Duration;

use crate::stage::{Served, assert_line};

/// Something that the handler does when it is asked for a path.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scenario {
    /// The path, which is also its name.
    pub(crate) path: &'static str,
    /// What the handler does, for docs/conformance.md.
    pub(crate) does: &'static str,
    /// What comes of it, for the same.
    pub(crate) outcome: &'static str,
    /// Fails where something else comes of it.
    pub(crate) check: fn(&Served<'_, '_>),
}

const fn scenario(
    path: &'static str,
    does: &'static str,
    outcome: &'static str,
    check: fn(&Served<'_, '_>),
) -> Scenario {
    Scenario { path, does, outcome, check }
}

/// All of them, in the order in which they are run.
pub(crate) const ALL: [Scenario; 34] = [
    scenario("/allow", "sends the request on", "the origin's answer", allow),
    scenario("/deny", "refuses", "403 `denied_by_handler`, with its reason", deny),
    scenario("/answer", "answers by itself", "201, its header, its body; nothing is sent", answer),
    scenario("/json", "answers with what it sees, as JSON", "method, URL, identity, labels, params", json),
    scenario("/url", "answers with the URL", "the URL as it was asked for", url),
    scenario("/modify", "changes headers, path and query, and the answer", "both arrive changed", modify),
    scenario("/callout", "asks another host whether it may", "passed after `yes`, else 403", callout),
    scenario("/caught", "catches that a host is not there", "200 `caught`", caught),
    scenario("/uncaught", "does not catch it", "502 `connect_failed`, as without a handler", uncaught),
    scenario("/kv", "increments, writes, reads and lists values", "the count, the value, the keys", kv),
    scenario(
        "/objects",
        "stores the body unread and answers with it",
        "the same bytes, 2 MB of them",
        objects,
    ),
    scenario("/body", "reads the body", "200, the body in upper case", body),
    scenario(
        "/peek",
        "looks at the first bytes, and sends the whole",
        "refused by them, or all arrives",
        peek,
    ),
    scenario("/tap", "has the first bytes of the body logged", "all arrives, 8 bytes are in the log", tap),
    scenario("/token", "puts a secret into a header", "the origin has it, and nobody else", token),
    scenario("/basic", "makes it the password of basic authentication", "the origin has it", basic),
    scenario(
        "/query-secret",
        "puts it into the query",
        "the origin has it; the log has no query",
        query_secret,
    ),
    scenario("/body-secret", "puts it into a JSON body", "the origin has it", body_secret),
    scenario(
        "/wrong-host",
        "sends it to a host that it is not bound to",
        "403 `secret_not_bound`",
        wrong_host,
    ),
    scenario("/show-secret", "answers with it", "502 `handler_failed`", show_secret),
    scenario("/reveal", "asks for its bytes without a grant", "502 `handler_failed`", reveal),
    scenario("/hmac", "makes an HMAC-SHA-256 with it as the key", "the right one", hmac),
    scenario("/log", "logs a line with a field", "it is in the log, with the request's id", log),
    scenario("/random", "makes a UUID", "another one each time", random),
    scenario("/ask", "asks a person", "held until somebody agrees or the time is over", ask),
    scenario("/none", "does not know the path", "404", none),
    scenario("/throw", "fails", "502 `handler_failed`; the log says how", throw),
    scenario("/panic", "gives up: a panic, an exit, a thrown nothing", "502 `handler_failed`", panic),
    scenario("/trap", "aborts, or divides by zero where it cannot", "502 `handler_failed`", trap),
    scenario("/grow", "takes memory for ever", "502 `handler_failed`", grow),
    scenario("/flood", "reads a value for ever", "502 `handler_failed`", flood),
    scenario("/output", "makes a body of 100 MB", "502 `handler_failed`", output),
    scenario("/logs", "logs for ever", "502 `handler_failed`", logs),
    scenario("/recurse", "calls itself for ever", "502 `handler_failed`", recurse),
];

/// The one that takes as long as it may.
pub(crate) const LOOP: Scenario =
    scenario("/loop", "loops for ever", "504 `handler_timeout`, once its processor time is over", endless);

fn allow(gate: &Served<'_, '_>) {
    gate.ask("/allow", &["-H", "x-mine: 1"]).assert_body(200, "origin: GET /allow");
    let request = gate.arrived_one();
    assert_eq!((request.authority.as_str(), request.header("x-mine")), ("scenario.test", vec!["1"]));
    assert_line(&gate.exchange("/allow"), &json!({"verdict": "allowed", "status": 200, "fetches": 1}));
    gate.ask("/allow", &["-d", "with a body"]).assert_body(200, "origin: POST /allow");
    assert_eq!(gate.arrived_one().body, b"with a body");
}

fn deny(gate: &Served<'_, '_>) {
    let answer = gate.ask("/deny", &[]);
    answer.assert_refused(403, "denied_by_handler");
    assert!(answer.body.contains("denied by the conformance handler"), "{answer:#?}");
    assert_line(
        &gate.exchange("/deny"),
        &json!({"verdict": "refused", "reason": "denied_by_handler", "status": 403}),
    );
    nothing_arrived(gate);
}

fn answer(gate: &Served<'_, '_>) {
    let answer = gate.ask("/answer", &[]);
    answer.assert_body(201, "answered\n");
    let headers = ["x-answer", "content-type", "content-length"].map(|name| answer.header(name));
    assert_eq!(headers, ["yes", "text/plain; charset=utf-8", "9"], "{answer:#?}");
    let line = gate.exchange("/answer");
    assert_line(
        &line,
        &json!({"verdict": "answered", "status": 201, "handler": gate.stage.language.handler()}),
    );
    assert!(line["handler_version"].as_str().is_some_and(|version| version.len() == 12), "{line:#}");
    nothing_arrived(gate);
}

fn json(gate: &Served<'_, '_>) {
    let answer = gate.ask("/json?x=%20y", &["-X", "PUT"]);
    assert_eq!(answer.status, 200, "{answer:#?}");
    assert!(answer.header("content-type").starts_with("application/json"), "{answer:#?}");
    let url = "https://scenario.test/json?x=%20y";
    assert_eq!(
        answer.json(),
        json!({"method": "PUT", "url": url, "container": "c-1", "instance": "box", "greeting": "hello", "team": "blue"})
    );
}

fn url(gate: &Served<'_, '_>) {
    gate.ask("/url?a=b&c=%2F", &[]).assert_body(200, "https://scenario.test/url?a=b&c=%2F");
}

fn modify(gate: &Served<'_, '_>) {
    let answer = gate.ask("/modify?by=workload", &["-H", "x-remove-me: 1", "-H", "x-kept: 2", "-d", "body"]);
    answer.assert_body(202, "origin: POST /modified");
    assert_eq!(answer.header("x-response"), "changed");
    assert_eq!(answer.header("content-type"), "text/plain; charset=utf-8");
    let request = gate.arrived_one();
    assert_eq!(request.path, "/modified?by=handler");
    assert_eq!(request.header("x-added"), ["one"]);
    assert_eq!(request.header("x-remove-me"), [""; 0]);
    assert_eq!(request.header("x-kept"), ["2"]);
    assert_eq!((request.body.as_slice(), request.complete), (&b"body"[..], true));
}

fn callout(gate: &Served<'_, '_>) {
    gate.ask("/callout", &[]).assert_body(200, "origin: GET /callout");
    let asked = gate.arrived();
    let asked: Vec<_> = asked.iter().map(|request| (&*request.authority, &*request.path)).collect();
    assert_eq!(asked, [("callout.test", "/check"), ("scenario.test", "/callout")]);
    gate.stage.callout(false);
    let answer = gate.ask("/callout", &[]);
    gate.stage.callout(true);
    answer.assert_body(403, "no");
    assert_eq!(gate.arrived_one().authority, "callout.test");
}

fn caught(gate: &Served<'_, '_>) {
    gate.ask("/caught", &[]).assert_body(200, "caught");
    assert_line(
        &gate.line("fetch", "/"),
        &json!({"verdict": "failed", "reason": "connect_failed", "host": "down.test"}),
    );
}

fn uncaught(gate: &Served<'_, '_>) {
    gate.ask("/uncaught", &[]).assert_refused(502, "connect_failed");
    assert_line(
        &gate.exchange("/uncaught"),
        &json!({"verdict": "failed", "reason": "connect_failed", "status": 502}),
    );
}

fn kv(gate: &Served<'_, '_>) {
    for count in [1, 2] {
        let answer = gate.ask("/kv", &[]);
        assert_eq!(
            answer.json(),
            json!({"count": count, "last": "/kv", "keys": ["count", "last"]}),
            "{answer:#?}"
        );
    }
}

fn objects(gate: &Served<'_, '_>) {
    gate.ask("/objects", &["-d", "a small one"]).assert_body(200, "a small one");
    // Longer than what a handler may take into memory: it must have streamed.
    let large = "0123456789abcdef".repeat(128 * 1024);
    gate.stage.world.home_file("large", &large);
    let answer = gate.ask("/objects", &["-H", "expect:", "--data-binary", "@large"]);
    assert_eq!((answer.status, sha256_hex(answer.body.as_bytes())), (200, sha256_hex(large.as_bytes())));
}

fn body(gate: &Served<'_, '_>) {
    gate.ask("/body", &["-d", "some Text, é"]).assert_body(200, "SOME TEXT, É");
}

fn peek(gate: &Served<'_, '_>) {
    let answer = gate.ask("/peek", &["-d", "deny this"]);
    answer.assert_refused(403, "denied_by_handler");
    assert!(answer.body.contains("peeked"), "{answer:#?}");
    nothing_arrived(gate);
    let long = "pass this, whatever its length ".repeat(1_000);
    for body in ["x", "pass", &long] {
        gate.stage.world.home_file("body", body);
        gate.ask("/peek", &["--data-binary", "@body"]).assert_body(200, "origin: POST /peek");
        assert_eq!(gate.arrived_one().body_sha256, sha256_hex(body.as_bytes()));
    }
}

fn tap(gate: &Served<'_, '_>) {
    gate.skip_log();
    gate.ask("/tap", &["-d", "0123456789abcdef"]).assert_body(200, "origin: POST /tap");
    assert_eq!(gate.arrived_one().body, b"0123456789abcdef");
    let mut tapped = None;
    wait_until("the tapped bytes", Duration::from_secs(10), || {
        let log = gate.gate.log();
        tapped = log.iter().rev().find_map(|line| line.get("request_tap").map(ToString::to_string));
        tapped.is_some()
    });
    let tapped = tapped.unwrap();
    assert!(tapped.contains("01234567") && !tapped.contains("012345678"), "{tapped}");
}

fn token(gate: &Served<'_, '_>) {
    gate.skip_log();
    gate.ask("/token", &["-H", "authorization: Bearer mine"]).assert_body(200, "origin: GET /token");
    assert_eq!(gate.arrived_one().header("authorization"), [format!("Bearer {}", gate.stage.token)]);
    assert_line(&gate.line("fetch", "/token"), &json!({"credentials": ["TOKEN"], "host": "scenario.test"}));
    unlogged(gate);
}

fn basic(gate: &Served<'_, '_>) {
    gate.ask("/basic", &[]).assert_body(200, "origin: GET /basic");
    let wanted = format!("Basic {}", base64(&format!("robot:{}", gate.stage.token)));
    assert_eq!(gate.arrived_one().header("authorization"), [wanted]);
    unlogged(gate);
}

fn query_secret(gate: &Served<'_, '_>) {
    let answer = gate.ask("/query-secret?a=b", &[]);
    assert_eq!(answer.status, 200, "{answer:#?}");
    assert_eq!(gate.arrived_one().path, format!("/query-secret?a=b&key={}", gate.stage.token));
    unlogged(gate);
}

fn body_secret(gate: &Served<'_, '_>) {
    gate.ask("/body-secret", &["-d", "replaced"]).assert_body(200, "origin: POST /body-secret");
    let request = gate.arrived_one();
    assert_eq!(json_of(&request), json!({"token": gate.stage.token}));
    assert_eq!(request.header("content-type"), ["application/json"]);
    unlogged(gate);
}

fn wrong_host(gate: &Served<'_, '_>) {
    gate.ask("/wrong-host", &[]).assert_refused(403, "secret_not_bound");
    assert_line(&gate.exchange("/wrong-host"), &json!({"verdict": "refused", "reason": "secret_not_bound"}));
    nothing_arrived(gate);
}

fn show_secret(gate: &Served<'_, '_>) {
    let answer = gate.ask("/show-secret", &[]);
    answer.assert_refused(502, "handler_failed");
    assert!(!answer.body.contains(&gate.stage.token), "{answer:#?}");
    let detail = gate.exchange("/show-secret")["detail"].as_str().unwrap().to_owned();
    assert!(detail.contains("TOKEN") || detail.contains("secret"), "{detail}");
}

fn reveal(gate: &Served<'_, '_>) {
    let answer = gate.ask("/reveal", &[]);
    answer.assert_refused(502, "handler_failed");
    assert!(!answer.body.contains(&sha256_hex(gate.stage.token.as_bytes())), "{answer:#?}");
}

fn hmac(gate: &Served<'_, '_>) {
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, gate.stage.token.as_bytes());
    let signature = aws_lc_rs::hmac::sign(&key, b"data");
    let wanted: String = signature.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    gate.ask("/hmac", &[]).assert_body(200, &wanted);
}

fn log(gate: &Served<'_, '_>) {
    gate.skip_log();
    let answer = gate.ask("/log", &[]);
    assert_eq!((answer.status, answer.body.as_str()), (204, ""), "{answer:#?}");
    let log = || gate.gate.log();
    wait_until("the line of the handler", Duration::from_secs(10), || {
        log().iter().any(|line| line["kind"] == "exchange" && line["path"] == "/log")
    });
    let log = log();
    let of = |kind: &str| log.iter().rfind(|line| line["kind"] == kind).unwrap();
    assert_line(
        of("handler"),
        &json!({"level": "info", "message": "hello", "fields": {"n": 1}, "request_id": of("exchange")["request_id"]}),
    );
}

fn random(gate: &Served<'_, '_>) {
    let ask = || {
        let answer = gate.ask("/random", &[]);
        assert_eq!((answer.status, answer.body.len()), (200, 36), "{answer:#?}");
        answer.body
    };
    let mut all: Vec<_> = (0..5).map(|_| ask()).collect();
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 5, "{all:?}");
}

fn ask(gate: &Served<'_, '_>) {
    // Nobody answers.
    gate.ask("/ask", &[]).assert_refused(403, "approval_timeout");
    nothing_arrived(gate);
    let waiting = gate.gate.job(crate::stage::curl("https://scenario.test/ask", &[])).spawn();
    let mut pending = Vec::new();
    wait_until("the question", Duration::from_secs(30), || {
        let listed = gate.gate.operator(["approval", "list", "--json"]).run();
        listed.assert_success();
        pending = listed.json()["pending"].as_array().unwrap().clone();
        !pending.is_empty()
    });
    assert!(pending[0].to_string().contains("really?"), "{pending:?}");
    let id = pending[0]["id"].as_str().unwrap();
    gate.gate.operator(["approval", "allow", id]).run().assert_success();
    crate::stage::Answer::of(&waiting.wait()).assert_body(200, "origin: GET /ask");
    assert_eq!(gate.arrived_one().path, "/ask");
}

fn none(gate: &Served<'_, '_>) {
    gate.ask("/none", &[]).assert_body(404, "no such scenario\n");
    nothing_arrived(gate);
}

fn throw(gate: &Served<'_, '_>) {
    failed(gate, "/throw");
    // In the line of the exchange, or in one that the language's own library has logged for it.
    let log = gate.gate.log();
    let id = &log.iter().rfind(|line| line["path"] == "/throw").unwrap()["request_id"];
    let told = log.iter().any(|line| line["request_id"] == *id && line.to_string().contains("broken"));
    assert!(told, "the log does not say how it failed: {log:#?}");
}

fn panic(gate: &Served<'_, '_>) {
    failed(gate, "/panic");
}

fn trap(gate: &Served<'_, '_>) {
    failed(gate, "/trap");
}

fn grow(gate: &Served<'_, '_>) {
    failed(gate, "/grow");
}

fn flood(gate: &Served<'_, '_>) {
    failed(gate, "/flood");
}

fn output(gate: &Served<'_, '_>) {
    failed(gate, "/output");
}

fn logs(gate: &Served<'_, '_>) {
    failed(gate, "/logs");
}

fn recurse(gate: &Served<'_, '_>) {
    failed(gate, "/recurse");
}

fn endless(gate: &Served<'_, '_>) {
    gate.skip_log();
    gate.ask("/loop", &[]).assert_refused(504, "handler_timeout");
    let line = gate.exchange("/loop");
    assert_line(&line, &json!({"verdict": "failed", "reason": "handler_timeout", "status": 504}));
    named(gate, &line);
}

/// Fails unless the handler does on this path.
#[track_caller]
fn failed(gate: &Served<'_, '_>, path: &str) {
    gate.skip_log();
    let answer = gate.ask(path, &[]);
    answer.assert_refused(502, "handler_failed");
    assert!(!answer.body.contains("broken") && !answer.body.contains("handlers/"), "{answer:#?}");
    let line = gate.exchange(path);
    assert_line(
        &line,
        &json!({"verdict": "failed", "reason": "handler_failed", "status": 502, "path": path}),
    );
    named(gate, &line);
}

/// Fails unless the line names the handler, its version and a cause.
#[track_caller]
fn named(gate: &Served<'_, '_>, line: &serde_json::Value) {
    let handler = gate.stage.language.handler();
    assert_line(line, &json!({"handler": handler}));
    assert!(line["handler_version"].as_str().is_some_and(|version| version.len() == 12), "{line:#}");
    let detail = line["detail"].as_str().unwrap_or_default();
    eprintln!("{}: {detail}", gate.stage.language);
    let cause =
        detail.trim_start_matches(handler).trim_start_matches(|c: char| c == ':' || c.is_ascii_digit());
    assert!(cause.trim().len() > 5, "no cause in {line:#}");
}

#[track_caller]
fn nothing_arrived(gate: &Served<'_, '_>) {
    let arrived = gate.arrived();
    assert!(arrived.is_empty(), "{arrived:#?}");
}

/// Fails where the secret is in the log.
#[track_caller]
fn unlogged(gate: &Served<'_, '_>) {
    let token = &gate.stage.token;
    let forms = [token.clone(), base64(token), base64(&format!("robot:{token}"))];
    for line in gate.gate.log() {
        let line = line.to_string();
        assert!(!forms.iter().any(|form| line.contains(form)), "{line}");
    }
}

fn json_of(request: &Received) -> serde_json::Value {
    serde_json::from_slice(&request.body).unwrap_or_else(|error| panic!("{error}: {request:#?}"))
}

fn base64(text: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(text)
}
