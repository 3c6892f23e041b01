//! Changes at run time, laid over a document.

use serde_json::json;

use super::*;
use crate::handler::HandlerAction;
use crate::host::{Authority, Host, Scheme};
use crate::overrides::Change;
use crate::policy::tests::{answer, assert_answers, policy};
use crate::policy::{Source, tests};
use crate::verdict::Verdict;

const DOCUMENT: &str = r#"
outbound = "all.rhai"

[outbound_by_host]
"host.test" = "static.rhai"

[outbound_handlers]
other = "other.rhai"
params = { handler = "params.rhai", params = { hello = "document" } }
closed = { deny = "closed" }

[[rules]]
host = "own.test"
handler = "own.rhai"

[[rules]]
host = "spliced.test"
intercept = false
"#;

fn changes(changes: &[serde_json::Value]) -> Overrides {
    let mut overrides = Overrides::default();
    for change in changes {
        overrides.apply(&serde_json::from_value::<Change>(change.clone()).unwrap());
    }
    overrides
}

fn changed(text: &str, list: &[serde_json::Value]) -> Policy {
    policy(text).overridden(&changes(list)).unwrap()
}

#[test]
fn p11_p12_a_handler_set_for_a_host_comes_before_the_documents() {
    let set = json!({"change": "set_outbound_by_host", "pattern": "HOST.test.", "handler": "other"});
    let remove = json!({"change": "remove_outbound_by_host", "pattern": "host.test"});
    let question = "GET http://host.test";
    assert_eq!(answer(&changed(DOCUMENT, std::slice::from_ref(&set)), question), "handle other");
    assert_eq!(answer(&changed(DOCUMENT, &[set, remove]), question), "handle static.rhai");
}

#[test]
fn p14_p31_a_catch_all_set_at_run_time_takes_the_documents_place_until_it_is_cleared() {
    let set = json!({"change": "set_outbound", "handler": "other"});
    let question = "GET http://any.test";
    let policy = changed(DOCUMENT, std::slice::from_ref(&set));
    assert_answers(
        &policy,
        &[
            (question, "handle other"),
            ("GET http://host.test", "handle static.rhai"),
            ("GET http://own.test", "handle own.rhai"),
        ],
    );
    assert_eq!(
        answer(&changed(DOCUMENT, &[set, json!({"change": "clear_outbound"})]), question),
        "handle all.rhai"
    );
    let closed = changed(DOCUMENT, &[json!({"change": "set_outbound", "handler": "closed"})]);
    assert_eq!(answer(&closed, question), "refuse denied_by_handler");
}

#[test]
fn a_handler_set_for_a_host_comes_before_a_rules_own() {
    let set = json!({"change": "set_outbound_by_host", "pattern": "own.test", "handler": "other"});
    assert_eq!(answer(&changed(DOCUMENT, &[set]), "GET http://own.test"), "handle other");
}

#[test]
fn p24_order_of_setting_does_not_matter() {
    let narrow = json!({"change": "set_outbound_by_host", "pattern": "a.b.test", "handler": "other"});
    let wide = json!({"change": "set_outbound_by_host", "pattern": "*.b.test", "handler": "closed"});
    for order in [[narrow.clone(), wide.clone()], [wide, narrow]] {
        let policy = changed(DOCUMENT, &order);
        assert_answers(
            &policy,
            &[("GET http://a.b.test", "handle other"), ("GET http://c.b.test", "refuse denied_by_handler")],
        );
    }
}

