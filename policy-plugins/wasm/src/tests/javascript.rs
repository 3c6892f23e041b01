//! JavaScript as it is written by hand.

use http::{Method, StatusCode};
use sluicegate_policy::{Entry, HandlerFault, ProgramKind};

use super::{Came, Sent, fetched, load, run};

const KIND: ProgramKind = ProgramKind::JavaScript;

async fn outbound(body: &str, sent: Sent) -> Came {
    let text = format!("export default {{ async outbound(request, env, ctx) {{ {body} }} }};\n");
    let program = load(KIND, text.as_bytes()).unwrap();
    run(&program, KIND, sent).await
}

#[tokio::test]
async fn a_handler_fetches_and_passes_on() {
    let came = outbound("return fetch(request);", Sent::default().with(Method::POST)).await;
    assert_eq!(fetched(&came.effects[0]), ("api.example.test:443".to_owned(), Method::POST));
    assert_eq!(came.status(), StatusCode::OK);
}

/// Pages that this process has been given so far (proc_pid_stat(5), `minflt`).
fn pages_taken() -> u64 {
    let status = std::fs::read_to_string("/proc/self/stat").unwrap();
    let after_name = status.rsplit_once(") ").unwrap().1;
    after_name.split(' ').nth(7).unwrap().parse().unwrap()
}

/// What requests write to is put back in place, as long as it lies in 32 pieces at most (`MAX_REGIONS` of wasmtime):
/// that it does is for the engine to see to (its shim's `heap.js`). Each request would take some pages anew otherwise,
/// for half as much time again.
#[tokio::test]
async fn requests_find_the_memory_of_those_before() {
    if !wasmtime::PoolingAllocationConfig::is_pagemap_scan_available() {
        return;
    }
    const SETS_A_HEADER: &str = "export default { outbound(request) {
        const headers = new Headers(request.headers);
        headers.set('x-page', new URL(request.url).searchParams.get('page'));
        return fetch(new Request(request, { headers }));
    } };";
    for text in ["export default { outbound: (request) => fetch(request) };", SETS_A_HEADER] {
        let program = load(KIND, text.as_bytes()).unwrap();
        let mut taken = 0;
        for requests in [50, 200] {
            let before = pages_taken();
            for _ in 0..requests {
                run(&program, KIND, Sent::default()).await.status();
            }
            taken = (pages_taken() - before) / requests;
        }
        assert!(taken < 8, "{taken} pages a request: {text}");
    }
}

#[tokio::test]
async fn a_handler_answers() {
    let came = outbound("return new Response('hello', { status: 201 });", Sent::default()).await;
    assert_eq!((came.status(), came.text()), (StatusCode::CREATED, "hello"));
}

#[tokio::test]
async fn a_handler_denies() {
    let came = outbound("deny('not here');", Sent::default()).await;
    assert_eq!(came.refused(), "not here");
}

#[tokio::test]
async fn an_error_names_its_place() {
    let came = outbound("\n\n  undefinedThing.go();", Sent::default()).await;
    let error = came.error();
    assert_eq!((error.fault, &*error.file, error.line), (HandlerFault::Threw, "handler.js", 3));
    assert!(error.column > 0);
    assert!(error.message.contains("undefinedThing"), "{}", error.message);
}

#[tokio::test]
async fn a_handler_that_never_settles_fails() {
    let came = outbound("await new Promise(() => {});", Sent::default()).await;
    assert_eq!(came.error().fault, HandlerFault::Threw);
    assert!(came.effects.is_empty());
}

#[tokio::test]
async fn h06_a_handler_that_loops_is_ended() {
    for body in ["for (;;) {}", "for (;;) await 0;"] {
        let came = outbound(body, Sent::default()).await;
        assert_eq!(came.error().fault, HandlerFault::Time, "{body}: {:?}", came.step);
    }
}

#[tokio::test]
async fn h06_a_handler_that_takes_all_memory_is_ended() {
    let came = outbound(
        "const all = []; for (;;) all.push(new Uint8Array(1 << 20).fill(1));",
        Sent {
            limits: sluicegate_policy::HandlerLimits {
                program_cpu: std::time::Duration::from_secs(5),
                ..Default::default()
            },
            ..Sent::default()
        },
    )
    .await;
    let error = came.error();
    assert_eq!(error.fault, HandlerFault::Limit, "{error:?}");
    assert_eq!(&*error.message, "more than 64 MiB of memory: see memory_mib");
}

#[tokio::test]
async fn recursion_goes_far_and_has_an_end() {
    let recursion = |depth: &str| {
        format!("const f = (n) => (n === {depth} ? 0 : f(n + 1) + 1); return new Response(String(f(0)));")
    };
    assert_eq!(outbound(&recursion("1000"), Sent::default()).await.text(), "1000");
    let came = outbound(&recursion("-1"), Sent::default()).await;
    let error = came.error();
    assert_eq!((error.fault, &*error.message), (HandlerFault::Limit, "its calls nest too deep"));
}

