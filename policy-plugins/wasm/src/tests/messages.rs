//! Programs that are asked about messages of WebSockets.

use sluicegate_policy::{
    Effect, Entry, HandlerFault, MessageContent, MessageDirection, MessageVerdict, Outcome, ProgramKind,
    SocketMessage, Step,
};

use super::components::{FETCH, HEAD};
use super::connections::OUTBOUND;
use super::{Came, Sent, answer, component, load, run, run_in};

const WEBSOCKET: &str = r#"
  (import "sluicegate:policy/websocket@0.1.0" (instance $websocket
    (type $direction-type (enum "sent" "received"))
    (export "direction" (type $direction (eq $direction-type)))
    (type $content-type (variant (case "text" string) (case "binary" (list u8))))
    (export "content" (type $content (eq $content-type)))
    (type $message-type (record (field "direction" $direction) (field "content" $content) (field "url" string)
      (field "host" string) (field "port" u16) (field "path" string) (field "subprotocol" (option string))))
    (export "message" (type $message (eq $message-type)))
    (type $verdict-type (variant (case "pass") (case "drop") (case "replace" $content)))
    (export "verdict" (type $verdict (eq $verdict-type)))))
  (alias export $websocket "message" (type $message))
  (alias export $websocket "verdict" (type $verdict))
"#;
const ON_MESSAGE: &str = r#"
  (func (export "on-message") (param "message" $message) (result (result $verdict (error $error)))
    (canon lift (core func $main "on-message") (memory (core memory $base "memory"))
      (realloc (core func $base "realloc"))))
"#;

/// A component with these exports: it drops what is binary, and refuses text of four bytes.
fn handler(exports: &str) -> Vec<u8> {
    component(&format!(
        r#"{HEAD}{WEBSOCKET}
  (core module $main
    (import "base" "memory" (memory 1))
    (import "host" "fetch" (func $fetch (param i32 i32 i32 i32)))
    (data (i32.const 64) "not this one")
    (func (export "outbound") (param i32) (result i32) {FETCH})
    (func (export "on-message")
      (param $direction i32) (param $binary i32) (param i32) (param $length i32) (param i32 i32) (param i32 i32)
      (param $port i32) (param i32 i32) (param i32 i32 i32) (result i32)
      (if (i32.and (i32.eqz (local.get $binary)) (i32.eq (local.get $length) (i32.const 4)))
        (then
          (i32.store8 (i32.const 0) (i32.const 1))
          (i32.store8 (i32.const 4) (i32.const 0))
          (i32.store (i32.const 8) (i32.const 64))
          (i32.store (i32.const 12) (i32.const 12)))
        (else
          (i32.store8 (i32.const 0) (i32.const 0))
          (i32.store8 (i32.const 4) (local.get $binary))))
      (i32.const 0)))
  (core instance $main (instantiate $main
    (with "base" (instance $base))
    (with "host" (instance (export "fetch" (func $fetch))))))
{exports})"#
    ))
}

fn text(text: &str) -> MessageContent {
    MessageContent::Text(text.into())
}

fn message(content: MessageContent) -> Sent {
    let message =
        SocketMessage { direction: MessageDirection::Sent, content, subprotocol: Some("chat.v2".into()) };
    Sent { entry: Entry::Message, message: Some(message), ..Sent::to("https://a.test/chat?room=1") }
}

#[track_caller]
fn judged(came: &Came) -> MessageVerdict {
    match &came.step {
        Step::Done(Outcome::Message(verdict)) => verdict.clone(),
        _ => panic!("{came:?}"),
    }
}

#[tokio::test]
async fn a_component_judges_messages() {
    let kind = ProgramKind::Component;
    let program = load(kind, &handler(&format!("{OUTBOUND}{ON_MESSAGE}"))).unwrap();
    assert_eq!(program.exports().entries, [Entry::Outbound, Entry::Message]);
    let came = run(&program, kind, message(text("hello"))).await;
    assert_eq!(judged(&came), MessageVerdict::Pass);
    let binary = MessageContent::Binary(vec![0, 255].into());
    assert_eq!(judged(&run(&program, kind, message(binary)).await), MessageVerdict::Drop);
    assert_eq!(run(&program, kind, message(text("none"))).await.refused(), "not this one");
    assert_eq!(run(&program, kind, Sent::default()).await.status(), 200);
}