#[test]
fn p25_p26_what_cannot_be_applied_changes_nothing() {
    let policy = policy(DOCUMENT);
    let table = [
        (json!({"change": "set_outbound", "handler": "othr"}), "did you mean `other`?"),
        (json!({"change": "set_outbound", "handler": "zzz"}), "there are: closed, other, params"),
        (json!({"change": "set_outbound", "handler": "all.rhai"}), "no handler is named `all.rhai`"),
        (json!({"change": "set_outbound", "handler": "other", "params": [1]}), "no JSON object"),
        (json!({"change": "set_outbound", "handler": "closed", "params": {"a": 1}}), "only refuses"),
        (
            json!({"change": "set_outbound_by_host", "pattern": "google.*", "handler": "other"}),
            "name each host",
        ),
        (
            json!({"change": "set_outbound_by_host", "pattern": "spliced.test", "handler": "other"}),
            "passes TLS to it on unopened",
        ),
        (json!({"change": "allow_host", "pattern": "*"}), "internet = true"),
        (json!({"change": "deny_host", "pattern": "127.1"}), "plain decimal"),
        (json!({"change": "remove_denied_host", "pattern": ""}), "example.com"),
        (json!({"change": "replace_allowed_hosts", "patterns": ["a.test", "*.com"]}), "`*.example.com`"),
        (
            json!({"change": "replace_outbound_by_host", "handlers": {"a.test": {"handler": "other"}, "b.test": {"handler": "gone"}}}),
            "no handler is named `gone`",
        ),
        (
            json!({"change": "replace_outbound_by_host", "handlers": {"a.test": {"handler": "other"}, "A.test": {"handler": "closed"}}}),
            "mean the same",
        ),
    ];
    for (change, expected) in table {
        let error = policy.overridden(&changes(std::slice::from_ref(&change))).unwrap_err().to_string();
        assert!(error.contains(expected), "{change}: {error}");
    }
}

#[test]
fn params_of_an_override_take_the_place_of_the_documents() {
    let set = |params: serde_json::Value| {
        let set = json!({"change": "set_outbound", "handler": "params", "params": params});
        let policy = changed(DOCUMENT, &[set]);
        tests::judged("GET http://any.test", |request| match policy.decide(request).verdict {
            Verdict::Handle(handler, _) => (*handler.params).clone(),
            other => panic!("{other:?}"),
        })
    };
    assert_eq!(set(serde_json::Value::Null), json!({"hello": "document"}));
    assert_eq!(set(json!({"hello": "world"})), json!({"hello": "world"}));
    assert_eq!(set(json!({})), json!({}));
}

#[test]
fn p09_lists_are_changed_and_changed_back() {
    let document = "allowed_hosts = [\"a.test\", \"b.test\"]\ndenied_hosts = [\"c.test\"]";
    let allow = |host: &str| json!({"change": "allow_host", "pattern": host});
    let deny = |host: &str| json!({"change": "deny_host", "pattern": host});
    let unallow = |host: &str| json!({"change": "remove_allowed_host", "pattern": host});
    let undeny = |host: &str| json!({"change": "remove_denied_host", "pattern": host});
    let table = [
        (vec![deny("a.test")], "http://a.test.", "refuse denied_host"),
        (vec![deny("A.test."), undeny("a.test")], "http://a.test", "forward"),
        (vec![unallow("A.TEST")], "http://a.test", "refuse not_in_allowed_hosts"),
        (vec![unallow("a.test"), allow("a.test")], "http://a.test", "forward"),
        (vec![allow("*.d.test")], "http://x.d.test", "forward"),
        (vec![allow("d.test"), unallow("d.test")], "http://d.test", "refuse not_in_allowed_hosts"),
        (vec![allow("c.test"), undeny("c.test")], "http://c.test", "forward"),
        (
            vec![json!({"change": "replace_allowed_hosts", "patterns": []})],
            "http://a.test",
            "refuse not_in_allowed_hosts",
        ),
        (
            vec![json!({"change": "replace_allowed_hosts", "patterns": ["d.test"]}), allow("e.test")],
            "http://e.test",
            "forward",
        ),
        (
            vec![json!({"change": "replace_denied_hosts", "patterns": []}), allow("c.test")],
            "http://c.test",
            "forward",
        ),
        (vec![unallow("a.test"), json!({"change": "reset"})], "http://a.test", "forward"),
    ];
    for (list, url, expected) in table {
        let policy = changed(document, &list);
        let url = url.trim_end_matches('.');
        assert_eq!(answer(&policy, &format!("GET {url}")), expected, "{list:?}");
    }
}

