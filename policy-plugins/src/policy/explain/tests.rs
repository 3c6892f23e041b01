//! An explanation says what is decided.

use super::*;
use crate::overrides::{Change, Override, Overrides};
use crate::policy::tests::{judged, policy};

const DOCUMENT: &str = r#"
denied_hosts = ["denied.test", "10.0.0.0/8"]
outbound = "all.rhai"

[outbound_by_host]
"*.handled.test" = "handled.rhai"
"closed.test" = { deny = "closed" }

[outbound_handlers]
other = "other.rhai"

[[rules]]
name = "read"
host = "api.test"
methods = ["GET"]
paths = ["/v1/**"]
handler = "other"

[[rules]]
name = "write"
host = "api.test"
methods = ["POST"]
ask = "really?"

[[rules]]
name = "never"
host = "api.test"
paths = ["/never"]
deny = "never"

[[rules]]
name = "trial"
host = "*.handled.test"
paths = ["/trial"]
deny = "on trial"
mode = "audit"

[[rules]]
name = "fixed"
host = "fixed.test"
respond = { status = 204 }

[[rules]]
name = "opaque"
host = "opaque.test"
intercept = false
"#;

/// The words of a decision that an explanation must have too.
fn summary(decision: &crate::verdict::Decision<'_>) -> (&'static str, Option<&'static str>, Option<String>) {
    let (verdict, reason, handler) = match &decision.verdict {
        Verdict::Forward(_) => ("forward", None, None),
        Verdict::Handle(handler, _) => ("handle", None, Some(handler.name.to_string())),
        Verdict::Respond(_) => ("respond", None, None),
        Verdict::Refuse(refusal) => ("refuse", Some(refusal.reason.as_str()), None),
    };
    (if decision.ask.is_some() { "ask" } else { verdict }, reason, handler)
}

#[test]
fn an_explanation_is_the_decision() {
    let mut overrides = Overrides::default();
    let handler = Override { handler: "other".into(), params: serde_json::Value::Null };
    overrides.apply(&Change::SetOutboundByHost { pattern: "*.test".into(), handler });
    overrides.apply(&Change::DenyHost { pattern: "late.test".into() });
    let enforced = policy(DOCUMENT);
    let audited = policy(&format!("mode = \"audit\"\n{DOCUMENT}"));
    let closed = Policy::closed();
    let changed = [&enforced, &audited].map(|policy| policy.overridden(&overrides).unwrap());
    let hosts = [
        "api.test",
        "api.test:81",
        "x.handled.test",
        "closed.test",
        "denied.test",
        "10.1.1.1",
        "fixed.test",
        "opaque.test",
        "late.test",
        "elsewhere.test",
    ];
    let paths = ["/", "/v1/x", "/never", "/trial", "/v1/%2e%2e/x"];
    let mut seen = std::collections::BTreeSet::new();
    for policy in [&enforced, &audited, &closed, &changed[0], &changed[1]] {
        for host in hosts {
            for path in paths {
                for method in ["GET", "POST"] {
                    let question = format!("{method} https://{host}{path}");
                    judged(&question, |request| {
                        let decision = policy.decide(request);
                        let explanation = policy.explain(request);
                        let (verdict, reason, handler) = summary(&decision);
                        assert_eq!(
                            (explanation.verdict, explanation.reason),
                            (verdict, reason),
                            "{question}"
                        );
                        assert_eq!(explanation.rule.as_deref(), decision.rule, "{question}");
                        assert!(!explanation.steps.is_empty(), "{question}");
                        if handler.is_some() {
                            assert_eq!(explanation.handler, handler, "{question}");
                        }
                        let would = decision.would_refuse.map(|refusal| refusal.reason.as_str());
                        assert_eq!(explanation.would_refuse, would, "{question}");
                        seen.insert(verdict);
                    });
                }
            }
        }
    }
    assert_eq!(Vec::from_iter(seen), ["ask", "forward", "handle", "refuse", "respond"]);
}

#[test]
fn the_steps_say_what_was_asked_and_where_it_stands() {
    let steps = |question: &str| {
        let explanation = judged(question, |request| policy(DOCUMENT).explain(request));
        let lines = explanation.steps.into_iter().map(|step| {
            let line = match step.source {
                Some(Source::Document { line, .. }) => line.to_string(),
                Some(Source::Runtime) => String::from("run time"),
                Some(Source::Default) => String::from("default"),
                None => String::new(),
            };
            format!("{} {}: {} [{line}]", step.step, step.outcome, step.because)
        });
        lines.collect::<Vec<_>>()
    };
    assert_eq!(
        steps("GET https://denied.test/"),
        ["denied_hosts refuses: `denied.test` names it [2]".replace("[2]", "[3]")]
    );
    assert_eq!(
        steps("GET https://api.test/v1/x"),
        [
            "denied_hosts passes: no pattern names it []",
            "rules allows: rule \"read\" matches by `api.test` [13]",
            "rules handles: rule \"read\" is bound to handler `other` [13]",
        ]
    );
    assert_eq!(
        steps("GET https://x.handled.test/trial"),
        [
            "denied_hosts passes: no pattern names it []",
            "rules refuses: rule \"trial\" matches by `*.handled.test` [32]",
            "mode audits: denied_by_rule is only audited; without what is audited: []",
            "denied_hosts passes: no pattern names it []",
            "rules passes: no rule names it []",
            "outbound_by_host handles: `*.handled.test` is bound to handler `handled.rhai` [7]",
        ]
    );
    let explanation = judged("POST https://api.test/", |request| policy(DOCUMENT).explain(request));
    let shown = serde_json::to_value(&explanation).unwrap();
    assert_eq!(shown["verdict"], "ask");
    assert_eq!(shown["detail"], "really?");
    assert_eq!(shown["steps"][1]["source"]["document"]["file"], "sluicegate.toml");
}