#[tokio::test]
async fn messages_without_requests_are_refused_when_it_is_loaded() {
    let problem = load(ProgramKind::Component, &handler(ON_MESSAGE)).unwrap_err();
    assert!(problem.message.starts_with("`on-message` is there without `outbound`"), "{problem:?}");
    let script = "export function onMessage() { return false; }";
    let problem = load(ProgramKind::JavaScript, script.as_bytes()).unwrap_err();
    assert!(problem.message.starts_with("`onMessage` is there without `outbound`"), "{problem:?}");
    let connecting = format!("{script} export function onConnect() {{}}");
    assert!(load(ProgramKind::JavaScript, connecting.as_bytes()).is_err());
    let named = format!("{script} export const outboundHandlers = {{ one: (request) => fetch(request) }};");
    let program = load(ProgramKind::JavaScript, named.as_bytes()).unwrap();
    assert_eq!(program.exports().entries, [Entry::Named("one".into()), Entry::Message]);
    // The right name and another type.
    let wrong = ON_MESSAGE.replace("(result $verdict (error $error))", "(result $verdict)");
    let problem = load(ProgramKind::Component, &handler(&format!("{OUTBOUND}{wrong}"))).unwrap_err();
    assert!(problem.message.contains("on-message"), "{problem:?}");
}

const JAVASCRIPT: &str = r#"
export default {
  outbound: (request) => fetch(request),
  async onMessage(message, env, ctx) {
    const messages = await env.kv.increment("messages");
    console.log("message", { ...message, bytes: message.bytes && [...message.bytes], messages, to: ctx.protocol });
    switch (message.text) {
      case "drop": return false;
      case "pass": return true;
      case "change": return "ünder";
      case "bytes": return new Uint8Array([0, 255]);
      case "refuse": deny("not this one");
      case "secret": return `it is ${env.TOKEN}`;
      case "answer": return new Response("no");
      case "loop": for (;;) {}
    }
  },
};
"#;

#[tokio::test]
async fn javascript_judges_messages() {
    let kind = ProgramKind::JavaScript;
    let program = load(kind, JAVASCRIPT.as_bytes()).unwrap();
    assert_eq!(program.exports().entries, [Entry::Outbound, Entry::Message]);
    let count = |effect: &Effect| match effect {
        Effect::Kv { .. } => sluicegate_policy::Answer::Number(3),
        other => answer(other),
    };
    let bytes = MessageContent::Binary(vec![0, 255].into());
    for (sent, verdict) in [
        (text("else"), MessageVerdict::Pass),
        (text("pass"), MessageVerdict::Pass),
        (text("drop"), MessageVerdict::Drop),
        (text("change"), MessageVerdict::Replace(text("ünder"))),
        (text("bytes"), MessageVerdict::Replace(bytes.clone())),
        (bytes, MessageVerdict::Pass),
    ] {
        let came = run_in(&program, kind, message(sent.clone()), count).await;
        assert_eq!(judged(&came), verdict, "{sent:?}");
    }
    let came = run_in(&program, kind, message(text("ä")), count).await;
    let fields = serde_json::json!({
        "direction": "sent", "text": "ä", "bytes": null, "url": "https://a.test/chat?room=1", "host": "a.test",
        "port": 443, "path": "/chat", "subprotocol": "chat.v2", "messages": 3, "to": "HTTP/2",
    });
    assert_eq!(serde_json::Value::Object(came.log[0].fields.clone()), fields);
    assert_eq!(run_in(&program, kind, message(text("refuse")), count).await.refused(), "not this one");
    for (sent, fault, said) in [
        ("secret", HandlerFault::Threw, "a secret cannot be put into a message"),
        ("answer", HandlerFault::Threw, "onMessage returned an object (Response)"),
        ("loop", HandlerFault::Time, "of processor time"),
    ] {
        let came = run_in(&program, kind, message(text(sent)), count).await;
        let error = came.error();
        assert!(error.fault == fault && error.message.contains(said), "{sent}: {error:?}");
    }
}