#[tokio::test]
async fn a_body_without_end_is_ended() {
    let came = outbound("return new Response('x'.repeat(100e6));", Sent::default()).await;
    assert_eq!(came.error().fault, HandlerFault::Limit, "{:?}", came.step);
}

#[tokio::test]
async fn a_value_that_stands_for_a_secret_is_not_in_an_error() {
    let came = outbound("throw new Error(`no ${env.TOKEN} here`);", Sent::default()).await;
    assert_eq!(&*came.error().message, "Error: no <secret TOKEN> here");
}

#[tokio::test]
async fn nothing_is_kept_from_one_request_to_the_next() {
    let text =
        "let count = 0; export default { outbound() { count += 1; return new Response(String(count)); } };";
    let program = load(KIND, text.as_bytes()).unwrap();
    for _ in 0..3 {
        assert_eq!(run(&program, KIND, Sent::default()).await.text(), "1");
    }
}

#[tokio::test]
async fn chance_and_time_are_not_frozen() {
    let body = "return new Response(`${Math.random()} ${crypto.randomUUID()} ${Date.now()}`);";
    let first = outbound(body, Sent::default()).await;
    let second = outbound(body, Sent::default()).await;
    let words = |came: &Came| came.text().split(' ').map(str::to_owned).collect::<Vec<_>>();
    let (first, second) = (words(&first), words(&second));
    assert_ne!(first[0], second[0]);
    assert_ne!(first[1], second[1]);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis();
    assert!(now - first[2].parse::<u128>().unwrap() < 60_000);
}

#[test]
fn what_a_file_offers_is_known() {
    let text = "
        export class Box {
            static outbound(request) { return fetch(request); }
            static outboundByHost = { 'b.test': r => fetch(r), 'a.test': r => fetch(r) };
            static outboundHandlers = { readOnly: r => fetch(r) };
        }";
    let program = load(KIND, text.as_bytes()).unwrap();
    let expected = [
        Entry::Outbound,
        Entry::ByHost("a.test".into()),
        Entry::ByHost("b.test".into()),
        Entry::Named("readOnly".into()),
    ];
    assert_eq!(program.exports().entries, expected);
    assert!(!program.exports().needs_reveal);
}

#[test]
fn h07_what_cannot_be_loaded_says_where_and_what_to_do() {
    let table = [
        ("export default {\n  outbound( {\n};\n", Some(2..=3), "", ""),
        ("const a = 1;\n", None, "the file offers no handler", "export default"),
        ("import x from './other.js';\n", None, "a handler is one file", "bundle"),
        ("throw new Error('at the top');\n", None, "at the top", ""),
        ("for (;;) {}\n", None, "more than 500 ms of processor time", ""),
    ];
    for (text, lines, message, help) in table {
        let problem = load(KIND, text.as_bytes()).unwrap_err();
        assert!(problem.message.contains(message), "{text}: {}", problem.message);
        assert!(problem.help.clone().unwrap_or_default().contains(help), "{text}: {problem:?}");
        assert!(problem.at.end <= text.len());
        if let Some(lines) = lines {
            let line = 1 + text.bytes().take(problem.at.start).filter(|byte| *byte == b'\n').count();
            assert!(lines.contains(&line), "{problem:?}");
        }
    }
    assert_eq!(load(KIND, b"\xff").unwrap_err().message, "line 1 is not UTF-8");
}

#[tokio::test]
async fn a_text_in_a_component_runs_as_the_text_does() {
    let text = "export default { outbound() { return new Response('embedded'); } };";
    let content = crate::embed_text("hello.js", text);
    let program = load(ProgramKind::Component, &content).unwrap();
    assert_eq!(program.exports().entries, [Entry::Outbound]);
    assert_eq!(program.report().bytes, content.len());
    assert_eq!(run(&program, ProgramKind::Component, Sent::default()).await.text(), "embedded");

    let problem = load(ProgramKind::Component, &crate::embed_text("bad.js", "let a =\n  ;\n")).unwrap_err();
    assert!(problem.message.starts_with("bad.js:2:3: "), "{}", problem.message);
    assert_eq!(problem.at, 0..0);
    let mut other = content;
    // A custom section before the handler's makes it another engine, and still a component.
    let engine = crate::embedded::ENGINE.len();
    other.splice(engine..engine, [0, 2, 1, b'x']);
    let problem = load(ProgramKind::Component, &other).unwrap_err();
    assert_eq!(problem.message, "the component holds JavaScript with the engine of another version");
}
