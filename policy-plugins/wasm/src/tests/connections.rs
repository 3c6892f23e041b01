//! Programs that are asked about connections.

use sluicegate_policy::{Effect, Entry, FlowDecision, FlowFacts, HandlerFault, Outcome, ProgramKind, Step};

use super::components::{FETCH, HEAD};
use super::{Came, Sent, answer, component, load, run, run_in};

const CONNECTION: &str = r#"
  (import "sluicegate:policy/connection@0.1.0" (instance $connection
    (type $flow-type (record (field "host" string) (field "port" u16) (field "original-destination" string)
      (field "tls" bool) (field "sni" (option string)) (field "alpn" (list string))))
    (export "flow" (type $flow (eq $flow-type)))
    (type $decision-type (enum "judge" "pass"))
    (export "decision" (type $decision (eq $decision-type)))))
  (alias export $connection "flow" (type $flow))
  (alias export $connection "decision" (type $decision))
"#;
const ON_CONNECT: &str = r#"
  (func (export "on-connect") (param "flow" $flow) (result (result $decision (error $error)))
    (canon lift (core func $main "on-connect") (memory (core memory $base "memory"))
      (realloc (core func $base "realloc"))))
"#;
pub(super) const OUTBOUND: &str = r#"
  (func (export "outbound") (param "request" (own $request)) (result (result (own $response) (error $error)))
    (canon lift (core func $main "outbound") (memory (core memory $base "memory"))
      (realloc (core func $base "realloc"))))
"#;

/// A component with these exports: it passes on what goes to port 22 and refuses what has the server name
/// `refused.test`, 12 bytes; requests it fetches.
fn handler(exports: &str) -> Vec<u8> {
    component(&format!(
        r#"{HEAD}{CONNECTION}
  (core module $main
    (import "base" "memory" (memory 1))
    (import "host" "fetch" (func $fetch (param i32 i32 i32 i32)))
    (data (i32.const 64) "not this one")
    (func (export "outbound") (param i32) (result i32) {FETCH})
    (func (export "on-connect")
      (param $host i32) (param $host_length i32) (param $port i32) (param i32 i32) (param $tls i32)
      (param $has_sni i32) (param i32) (param $sni_length i32) (param i32) (param $alpn_length i32) (result i32)
      (if (i32.and (local.get $has_sni) (i32.eq (local.get $sni_length) (i32.const 12)))
        (then
          (i32.store8 (i32.const 0) (i32.const 1))
          (i32.store8 (i32.const 4) (i32.const 0))
          (i32.store (i32.const 8) (i32.const 64))
          (i32.store (i32.const 12) (i32.const 12)))
        (else
          (i32.store8 (i32.const 0) (i32.const 0))
          (i32.store8 (i32.const 4) (i32.eq (local.get $port) (i32.const 22)))))
      (i32.const 0)))
  (core instance $main (instantiate $main
    (with "base" (instance $base))
    (with "host" (instance (export "fetch" (func $fetch))))))
{exports})"#
    ))
}

/// A connection to this host and port; from TLS where there is a server name.
fn connection(url: &'static str, sni: Option<&str>) -> Sent {
    let alpn = if sni.is_some() { vec!["h2".into(), "http/1.1".into()] } else { Vec::new() };
    let flow = Some((FlowFacts { is_tls: sni.is_some(), alpn }, sni.map(Into::into)));
    Sent { entry: Entry::Connect, flow, ..Sent::to(url) }
}

fn decided(came: &Came) -> FlowDecision {
    match came.step {
        Step::Done(Outcome::Flow(decision)) => decision,
        _ => panic!("{came:?}"),
    }
}

#[tokio::test]
async fn a_component_decides_about_connections() {
    let kind = ProgramKind::Component;
    let program = load(kind, &handler(ON_CONNECT)).unwrap();
    assert_eq!(program.exports().entries, [Entry::Connect]);
    assert!(!program.exports().needs_reveal);
    // Types alone are nothing to reach.
    assert_eq!(program.report().imports, ["sluicegate:policy/http@0.1.0"]);
    let came = run(&program, kind, connection("http://198.51.100.7:22/", None)).await;
    assert_eq!(decided(&came), FlowDecision::Pass);
    let came = run(&program, kind, connection("https://other.test/", Some("other.test"))).await;
    assert_eq!(decided(&came), FlowDecision::Judge);
    let came = run(&program, kind, connection("https://refused.test/", Some("refused.test"))).await;
    assert_eq!(came.refused(), "not this one");
    // Its imports are there; what it does not export is not run.
    let came = run(&program, kind, Sent::default()).await;
    assert_eq!(came.error().fault, HandlerFault::Threw);
    assert!(came.error().message.contains("exports no `outbound`"), "{came:?}");
}

