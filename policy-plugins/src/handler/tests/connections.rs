//! Scripts that are asked about connections.

use super::*;

/// A connection to this host; the inside of `on_connect`.
fn asked(host: &str, text: &str) -> Bench {
    let bench = script(&format!("fn on_connect(flow, env, ctx) {{ {text} }}"));
    connecting(bench, host)
}

fn connecting(bench: Bench, host: &str) -> Bench {
    bench.input(|input| {
        input.method = Method::CONNECT;
        input.authority = Authority::parse(host, 443).unwrap();
        input.path_and_query = PathAndQuery::from_static("/");
        input.headers = HeaderMap::new();
        input.has_body = false;
        input.sni = Some(host.into());
        let alpn = vec!["h2".into(), "http/1.1".into()];
        input.subject = Subject::Connection(FlowFacts { is_tls: true, alpn });
    })
}

fn decided(bench: &Bench) -> FlowDecision {
    match bench.fetched().end {
        Ok(Outcome::Flow(decision)) => decision,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_connection_is_judged_or_passed_on() {
    for text in ["", "\"judge\"", "return \"judge\";", "return;", "log(\"info\", \"x\")"] {
        assert_eq!(decided(&asked("a.test", text)), FlowDecision::Judge, "{text}");
    }
    assert_eq!(decided(&asked("a.test", "\"pass\"")), FlowDecision::Pass);
    let by_host = "if flow.host == \"pinned.test\" { \"pass\" } else { \"judge\" }";
    assert_eq!(decided(&asked("pinned.test", by_host)), FlowDecision::Pass);
    assert_eq!(decided(&asked("other.test", by_host)), FlowDecision::Judge);
}

#[test]
fn a_connection_is_refused_and_nothing_runs_after_it() {
    let ran =
        asked("a.test", "try { deny(\"not this one\"); } catch { } fetch(\"https://b.test/\"); \"pass\"");
    let ran = ran.fetched();
    assert!(matches!(&ran.end, Ok(Outcome::Refuse(reason)) if &**reason == "not this one"), "{:?}", ran.end);
    assert!(ran.effects.is_empty());
}

#[test]
fn whatever_else_is_returned_is_a_fault_with_its_place() {
    for (text, message) in [
        ("true", "on_connect returned a bool: return \"judge\", \"pass\" or deny(..)"),
        ("\"Pass\"", "on_connect returned another text: return \"judge\", \"pass\" or deny(..)"),
        ("1", "on_connect returned a number: return \"judge\", \"pass\" or deny(..)"),
        ("reply(200, \"hello\")", "on_connect returned a response: return \"judge\", \"pass\" or deny(..)"),
        ("ask(\"may it?\")", "on_connect returned a approval: return \"judge\", \"pass\" or deny(..)"),
        ("env.secrets.TOKEN", "on_connect returned a secret: return \"judge\", \"pass\" or deny(..)"),
    ] {
        let ran = asked("a.test", text).run(|effect| match effect {
            Effect::Ask { .. } => Answer::Done,
            other => panic!("{other:?}"),
        });
        let error = ran.error();
        assert_eq!((&*error.message, &*error.file), (message, "handlers/test.rhai"), "{text}");
    }
    let error = asked("a.test", "let x = 1;\n  flow.hots == \"a.test\"").fetched().error();
    assert_eq!((error.line, error.fault), (2, HandlerFault::Threw), "{error}");
}

#[test]
fn what_is_known_of_a_connection() {
    let text =
        "log(\"info\", \"connection\", #{ host: flow.host, port: flow.port, to: flow.original_destination,
        tls: flow.tls, sni: flow.sni, alpn: flow.alpn, h2: flow.alpn.contains(\"h2\"), from: ctx.container_id,
        team: env.TEAM });";
    let ran = asked("a.test", text).fetched();
    let fields = json!({
        "host": "a.test", "port": 443, "to": "198.18.0.2:443", "tls": true, "sni": "a.test",
        "alpn": ["h2", "http/1.1"], "h2": true, "from": "c0ffee", "team": "blue",
    });
    assert_eq!(serde_json::Value::Object(ran.log[0].fields.clone()), fields);
    let raw = asked("a.test", text).input(|input| {
        input.authority = Authority::parse("192.0.2.7", 5432).unwrap();
        input.sni = None;
        input.subject = Subject::Connection(FlowFacts::default());
    });
    let ran = raw.fetched();
    let fields = &ran.log[0].fields;
    assert_eq!((&fields["host"], &fields["port"]), (&json!("192.0.2.7"), &json!(5432)));
    assert_eq!((&fields["tls"], &fields["sni"], &fields["alpn"]), (&json!(false), &json!(null), &json!([])));
}

#[test]
fn effects_work_as_for_requests() {
    let text = "let flows = env.kv.increment(\"flows\"); ask(\"may it?\");
        if fetch(\"https://auth.test/\").status == 200 && flows == 4 { return \"pass\"; }";
    let ran = asked("a.test", text).run(|effect| match effect {
        Effect::Kv { .. } => Answer::Number(4),
        Effect::Ask { .. } => Answer::Done,
        _ => response(200, None),
    });
    assert!(matches!(ran.end, Ok(Outcome::Flow(FlowDecision::Pass))), "{:?}", ran.end);
    assert_eq!(ran.effects.len(), 3);
    assert!(!ran.request(2).is_workloads);
}

#[test]
fn each_function_is_for_its_own() {
    let both = "fn outbound(request, env, ctx) { reply(200) } fn on_connect(flow, env, ctx) { \"pass\" }";
    assert_eq!(script(both).fetched().response().status, 200);
    assert_eq!(decided(&connecting(script(both), "a.test")), FlowDecision::Pass);
    let requests = connecting(body("reply(200)"), "a.test").fetched().error();
    assert!(requests.message.contains("there is no function on_connect"), "{requests}");
    let connections = script("fn on_connect(flow, env, ctx) { \"pass\" }").fetched().error();
    assert!(connections.message.contains("there is no function outbound"), "{connections}");
}
