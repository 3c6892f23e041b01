//! Policies that are shown, tried, compared and put in force.

use e2e::{Site, World};
use serde_json::{Value, json};

use crate::support::{
    actions, ask, asked, assert_line, generation, handler, named_handlers, operator, refused,
};

fn entry<'a>(policy: &'a Value, key: &str, value: &str) -> &'a Value {
    let found = policy["entries"]
        .as_array()
        .unwrap()
        .iter()
        .find(|line| line["key"] == key && line["value"].as_str().unwrap().contains(value));
    found.unwrap_or_else(|| panic!("no {key} {value} in {policy:#}"))
}

#[test]
fn policy_get_says_where_each_line_comes_from() {
    let world = World::new("get");
    let site = Site::start(&world);
    let text = format!(
        "allowed_hosts = [\n  \"a.test\",\n  \"b.test\",\n]\nsecrets.TOKEN = {{ source = \"env://TOKEN\", hosts = [\"a.test\"] }}\n\
         [[rules]]\nname = \"read\"\nhost = \"a.test\"\nmethods = [\"GET\"]\n{}",
        named_handlers(&world, &["one"])
    );
    let gate = world
        .gate(&site.policy(&world, &text, &["a.test"]))
        .env("TOKEN", "value-of-token")
        .named("box")
        .attach();
    operator(&gate, &["host", "allow", "c.test"]);
    operator(&gate, &["handler", "set", "one", "--host", "c.test", "--params", "{\"n\":1}"]);
    let policy = asked(&gate, &["policy", "get"]);
    assert_eq!(policy["generation"], generation(&gate));
    let document_line = |key: &str, value: &str| {
        let source = &entry(&policy, key, value)["source"]["document"];
        assert!(source["file"].as_str().is_some_and(|file| file.ends_with(".toml")), "{source}");
        source["line"].as_u64().unwrap()
    };
    // `version` is line 1, and the text begins on line 2.
    assert_eq!(document_line("allowed_hosts", "a.test"), 3);
    assert_eq!(document_line("allowed_hosts", "b.test"), 4);
    assert_eq!(document_line("secrets.TOKEN", "env://TOKEN"), 6);
    assert_eq!(document_line("rules.read", "a.test"), 7);
    assert_eq!(entry(&policy, "allowed_hosts", "c.test")["source"], "runtime");
    let bound = entry(&policy, "outbound_by_host.c.test", "one");
    assert_eq!(bound["source"], "runtime");
    assert!(bound["value"].as_str().unwrap().contains("\"n\":1"), "{bound}");
    assert_eq!(entry(&policy, "internet", "false")["source"], "default");
    assert_eq!(entry(&policy, "handler_limits.cpu_ms", "")["source"], "default");
    assert!(!policy.to_string().contains("value-of-token"), "{policy:#}");
    let shown = operator(&gate, &["policy", "get"]);
    for part in [&generation(&gate), "allowed_hosts", "at run time", "default", ".toml:3"] {
        assert!(shown.stdout.contains(part), "no {part}: {}", shown.stdout);
    }
}