#[tokio::test]
async fn a_component_offers_what_it_exports() {
    let kind = ProgramKind::Component;
    let both = load(kind, &handler(&format!("{OUTBOUND}{ON_CONNECT}"))).unwrap();
    assert_eq!(both.exports().entries, [Entry::Outbound, Entry::Connect]);
    let came = run(&both, kind, connection("http://a.test:22/", None)).await;
    assert_eq!(decided(&came), FlowDecision::Pass);
    assert_eq!(run(&both, kind, Sent::default()).await.status(), 200);
    let requests = load(kind, &handler(OUTBOUND)).unwrap();
    assert_eq!(requests.exports().entries, [Entry::Outbound]);
    let problem = load(kind, &handler("")).unwrap_err();
    assert!(problem.message.starts_with("the component exports no handler"), "{problem:?}");
    assert!(problem.help.unwrap().contains("connection-handler"));
    // The right name and another type, with what fits beside it.
    let wrong = ON_CONNECT.replace("(result $decision (error $error))", "(result $decision)");
    let problem = load(kind, &handler(&format!("{OUTBOUND}{wrong}"))).unwrap_err();
    assert!(problem.message.contains("on-connect"), "{problem:?}");
}

const JAVASCRIPT: &str = r#"
export default {
  async onConnect(flow, env, ctx) {
    const flows = await env.kv.increment("flows");
    console.log("connection", { ...flow, flows, from: ctx.containerId });
    if (flow.host === "pinned.test") return "pass";
    if (flow.host === "refused.test") deny("not this one");
    if (flow.host === "ask.test") await ask("may it?");
    if (flow.host === "answer.test") return new Response("no");
  },
};
"#;

#[tokio::test]
async fn javascript_decides_about_connections() {
    let kind = ProgramKind::JavaScript;
    let program = load(kind, JAVASCRIPT.as_bytes()).unwrap();
    assert_eq!(program.exports().entries, [Entry::Connect]);
    let count = |effect: &Effect| match effect {
        Effect::Kv { .. } => sluicegate_policy::Answer::Number(3),
        other => answer(other),
    };
    let pinned = connection("https://pinned.test/", Some("pinned.test"));
    let came = run_in(&program, kind, pinned, count).await;
    assert_eq!(decided(&came), FlowDecision::Pass);
    let fields = serde_json::json!({
        "host": "pinned.test", "port": 443, "originalDestination": "198.18.0.2:443", "tls": true,
        "sni": "pinned.test", "alpn": ["h2", "http/1.1"], "flows": 3, "from": "c0ffee",
    });
    assert_eq!(serde_json::Value::Object(came.log[0].fields.clone()), fields);
    let came = run_in(&program, kind, connection("http://raw.test:5432/", None), count).await;
    assert_eq!(decided(&came), FlowDecision::Judge);
    assert_eq!((&came.log[0].fields["tls"], &came.log[0].fields["sni"]), (&false.into(), &().into()));
    let came = run_in(&program, kind, connection("https://refused.test/", Some("x")), count).await;
    assert_eq!(came.refused(), "not this one");
    let came = run_in(&program, kind, connection("https://ask.test/", Some("x")), count).await;
    assert!(matches!(came.effects[..], [Effect::Kv { .. }, Effect::Ask { .. }]), "{came:?}");
    assert_eq!(decided(&came), FlowDecision::Judge);
}

#[tokio::test]
async fn a_connection_is_not_answered() {
    let kind = ProgramKind::JavaScript;
    let program = load(kind, JAVASCRIPT.as_bytes()).unwrap();
    let count = |_: &Effect| sluicegate_policy::Answer::Number(3);
    let came = run_in(&program, kind, connection("https://answer.test/", Some("x")), count).await;
    let error = came.error();
    assert!(error.message.contains("onConnect returned an object (Response)"), "{error:?}");
    assert_eq!(came.effects.len(), 1);
}

#[tokio::test]
async fn nothing_goes_on_after_a_decision() {
    let text = "export function onConnect(flow, env, ctx) {
        ctx.waitUntil(env.kv.put('seen', flow.host));
        return 'pass';
    }";
    let program = load(ProgramKind::JavaScript, text.as_bytes()).unwrap();
    let sent = connection("https://a.test/", Some("a.test"));
    let stored = |_: &Effect| sluicegate_policy::Answer::Done;
    let came = run_in(&program, ProgramKind::JavaScript, sent, stored).await;
    assert_eq!(decided(&came), FlowDecision::Pass);
    assert!(matches!(came.effects[..], [Effect::Kv { .. }]), "{came:?}");
}
