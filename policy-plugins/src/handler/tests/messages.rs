//! Scripts that are asked about messages of WebSockets.

use bytes::Bytes;

use super::*;

const OUTBOUND: &str = "fn outbound(request, env, ctx) { fetch(request) }";

/// A message of this content; the inside of `on_message`.
fn asked(content: MessageContent, text: &str) -> Bench {
    script(&format!("{OUTBOUND} fn on_message(message, env, ctx) {{ {text} }}")).input(|input| {
        input.method = Method::GET;
        input.headers = HeaderMap::new();
        input.has_body = false;
        let (direction, subprotocol) = (MessageDirection::Sent, Some("chat.v2".into()));
        input.subject = Subject::Message(SocketMessage { direction, content, subprotocol });
    })
}

fn text(text: &str) -> MessageContent {
    MessageContent::Text(text.into())
}

fn binary(bytes: &'static [u8]) -> MessageContent {
    MessageContent::Binary(Bytes::from_static(bytes))
}

#[track_caller]
fn judged(bench: &Bench) -> MessageVerdict {
    match bench.fetched().end {
        Ok(Outcome::Message(verdict)) => verdict,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_message_goes_on_is_left_out_or_replaced() {
    for (inside, verdict) in [
        ("", MessageVerdict::Pass),
        ("true", MessageVerdict::Pass),
        ("return;", MessageVerdict::Pass),
        ("message.text == \"hello\"", MessageVerdict::Pass),
        ("false", MessageVerdict::Drop),
        ("message.text + \"!\"", MessageVerdict::Replace(text("hello!"))),
        ("\"\"", MessageVerdict::Replace(text(""))),
        ("\"hi\".to_blob()", MessageVerdict::Replace(binary(b"hi"))),
    ] {
        assert_eq!(judged(&asked(text("hello"), inside)), verdict, "{inside}");
    }
    assert_eq!(judged(&asked(binary(b"\x00\xff"), "message.blob.len == 2")), MessageVerdict::Pass);
    let cut = MessageVerdict::Replace(binary(b"\x00"));
    assert_eq!(judged(&asked(binary(b"\x00\xff"), "message.blob.extract(0, 1)")), cut);
}

#[test]
fn a_message_is_refused_and_nothing_runs_after_it() {
    let ran = asked(text("x"), "try { deny(\"not this one\"); } catch { } fetch(\"https://b.test/\"); true");
    let ran = ran.fetched();
    assert!(matches!(&ran.end, Ok(Outcome::Refuse(reason)) if &**reason == "not this one"), "{:?}", ran.end);
    assert!(ran.effects.is_empty());
}

#[test]
fn whatever_else_is_returned_is_a_fault() {
    let rest = "return true, false, a text, a blob or deny(..)";
    for (inside, what) in [("1", "number"), ("reply(200)", "response"), ("env.secrets.TOKEN", "secret")] {
        let error = asked(text("x"), inside).fetched().error();
        assert_eq!(*error.message, *format!("on_message returned a {what}: {rest}"), "{inside}");
    }
    let error = asked(text("x"), "\n message.txet == \"a\"").fetched().error();
    assert_eq!((error.line, error.fault), (2, HandlerFault::Threw), "{error}");
}

#[test]
fn what_is_known_of_a_message() {
    let inside = "log(\"info\", \"message\", #{ direction: message.direction, text: message.text,
        blob: message.blob, url: message.url, host: message.host, port: message.port, path: message.path,
        subprotocol: message.subprotocol, protocol: ctx.protocol, request_id: ctx.request_id });";
    let ran = asked(text("grüße"), inside).fetched();
    let fields = json!({
        "direction": "sent", "text": "grüße", "blob": null, "host": "api.example.test", "port": 443,
        "url": "https://api.example.test/v1/things?page=2&q=a+b%21", "path": "/v1/things",
        "subprotocol": "chat.v2", "protocol": "HTTP/1.1", "request_id": "85abe04d-1",
    });
    assert_eq!(serde_json::Value::Object(ran.log[0].fields.clone()), fields);
    let other = asked(binary(b"x"), "if message.text != () || message.direction != \"received\" { false }");
    let other = other.input(|input| {
        let (direction, subprotocol) = (MessageDirection::Received, None);
        input.subject = Subject::Message(SocketMessage { direction, content: binary(b"x"), subprotocol });
    });
    assert_eq!(judged(&other), MessageVerdict::Pass);
}

#[test]
fn a_text_that_a_script_cannot_hold_is_a_fault_where_it_is_looked_at() {
    let long = "x".repeat(2_000);
    let of = |inside| asked(text(&long), inside).limits(|limits| limits.string_bytes = 1_000);
    let error = of("message.text.len() > 3").fetched().error();
    assert!(error.message.contains("longer than the 1000 bytes"), "{error}");
    assert_eq!(judged(&of("message.direction == \"sent\"")), MessageVerdict::Pass);
}

#[test]
fn a_large_message_is_left_to_another_thread() {
    let small = asked(text("x"), "true");
    assert!(matches!(small.execution().run(Patience::Brief), Step::Done(_)));
    let large = asked(text(&"x".repeat(10_000)), "true");
    assert!(matches!(large.execution().run(Patience::Brief), Step::Unfinished));
    assert!(matches!(large.execution().run(Patience::Full), Step::Done(_)));
}

#[test]
fn effects_work_as_for_requests() {
    let inside = "let messages = env.kv.increment(\"messages\");
        if fetch(\"https://auth.test/\").status != 200 || messages != 4 { return false; }";
    let ran = asked(text("x"), inside).run(|effect| match effect {
        Effect::Kv { .. } => Answer::Number(4),
        _ => response(200, None),
    });
    assert!(matches!(ran.end, Ok(Outcome::Message(MessageVerdict::Pass))), "{:?}", ran.end);
    assert_eq!(ran.effects.len(), 2);
}

#[test]
fn a_script_without_requests_has_no_messages() {
    let limits = HandlerLimits::default();
    let compile = |text: &str| Script::compile("a.rhai", text.as_bytes(), &limits);
    let alone = "fn on_message(message, env, ctx) { false }";
    let problem = compile(alone).unwrap_err();
    assert!(problem.message.starts_with("`on_message` is there without `outbound`"), "{problem:?}");
    assert_eq!(problem.at, 0..13);
    assert!(compile(&format!("{alone} fn on_connect(flow, env, ctx) {{ }}")).is_err());
    let two = compile(&format!("{OUTBOUND} fn on_message(message, env) {{ }}")).unwrap_err();
    assert_eq!(two.message, "`on_message` has three parameters, not 2");
    let both = compile(&format!("{OUTBOUND} {alone}")).unwrap();
    assert_eq!(both.entries(), [Entry::Outbound, Entry::Message]);
    assert!(both.has_on_message() && !compile(OUTBOUND).unwrap().has_on_message());
}
