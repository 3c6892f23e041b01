//! Components that do what they should, and files that are none.

use http::{Method, StatusCode};
use sluicegate_policy::{BodyHandle, BodySource, Entry, HandlerFault, ProgramKind};

use super::{Sent, component, fetched, load, run};

/// The beginning of every component of these tests: what it imports, a memory, and the functions of the
/// gate as `(import "host" ...)`; `MORE` stands for further imports of the component.
pub(super) const HEAD: &str = r#"
(component
  (import "sluicegate:policy/http@0.1.0" (instance $http
    (export "request" (type $request (sub resource)))
    (export "response" (type $response (sub resource)))
    (type $error-type (variant (case "denied" string) (case "timed-out") (case "invalid" string) (case "failed" string)))
    (export "error" (type $error (eq $error-type)))
    (export "fetch" (func (param "request" (own $request)) (param "timeout-ms" (option u32))
      (result (result (own $response) (error $error)))))))
  (alias export $http "request" (type $request))
  (alias export $http "response" (type $response))
  (alias export $http "error" (type $error))
  (alias export $http "fetch" (func $fetch))
  (core module $base
    (memory (export "memory") 1)
    (global $free (mut i32) (i32.const 4096))
    (func (export "realloc") (param i32 i32 i32 i32) (result i32)
      (global.set $free (i32.and
        (i32.add (global.get $free) (i32.sub (local.get 2) (i32.const 1)))
        (i32.sub (i32.const 0) (local.get 2))))
      (global.get $free)
      (global.set $free (i32.add (global.get $free) (local.get 3)))))
  (core instance $base (instantiate $base))
  (core func $fetch (canon lower (func $fetch)
    (memory (core memory $base "memory")) (realloc (core func $base "realloc"))))
"#;
const TAIL: &str = r#"
  (core instance $main (instantiate $main
    (with "base" (instance $base))
    (with "host" (instance (export "fetch" (func $fetch))))))
  (func (export "outbound") (param "request" (own $request)) (result (result (own $response) (error $error)))
    (canon lift (core func $main "outbound") (memory (core memory $base "memory")) (realloc (core func $base "realloc")))))
"#;

/// A component whose `outbound` does this. The request's handle is local 0; what is returned is the
/// address of the result, 0: a tag, then the handle of a response, or the tag of an error and a text.
pub(crate) fn handler(outbound: &str) -> Vec<u8> {
    with_items("", outbound)
}

/// The same, with more items in its module.
pub(super) fn with_items(items: &str, outbound: &str) -> Vec<u8> {
    component(&format!(
        r#"{HEAD}
  (core module $main
    (import "base" "memory" (memory 1))
    (import "host" "fetch" (func $fetch (param i32 i32 i32 i32)))
    {items}
    (func $outbound (export "outbound") (param i32) (result i32) {outbound}))
{TAIL}"#
    ))
}

/// Fetches the request, and returns what comes back.
pub(crate) const FETCH: &str = "
    (call $fetch (local.get 0) (i32.const 0) (i32.const 0) (i32.const 0))
    (i32.const 0)";