#[test]
fn a_host_allowed_without_a_list_passes_and_closes_nothing() {
    let document = "[[rules]]\nhost = \"ruled.test\"\nmethods = [\"GET\"]";
    let allow = |host: &str| json!({"change": "allow_host", "pattern": host});
    let policy = changed(document, &[allow("a.test"), allow("ruled.test")]);
    assert_answers(
        &policy,
        &[
            ("GET https://a.test", "forward"),
            ("GET https://b.test", "refuse not_named"),
            ("GET https://ruled.test", "forward"),
            ("POST https://ruled.test", "refuse no_rule_matches"),
        ],
    );
    assert!(policy.reaches(&Host::parse("a.test").unwrap()).is_open());
    assert!(!policy.reaches(&Host::parse("b.test").unwrap()).is_open());
    assert_eq!(policy.summary().allowed_hosts, None);
}

#[test]
fn p22_denied_addresses_are_changed_too() {
    let policy = changed("", &[json!({"change": "deny_host", "pattern": "10.1.0.0/16"})]);
    assert!(policy.denies_address("10.1.2.3:80".parse().unwrap()).is_some());
    assert!(policy.denies_address("10.2.2.3:80".parse().unwrap()).is_none());
    assert_eq!(policy.splices(&Authority::parse("spliced.test", 443).unwrap()), None);
}

#[test]
fn a_denied_host_is_not_spliced_any_more() {
    let authority = Authority::parse("spliced.test", 443).unwrap();
    assert!(policy(DOCUMENT).splices(&authority).is_some());
    let policy = changed(DOCUMENT, &[json!({"change": "deny_host", "pattern": "spliced.test"})]);
    assert_eq!(policy.splices(&authority), None);
    assert!(policy.admits_fetch(Scheme::Https, &authority).is_err());
}

#[test]
fn p29_p30_what_is_no_longer_known_is_left_out_and_the_rest_kept() {
    let overrides = changes(&[
        json!({"change": "set_outbound", "handler": "gone"}),
        json!({"change": "set_outbound_by_host", "pattern": "a.test", "handler": "other"}),
        json!({"change": "set_outbound_by_host", "pattern": "b.test", "handler": "gone"}),
        json!({"change": "deny_host", "pattern": "denied.test"}),
        json!({"change": "deny_host", "pattern": "bad.*"}),
        json!({"change": "remove_denied_host", "pattern": "never.test"}),
    ]);
    let kept = serde_json::from_value(serde_json::to_value(&overrides).unwrap()).unwrap();
    let (policy, in_force, warnings) = policy(DOCUMENT).overridden_leniently(&kept);
    assert_eq!(warnings.len(), 3, "{warnings:?}");
    for words in ["the handler of every host", "the handler of `b.test`", "a change of `denied_hosts`"] {
        assert!(warnings.iter().any(|warning| warning.starts_with(words)), "{words}: {warnings:?}");
    }
    assert_answers(
        &policy,
        &[
            ("GET http://a.test", "handle other"),
            ("GET http://b.test", "handle all.rhai"),
            ("GET http://denied.test", "refuse denied_host"),
        ],
    );
    let expected = changes(&[
        json!({"change": "set_outbound_by_host", "pattern": "a.test", "handler": "other"}),
        json!({"change": "deny_host", "pattern": "denied.test"}),
    ]);
    assert_eq!(in_force, expected);
    assert_eq!(*policy.overrides(), expected);
    assert_eq!(policy.overridden(&in_force).unwrap().generation(), policy.generation());
}

#[test]
fn a_generation_is_of_the_document_the_scripts_and_the_overrides() {
    let document = policy(DOCUMENT);
    let deny = |host: &str| json!({"change": "deny_host", "pattern": host});
    let one = document.overridden(&changes(&[deny("a.test")])).unwrap();
    let other = document.overridden(&changes(&[deny("b.test")])).unwrap();
    let names = [document.generation(), one.generation(), other.generation()];
    assert_eq!(std::collections::BTreeSet::from(names).len(), 3, "{names:?}");
    // From whatever policy of the document, the same overrides come to the same.
    assert_eq!(one.overridden(other.overrides()).unwrap().generation(), other.generation());
    assert_eq!(one.overridden(&Overrides::default()).unwrap().generation(), document.generation());
    // What says nothing here is no change.
    let nothing = json!({"change": "remove_denied_host", "pattern": "never.test"});
    assert_eq!(document.overridden(&changes(&[nothing])).unwrap().generation(), document.generation());
}

