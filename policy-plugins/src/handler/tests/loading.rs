//! What is a script, and what is refused as one, and where.

use std::time::Instant;

use super::*;

fn problem(text: impl AsRef<[u8]>) -> ScriptProblem {
    Script::compile("h.rhai", text.as_ref(), &HandlerLimits::default()).unwrap_err()
}

fn compiles(text: impl AsRef<[u8]>) -> Script {
    Script::compile("h.rhai", text.as_ref(), &HandlerLimits::default()).unwrap()
}

/// The problem's message and the text that it points at.
fn pointed(text: &str) -> (String, &str) {
    let problem = problem(text);
    (problem.message, text.get(problem.at).unwrap())
}

const GOOD: &str = "fn outbound(request, env, ctx) { fetch(request) }";

#[test]
fn a_script_has_its_file_and_the_hash_of_its_bytes() {
    let script = compiles(GOOD);
    assert_eq!(script.file(), "h.rhai");
    assert_eq!(script.version().len(), 12);
    assert_eq!(script.version(), compiles(GOOD).version());
    assert_ne!(script.version(), compiles(format!("{GOOD}\n")).version());
}

#[test]
fn h07_no_outbound_or_another_is_refused() {
    assert_eq!(problem("").message, "there is no function `outbound`");
    assert_eq!(problem("// nothing\n").message, "there is no function `outbound`");
    assert_eq!(problem("fn out(a, b, c) {}").message, "there is no function `outbound`");
    let (message, at) = pointed("fn outbound(request) { request }");
    assert_eq!((&*message, at), ("`outbound` has three parameters, not 1", "fn outbound"));
    let (message, at) = pointed("fn outbound(a, b, c) { a } fn on_connect(flow) { flow }");
    assert_eq!((&*message, at), ("`on_connect` has three parameters, not 1", "fn on_connect"));
    let (message, at) = pointed("fn fetch(x) { x } fn outbound(a, b, c) { a }");
    assert_eq!((&*message, at), ("`fetch` is a function of the gate", "fn fetch"));
}

#[test]
fn a_script_has_functions_for_requests_connections_or_both() {
    let requests = compiles(GOOD);
    assert_eq!((requests.has_outbound(), requests.has_on_connect()), (true, false));
    let connections = compiles("fn on_connect(flow, env, ctx) { }");
    assert_eq!((connections.has_outbound(), connections.has_on_connect()), (false, true));
    assert_eq!(connections.entries(), [Entry::Connect]);
    let both = compiles(format!("{GOOD} fn on_connect(flow, env, ctx) {{ }}"));
    assert_eq!((both.has_outbound(), both.has_on_connect()), (true, true));
}

#[test]
fn h07_what_does_not_parse_is_shown_where_it_stands() {
    let (message, at) = pointed("fn outbound(request, env, ctx) {\n    let x = \"ü\"; let = 2;\n}");
    assert_eq!((&*message, at), ("Expecting name of a variable", "="));
    let (message, at) = pointed("fn outbound(request, env, ctx) {\r\n    fetch(reqest)\r\n}");
    assert_eq!((&*message, at), ("there is no variable `reqest`", "reqest"));
    let (message, at) = pointed("fn outbound(request, env, ctx) {\n  print(\"x\");\n}");
    assert_eq!((&*message, at), ("`print` is not there", "print"));
    let end = problem("fn outbound(request, env, ctx) {");
    assert!(end.at.end <= 32, "{end:?}");
}

#[test]
fn parts_of_rhai_that_reach_outside_are_not_there() {
    for (word, _) in engine::DISABLED {
        for text in
            [format!("{word}(\"x\")"), format!("let x = 1; x.{word}()"), format!("{word} \"x\" as y;")]
        {
            let script = format!("fn outbound(request, env, ctx) {{ {text} }}");
            assert!(
                Script::compile("h.rhai", script.as_bytes(), &HandlerLimits::default()).is_err(),
                "{text} compiles"
            );
        }
    }
    for call in ["sleep(1)", "sleep(1.0)", "exit()", "exit(1)", "get_fn_metadata_list()", "timestamp()"] {
        let error = body(call).fetched().error();
        assert!(error.message.starts_with("there is no function"), "{call}: {error}");
    }
}

#[test]
fn a_byte_order_mark_and_crlf_change_nothing() {
    compiles(format!("\u{feff}{GOOD}"));
    compiles(GOOD.replace(' ', "\r\n"));
    let text = "\u{feff}fn outbound(request, env, ctx) { nowhere }";
    assert_eq!(pointed(text).1, "nowhere");
}

#[test]
fn what_is_no_text_is_refused_with_its_line() {
    let bytes = problem(b"fn outbound(request, env, ctx) {\n// \xff\n}");
    assert_eq!((&*bytes.message, bytes.at), ("line 2 is not UTF-8", 36..37));
    let nul = problem("fn outbound(request, env, ctx) {\n\n\0}");
    assert_eq!((&*nul.message, nul.at), ("line 3 holds a NUL character", 34..35));
}

#[test]
fn h07_hostile_scripts_are_refused_quickly() {
    let began = Instant::now();
    assert!(problem(vec![b'x'; 10 * 1024 * 1024]).message.contains("at most 262144"));
    for (open, close) in
        [("(", ")"), ("[", "]"), ("{", "}"), ("#{a:", "}"), ("if true {", "}"), ("-", ""), ("!", "")]
    {
        let nested = format!("{}1{}", open.repeat(10_000), close.repeat(10_000));
        let inside = format!("fn outbound(request, env, ctx) {{ {nested} }}");
        assert!(!problem(&inside).message.is_empty());
        assert!(!problem(&nested).message.is_empty());
    }
    assert!(problem(format!("const A = {}1; {GOOD}", "1+".repeat(100_000))).at.end > 0);
    let looping = problem(format!("loop {{}}\n{GOOD}"));
    assert!(looping.message.starts_with("outside of functions"), "{looping:?}");
    assert!(began.elapsed().as_secs() < 10, "{:?}", began.elapsed());
}

#[test]
fn constants_are_seen_in_functions_and_never_in_place_of_a_parameter() {
    let text = r#"
        const HOSTS = ["a.test", "api.example.test"];
        const COUNT = HOSTS.len * 2;
        const host = "constant";
        fn known(host) { host in HOSTS }
        fn outbound(request, env, ctx) {
            let all = [];
            for host in ["loop"] { all.push(host); }
            reply(200, [known(request.host), known("b.test"), COUNT, all, host])
        }
    "#;
    assert_eq!(script(text).fetched().text(), r#"[true,false,4,["loop"],"constant"]"#);
}

#[test]
fn what_stands_outside_of_functions_reaches_nothing() {
    for statement in
        ["fetch(\"https://a.test/\");", "log(\"info\", \"x\");", "const A = now();", "deny(\"x\");"]
    {
        let problem = problem(format!("{statement}\n{GOOD}"));
        assert!(problem.message.contains("only be used inside of a request"), "{statement}: {problem:?}");
    }
    let (message, at) = pointed("let x = 1;\nfn outbound(request, env, ctx) { reply(x) }");
    assert_eq!((&*message, at), ("there is no variable `x`", "x"));
}
