//! `llm-usage-meter`, against servers that speak the dialects of OpenAI and Anthropic.

use std::time::Duration;

use e2e::{
    Attached, Origin, Outcome, Received, Reply, World, assert_token_absent, new_token, wait_until,
    with_token_scan,
};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::support::{document, gate, handler_lines};

const PLUGIN: &str = "llm-usage-meter";
const OPENAI: &str = "api.openai.com";
const ANTHROPIC: &str = "api.anthropic.com";

/// 60 of input, 40 cached and 7 of output: 60 * 1.25 + 40 * 0.125 + 7 * 10 micro-dollars of `gpt-5`.
const CHAT_USAGE: &str = r#"{"prompt_tokens":100,"completion_tokens":7,"total_tokens":107,"prompt_tokens_details":{"cached_tokens":40}}"#;
const CHAT_COST: i64 = 150;

fn event(data: &str) -> String {
    format!("data: {data}\n\n")
}

/// The stream of a chat, as it is sent: cut in the middle of lines, and of a character.
fn chat() -> String {
    let hello = event(r#"{"choices":[{"index":0,"delta":{"content":"grüße"}}],"usage":null}"#);
    let usage = event(&format!(r#"{{"choices":[],"usage":{CHAT_USAGE}}}"#));
    format!("{hello}{usage}{}", event("[DONE]"))
}

fn responses() -> String {
    let usage = r#"{"input_tokens":100,"input_tokens_details":{"cached_tokens":40},"output_tokens":7}"#;
    let created = r#"{"type":"response.created","response":{"status":"in_progress","usage":null}}"#;
    let done = format!(r#"{{"type":"response.completed","response":{{"usage":{usage}}}}}"#);
    format!("event: response.created\n{}event: response.completed\n{}", event(created), event(&done))
}

fn messages() -> String {
    let start = r#"{"type":"message_start","message":{"usage":{"input_tokens":10,"cache_creation_input_tokens":20,"cache_read_input_tokens":100,"output_tokens":1}}}"#;
    let text = r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"hi"}}"#;
    let end = r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":9}}"#;
    format!("event: message_start\n{}{}event: message_delta\n{}", event(start), event(text), event(end))
}

fn cut_everywhere(text: &str) -> Reply {
    let reply = Reply::new(200, "").header("content-type", "text/event-stream").chunked();
    text.as_bytes().chunks(37).fold(reply, |reply, piece| reply.then(piece.to_vec()))
}

fn answer(request: &Received) -> Reply {
    let asked: Value = serde_json::from_slice(&request.body).unwrap();
    match (request.path.as_str(), asked["stream"] == true) {
        ("/v1/chat/completions", true) => cut_everywhere(&chat()),
        ("/v1/chat/completions", false) => {
            Reply::new(200, format!(r#"{{"choices":[],"usage":{CHAT_USAGE}}}"#))
                .header("content-type", "application/json")
                .header("x-request-id", "r1")
        }
        ("/v1/responses", true) => cut_everywhere(&responses()),
        ("/v1/messages", true) => cut_everywhere(&messages()),
        _ => Reply::new(404, "no such path"),
    }
}

/// A gate whose instance is called `box`; its keys are of no use but to be seen.
fn start<'world>(world: &'world World, origin: &Origin, changes: &[(&str, &str)]) -> Attached<'world> {
    let hosts = [(OPENAI, origin.address()), (ANTHROPIC, origin.address())];
    gate(world, PLUGIN, &document(PLUGIN, changes), &hosts)
        .env("OPENAI_API_KEY", "openai-key")
        .env("ANTHROPIC_API_KEY", "anthropic-key")
        .named("box")
        .attach()
}

fn ask(gate: &Attached<'_>, host: &str, path: &str, asked: &Value) -> Outcome {
    let (url, asked) = (format!("https://{host}/v1/{path}"), asked.to_string());
    gate.run(["curl", "-sS", "--max-time", "30", "-w", "\n%{http_code}", "-d", &asked, &url])
}

/// What is stored under a name for this day and this month.
fn stored(gate: &Attached<'_>, what: &str) -> Vec<i64> {
    let listed = gate.operator(["kv", "list", "kv", "llm/box/"]).run();
    let keys = listed.assert_success().stdout.lines().filter(|key| key.ends_with(&format!("/{what}")));
    keys.map(|key| gate.operator(["kv", "get", "kv", key]).run().stdout.trim().parse().unwrap()).collect()
}

/// Waits for so many lines of the handler with this message.
fn wait_for_lines(gate: &Attached<'_>, message: &str, count: usize) -> Vec<Value> {
    let mut lines = Vec::new();
    wait_until(&format!("{count} lines {message:?}"), Duration::from_secs(20), || {
        let log = gate.log();
        let found = handler_lines(&log).into_iter().filter(|line| line["message"] == message);
        lines = found.cloned().collect::<Vec<_>>();
        lines.len() >= count
    });
    assert_eq!(lines.len(), count, "{lines:#?}");
    lines
}

#[test]
fn usage_is_counted_and_streams_arrive_as_they_were_sent() {
    let world = World::new("meter");
    let origin = Origin::start(&world, answer);
    let gate = start(&world, &origin, &[]);

    let chat_asked = json!({ "model": "gpt-5", "stream": true, "messages": [] });
    let got = ask(&gate, OPENAI, "chat/completions", &chat_asked);
    got.assert_success().assert_stdout(&format!("{}\n200", chat()));
    let line = wait_for_lines(&gate, "language model used", 1).remove(0);
    let fields = json!({
        "model": "gpt-5", "input": 60, "cached": 40, "cache_writes": 0, "output": 7,
        "micro_dollars": CHAT_COST, "spent": { "day": CHAT_COST, "month": CHAT_COST },
    });
    assert_eq!(line["fields"], fields, "{line:#}");

    ask(&gate, OPENAI, "chat/completions", &json!({ "model": "gpt-5-2025-08-07" })).assert_success();
    let asked = json!({ "model": "gpt-5", "stream": true });
    ask(&gate, OPENAI, "responses", &asked).assert_stdout(&format!("{}\n200", responses()));
    let asked = json!({ "model": "claude-sonnet-4-5", "stream": true, "max_tokens": 100 });
    ask(&gate, ANTHROPIC, "messages", &asked).assert_stdout(&format!("{}\n200", messages()));
    wait_for_lines(&gate, "language model used", 4);
    // 10 * 3 + 100 * 0.3 + 20 * 3.75 + 9 * 15
    let cost = 3 * CHAT_COST + 270;
    assert_eq!(stored(&gate, "micro_dollars"), [cost, cost]);
    assert_eq!(stored(&gate, "input_tokens"), [3 * 60 + 30, 3 * 60 + 30]);
    assert_eq!(stored(&gate, "cached_tokens"), [3 * 40 + 100, 3 * 40 + 100]);
    assert_eq!(stored(&gate, "output_tokens"), [3 * 7 + 9, 3 * 7 + 9]);

    let [chat, _, responses, messages] = &origin.requests()[..] else { panic!("{:#?}", origin.requests()) };
    let sent: Value = serde_json::from_slice(&chat.body).unwrap();
    assert_eq!(sent["stream_options"], json!({ "include_usage": true }));
    assert_eq!(chat.header("authorization"), ["Bearer openai-key"]);
    let sent: Value = serde_json::from_slice(&responses.body).unwrap();
    assert_eq!(sent.get("stream_options"), None);
    assert_eq!(messages.header("x-api-key"), ["anthropic-key"]);
    assert_eq!(messages.header("authorization"), [""; 0]);
}

#[test]
fn keys_are_put_on_outside_and_responses_are_not_compressed() {
    let world = World::new("meter-key");
    let origin = Origin::start(&world, answer);
    let token = new_token();
    let hosts = [(OPENAI, origin.address())];
    let asked = r#"{"model":"gpt-5"}"#;
    let own = ["-H", "authorization: Bearer own", "-H", "x-api-key: own", "--compressed"];
    let line = [&["curl", "-sSi"], &own[..], &["-d", asked, "https://api.openai.com/v1/chat/completions"]];
    let outcome = gate(&world, PLUGIN, &document(PLUGIN, &[]), &hosts)
        .env("OPENAI_API_KEY", &token)
        .env("ANTHROPIC_API_KEY", "unused")
        .run(with_token_scan(&world, &[&token], line.concat()));
    outcome.assert_success();
    assert!(outcome.stdout.contains("x-request-id: r1"), "{outcome:?}");
    assert_token_absent(&world, &outcome, &[&token]);
    let request = origin.only_request();
    assert_eq!(request.header("authorization"), [format!("Bearer {token}")]);
    assert_eq!(request.header("x-api-key"), [""; 0]);
    assert_eq!(request.header("accept-encoding"), [""; 0]);
    let [fetch] = outcome.lines("fetch")[..] else { panic!("{outcome:?}") };
    assert_eq!(fetch["credentials"], json!(["OPENAI_API_KEY"]));
}

#[test]
fn a_stream_passes_while_it_comes() {
    let world = World::new("meter-timing");
    let origin = Origin::start(&world, |_| {
        let reply = Reply::new(200, event("first")).header("content-type", "text/event-stream").chunked();
        reply.pause(Duration::from_secs(2)).then(event(&format!(r#"{{"usage":{CHAT_USAGE}}}"#)))
    });
    let gate = start(&world, &origin, &[]);
    let asked = r#"{"model":"gpt-5","stream":true}"#;
    let url = "https://api.openai.com/v1/chat/completions";
    let mut curl = gate.job(["curl", "-sSN", "-d", asked, url]).spawn();
    curl.wait_for_output("data: first\n\n");
    assert!(!curl.stdout().contains("usage"), "it came with the rest");
    curl.wait().assert_success();
    wait_for_lines(&gate, "language model used", 1);
}

#[test]
fn past_the_budget_requests_are_refused_in_the_words_of_the_api() {
    let world = World::new("meter-budget");
    let origin = Origin::start(&world, answer);
    // Three chats of 150, where each may cost up to 111 before it is known.
    let gate = start(&world, &origin, &[("day = 5", "day = 0.0005")]);
    let asked = json!({ "model": "gpt-5", "max_tokens": 10 });
    for round in 1..=3 {
        let got = ask(&gate, OPENAI, "chat/completions", &asked);
        assert!(got.stdout.ends_with("\n200"), "{got:?}");
        wait_for_lines(&gate, "language model used", round);
    }
    let refused = ask(&gate, OPENAI, "chat/completions", &asked);
    let (body, status) = refused.stdout.rsplit_once('\n').unwrap();
    assert_eq!(status, "429", "{refused:?}");
    let error: Value = serde_json::from_str(body).unwrap();
    assert_eq!(error["error"]["code"], "insufficient_quota");
    let message = error["error"]["message"].as_str().unwrap();
    assert!(message.contains("the budget for this day is $0.0005, of which $0.0001 are left"), "{message}");
    let refused =
        ask(&gate, ANTHROPIC, "messages", &json!({ "model": "claude-sonnet-4-5", "max_tokens": 10 }));
    let (body, status) = refused.stdout.rsplit_once('\n').unwrap();
    let error: Value = serde_json::from_str(body).unwrap();
    assert_eq!((status, &error["type"]), ("429", &json!("error")), "{refused:?}");
    assert_eq!(error["error"]["type"], "rate_limit_error");
    assert_eq!(origin.requests().len(), 3);
    assert_eq!(stored(&gate, "micro_dollars"), [3 * CHAT_COST, 3 * CHAT_COST]);
    wait_for_lines(&gate, "80 % of the budget for this day is spent", 1);
    wait_for_lines(&gate, "refused: over budget", 2);

    // Whoever operates the gate can begin anew.
    for key in gate.operator(["kv", "list", "kv", "llm/box/"]).run().stdout.lines() {
        gate.operator(["kv", "delete", "kv", key]).run().assert_success();
    }
    let got = ask(&gate, OPENAI, "chat/completions", &asked);
    assert!(got.stdout.ends_with("\n200"), "{got:?}");
}

#[test]
fn requests_at_the_same_time_cannot_pass_the_budget_together() {
    let world = World::new("meter-parallel");
    let origin = Origin::start(&world, |request| answer(request).after(Duration::from_millis(300)));
    let gate = start(&world, &origin, &[("day = 5", "day = 0.0005")]);
    let url = "https://api.openai.com/v1/chat/completions";
    let one = format!(
        r#"curl -sS -o /dev/null -w '%{{http_code}}\n' -d '{{"model":"gpt-5","max_tokens":10}}' {url}"#
    );
    let all = format!("for i in $(seq 20); do {one} & done; wait");
    let got = gate.run(["sh", "-c", &all]);
    got.assert_success();
    let passed = origin.requests().len();
    assert!((1..=4).contains(&passed), "{passed} were sent");
    assert_eq!(got.stdout.lines().filter(|status| *status == "200").count(), passed, "{got:?}");
    assert_eq!(got.stdout.lines().filter(|status| *status == "429").count(), 20 - passed, "{got:?}");
}

#[test]
fn a_stream_that_is_cut_is_counted_by_an_estimate() {
    let world = World::new("meter-cut");
    let text = "x".repeat(4000);
    let origin = Origin::start(&world, move |_| {
        let begun = event(&format!(r#"{{"choices":[{{"delta":{{"content":"{text}"}}}}]}}"#));
        Reply::new(200, begun).header("content-type", "text/event-stream").cut()
    });
    let gate = start(&world, &origin, &[]);
    let asked = json!({ "model": "gpt-5", "stream": true, "max_tokens": 50 });
    let got = ask(&gate, OPENAI, "chat/completions", &asked);
    assert!(!got.status.success(), "the workload is told that it was cut: {got:?}");
    let line = wait_for_lines(&gate, "language model used, counted by an estimate", 1).remove(0);
    assert_eq!((&line["level"], &line["fields"]["output"]), (&json!("warn"), &json!(1000)), "{line:#}");
    let cost = line["fields"]["micro_dollars"].as_i64().unwrap();
    assert!(cost > 10_000, "{line:#}");
    assert_eq!(stored(&gate, "micro_dollars"), [cost, cost]);
}

#[test]
fn a_workload_that_leaves_early_is_counted_whole() {
    let world = World::new("meter-leaves");
    let origin = Origin::start(&world, |_| {
        let reply = Reply::new(200, event("first")).header("content-type", "text/event-stream").chunked();
        reply.pause(Duration::from_secs(3)).then(event(&format!(r#"{{"usage":{CHAT_USAGE}}}"#)))
    });
    let gate = start(&world, &origin, &[]);
    let asked = r#"{"model":"gpt-5","stream":true}"#;
    let url = "https://api.openai.com/v1/chat/completions";
    let mut client = gate.job(["curl", "-sSN", "-d", asked, url]).spawn();
    client.wait_for_output("data: first\n\n");
    client.signal(Signal::SIGKILL);
    assert_eq!(client.wait().stdout, "data: first\n\n");
    wait_for_lines(&gate, "language model used", 1);
    assert_eq!(stored(&gate, "micro_dollars"), [CHAT_COST, CHAT_COST]);
}

#[test]
fn a_long_stream_is_within_the_limits() {
    let world = World::new("meter-long");
    let delta = event(
        r#"{"id":"chatcmpl-1","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":" word"},"finish_reason":null}],"usage":null}"#,
    );
    let origin = Origin::start(&world, move |_| {
        let reply = Reply::new(200, "").header("content-type", "text/event-stream").chunked();
        let reply = (0..5_000).fold(reply, |reply, _| reply.then(delta.clone()));
        reply.then(event(&format!(r#"{{"choices":[],"usage":{CHAT_USAGE}}}"#)))
    });
    let gate = start(&world, &origin, &[]);
    ask(&gate, OPENAI, "chat/completions", &json!({ "model": "gpt-5", "stream": true })).assert_success();
    wait_for_lines(&gate, "language model used", 1);
}

#[test]
fn a_long_prompt_passes_and_one_that_is_too_long_is_told() {
    let world = World::new("meter-prompt");
    let origin = Origin::start(&world, |_| {
        Reply::new(200, format!(r#"{{"usage":{CHAT_USAGE}}}"#)).header("content-type", "application/json")
    });
    let gate = start(&world, &origin, &[]);
    let url = "https://api.openai.com/v1/chat/completions";
    for (mebibytes, status) in [(3, "200"), (5, "400")] {
        let prompt = r#"say \"ü\"\n"#.repeat(mebibytes * 1024 * 1024 / 12);
        let asked = format!(r#"{{"model":"gpt-5","messages":[{{"role":"user","content":"{prompt}"}}]}}"#);
        let curl = ["curl", "-sS", "-w", "\n%{http_code}", "--data-binary", "@-", url];
        let got = gate.job(curl).stdin(asked).run();
        assert!(got.stdout.ends_with(&format!("\n{status}")), "{mebibytes} MiB: {got:?}");
        assert!(
            status == "200" || got.stdout.contains("the request is longer than 4194304 bytes"),
            "{got:?}"
        );
    }
    wait_for_lines(&gate, "language model used", 1);
    assert!(origin.only_request().body_length > 3_000_000);
}

#[test]
fn what_cannot_be_metered_is_not_sent() {
    let world = World::new("meter-unknown");
    let origin = Origin::start(&world, answer);
    let gate = start(&world, &origin, &[]);
    for (path, asked, status) in [
        ("images/generations", json!({ "model": "gpt-5" }), "403"),
        ("chat/completions", json!({ "model": "gpt-5-pro" }), "403"),
        ("chat/completions", json!({ "messages": [] }), "400"),
        ("responses", json!({ "model": "gpt-5", "background": true }), "400"),
    ] {
        let got = ask(&gate, OPENAI, path, &asked);
        let (body, told) = got.stdout.rsplit_once('\n').unwrap();
        assert_eq!(told, status, "{path}: {got:?}");
        let error: Value = serde_json::from_str(body).unwrap();
        assert!(error["error"]["message"].as_str().unwrap().starts_with("sluicegate: "), "{body}");
    }
    origin.assert_untouched();
}