#[test]
fn policy_set_and_reset() {
    let world = World::new("set");
    let site = Site::start(&world);
    handler(&world, "two", "reply(200, \"two\")");
    let names = ["a.test", "b.test"];
    let first = site.policy(&world, "allowed_hosts = [\"a.test\"]", &names);
    let gate = world.gate(&first).named("box").attach();
    let at_start = generation(&gate);
    let second = site.policy(&world, "outbound_by_host.\"b.test\" = \"handlers/two.rhai\"", &names);
    let second = world.file("second.toml", second).display().to_string();

    let checked = asked(&gate, &["policy", "set", "--check", &second]);
    assert_line(&checked, &json!({"ok": true, "generation": at_start}));
    assert_eq!(ask(&gate, &["https://b.test/"]), "403 not_in_allowed_hosts");
    let set = asked(&gate, &["policy", "set", &second]);
    assert_line(&set, &json!({"previous": at_start, "generation": checked["new"], "changed": true}));
    assert_eq!(ask(&gate, &["https://b.test/"]), "two");
    assert_eq!(ask(&gate, &["https://a.test/"]), "403 not_named");
    assert_line(&asked(&gate, &["status", "get"])["policy"], &json!({"source": "upload", "file": second}));
    // An upload is what it was, whatever becomes of the files.
    handler(&world, "two", "reply(200, \"three\")");
    assert_eq!(ask(&gate, &["https://b.test/"]), "two");

    let broken = world.file("broken.toml", "version = 1\nalowed_hosts = []\n").display().to_string();
    let outcome = refused(&gate, &["policy", "set", &broken], 78);
    assert!(
        outcome.stderr.contains("broken.toml:2:1") && outcome.stderr.contains("`allowed_hosts`"),
        "{outcome:?}"
    );
    refused(&gate, &["policy", "set", "/nowhere.toml"], 78);
    let secret = "version = 1\nsecrets.T = { source = \"env://NOT_THERE\", hosts = [\"a.test\"] }\n\
                  [[rules]]\nhost = \"a.test\"\nset_headers = { x = \"${secret:T}\" }\n";
    let secret = world.file("secret.toml", secret).display().to_string();
    let outcome = refused(&gate, &["policy", "set", &secret], 78);
    assert!(outcome.stderr.contains("NOT_THERE") || outcome.stderr.contains('T'), "{outcome:?}");
    assert_eq!(generation(&gate), set["generation"]);

    let reset = asked(&gate, &["policy", "reset"]);
    assert_line(&reset, &json!({"previous": set["generation"], "generation": at_start}));
    assert_eq!(ask(&gate, &["https://a.test/"]), "origin: a.test");
    let log = gate.log();
    assert_eq!(actions(&log, "policy_published").len(), 2, "{log:#?}");
    assert_eq!(actions(&log, "policy_refused").len(), 1, "{log:#?}");
}

#[test]
fn policy_test_says_what_would_happen_and_why() {
    let world = World::new("test");
    let site = Site::start(&world);
    let text = format!(
        "denied_hosts = [\"denied.test\"]\n{}[[rules]]\nname = \"read\"\nhost = \"api.test\"\nmethods = [\"GET\"]\npaths = [\"/v1/**\"]\n\
         [[rules]]\nname = \"write\"\nhost = \"api.test\"\nmethods = [\"POST\"]\nask = \"really?\"\n\
         [[rules]]\nname = \"fixed\"\nhost = \"fixed.test\"\nrespond = {{ status = 204 }}\n",
        named_handlers(&world, &["one"])
    );
    let policy = site.policy(&world, &text, &["api.test", "denied.test", "fixed.test", "h.test"]);
    let file = world.file("offline.toml", &policy).display().to_string();
    let gate = world.gate(&policy).named("box").attach();
    operator(&gate, &["handler", "set", "one", "--host", "h.test"]);
    let cases = [
        ("GET", "https://api.test/v1/x", 0, json!({"verdict": "forward", "rule": "read"})),
        ("POST", "https://api.test/v1/x", 0, json!({"verdict": "ask", "rule": "write"})),
        ("GET", "https://api.test/v2", 1, json!({"verdict": "refuse", "reason": "no_rule_matches"})),
        ("GET", "https://api.test/v1/../v2", 1, json!({"verdict": "refuse", "reason": "ambiguous_path"})),
        ("GET", "http://denied.test/", 1, json!({"verdict": "refuse", "reason": "denied_host"})),
        ("GET", "http://fixed.test/", 0, json!({"verdict": "respond", "rule": "fixed"})),
        ("GET", "https://any.test/", 1, json!({"verdict": "refuse", "reason": "not_named"})),
        ("GET", "https://h.test/", 0, json!({"verdict": "handle", "handler": "one"})),
    ];
    for (method, url, code, expected) in &cases {
        let arguments = ["policy", "test", url, "--method", method];
        let outcome = gate.operator([&arguments[..], &["--json"]].concat()).run();
        assert_eq!(outcome.code(), *code, "{outcome:?}");
        assert_line(&outcome.json(), expected);
        assert!(!outcome.json()["steps"].as_array().unwrap().is_empty(), "{outcome:?}");
        // The same request for real comes to the same.
        let told = if expected["verdict"] == "ask" {
            "-".into()
        } else {
            ask(&gate, &["--path-as-is", "-X", method, url])
        };
        if let Some(reason) = expected["reason"].as_str() {
            assert_eq!(told, format!("403 {reason}"), "{url}");
        }
        let explained = gate.operator([&arguments[..], &["--explain"]].concat()).run();
        assert_eq!(explained.code(), *code, "{explained:?}");
        for part in ["STEP", "BECAUSE", "denied_hosts"] {
            assert!(explained.stdout.contains(part), "no {part}: {explained:?}");
        }
        // Without an instance, by the document: what was set at run time is not in it.
        let offline = gate.operator([&arguments[..], &["--json", "--policy", &file]].concat()).run();
        if *url == "https://h.test/" {
            assert_line(&offline.json(), &json!({"verdict": "refuse", "reason": "not_named"}));
        } else {
            assert_line(&offline.json(), expected);
        }
    }
    for wrong in ["api.test", "ftp://api.test/", "https://a b/"] {
        refused(&gate, &["policy", "test", wrong], 64);
    }
}

