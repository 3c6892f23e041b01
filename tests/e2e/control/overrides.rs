//! Handlers that are set while the instance runs, each change whole or not at all.

use e2e::{Site, World};
use serde_json::json;

use crate::support::{
    actions, ask, asked, assert_line, control, generation, named_handlers, operator, refused,
};

#[test]
fn p25_an_unknown_handler_is_an_error_and_changes_nothing() {
    let world = World::new("p25");
    let site = Site::start(&world);
    let text = named_handlers(&world, &["allow", "other"]);
    let gate = world.gate(&site.policy(&world, &text, &["h.test"])).named("box").attach();
    operator(&gate, &["handler", "set", "allow"]);
    let before = generation(&gate);
    for arguments in [
        &["handler", "set", "alow"][..],
        &["handler", "set", "alow", "--host", "h.test"],
        &["handler", "set", ""],
        &["handler", "set", "handlers/allow.rhai"],
    ] {
        let outcome = refused(&gate, arguments, 64);
        if arguments.contains(&"alow") {
            assert!(outcome.stderr.contains("`allow`"), "no suggestion: {outcome:?}");
        }
        assert_eq!(generation(&gate), before);
        assert_eq!(ask(&gate, &["https://h.test/"]), "allow {}");
    }
    let (problem, status) = control(
        &world,
        &gate,
        &[
            "-X",
            "PUT",
            "-H",
            "content-type: application/json",
            "-d",
            "{\"handler\":\"alow\"}",
            "http://gate/v1/outbound",
        ],
    );
    assert_eq!(status, 400, "{problem}");
    assert_line(&problem, &json!({"type": "sluicegate:invalid", "status": 400}));
    assert_eq!(generation(&gate), before);
    site.assert_untouched();
}

#[test]
fn p26_a_replacement_with_one_bad_entry_changes_nothing() {
    let world = World::new("p26");
    let site = Site::start(&world);
    let text = named_handlers(&world, &["one", "two"]);
    let gate = world.gate(&site.policy(&world, &text, &[])).named("box").attach();
    let replace = |body: &str| {
        control(
            &world,
            &gate,
            &[
                "-X",
                "PUT",
                "-H",
                "content-type: application/json",
                "-d",
                body,
                "http://gate/v1/outbound-by-host",
            ],
        )
    };
    let (published, status) = replace(r#"{"a.test": {"handler": "one"}, "b.test": {"handler": "one"}}"#);
    assert_eq!((status, &published["changed"]), (200, &json!(true)), "{published}");
    let before = generation(&gate);
    for bad in [
        r#"{"a.test": {"handler": "two"}, "c.test": {"handler": "three"}}"#,
        r#"{"a.test": {"handler": "two"}, "not a host": {"handler": "two"}}"#,
        r#"{"a.test": {"handler": "two"}, "A.test.": {"handler": "one"}}"#,
        r#"{"a.test": {"handler": "two"}, "d.test": {"handler": "one", "params": 7}}"#,
        r#"{"a.test": {"handler": "two"}, "d.test": {"handlr": "one"}}"#,
        r#"{"a.test": {"handler": "two"}"#,
    ] {
        let (problem, status) = replace(bad);
        assert_eq!(status, 400, "{bad}: {problem}");
        assert_eq!(generation(&gate), before, "{bad}");
        assert_eq!(ask(&gate, &["http://a.test/"]), "one {}");
        assert_eq!(ask(&gate, &["http://b.test/"]), "one {}");
    }
    // And a good one takes the place of all there was.
    let (published, status) = replace(r#"{"b.test": {"handler": "two", "params": {"x": 1}}}"#);
    assert_eq!(status, 200, "{published}");
    assert_eq!(ask(&gate, &["http://a.test/"]), "403 not_named");
    assert_eq!(ask(&gate, &["http://b.test/"]), "two {\"x\":1}");
}

#[test]
fn p31_what_is_cleared_gives_way_to_the_document() {
    let world = World::new("p31");
    let site = Site::start(&world);
    let text = format!("outbound = \"static\"\n{}", named_handlers(&world, &["static", "runtime"]));
    let gate = world.gate(&site.policy(&world, &text, &[])).named("box").attach();
    let at_start = generation(&gate);
    assert_eq!(ask(&gate, &["http://h.test/"]), "static {}");
    let set = asked(&gate, &["handler", "set", "runtime", "--params", "{\"a\":[1]}"]);
    assert_line(&set, &json!({"previous": at_start, "changed": true}));
    assert_eq!(ask(&gate, &["http://h.test/"]), "runtime {\"a\":[1]}");
    let again = asked(&gate, &["handler", "set", "runtime", "--params", "{\"a\":[1]}"]);
    assert_line(&again, &json!({"generation": set["generation"], "changed": false}));
    let cleared = asked(&gate, &["handler", "clear"]);
    assert_line(&cleared, &json!({"generation": at_start, "changed": true}));
    assert_eq!(ask(&gate, &["http://h.test/"]), "static {}");
    // Every change is written down, with who made it.
    let log = gate.log();
    let changes = actions(&log, "override_changed");
    assert!(changes.len() >= 2, "{log:#?}");
    for line in changes {
        assert!(line["actor"].as_str().unwrap().starts_with("uid 0"), "{line}");
    }
}

#[test]
fn handlers_of_hosts_are_set_listed_and_cleared() {
    let world = World::new("handlers");
    let site = Site::start(&world);
    let text = named_handlers(&world, &["one", "two"]);
    let gate = world.gate(&site.policy(&world, &text, &[])).named("box").attach();
    let listed = asked(&gate, &["handler", "list"]);
    assert_eq!(listed["available"].as_array().unwrap().len(), 2, "{listed:#}");
    assert_eq!(listed["bound"], json!([]));
    operator(&gate, &["handler", "set", "one", "--host", "*.a.test", "--params", "{\"n\":1}"]);
    let params = world.file("params.json", "{\"n\": 2}");
    operator(
        &gate,
        &["handler", "set", "two", "--host", "x.a.test", "--params", &format!("@{}", params.display())],
    );
    operator(&gate, &["handler", "set", "one"]);
    for (host, answer) in [("y.a.test", "one {\"n\":1}"), ("x.a.test", "two {\"n\":2}"), ("b.test", "one {}")]
    {
        assert_eq!(ask(&gate, &[&format!("https://{host}/")]), answer, "{host}");
    }
    let bound = asked(&gate, &["handler", "list"])["bound"].clone();
    let keys: Vec<_> = bound.as_array().unwrap().iter().map(|line| line["key"].as_str().unwrap()).collect();
    for key in ["outbound", "outbound_by_host.*.a.test", "outbound_by_host.x.a.test"] {
        assert!(keys.contains(&key), "no {key} in {bound:#}");
    }
    assert!(bound.as_array().unwrap().iter().all(|line| line["source"] == "runtime"), "{bound:#}");
    operator(&gate, &["handler", "clear", "--host", "X.a.test."]);
    assert_eq!(ask(&gate, &["https://x.a.test/"]), "one {\"n\":1}");
    operator(&gate, &["handler", "clear", "--all"]);
    assert_eq!(asked(&gate, &["handler", "list"])["bound"], json!([]));
    assert_eq!(ask(&gate, &["https://x.a.test/"]), "403 not_named");
    refused(&gate, &["handler", "set", "one", "--params", "[1]"], 64);
    refused(&gate, &["handler", "set", "one", "--params", "{"], 64);
    refused(&gate, &["handler", "set", "one", "--host", "google.*"], 64);
}
