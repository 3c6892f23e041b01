//! What the log tells of requests with handlers, and what audit mode lets pass.

use e2e::{Site, World};
use serde_json::{Value, json};

use crate::support::{answer, assert_answer, assert_line, assert_refused, curl, handler};

#[test]
fn o01_one_line_for_the_exchange_and_one_for_each_fetch() {
    let world = World::new("o01");
    let site = Site::start(&world);
    handler(
        &world,
        "two",
        "let other = fetch(\"http://other.test/side?secret=1\");\nother.read_text(1000);\n\
         log(\"debug\", \"between\");\nfetch(request)",
    );
    let text = "[[rules]]\nname = \"both\"\nhost = \"api.test\"\nhandler = \"handlers/two.rhai\"";
    let policy = site.policy(&world, text, &["api.test", "other.test"]);
    let outcome = world.run(&policy, curl(&["-d", "12345", "https://api.test/path?secret=2"]));
    assert_answer(&outcome, "origin: api.test");
    let line = outcome.only_exchange();
    assert_line(
        line,
        &json!({
            "verdict": "allowed", "rule": "both", "scheme": "https", "method": "POST", "host": "api.test",
            "port": 443, "path": "/path", "sni": "api.test", "status": 200, "request_bytes": 5,
            "response_bytes": "origin: api.test".len(), "complete": true, "handler": "handlers/two.rhai",
            "fetches": 2,
        }),
    );
    for field in
        ["request_id", "generation", "handler_version", "instance", "client", "original_destination", "time"]
    {
        assert!(line[field].is_string(), "no {field} in {line:#}");
    }
    for field in ["duration_ms", "handler_ms"] {
        assert!(line[field].is_number(), "no {field} in {line:#}");
    }
    let fetches = outcome.lines("fetch");
    assert_eq!(fetches.len(), 2, "{outcome:#?}");
    let of = |host: &str| *fetches.iter().find(|line| line["host"] == host).unwrap();
    let expected = [
        (
            "other.test",
            json!({"scheme": "http", "method": "GET", "port": 80, "path": "/side", "response_bytes": 18}),
        ),
        (
            "api.test",
            json!({"scheme": "https", "method": "POST", "port": 443, "path": "/path", "request_bytes": 5}),
        ),
    ];
    for (host, fields) in expected {
        let fetch = of(host);
        assert_line(fetch, &fields);
        assert_line(fetch, &json!({"verdict": "allowed", "upstream_status": 200, "complete": true}));
        for field in ["request_id", "handler", "handler_version", "generation", "instance"] {
            assert_eq!(fetch[field], line[field], "{field} in {fetch:#}");
        }
        assert!(fetch["upstream"].is_string(), "{fetch:#}");
    }
    assert_line(
        outcome.lines("handler")[0],
        &json!({"level": "debug", "message": "between", "request_id": line["request_id"]}),
    );
    assert!(outcome.log.iter().all(|line| !line.to_string().contains("secret=")), "a query in the log");
}

#[test]
fn o01_the_version_of_a_handler_is_that_of_its_text() {
    let world = World::new("o01-version");
    let site = Site::start(&world);
    let version = |body: &str| {
        handler(&world, "one", body);
        let outcome = world
            .run(&site.policy(&world, "outbound = \"handlers/one.rhai\"", &[]), curl(&["http://h.test/"]));
        assert_eq!(answer(&outcome).1, "200 ", "{outcome:?}");
        let line = outcome.only_exchange();
        (line["handler_version"].clone(), line["generation"].clone())
    };
    let (first, other, again) =
        (version("reply(200, \"a\")"), version("reply(200, \"b\")"), version("reply(200, \"a\")"));
    assert_eq!(first, again);
    assert!(first.0 != other.0 && first.1 != other.1, "{first:?} {other:?}");
}

#[test]
fn o03_a_refusal_of_a_handler_looks_as_the_document_says() {
    let world = World::new("o03");
    let site = Site::start(&world);
    handler(&world, "denies", "deny(`not \"${request.path}\"`)");
    let text = "outbound = \"handlers/denies.rhai\"\n[refusal]\nstatus = 451\n\
                body = '{\"code\":\"${reason}\",\"why\":\"${detail}\",\"id\":\"${request_id}\"}'\n\
                headers = { content-type = \"application/json\", x-why = \"policy\" }";
    let outcome = world.run(
        &site.policy(&world, text, &["h.test"]),
        [
            "curl",
            "-sS",
            "-w",
            "\n%{http_code} %header{x-why} %header{content-type} %header{x-sluicegate-reason}",
            "https://h.test/x",
        ],
    );
    let (body, rest) = answer(&outcome);
    assert_eq!(rest, "451 policy application/json denied_by_handler", "{outcome:?}");
    let body: Value = serde_json::from_str(body).unwrap();
    let line = outcome.only_exchange();
    assert_line(&body, &json!({"code": "denied_by_handler", "why": "not \"/x\"", "id": line["request_id"]}));
    assert_line(line, &json!({"verdict": "refused", "reason": "denied_by_handler", "status": 451}));
    site.assert_untouched();
}

