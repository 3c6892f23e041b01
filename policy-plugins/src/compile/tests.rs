//! What becomes of the files that a document names.

use std::cell::RefCell;
use std::collections::BTreeMap;

use super::*;
use crate::content::Content;
use crate::handler::{
    BindingKind, BoundHandler, Entry, Exports, HandlerAction, HandlerLimits, Program, ScriptProblem,
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
    fn read(&self, path: &str) -> Result<Content, String> {
        self.read.borrow_mut().push(path.to_owned());
        self.texts.get(path).map(|text| text.as_slice().into()).ok_or_else(|| String::from("no such file"))
    }

    /// The text of a program here says what it offers, and `reveal`; or, after `bad`, what is wrong.
    fn program(&self, program: &Program) -> Result<Exports, ScriptProblem> {
        let text = std::str::from_utf8(&program.content).unwrap();
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
    let request = RequestFacts { scheme, authority: &authority, method, path: "/", carries_dns: false };
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
        fn read(&self, _path: &str) -> Result<Content, String> {
            Ok(FINE.to_owned().into())
        }

        fn program(&self, _: &Program) -> Result<Exports, ScriptProblem> {
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

const BOTH: &str =
    "fn outbound(request, env, ctx) { fetch(request) }\nfn on_connect(flow, env, ctx) { \"judge\" }\n";
const CONNECTIONS: &str = "fn on_connect(flow, env, ctx) { \"pass\" }\n";

/// The name of the handler of connections, and what runs.
fn on_connect(text: &str, files: &Files) -> Option<(String, String)> {
    let policy = compiled(text, files).unwrap_or_else(|error| panic!("{text}: {error}")).policy;
    let bound = policy.on_connect()?;
    let action = match &bound.action {
        HandlerAction::Script(script) => script.file().to_owned(),
        HandlerAction::Program(program) => format!("{} of {}", program.entry, program.file),
        HandlerAction::Deny(why) => format!("deny {why}"),
    };
    Some((bound.name.to_string(), action))
}

#[test]
fn connections_have_a_handler_where_the_document_names_one() {
    let files = Files::of(&[
        ("fine.rhai", FINE),
        ("both.rhai", BOTH),
        ("c.rhai", CONNECTIONS),
        ("c.js", "connect"),
        ("both.js", "outbound connect byHost:a.test"),
        ("both.wasm", "outbound connect"),
        ("reveal.wasm", "connect reveal"),
    ]);
    for (text, name, action) in [
        ("on_connect = \"c.rhai\"", "c.rhai", "c.rhai"),
        ("on_connect = \"both.rhai\"", "both.rhai", "both.rhai"),
        ("on_connect = \"c.js\"", "c.js", "connect of c.js"),
        ("on_connect = { handler = \"both.wasm\" }", "both.wasm", "connect of both.wasm"),
        ("on_connect = { deny = \"closed\" }", "on_connect", "deny closed"),
        // A file of `outbound` brings its own along.
        ("outbound = \"both.rhai\"", "both.rhai", "both.rhai"),
        ("outbound = \"both.js\"", "both.js", "connect of both.js"),
        ("outbound = { handler = \"both.wasm\", params = { a = 1 } }", "both.wasm", "connect of both.wasm"),
        ("outbound = \"both.js\"\non_connect = \"c.rhai\"", "c.rhai", "c.rhai"),
        ("outbound = \"both.js\"\non_connect = { deny = \"no\" }", "on_connect", "deny no"),
    ] {
        assert_eq!(on_connect(text, &files), Some((name.to_owned(), action.to_owned())), "{text}");
    }
    for text in [
        "outbound = \"fine.rhai\"",
        "[outbound_by_host]\n\"a.test\" = \"both.js\"",
        "outbound = \"named\"\n[outbound_handlers]\nnamed = \"both.rhai\"",
    ] {
        assert_eq!(on_connect(text, &files), None, "{text}");
    }
    let given = "on_connect = { handler = \"reveal.wasm\", params = { most = 3 }, reveal = [\"TOKEN\"] }\n\
                 [secrets.TOKEN]\nsource = \"env://TOKEN\"\nhosts = [\"a.test\"]";
    let policy = compiled(given, &files).unwrap().policy;
    let bound = policy.on_connect().unwrap();
    assert_eq!((bound.params["most"].as_i64(), bound.reveal.len()), (Some(3), 1));
}

#[test]
fn a_handler_is_asked_about_messages_where_its_file_has_the_function() {
    let alone = "fn on_message(message, env, ctx) { }";
    let judging = format!("{FINE} {alone}");
    let files = Files::of(&[
        ("fine.rhai", FINE),
        ("judge.rhai", &judging),
        ("fine.js", "outbound byHost:b.test"),
        ("judge.js", "outbound byHost:b.test named:one message"),
        ("named.js", "named:one message"),
    ]);
    for (text, count) in [
        ("outbound = \"fine.rhai\"", 0),
        ("outbound = \"fine.js\"", 0),
        ("outbound = \"judge.rhai\"", 1),
        // The catch-all, a host and a name.
        ("outbound = \"judge.js\"", 3),
        ("[outbound_by_host]\n\"a.test\" = \"judge.js\"", 1),
        ("[outbound_by_host]\n\"a.test\" = { handler = \"judge.rhai\", params = { a = 1 } }", 1),
        ("[outbound_handlers]\none = \"named.js\"", 1),
        ("[[rules]]\nhost = \"a.test\"\nhandler = \"judge.js\"", 1),
    ] {
        let policy = compiled(text, &files).unwrap_or_else(|error| panic!("{text}: {error}")).policy;
        let shown: Vec<_> = policy.effective().entries.into_iter().map(|entry| entry.value).collect();
        let asked = shown.iter().filter(|value| value.contains(", asked about messages")).count();
        assert_eq!(asked, count, "{text}: {shown:#?}");
    }
    let error = compiled("outbound = \"alone.rhai\"", &Files::of(&[("alone.rhai", alone)])).unwrap_err();
    let problem = error.problems().first().unwrap();
    assert!(problem.message.contains("without `outbound`"), "{problem:?}");
    assert_eq!((&*problem.file, problem.line), ("alone.rhai", 1), "{problem:?}");
}

#[test]
fn h07_a_file_without_the_function_is_no_handler_of_connections() {
    let files = Files::of(&[
        ("fine.rhai", FINE),
        ("c.rhai", CONNECTIONS),
        ("fine.js", "outbound"),
        ("c.js", "connect"),
        ("fine.wasm", "outbound"),
        ("reveal.wasm", "connect reveal"),
    ]);
    let function = "has no function for connections";
    for (text, message, help) in [
        ("on_connect = \"fine.rhai\"", function, "fn on_connect(flow, env, ctx)"),
        ("on_connect = \"fine.js\"", function, "export function onConnect(flow, env, ctx)"),
        ("on_connect = \"fine.wasm\"", function, "connection-handler"),
        ("on_connect = \"gate\"", "`gate` is not the file of a handler", "{ deny = \"why\" }"),
        ("on_connect = \"gone.js\"", "cannot be read", "check that the file is there"),
        ("on_connect = \"reveal.wasm\"", "asks for the bytes of secrets", "reveal = [\"NAME\"]"),
        ("on_connect = { deny = \"no\", params = { a = 1 } }", "`params` has no effect", "drop `params`"),
        ("outbound = \"c.rhai\"", "`c.rhai` has no function `outbound`", "on_connect = \"c.rhai\""),
        ("outbound = \"c.js\"", "`c.js` has no function `outbound`", "on_connect = \"c.js\""),
        ("[outbound_by_host]\n\"a.test\" = \"c.js\"", "has no function `outbound`", "on_connect = \"c.js\""),
        ("[outbound_handlers]\nname = \"c.rhai\"", "has no function `outbound`", "on_connect = \"c.rhai\""),
    ] {
        let error = compiled(text, &files).unwrap_err();
        let problem = error.problems().first().unwrap();
        assert_eq!(error.problems().len(), 1, "{text}: {:?}", error.problems());
        assert!(problem.line >= 2 && problem.message.contains(message), "{text}: {problem:?}");
        assert!(problem.help.as_deref().is_some_and(|said| said.contains(help)), "{text}: {problem:?}");
    }
}

#[test]
fn a_generation_is_of_its_handler_of_connections_too() {
    let generation = |text: &str, handler: &str| {
        let policy = compiled(text, &Files::of(&[("c.rhai", handler)])).unwrap().policy;
        policy.generation().to_owned()
    };
    let first = generation("on_connect = \"c.rhai\"", CONNECTIONS);
    assert_eq!(first, generation("on_connect = \"c.rhai\"", CONNECTIONS));
    assert_ne!(first, generation("on_connect = \"c.rhai\"", &CONNECTIONS.replace("pass", "judge")));
    assert_ne!(first, generation("", CONNECTIONS));
    assert_ne!(first, generation("on_connect = { handler = \"c.rhai\", params = { a = 1 } }", CONNECTIONS));
}
