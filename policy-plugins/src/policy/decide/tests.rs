//! The order of a decision: lists, rules, handlers, what passes by itself.

use crate::deny_reason::DenyReason;
use crate::host::{Authority, Host, Scheme};
use crate::policy::Reach;
use crate::policy::tests::{answer, assert_answers, judged, policy};
use crate::verdict::{Refusal, Verdict};

const HANDLERS: &str = r#"
allowed_hosts = ["by-host.test", "allowed.test", "*.glob.test", "10.1.0.0/16:*", "[2001:db8::]/32", "11.0.0.1:*", "both.test"]
denied_hosts = ["both.test"]
outbound = "all.rhai"

[outbound_by_host]
"by-host.test" = "by-host.rhai"
"*.glob.test" = "glob.rhai"
"*.b.glob.test" = "below.rhai"
"10.1.0.0/16" = "range.rhai"
"[2001:db8::]/32" = "range6.rhai"
"11.0.0.1:9999" = "port.rhai"
"both.test" = "both.rhai"
"#;

/// As [`policy`], for documents of which warnings are the point.
fn warned(text: &str) -> crate::policy::Policy {
    crate::Policy::compile("a.toml", &format!("version = 1\n{text}"), &crate::policy::tests::Files)
        .unwrap()
        .policy
}

#[test]
fn p03_p04_p06_p07_p13_p22_p23_the_most_specific_handler_runs() {
    let policy = warned(HANDLERS);
    assert_answers(
        &policy,
        &[
            ("GET http://by-host.test", "handle by-host.rhai"),
            ("GET http://allowed.test", "handle all.rhai"),
            ("GET https://api.glob.test", "handle glob.rhai"),
            ("GET https://a.x.glob.test", "handle glob.rhai"),
            ("GET https://a.b.glob.test", "handle below.rhai"),
            ("GET https://glob.test", "refuse not_in_allowed_hosts"),
            ("GET http://10.1.2.3", "handle range.rhai"),
            ("GET http://10.1.2.3:81", "handle all.rhai"),
            ("GET https://[2001:db8::7]", "handle range6.rhai"),
            ("GET http://11.0.0.1:9999", "handle port.rhai"),
            ("GET http://11.0.0.1:9998", "handle all.rhai"),
        ],
    );
}

#[test]
fn p05_p10_a_handler_does_not_run_for_what_the_lists_refuse() {
    let policy = warned(HANDLERS);
    assert_eq!(answer(&policy, "GET http://both.test"), "refuse denied_host");
    let policy = warned("allowed_hosts = [\"a.test\"]\n[outbound_by_host]\n\"b.test\" = \"b.rhai\"");
    assert_eq!(answer(&policy, "GET http://b.test"), "refuse not_in_allowed_hosts");
}

#[test]
fn p18_an_empty_list_allows_no_handler_either() {
    let policy = warned("allowed_hosts = []\noutbound = \"all.rhai\"");
    assert_eq!(answer(&policy, "GET http://a.test"), "refuse not_in_allowed_hosts");
    assert_eq!(
        policy.reaches(&Host::parse("a.test").unwrap()),
        Reach::Refused(DenyReason::NotInAllowedHosts)
    );
}

#[test]
fn p24_rules_come_before_handlers_and_a_rules_own_handler_before_the_documents() {
    let policy = policy(
        r#"
outbound = "all.rhai"

[outbound_by_host]
"api.test" = "api.rhai"

[outbound_handlers]
closed = { deny = "the network is closed" }

[[rules]]
host = "api.test"
methods = ["GET"]
paths = ["/own/**"]
handler = "own.rhai"

[[rules]]
host = "api.test"
methods = ["GET"]
set_headers = { x-by = "rule" }

[[rules]]
host = "api.test"
paths = ["/no/**"]
deny = "no"

[[rules]]
host = "api.test"
paths = ["/fixed"]
respond = { status = 204 }

[[rules]]
host = "closed.test"
handler = "closed"
"#,
    );
    assert_answers(
        &policy,
        &[
            ("GET https://api.test/own/x", "handle own.rhai"),
            ("GET https://api.test/x", "handle api.rhai edited"),
            ("GET https://api.test/no/x", "refuse denied_by_rule"),
            ("GET https://api.test/fixed", "respond 204"),
            ("POST https://api.test/x", "refuse no_rule_matches"),
            ("GET https://api.test/%2e%2e/x", "refuse ambiguous_path"),
            ("GET https://closed.test/x", "refuse denied_by_handler"),
            ("GET https://other.test/x", "handle all.rhai"),
        ],
    );
    let refusal = judged("GET https://closed.test/", |request| match policy.decide(request).verdict {
        Verdict::Refuse(refusal) => refusal,
        other => panic!("{other:?}"),
    });
    let detail = String::from("the network is closed");
    assert_eq!(refusal, Refusal { reason: DenyReason::DeniedByHandler, detail });
}

#[test]
fn names_with_a_handler_are_open() {
    let open = |text: &str, host: &str| policy(text).reaches(&Host::parse(host).unwrap()).is_open();
    assert!(open("outbound = \"all.rhai\"", "a.test"));
    assert!(open("[outbound_by_host]\n\"*.a.test:81\" = \"a.rhai\"", "b.a.test"));
    assert!(!open("[outbound_by_host]\n\"*.a.test:81\" = \"a.rhai\"", "a.test"));
    let denied = "outbound = \"all.rhai\"\n[[rules]]\nhost = \"a.test\"\ndeny = \"no\"";
    assert!(!open(denied, "a.test"));
    assert!(open(denied, "b.test"));
}