/// Returns the error with this tag, and `text` in it.
pub(super) fn error(tag: u8, text: &str) -> Vec<u8> {
    let items = format!(r#"(data (i32.const 64) "{text}")"#);
    let outbound = format!(
        "(i32.store8 (i32.const 0) (i32.const 1))
         (i32.store8 (i32.const 4) (i32.const {tag}))
         (i32.store (i32.const 8) (i32.const 64))
         (i32.store (i32.const 12) (i32.const {}))
         (i32.const 0)",
        text.len()
    );
    with_items(&items, &outbound)
}

#[tokio::test]
async fn a_component_fetches_the_request_and_passes_the_response_on() {
    let program = load(ProgramKind::Component, &handler(FETCH)).unwrap();
    assert_eq!(program.exports().entries, [Entry::Outbound]);
    assert!(!program.exports().needs_reveal);
    assert_eq!(program.report().imports, ["sluicegate:policy/http@0.1.0"]);
    let came = run(&program, ProgramKind::Component, Sent::default().with(Method::POST)).await;
    assert_eq!(fetched(&came.effects[0]), ("api.example.test:443".to_owned(), Method::POST));
    assert_eq!(came.status(), StatusCode::OK);
    assert_eq!(came.response().body, BodySource::Handle(BodyHandle(7)));
    assert_eq!(came.effects.len(), 1);
}

#[tokio::test]
async fn each_error_means_what_the_world_says() {
    let refused = load(ProgramKind::Component, &error(0, "not today")).unwrap();
    let came = run(&refused, ProgramKind::Component, Sent::default()).await;
    assert_eq!(came.refused(), "not today");
    for (tag, text, message) in [
        (1, "", "something that it waited for took too long"),
        (2, "no such thing", "no such thing"),
        (3, "the store is away", "the store is away"),
    ] {
        let program = load(ProgramKind::Component, &error(tag, text)).unwrap();
        let came = run(&program, ProgramKind::Component, Sent::default()).await;
        let error = came.error();
        assert_eq!(
            (error.fault, &*error.message, &*error.file),
            (HandlerFault::Threw, message, "handler.wasm")
        );
    }
}

#[test]
fn the_same_program_is_loaded_once() {
    let content = handler("(i32.const 16) (drop) (unreachable)");
    let first = load(ProgramKind::Component, &content).unwrap();
    let second = load(ProgramKind::Component, &content).unwrap();
    assert!(std::sync::Arc::ptr_eq(&first, &second));
}

#[test]
fn what_is_no_component_is_refused_with_words_that_help() {
    let module = wat::parse_str("(module)").unwrap();
    let table = [
        (&b"(component)"[..], "this is no WebAssembly component", "world sluicegate:policy/handler"),
        (&module, "this is a core module of WebAssembly, and not a component", "wasm-tools component new"),
    ];
    for (content, message, help) in table {
        let problem = load(ProgramKind::Component, content).unwrap_err();
        assert_eq!(problem.message, message);
        assert!(problem.help.unwrap().contains(help));
    }
    let mut cut = handler(FETCH);
    // Within the last section: between two of them it could be whole.
    cut.pop();
    let problem = load(ProgramKind::Component, &cut).unwrap_err();
    assert!(problem.message.starts_with("the component cannot be compiled: "), "{}", problem.message);
}

#[test]
fn foreign_imports_are_refused_and_named() {
    let names: Vec<String> =
        (0..10).map(|n| format!(r#"(import "wasi:cli/thing{n}@0.2.0" (instance))"#)).collect();
    let content = component(&format!("(component {})", names.concat()));
    let problem = load(ProgramKind::Component, &content).unwrap_err();
    assert!(
        problem
            .message
            .starts_with("the component imports what handlers do not have: wasi:cli/thing0@0.2.0, "),
        "{}",
        problem.message
    );
    assert!(problem.message.ends_with(" and 2 more"), "{}", problem.message);
    assert!(problem.help.unwrap().contains("--stub-wasi"));
}

#[test]
fn a_missing_or_a_different_import_is_refused() {
    for text in [
        r#"(component (import "sluicegate:policy/mail@0.1.0" (instance (export "send" (func)))))"#,
        r#"(component (import "sluicegate:policy/clock@0.1.0" (instance (export "now-ms" (func (result string))))))"#,
        r#"(component (import "sluicegate:policy/clock@0.2.0" (instance (export "now-ms" (func (result u64))))))"#,
    ] {
        let problem = load(ProgramKind::Component, &component(text)).unwrap_err();
        let message = problem.message;
        assert!(message.starts_with("the component does not fit this version: "), "{text}: {message}");
    }
}

#[test]
fn a_component_without_the_export_is_refused() {
    let problem = load(ProgramKind::Component, &component("(component)")).unwrap_err();
    assert!(problem.message.starts_with("the component exports no handler: "), "{}", problem.message);
    assert!(problem.help.unwrap().contains("export `outbound`"));
}

#[test]
fn the_asynchronous_half_of_the_component_model_is_refused() {
    let text = r#"(component
        (core module $m (func (export "f") (result i32) (i32.const 0))
                        (func (export "g") (param i32 i32 i32) (result i32) (i32.const 0)))
        (core instance $i (instantiate $m))
        (func (export "outbound") async (canon lift (core func $i "f") async (callback (core func $i "g")))))"#;
    let problem = load(ProgramKind::Component, &component(text)).unwrap_err();
    assert!(problem.message.contains("asynchronous half"), "{}", problem.message);
}

#[test]
fn reveal_is_seen_from_the_imports() {
    let text = format!(
        r#"{HEAD}
  (alias export $http "error" (type $told))
  (import "sluicegate:policy/reveal@0.1.0" (instance $reveal
    (alias outer 1 $told (type $told-type))
    (export "error" (type $reveal-error (eq $told-type)))
    (export "reveal" (func (param "name" string) (result (result (list u8) (error $reveal-error)))))))
  (core module $main
    (import "base" "memory" (memory 1))
    (import "host" "fetch" (func $fetch (param i32 i32 i32 i32)))
    (func (export "outbound") (param i32) (result i32) unreachable))
{TAIL}"#
    );
    let program = load(ProgramKind::Component, &component(&text)).unwrap();
    assert!(program.exports().needs_reveal);
    assert_eq!(program.report().imports, ["sluicegate:policy/http@0.1.0", "sluicegate:policy/reveal@0.1.0"]);
}
