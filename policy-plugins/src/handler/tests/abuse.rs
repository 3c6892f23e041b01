//! Scripts that take all they can get.

use std::time::Instant;

use super::*;

fn fault(text: &str) -> HandlerFault {
    let bench = body(text).limits(|limits| *limits = HandlerLimits::default());
    let began = Instant::now();
    let error = bench.on_its_thread().error();
    assert!(began.elapsed() < Duration::from_secs(5), "{text}: {:?}", began.elapsed());
    assert!(error.message.len() <= 512, "{}", error.message.len());
    error.fault
}

/// Whether it was stopped for what it used up, by whichever bound came first.
fn is_bounded(text: &str) -> bool {
    fault(text) != HandlerFault::Threw
}

#[test]
fn h06_loops_and_recursion_end() {
    assert!(is_bounded("loop {}"));
    assert!(is_bounded("while true { try { throw 1; } catch { continue; } }"));
    assert!(is_bounded("for i in 0..1000000000000 { }"));
    assert_eq!(fault("again(0) } fn again(n) { again(n + 1)"), HandlerFault::Limit);
    assert!(is_bounded("[1].map(|x| { loop {} })"));
    let many = "let a = []; a.pad(4000, 0); loop { a.map(|x| x + 1); a.sort(|x, y| y - x); }";
    assert!(is_bounded(many));
}

#[test]
fn h06_deep_calls_of_deep_expressions_fit_the_stack() {
    for (text, times) in [("abs(", 11), ("1 + (", 11), ("-(", 7)] {
        let deep =
            format!("again(0) }} fn again(n) {{ {}again(n + 1){}", text.repeat(times), ")".repeat(times));
        assert_eq!(fault(&deep), HandlerFault::Limit, "{text}");
    }
}

#[test]
fn h06_memory_is_bounded() {
    for text in [
        "let s = \"x\"; loop { s += s; }",
        "let s = \"x\"; loop { s = `${s}${s}`; }",
        "let a = [1]; loop { a += a; }",
        "let a = [1]; loop { a.push(a); }",
        "let a = []; loop { a = [a]; }",
        "let m = #{}; loop { m = #{ m: m }; }",
        "let m = #{}; let i = 0; loop { m[`${i}`] = i; i += 1; }",
        "let x = 1; let i = 0; loop { x = if i % 2 == 0 { [x] } else { #{ x: x } }; i += 1; }",
        "let s = \"x\"; s.pad(1000000000, 'y');",
        "let a = []; a.pad(1000000000, 0);",
        "let b = random_bytes(1024); loop { log(\"info\", hex(b)); }",
        "let all = []; loop { all.push(random_bytes(1024)); }",
    ] {
        assert!(is_bounded(text), "{text}");
    }
}

#[test]
fn h06_a_replacement_is_measured_before_it_is_made() {
    let text = "let s = \"aaaaaaaa\"; for i in 0..14 { s += s; } let t = s; s.replace(\"a\", t); reply(200)";
    assert_eq!(fault(text), HandlerFault::Threw);
    assert_eq!(
        value_of("{ let s = \"a-b-c\"; s.replace(\"-\", \"+\"); s.replace('a', 'x'); s }"),
        "\"x+b+c\""
    );
}

#[test]
fn h06_deeply_nested_values_fit_the_stack() {
    // As deep as arrays and maps together may nest: made, shown, compared, cloned and dropped.
    let text = r#"
        let x = 1;
        for i in 0..1000 { x = #{ x: x }; }
        for i in 0..4000 { x = [x]; }
        let y = x;
        let shown = x == y;
        reply(200, `${shown}`)
    "#;
    let ran = body(text)
        .limits(|limits| {
            limits.cpu = Duration::from_secs(20);
            limits.operations = 1_000_000;
        })
        .on_its_thread();
    assert_eq!(ran.text(), "true");
}

#[test]
fn h06_values_of_a_brief_run_fit_a_usual_stack() {
    let mut execution = body("let x = 1; loop { x = [x]; }").execution();
    assert!(matches!(execution.run(Patience::Brief), Step::Unfinished));
}

#[test]
fn h06_effects_and_log_lines_are_counted() {
    let ran = body("loop { try { fetch(\"https://a.test/\"); } catch { } }").fetched();
    assert_eq!(ran.effects.len(), HandlerLimits::default().effects);
    let error = ran.error();
    assert_eq!(error.fault, HandlerFault::Limit);
    assert!(error.message.contains("more than 32 fetches"), "{error}");

    let ran = body("loop { log(\"info\", \"x\"); }").fetched();
    assert_eq!(ran.log.len(), HandlerLimits::default().log_lines);
    assert_eq!(ran.error().fault, HandlerFault::Limit);
}

#[test]
fn h06_processor_time_is_one_budget_over_all_runs() {
    let text = "for i in 0..30 { let sum = 0; for j in 0..1000 { sum += j; } fetch(\"https://a.test/\"); } reply(200)";
    let error = body(text).limits(|limits| limits.operations = 20_000).fetched().error();
    assert_ne!(error.fault, HandlerFault::Threw);
}

#[test]
fn h06_a_throw_is_the_handlers_fault_with_its_place() {
    let error = body("\n\n  throw \"broken\"").fetched().error();
    assert_eq!(
        (error.fault, error.line, error.column, &*error.message),
        (HandlerFault::Threw, 3, 3, "broken")
    );
    let long = body("let s = \"ü\"; for i in 0..12 { s += s; } throw s").fetched().error();
    assert_eq!(long.message.len(), 512);
    let inner = body("helper(request)\n}\nfn helper(r) {\n  r.nothing()").fetched().error();
    assert_eq!((inner.line, &*inner.message), (4, "there is no function nothing (request)"));
    for (text, what) in [
        ("", "nothing"),
        ("1", "a number"),
        ("request", "a request"),
        ("#{}", "a map"),
        ("env.kv", "a kv"),
        ("sha256(\"\")", "a blob"),
    ] {
        let message = body(text).fetched().error().message;
        assert!(message.starts_with(&format!("outbound returned {what}")), "{message}");
    }
}

#[test]
fn h06_functions_within_functions_fit_the_stack() {
    for text in [
        "let f = |x| x; loop { let g = f; f = |x| g.call(x); }",
        "let f = |x| x; loop { f = [f, f]; }",
        "let f = |x| x; let g = f; for i in 0..30 { g = |x| [g, g]; } loop {}",
    ] {
        // Refused when loaded where functions cannot hold variables of those around them.
        let script = format!("fn outbound(request, env, ctx) {{ {text} }}");
        if Script::compile("h.rhai", script.as_bytes(), &HandlerLimits::default()).is_ok() {
            let bench = body(text).limits(|limits| limits.cpu = Duration::from_secs(5));
            assert_ne!(bench.on_its_thread().error().fault, HandlerFault::Threw, "{text}");
        }
    }
}