#[test]
fn o04_audit_mode_passes_and_tells_what_would_be_refused() {
    let world = World::new("o04");
    let site = Site::start(&world);
    let rules = "denied_hosts = [\"denied.test\"]\n[[rules]]\nhost = \"api.test\"\nmethods = [\"GET\"]\n\
                 [[rules]]\nhost = \"deny.test\"\ndeny = \"on trial\"";
    let names = ["denied.test", "api.test", "deny.test", "unnamed.test"];
    let cases: [(&[&str], Option<&str>); 5] = [
        (&["https://denied.test/"], Some("denied_host")),
        (&["https://api.test/"], None),
        (&["-d", "x", "http://api.test/"], Some("no_rule_matches")),
        (&["http://deny.test/"], Some("denied_by_rule")),
        (&["https://unnamed.test/"], Some("not_named")),
    ];
    for (arguments, would_refuse) in cases {
        let audited = format!("mode = \"audit\"\n{rules}");
        let outcome = world.run(&site.policy(&world, &audited, &names), curl(arguments));
        assert_eq!(answer(&outcome).1, "200 ", "{outcome:?}");
        assert_line(outcome.only_exchange(), &json!({"verdict": "allowed", "would_refuse": would_refuse}));
        let before = site.requests().len();
        let outcome = world.run(&site.policy(&world, rules, &names), curl(arguments));
        match would_refuse {
            Some(reason) => {
                assert_refused(&outcome, reason);
                assert_eq!(site.requests().len(), before);
            }
            None => assert_eq!(answer(&outcome).1, "200 "),
        }
        assert_line(outcome.only_exchange(), &json!({"would_refuse": null}));
    }
}

#[test]
fn o04_one_rule_can_be_on_trial() {
    let world = World::new("o04-rule");
    let site = Site::start(&world);
    handler(&world, "runs", "reply(200, \"handled\")");
    let text = "outbound_by_host.\"handled.test\" = \"handlers/runs.rhai\"\ninternet = true\n\
                [[rules]]\nhost = \"new.test\"\ndeny = \"trial\"\nmode = \"audit\"\n\
                [[rules]]\nhost = \"old.test\"\ndeny = \"for good\"\n\
                [[rules]]\nhost = \"handled.test\"\npaths = [\"/x\"]\ndeny = \"trial\"\nmode = \"audit\"";
    let policy = site.policy(&world, text, &["new.test", "old.test", "handled.test"]);
    let outcome = world.run(&policy, curl(&["https://new.test/"]));
    assert_answer(&outcome, "origin: new.test");
    assert_line(outcome.only_exchange(), &json!({"verdict": "allowed", "would_refuse": "denied_by_rule"}));
    assert_refused(&world.run(&policy, curl(&["https://old.test/"])), "denied_by_rule");
    // A handler runs for what would be refused as for anything else.
    let outcome = world.run(&policy, curl(&["https://handled.test/x"]));
    assert_answer(&outcome, "handled");
    assert_line(outcome.only_exchange(), &json!({"verdict": "answered", "would_refuse": "denied_by_rule"}));
}

#[test]
fn o04_secrets_stay_where_they_are_bound_in_audit_mode() {
    let world = World::new("o04-secret");
    let site = Site::start(&world);
    handler(&world, "sends", "request.set_bearer(env.secrets.TOKEN);\nfetch(request)");
    let text = "mode = \"audit\"\noutbound = \"handlers/sends.rhai\"\n[secrets.TOKEN]\nsource = \"env://TOKEN\"\nhosts = [\"api.test\"]";
    let gate = world.gate(&site.policy(&world, text, &["other.test"])).env("TOKEN", "value-of-the-token");
    let outcome = gate.run(curl(&["https://other.test/"]));
    assert_refused(&outcome, "secret_not_bound");
    site.assert_untouched();
}