#[test]
fn a_rule_asks_a_person_for_what_it_lets_through() {
    let policy = policy(
        r#"
[outbound_handlers]
closed = { deny = "closed" }

[[rules]]
host = "api.test"
methods = ["POST"]
ask = "really write?"
ask_seconds = 5
set_headers = { x-by = "rule" }

[[rules]]
host = "closed.test"
ask = "for nothing?"
handler = "closed"

[[rules]]
host = "api.test"
"#,
    );
    assert_answers(
        &policy,
        &[
            ("POST https://api.test/", "forward edited ask"),
            ("GET https://closed.test/", "refuse denied_by_handler"),
            ("GET https://api.test/", "forward"),
        ],
    );
    judged("POST https://api.test/", |request| {
        let ask = policy.decide(request).ask.unwrap();
        assert_eq!((&*ask.reason, ask.patience.as_secs()), ("really write?", 5));
    });
}

const AUDITED: &str = r#"
mode = "audit"
allowed_hosts = ["a.test", "handled.test"]
denied_hosts = ["denied.test", "10.0.0.0/8"]

[outbound_by_host]
"handled.test" = "handled.rhai"

[[rules]]
host = "a.test"
methods = ["GET"]
paths = ["/v1/**"]
set_headers = { x-by = "rule" }

[[rules]]
host = "a.test"
methods = ["PUT"]
ask = "really?"

[[rules]]
host = "handled.test"
paths = ["/no"]
deny = "no"

[[rules]]
host = "handled.test"
paths = ["/never"]
deny = "never"
mode = "enforce"
"#;

#[test]
fn o04_an_audited_policy_lets_pass_and_says_what_it_would_refuse() {
    let policy = policy(AUDITED);
    assert_answers(
        &policy,
        &[
            ("GET https://a.test/v1/x", "forward edited"),
            ("POST https://a.test/v1/x", "forward would no_rule_matches"),
            ("GET https://a.test/v1/%2e%2e/x", "forward would ambiguous_path"),
            ("PUT https://a.test/v1/x", "forward would approval_required"),
            ("GET https://denied.test/", "forward would denied_host"),
            ("GET http://10.0.0.1/", "forward would denied_host"),
            ("GET https://b.test/", "forward would not_in_allowed_hosts"),
            ("GET https://handled.test/", "handle handled.rhai"),
            ("GET https://handled.test/no", "handle handled.rhai would denied_by_rule"),
            ("GET https://handled.test/never", "refuse denied_by_rule"),
        ],
    );
    for name in ["denied.test", "b.test", "a.test"] {
        assert!(policy.reaches(&Host::parse(name).unwrap()).is_open(), "{name}");
    }
    let authority = Authority::parse("denied.test", 443).unwrap();
    let would_refuse = policy.admits_fetch(Scheme::Https, &authority).unwrap();
    assert!(would_refuse.is_some(), "it passes unnoticed");
    assert!(policy.denies_address("10.0.0.1:80".parse().unwrap()).is_some());
}

#[test]
fn o04_a_handler_that_only_refuses_is_audited_too() {
    let policy = policy("mode = \"audit\"\noutbound = { deny = \"closed\" }");
    assert_eq!(answer(&policy, "GET https://a.test/"), "forward would denied_by_handler");
}

#[test]
fn o04_a_rule_on_trial_only_says_what_it_would_refuse() {
    let policy = policy(
        r#"
[[rules]]
host = "open.test"

[[rules]]
name = "trial"
host = "open.test"
paths = ["/admin/**"]
deny = "closed"
mode = "audit"

[[rules]]
host = "closing.test"
methods = ["GET"]
mode = "audit"

[[rules]]
host = "asked.test"
ask = "really?"
mode = "audit"

[[rules]]
host = "denied.test"
deny = "on trial"
mode = "audit"

[[rules]]
host = "denied.test"
methods = ["POST"]
deny = "in earnest"
"#,
    );
    assert_answers(
        &policy,
        &[
            ("GET https://open.test/", "forward"),
            ("GET https://open.test/admin/x", "forward would denied_by_rule"),
            ("GET https://open.test/%2e%2e/admin", "forward would ambiguous_path"),
            ("GET https://closing.test/", "forward"),
            // Without the rule nothing names the host.
            ("POST https://closing.test/", "refuse not_named"),
            ("GET https://asked.test/", "forward would approval_required"),
            ("GET https://denied.test/", "refuse not_named"),
            ("POST https://denied.test/", "refuse denied_by_rule"),
        ],
    );
    judged("GET https://open.test/admin/x", |request| {
        let refusal = policy.decide(request).would_refuse.unwrap();
        assert_eq!(refusal.detail, "rule \"trial\": closed");
    });
}

#[test]
fn a_fetch_of_a_handler_passes_the_lists_and_no_rule() {
    let policy = policy("denied_hosts = [\"denied.test\"]\n[[rules]]\nhost = \"a.test\"\ndeny = \"no\"");
    let admits = |text: &str| {
        let authority = Authority::parse(text, 443).unwrap();
        policy
            .admits_fetch(Scheme::Https, &authority)
            .map(|would_refuse| assert_eq!(would_refuse, None))
            .map_err(|refusal| refusal.reason)
    };
    assert_eq!(admits("a.test"), Ok(()));
    assert_eq!(admits("elsewhere.test"), Ok(()));
    assert_eq!(admits("denied.test"), Err(DenyReason::DeniedHost));
}
