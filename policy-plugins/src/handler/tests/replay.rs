//! Runs, journal and budget.

use super::*;

#[test]
fn an_effect_is_asked_for_once_and_the_script_goes_on_behind_it() {
    let text = r#"
        let one = env.kv.get("k");
        log("info", "one " + one);
        let response = fetch(request);
        log("info", "two", #{ status: response.status });
        response
    "#;
    let ran = body(text).run(|effect| match effect {
        Effect::Kv { .. } => Answer::Bytes("v".into()),
        _ => response(201, Some(BodyHandle(1))),
    });
    assert_eq!(ran.effects.len(), 2);
    let messages: Vec<_> = ran.log.iter().map(|line| &*line.message).collect();
    assert_eq!(messages, ["one v", "two"]);
    assert_eq!(ran.log[1].fields["status"], 201);
    let answer = ran.response();
    assert_eq!((answer.status.as_u16(), answer.body), (201, BodySource::Handle(BodyHandle(1))));
}

#[test]
fn a_failed_effect_can_be_caught_and_tried_again() {
    let text = r#"
        for attempt in 0..3 {
            try { return fetch("https://a.test/"); } catch (error) { log("warn", error); }
        }
        reply(503)
    "#;
    let mut answers =
        vec![response(200, None), Answer::Failed("no route".into()), Answer::Failed("reset".into())];
    let ran = body(text).run(|_| answers.pop().unwrap());
    let messages: Vec<_> = ran.log.iter().map(|line| line.message.to_string()).collect();
    assert_eq!(messages, ["reset", "no route"]);
    assert_eq!(ran.effects.len(), 3);
    assert_eq!(ran.response().status, 200);
}

#[test]
fn a_failed_effect_that_nobody_catches_says_where() {
    let error = body("\n  fetch(request)").run(|_| Answer::Failed("no route".into())).error();
    assert_eq!((error.line, error.column, &*error.message), (2, 3, "no route"));
    assert_eq!(error.to_string(), "handlers/test.rhai:2:3: no route");
}

#[test]
fn no_catch_holds_a_run_that_waits_or_refuses() {
    let text = r#"
        let list = [1];
        try { list.map(|x| fetch("https://a.test/")); } catch { log("error", "caught"); }
        try { inner("why"); } catch { log("error", "caught"); }
        reply(500)
    }
    fn inner(reason) { try { [1].map(|x| deny("why")); } catch { fetch("https://a.test/"); }
    "#;
    let ran = body(text).fetched();
    assert_eq!((ran.effects.len(), ran.log.len()), (1, 0));
    assert!(matches!(ran.end, Ok(Outcome::Refuse(reason)) if &*reason == "why"));
}

#[test]
fn deny_ends_the_handler_at_once() {
    let ran = body("if true { deny(\"closed\"); } fetch(request)").fetched();
    assert!(ran.effects.is_empty());
    assert!(matches!(ran.end, Ok(Outcome::Refuse(reason)) if &*reason == "closed"));
}

#[test]
fn asking_forwards_the_request_as_it_is_then() {
    let ran = body("let yes = ask(\"really?\", 5); request.path = \"/v2\"; yes").run(|_| Answer::Done);
    assert!(matches!(&ran.effects[0], Effect::Ask { reason, patience }
        if &**reason == "really?" && *patience == Duration::from_secs(5)));
    let Ok(Outcome::Forward(request)) = ran.end else { panic!("{:?}", ran.end) };
    assert_eq!(request.path_and_query, "/v2?page=2&q=a+b%21");
    assert!(request.is_workloads);
    assert!(thrown_by("ask(\"x\", 601)").contains("1 to 600"));
}

#[test]
fn without_a_yes_nothing_goes_on() {
    let text = "try { ask(\"really?\"); } catch {} fetch(request)";
    for answer in [Answer::Failed("full".into()), Answer::Nothing] {
        let ran = body(text).run(|_| answer.clone());
        assert_eq!(ran.effects.len(), 1);
        assert_eq!(ran.error().fault, HandlerFault::Threw);
    }
}

#[test]
fn the_clock_and_chance_are_the_same_in_every_run() {
    let text = r#"
        let seen = [now(), now_text(), random_int(1, 1000000), hex(random_bytes(8)), uuid()];
        env.kv.put("first", seen);
        env.kv.put("second", seen);
        let more = random_int(-5, 5);
        if more < -5 || more > 5 { return reply(500); }
        reply(200, seen)
    "#;
    let mut stored = Vec::new();
    let ran = body(text).run(|effect| {
        if let Effect::Kv { operation: KvOperation::Put { value, .. }, .. } = effect {
            stored.push(String::from_utf8(value.to_vec()).unwrap());
        }
        Answer::Done
    });
    let last = ran.text();
    assert_eq!(stored, [last.clone(), last.clone()]);
    assert!(last.starts_with("[1709251199001,\"2024-02-29T23:59:59.001Z\","), "{last}");
}

#[test]
fn a_run_that_asks_for_something_else_fails_closed() {
    let mut execution = body("fetch(request)").execution();
    assert!(matches!(execution.run(Patience::Full), Step::Await(_)));
    execution.answer(response(200, None));
    execution.journal[0].question = journal::Question::new("fetch", "something else");
    let Step::Failed(error) = execution.run(Patience::Full) else { panic!() };
    assert_eq!(error.fault, HandlerFault::Threw);
    assert!(error.message.contains("not deterministic"), "{error}");
}

#[test]
fn an_answer_of_the_wrong_kind_fails_closed() {
    let error = body("try { fetch(request) } catch { reply(200) }").run(|_| Answer::Done).error();
    assert!(error.message.contains("wrong kind"), "{error}");
    let error = body("env.kv.get(\"k\")").run(|_| Answer::Number(1)).error();
    assert!(error.message.contains("wrong kind"), "{error}");
    let mut execution = body("fetch(request)").execution();
    assert!(matches!(execution.run(Patience::Full), Step::Await(_)));
    assert!(matches!(execution.run(Patience::Full), Step::Failed(_)), "nobody answered");
}

#[test]
fn a_brief_run_ends_early_and_is_begun_again() {
    let bench = body("let sum = 0; for i in 0..20000 { sum += i; } fetch(request)");
    let mut execution = bench.execution();
    assert!(matches!(execution.run(Patience::Brief), Step::Unfinished));
    assert!(matches!(execution.run(Patience::Full), Step::Await(_)));
    execution.answer(response(200, None));
    assert!(matches!(execution.run(Patience::Brief), Step::Unfinished));
    assert!(matches!(execution.run(Patience::Full), Step::Done(_)));
}

#[test]
fn no_brief_run_begins_with_a_large_body_at_hand() {
    for (length, is_brief) in [(1_000, true), (10_000, false)] {
        let bench = body("request.read_json(65536); reply(200)");
        let mut execution = bench.execution();
        assert!(matches!(execution.run(Patience::Brief), Step::Await(_)));
        execution.answer(Answer::Bytes(format!("\"{}\"", "x".repeat(length)).into()));
        assert_eq!(matches!(execution.run(Patience::Brief), Step::Unfinished), !is_brief, "{length}");
        assert!(matches!(execution.run(Patience::Full), Step::Done(_)), "{length}");
    }
}

#[test]
fn what_brief_runs_use_counts() {
    let bench = body("loop {}").limits(|limits| limits.operations = 5_000);
    let mut execution = bench.execution();
    let steps = std::iter::from_fn(|| match execution.run(Patience::Brief) {
        Step::Unfinished => Some(()),
        Step::Failed(error) => {
            assert_ne!(error.fault, HandlerFault::Threw);
            None
        }
        other => panic!("{other:?}"),
    });
    // 2,000 operations or 200 us each; the more loaded the machine, the more runs.
    assert!(steps.take(100_000).count() < 100_000);
}

#[test]
fn a_named_refusal_runs_no_script() {
    let bound = BoundHandler {
        name: "no_http".into(),
        action: HandlerAction::Deny("the network is closed".into()),
        params: Arc::new(json!(null)),
        reveal: Arc::new([]),
    };
    let mut execution = Execution::new(&Arc::new(bound), &Arc::new(Environment::default()), input());
    assert!(matches!(execution.run(Patience::Brief),
        Step::Done(Outcome::Refuse(reason)) if &*reason == "the network is closed"));
}

#[test]
fn a_body_that_streams_is_sent_once_and_a_read_one_often() {
    let twice = "fetch(request); fetch(request)";
    let ran = body(twice).fetched();
    assert_eq!(ran.request(0).body, BodySource::Handle(BodyHandle::WORKLOAD));
    assert!(ran.error().message.contains("call read_body first"));

    let text = "let text = request.read_text(10); for i in 0..3 { fetch(request); } reply(200, text + request.read_text(5))";
    let ran = body(text).run(|effect| match effect {
        Effect::ReadBody { body, limit } => {
            assert_eq!((*body, *limit), (BodyHandle::WORKLOAD, 10));
            Answer::Bytes("hello".into())
        }
        _ => response(200, None),
    });
    assert_eq!(ran.effects.len(), 4);
    assert_eq!(ran.request(3).body, BodySource::Bytes("hello".into()));
    assert_eq!(ran.text(), "hellohello");
}

#[test]
fn a_read_that_fails_spends_the_body() {
    let text = "try { request.read_body(2); } catch (error) { log(\"info\", error); } fetch(request)";
    let ran = body(text).run(|_| Answer::Failed("longer than 2 bytes".into()));
    assert_eq!(&*ran.log[0].message, "longer than 2 bytes");
    assert!(ran.error().message.contains("sent before"));
}

#[test]
fn a_copy_leaves_the_body_with_the_first() {
    let text = r#"
        let probe = request.copy();
        probe.method = "GET";
        probe.host = "auth.test";
        if fetch(probe).status != 200 { return deny("no"); }
        fetch(request)
    "#;
    let ran = body(text).fetched();
    assert_eq!(ran.request(0).body, BodySource::Empty);
    assert_eq!(ran.request(0).authority.to_string(), "auth.test:443");
    assert!(!ran.request(0).headers.contains_key("content-length"));
    assert_eq!(ran.request(1).body, BodySource::Handle(BodyHandle::WORKLOAD));
    assert_eq!(ran.request(1).method, Method::POST);
    assert_eq!(ran.request(1).headers["content-length"], "5");
}

#[test]
fn what_a_run_changed_is_not_seen_by_the_next() {
    let text = "request.path = request.path + \"x\"; request.add_header(\"x-n\", \"1\"); fetch(request); \
                reply(200, [request.path, request.header_all(\"x-n\").len])";
    assert_eq!(body(text).fetched().text(), r#"["/v1/thingsx",1]"#);
}

#[test]
fn a_body_that_was_looked_at_is_sent_whole() {
    let text = r#"
        if text(request.peek_body(4)) == "deny" { return deny("peeked"); }
        fetch(request)
    "#;
    let ran = |start: &'static str| {
        body(text).run(move |effect| match effect {
            Effect::PeekBody { body: BodyHandle::WORKLOAD, limit: 4 } => Answer::Bytes(start.into()),
            _ => response(200, None),
        })
    };
    assert!(matches!(ran("deny").end, Ok(Outcome::Refuse(_))));
    let passed = ran("pass");
    let Some(Effect::Fetch(sent)) = passed.effects.last() else { panic!("{:?}", passed.effects) };
    assert_eq!(sent.body, BodySource::Handle(BodyHandle::WORKLOAD));
}