#[test]
fn the_way_out_is_the_same_while_nothing_about_it_changes() {
    let text = "denied_hosts = [\"a.test\"]\n[outbound_handlers]\nother = \"other.rhai\"";
    let first = policy(text);
    let set = json!({"change": "set_outbound", "handler": "other"});
    let handled = first.overridden(&changes(&[set])).unwrap();
    assert!(first.same_way_out(&handled) && handled.same_way_out(&first));
    assert!(first.same_way_out(&policy(text)));
    let denied = first.overridden(&changes(&[json!({"change": "deny_host", "pattern": "b.test"})])).unwrap();
    assert!(!first.same_way_out(&denied));
    assert!(!first.same_way_out(&policy("denied_hosts = [\"a.test\"]\n[upstream]\ndns = [\"1.1.1.1\"]")));
    let secret = "denied_hosts = [\"a.test\"]\noutbound = \"a.rhai\"\n[secrets.A]\nsource = \"env://A\"\nhosts = [\"b.test\"]";
    assert!(!first.same_way_out(&policy(secret)));
}

#[test]
fn the_policy_in_force_says_what_was_changed() {
    let policy = changed(
        "allowed_hosts = [\"a.test\"]\n[outbound_handlers]\nother = \"other.rhai\"",
        &[
            json!({"change": "allow_host", "pattern": "b.test"}),
            json!({"change": "set_outbound", "handler": "other", "params": {"x": 1}}),
        ],
    );
    let effective = policy.effective();
    let of = |key: &str| {
        let entries = effective.entries.iter().filter(move |entry| entry.key == key);
        entries.map(|entry| (entry.value.as_str(), entry.source.clone())).collect::<Vec<_>>()
    };
    let document = Source::Document { file: "sluicegate.toml".into(), line: 2 };
    assert_eq!(of("allowed_hosts"), [("a.test", document), ("b.test", Source::Runtime)]);
    let (value, source) = of("outbound").remove(0);
    assert!(
        value.starts_with("other (other.rhai, version ") && value.ends_with("params {\"x\":1})"),
        "{value}"
    );
    assert_eq!(source, Source::Runtime);
    assert_eq!(of("internet"), [("false", Source::Default)]);
}

#[test]
fn many_hosts_are_shared_and_not_copied() {
    let hosts: Vec<String> = (0..2_000).map(|number| format!("\"h{number}.test\"")).collect();
    let document = policy(&format!("allowed_hosts = [{}]", hosts.join(",")));
    let one = document.overridden(&changes(&[json!({"change": "allow_host", "pattern": "b.test"})])).unwrap();
    assert!(Arc::ptr_eq(&document.written, &one.written));
    let list: Vec<String> = (0..2_000).map(|number| format!("r{number}.test")).collect();
    let replaced = document
        .overridden(&changes(&[json!({"change": "replace_allowed_hosts", "patterns": list})]))
        .unwrap();
    let mut more = replaced.overrides().clone();
    more.apply(&Change::DenyHost { pattern: "x.test".into() });
    let again = replaced.overridden(&more).unwrap();
    let compiled = |policy: &Policy| Arc::clone(policy.allowed.as_ref().unwrap().replacement().unwrap());
    assert!(Arc::ptr_eq(&compiled(&replaced), &compiled(&again)));
}

#[test]
fn a_named_handler_is_a_script_or_a_refusal() {
    let policy = policy(DOCUMENT);
    let named = &policy.written.handlers;
    assert!(matches!(named["closed"].action, HandlerAction::Deny(_)));
    assert!(matches!(named["other"].action, HandlerAction::Script(_)));
    assert_eq!(
        policy.scripts().collect::<Vec<_>>(),
        ["all.rhai", "other.rhai", "own.rhai", "params.rhai", "static.rhai"]
    );
}