#[test]
fn policy_diff_tells_what_a_new_policy_would_change_for_a_real_log() {
    let world = World::new("diff");
    let site = Site::start(&world);
    handler(&world, "one", "fetch(request)");
    let names = ["a.test", "b.test", "c.test"];
    let mut gate = world
        .gate(&site.policy(&world, "allowed_hosts = [\"a.test\", \"b.test\"]", &names))
        .named("box")
        .attach();
    for url in ["https://a.test/x", "https://a.test/x", "https://b.test/", "https://c.test/y?secret"] {
        ask(&gate, &[url]);
    }
    gate.wait_for_log(|line| line["path"] == "/y");
    let diff = |text: &str| {
        let file = world.file("new.toml", site.policy(&world, text, &names)).display().to_string();
        gate.operator(["policy", "diff", &file, "--json"]).run()
    };
    let same = diff("allowed_hosts = [\"a.test\", \"b.test\", \"d.test\"]");
    assert_eq!(same.code(), 0, "{same:?}");
    assert_line(&same.json(), &json!({"judged": 4, "changed": 0, "changes": []}));

    let other =
        diff("allowed_hosts = [\"b.test\", \"c.test\"]\noutbound_by_host.\"b.test\" = \"handlers/one.rhai\"");
    assert_eq!(other.code(), 1, "{other:?}");
    assert_line(&other.json(), &json!({"judged": 4, "changed": 4}));
    let changes = other.json()["changes"].as_array().unwrap().clone();
    let of = |authority: &str| {
        let found =
            changes.iter().find(|change| change["authority"].as_str().unwrap().starts_with(authority));
        found.unwrap_or_else(|| panic!("no {authority}: {changes:#?}"))
    };
    assert_line(of("a.test"), &json!({"count": 2, "method": "GET", "scheme": "https", "path": "/x"}));
    assert!(of("a.test")["after"].to_string().contains("not_in_allowed_hosts"), "{changes:#?}");
    assert!(of("b.test")["after"].to_string().contains("handlers/one.rhai"), "{changes:#?}");
    assert!(of("c.test")["before"].to_string().contains("not_in_allowed_hosts"), "{changes:#?}");

    let file = world
        .file("words.toml", site.policy(&world, "allowed_hosts = [\"b.test\"]", &names))
        .display()
        .to_string();
    let words = refused_or_changed(&gate, &file);
    assert!(words.contains("GET https://a.test") && words.contains("2 of 4 requests change"), "{words}");
}

fn refused_or_changed(gate: &e2e::Attached<'_>, file: &str) -> String {
    let outcome = gate.operator(["policy", "diff", file]).run();
    assert_eq!(outcome.code(), 1, "{outcome:?}");
    outcome.stdout
}
