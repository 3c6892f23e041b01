//! What becomes of the files that a document names.

use std::cell::RefCell;
use std::collections::BTreeMap;

use super::*;
use crate::handler::{
    BindingKind, BoundHandler, Entry, Exports, HandlerAction, HandlerLimits, ProgramKind, ScriptProblem,
};
use crate::host::{Authority, Host, Scheme};
use crate::policy::RequestFacts;
use crate::verdict::Verdict;

const FINE: &str = "fn outbound(request, env, ctx) {\n    fetch(request)\n}\n";

/// Files by path, and which were read.
#[derive(Default)]
struct Files {
    texts: BTreeMap<&'static str, Vec<u8>>,
    read: RefCell<Vec<String>>,
}

impl Files {
    fn of(texts: &[(&'static str, &str)]) -> Self {
        let texts = texts.iter().map(|(path, text)| (*path, text.as_bytes().to_vec())).collect();
        Self { texts, ..Self::default() }
    }
}

impl Sources for Files {
    fn read(&self, path: &str) -> Result<Vec<u8>, String> {
        self.read.borrow_mut().push(path.to_owned());
        self.texts.get(path).cloned().ok_or_else(|| String::from("no such file"))
    }

    /// The text of a program here says what it offers, and `reveal`; or, after `bad`, what is wrong.
    fn program(&self, _path: &str, _kind: ProgramKind, content: &[u8]) -> Result<Exports, ScriptProblem> {
        let text = std::str::from_utf8(content).unwrap();
        if let Some(message) = text.strip_prefix("bad ") {
            return Err(ScriptProblem { message: message.into(), at: 4..5, help: None });
        }
        let entries = text.split_whitespace().filter_map(Entry::parse).collect();
        Ok(Exports { entries, needs_reveal: text.contains("reveal") })
    }
}

fn compiled(text: &str, files: &Files) -> Result<Compiled, PolicyError> {
    compile("a.toml", &format!("version = 1\n{text}"), files)
}

#[test]
fn h07_a_broken_script_is_shown_in_its_own_file() {
    let files =
        Files::of(&[("a/x.rhai", "fn outbound(request, env, ctx) {\n    let ü = ;\n}\n"), ("x.rhai", FINE)]);
    let text = "outbound = \"x.rhai\"\n[outbound_by_host]\n\"a.test\" = \"a/x.rhai\"\n\"b.test\" = \"a/x.rhai\"\n\"*.com\" = \"x.rhai\"";
    let error = compiled(text, &files).unwrap_err();
    let places: Vec<_> = error.problems().iter().map(|problem| (&*problem.file, problem.line)).collect();
    assert_eq!(places, [("a.toml", 6), ("a/x.rhai", 2)], "{:?}", error.problems());
}

#[test]
fn a_file_is_read_once_and_named_by_its_path() {
    let files = Files::of(&[("a/x.rhai", FINE), ("b/x.rhai", FINE)]);
    let text = "outbound = \"a/x.rhai\"\n[outbound_by_host]\n\"a.test\" = { handler = \"a/x.rhai\", params = { a = 1 } }\n\"b.test\" = \"b/x.rhai\"";
    let policy = compiled(text, &files).unwrap().policy;
    assert_eq!(*files.read.borrow(), ["a/x.rhai", "b/x.rhai"]);
    assert_eq!(policy.scripts().collect::<Vec<_>>(), ["a/x.rhai", "b/x.rhai"]);
    let handler = |host: &str| handler(&policy, host).unwrap();
    let (a, b, other) = (handler("a.test"), handler("b.test"), handler("c.test"));
    assert_eq!([&*a.name, &*b.name, &*other.name], ["a/x.rhai", "b/x.rhai", "a/x.rhai"]);
    assert_eq!(*a.params, serde_json::json!({"a": 1}));
    assert_eq!(*other.params, serde_json::json!({}));
    let (HandlerAction::Script(one), HandlerAction::Script(two)) = (&a.action, &other.action) else {
        panic!("not scripts");
    };
    assert!(Arc::ptr_eq(one, two));
}

/// The handler of a GET to this host, if it has one.
fn handler(policy: &Policy, host: &str) -> Option<Arc<BoundHandler>> {
    let authority = Authority::parse(host, 443).unwrap();
    let (scheme, method) = (Scheme::Https, &http::Method::GET);
    let request = RequestFacts { scheme, authority: &authority, method, path: "/" };
    match policy.decide(&request).verdict {
        Verdict::Handle(handler, _) => Some(Arc::clone(handler)),
        _ => None,
    }
}

/// The file, the entry and the name of a program's handler.
fn shown(handler: &BoundHandler) -> String {
    let HandlerAction::Program(program) = &handler.action else { panic!("{handler:?}") };
    format!("{} {} {}", program.file, program.entry, handler.name)
}

#[test]
fn outbound_brings_along_all_that_a_program_offers() {
    let files = Files::of(&[("x.js", "outbound byHost:*.a.test named:open")]);
    let policy = compiled(
        "outbound = { handler = \"x.js\", params = { n = 1 } }\n[[rules]]\nhost = \"r.test\"\nhandler = \"open\"",
        &files,
    );
    let policy = policy.unwrap().policy;
    let at = |host: &str| shown(&handler(&policy, host).unwrap());
    assert_eq!(at("b.a.test"), "x.js byHost:*.a.test x.js");
    assert_eq!(at("c.test"), "x.js outbound x.js");
    assert_eq!(*handler(&policy, "b.a.test").unwrap().params, serde_json::json!({"n": 1}));
    assert_eq!(at("r.test"), "x.js named:open open");
    assert_eq!(policy.programs().len(), 1, "loaded once");

    let only_hosts = Files::of(&[("x.js", "byHost:my.kv")]);
    let policy = compiled("outbound = \"x.js\"", &only_hosts).unwrap().policy;
    assert!(handler(&policy, "my.kv").is_some() && handler(&policy, "c.test").is_none());
}

#[test]
fn a_named_handler_is_the_programs_of_that_name_or_its_outbound() {
    let files = Files::of(&[("x.js", "outbound named:open"), ("y.wasm", "outbound")]);
    let text = "[outbound_handlers]\nopen = \"x.js\"\nother = \"x.js\"\nwasm = \"y.wasm\"";
    let named = |name: &str| {
        let text = format!("outbound = \"{name}\"\n{text}");
        shown(&handler(&compiled(&text, &files).unwrap().policy, "a.test").unwrap())
    };
    assert_eq!(named("open"), "x.js named:open open");
    assert_eq!(named("other"), "x.js outbound other");
    assert_eq!(named("wasm"), "y.wasm outbound wasm");
}

#[test]
fn what_a_program_cannot_be_bound_for_is_an_error() {
    let files = Files::of(&[
        ("named.js", "named:open"),
        ("hosts.js", "byHost:a.test byHost:google.*"),
        ("reveal.wasm", "outbound reveal"),
        ("bad.js", "bad unexpected token"),
        ("bad.wasm", "bad no component"),
    ]);
    let problems = |text: &str| {
        let error = compiled(text, &files).unwrap_err();
        let shown = |problem: &Problem| format!("{}:{} {}", problem.file, problem.line, problem.message);
        error.problems().iter().map(shown).collect::<Vec<_>>()
    };
    let by_host = "[outbound_by_host]\n\"a.test\" = ";
    assert_eq!(
        problems(&format!("{by_host}\"named.js\"")),
        ["a.toml:3 `named.js` has no function `outbound`"]
    );
    assert_eq!(
        problems(&format!("outbound = \"hosts.js\"\n{by_host}{{ deny = \"no\" }}")),
        ["a.toml:2 `a.test` stands here and in hosts.js", "a.toml:2 bad host pattern `google.*`"]
    );
    assert_eq!(
        problems("outbound = \"reveal.wasm\""),
        ["a.toml:2 `reveal.wasm` asks for the bytes of secrets: it imports `reveal`"]
    );
    assert_eq!(problems("outbound = \"bad.js\""), ["bad.js:1 unexpected token"]);
    assert_eq!(problems("outbound = \"bad.wasm\""), ["a.toml:2 bad.wasm: no component"]);
    assert_eq!(problems("outbound = \"x.ts\""), ["a.toml:2 handlers in TypeScript are not run"]);
    let granted = "outbound = { handler = \"reveal.wasm\", reveal = [] }";
    assert!(compiled(granted, &files).is_ok());
}

#[test]
fn a_generation_changes_with_every_script() {
    let text = "outbound = \"x.rhai\"";
    let generation = |script: &str| {
        let policy = compiled(text, &Files::of(&[("x.rhai", script)])).unwrap().policy;
        policy.generation().to_owned()
    };
    assert_eq!(generation(FINE), generation(FINE));
    assert_ne!(generation(FINE), generation(&format!("{FINE}// changed\n")));
}

#[test]
fn files_are_bounded_in_number() {
    struct Any;
    impl Sources for Any {
        fn read(&self, _path: &str) -> Result<Vec<u8>, String> {
            Ok(FINE.into())
        }

        fn program(&self, _: &str, _: ProgramKind, _: &[u8]) -> Result<Exports, ScriptProblem> {
            panic!("there is none");
        }
    }
    let hosts: String = (0..257).map(|number| format!("\"h{number}.test\" = \"{number}.rhai\"\n")).collect();
    let error = compile("a.toml", &format!("version = 1\n[outbound_by_host]\n{hosts}"), &Any).unwrap_err();
    assert_eq!(error.problems().len(), 1);
    assert!(error.to_string().contains("more than 256 files"), "{error}");
}

#[test]
fn a_handler_may_use_any_secret() {
    let secret = "[secrets.A]\nsource = \"env://A\"\nhosts = [\"a.test\"]";
    let files = Files::of(&[("x.rhai", FINE)]);
    let warnings = |text: &str| compiled(text, &files).unwrap().warnings.len();
    assert_eq!(warnings(secret), 1);
    assert_eq!(warnings(&format!("outbound = {{ deny = \"closed\" }}\n{secret}")), 1);
    assert_eq!(warnings(&format!("{secret}\n[outbound_handlers]\nx = \"x.rhai\"")), 0);
    let store = "[secrets.A]\nsource = \"env://A\"\nhosts = [\"10.0.0.5:6379\"]\n[bindings.kv]\nurl = \"redis://10.0.0.5\"\npassword = \"A\"";
    assert_eq!(warnings(store), 0);
}

#[test]
fn the_environment_is_what_the_document_offers() {
    let text = r#"
[env]
TEAM = "blue"
SINCE = 2026-01-02
LIST = [1, 2.5, { a = true }]
[secrets.A]
source = "env://A_{container_id}"
hosts = ["a.test"]
scrub = true
[bindings.files]
kind = "objects"
[bindings.kv]
url = "file:elsewhere"
prefix = "{instance_id}/"
[handler_limits]
wall_ms = 1500
items = 7
[outbound_handlers]
x = "x.rhai"
"#;
    let policy = compiled(text, &Files::of(&[("x.rhai", FINE)])).unwrap().policy;
    let environment = policy.environment();
    let constants = serde_json::to_value(&environment.constants).unwrap();
    assert_eq!(
        constants,
        serde_json::json!({"TEAM": "blue", "SINCE": "2026-01-02", "LIST": [1, 2.5, {"a": true}]})
    );
    let kinds: Vec<_> = environment.bindings.iter().map(|(name, kind)| (&**name, *kind)).collect();
    let expected =
        [("files", BindingKind::Objects), ("kv", BindingKind::Kv), ("objects", BindingKind::Objects)];
    assert_eq!(kinds, expected);
    let urls: Vec<_> = policy.bindings().iter().map(|binding| &*binding.url).collect();
    assert_eq!(urls, ["file:files", "file:elsewhere", "file:objects"]);
    assert_eq!(policy.bindings()[1].prefix.as_deref(), Some("{instance_id}/"));
    assert_eq!((environment.limits.wall.as_millis(), environment.limits.items), (1500, 7));
    assert_eq!(environment.limits.effects, HandlerLimits::default().effects);
    assert!(policy.secrets()[0].scrub);
    assert!(!policy.reaches(&Host::parse("a.test").unwrap()).is_open());
}
