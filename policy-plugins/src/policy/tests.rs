//! What a policy answers, asked from outside.

use std::net::SocketAddr;

use super::*;
use crate::content::Content;
use crate::edits::{HeaderEdit, QueryEdit};
use crate::handler::{Entry, Exports, Program, ScriptProblem};
use crate::host::{Host, WrittenAuthority};
use crate::sources::NoSources;
use crate::template::Template;
use crate::verdict::{Decision, Refusal, Verdict};

/// Every file that ends in `.rhai`, but for those below `missing/`.
pub(super) struct Files;

impl Sources for Files {
    fn read(&self, path: &str) -> Result<Content, String> {
        if path.starts_with("missing/") {
            return Err(String::from("no such file"));
        }
        Ok(format!("// {path}\nfn outbound(request, env, ctx) {{ fetch(request) }}\n").into())
    }

    fn program(&self, _program: &Program) -> Result<Exports, ScriptProblem> {
        Ok(Exports { entries: vec![Entry::Outbound], needs_reveal: false })
    }
}

/// A document with its version and handlers, which must compile without warnings.
pub(super) fn policy(text: &str) -> Policy {
    let compiled = match Policy::compile("sluicegate.toml", &format!("version = 1\n{text}"), &Files) {
        Ok(compiled) => compiled,
        Err(error) => panic!("{:?}", error.problems()),
    };
    assert!(compiled.warnings.is_empty(), "{:?}", compiled.warnings);
    compiled.policy
}

/// A question such as `GET https://a.test/` with the policy's judgement.
pub(super) fn judged<T>(question: &str, judge: impl FnOnce(&RequestFacts<'_>) -> T) -> T {
    let (method, url) = question.split_once(' ').unwrap();
    let (scheme, rest) = url.split_once("://").unwrap();
    let scheme = if scheme == "https" { Scheme::Https } else { Scheme::Http };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let authority = WrittenAuthority::parse(authority).unwrap().or_port(scheme.default_port());
    let method = Method::from_bytes(method.as_bytes()).unwrap();
    let path = if path.is_empty() { "/" } else { path };
    judge(&RequestFacts { scheme, authority: &authority, method: &method, path, carries_dns: false })
}

/// What is decided, in one line.
pub(super) fn answer(policy: &Policy, question: &str) -> String {
    judged(question, |request| {
        let decision = policy.decide(request);
        let mut text = match &decision.verdict {
            Verdict::Forward(_) => String::from("forward"),
            Verdict::Handle(handler, _) => format!("handle {}", handler.name),
            Verdict::Respond(answer) => format!("respond {}", answer.status.as_u16()),
            Verdict::Refuse(refusal) => format!("refuse {}", refusal.reason),
        };
        if let Verdict::Forward(edits) | Verdict::Handle(_, edits) = &decision.verdict
            && !edits.is_empty()
        {
            text.push_str(" edited");
        }
        if decision.ask.is_some() {
            text.push_str(" ask");
        }
        if let Some(refusal) = decision.would_refuse {
            text.push_str(&format!(" would {}", refusal.reason));
        }
        text
    })
}

/// Asks a table of questions.
pub(super) fn assert_answers(policy: &Policy, table: &[(&str, &str)]) {
    for (question, expected) in table {
        assert_eq!(answer(policy, question), *expected, "{question}");
    }
}

const DOCUMENT: &str = r#"
version = 1
denied_hosts = ["denied.test"]

[secrets.TOKEN]
source = "file://token"
hosts = ["api.test"]

[[rules]]
host = "api.test"
methods = ["GET", "HEAD"]
paths = ["/v1/**"]
set_headers = { X-Token = "${secret:TOKEN}", Cookie = "a" }
remove_headers = ["Cookie", "x-debug"]
set_query = { key = "k" }

[upstream]
extra_ca = ["ca.pem"]
resolve = { "API.test.:443" = "[::ffff:127.0.0.1]:9443" }
allow_ranges = ["10.1.0.0/16", "192.168.0.1"]
dns = ["1.1.1.1", "[2001:db8::53]:5353", "2001:db8::53"]
connect_timeout_ms = 1500

[refusal]
status = 451
headers = { content-type = "application/json", x-reason = "policy" }
body = '{"why":"${detail}"}'
"#;

fn compiled(text: &str) -> Policy {
    Policy::compile("sluicegate.toml", text, &NoSources).unwrap().policy
}

fn decide<'policy>(policy: &'policy Policy, method: &Method, url: &str) -> Decision<'policy> {
    let (host, path) = url.split_once('/').unwrap();
    let authority = Authority::parse(host, 443).unwrap();
    let path = format!("/{path}");
    policy.decide(&RequestFacts {
        scheme: Scheme::Https,
        authority: &authority,
        method,
        path: &path,
        carries_dns: false,
    })
}

fn refused(policy: &Policy, method: &Method, url: &str) -> Refusal {
    match decide(policy, method, url).verdict {
        Verdict::Refuse(refusal) => refusal,
        other => panic!("{other:?}"),
    }
}

#[test]
fn p17_the_closed_policy_refuses_everything() {
    let policy = Policy::closed();
    assert_eq!(refused(&policy, &Method::GET, "a.test/").reason, DenyReason::NotNamed);
    assert_eq!(policy.reaches(&Host::parse("a.test").unwrap()), Reach::Refused(DenyReason::NotNamed));
    assert_eq!(policy.generation(), "e3b0c44298fc");
    assert_eq!(policy.refusal().status, 403);
}

#[test]
fn a_generation_is_named_after_its_text() {
    let (first, second) = (compiled("version = 1"), compiled("version = 1 "));
    assert_eq!(first.generation().len(), 12);
    assert_ne!(first.generation(), second.generation());
}

#[test]
fn edits_are_removals_and_then_settings() {
    let policy = compiled(DOCUMENT);
    let decision = decide(&policy, &Method::GET, "api.test/v1/x");
    let Verdict::Forward(edits) = decision.verdict else { panic!("{decision:?}") };
    assert_eq!(decision.rule, Some("rules[1]"));
    let template = |text| Template::parse(text).unwrap();
    assert_eq!(
        edits.headers,
        [
            HeaderEdit::Remove(http::header::COOKIE),
            HeaderEdit::Remove(http::HeaderName::from_static("x-debug")),
            HeaderEdit::Set(http::header::COOKIE, template("a")),
            HeaderEdit::Set(http::HeaderName::from_static("x-token"), template("${secret:TOKEN}")),
        ]
    );
    assert_eq!(edits.query, [QueryEdit { name: "key".into(), value: template("k") }]);
    let used: Vec<&str> = edits.secrets().map(|name| name.as_str()).collect();
    assert_eq!(used, ["TOKEN"]);
}

#[test]
fn o02_a_refusal_says_why_in_words() {
    let policy = compiled(DOCUMENT);
    let table = [
        ("denied.test/", DenyReason::DeniedHost, "`denied.test` in denied_hosts names denied.test:443"),
        (
            "other.test/",
            DenyReason::NotNamed,
            "nothing in the policy names other.test:443, and the internet is off",
        ),
        ("api.test/v2", DenyReason::NoRuleMatches, "rule \"rules[1]\" allows GET, HEAD on /v1/** only"),
    ];
    for (url, reason, detail) in table {
        assert_eq!(refused(&policy, &Method::GET, url), Refusal { reason, detail: detail.into() });
    }
    let ambiguous = refused(&policy, &Method::GET, "api.test/v1/%2e%2e/v2");
    assert_eq!(ambiguous.reason, DenyReason::AmbiguousPath);
    assert!(
        ambiguous.detail.contains("a dot segment") && ambiguous.detail.contains("rules[1]"),
        "{ambiguous:?}"
    );
}

#[test]
fn settings_are_parsed_and_normalised() {
    let policy = compiled(DOCUMENT);
    let upstream = policy.upstream();
    assert_eq!(*upstream.extra_ca, ["ca.pem".into()]);
    let resolved = upstream.resolve_override(&Authority::parse("api.test:443", 1).unwrap());
    assert_eq!(resolved, Some("127.0.0.1:9443".parse().unwrap()));
    assert_eq!(upstream.resolve_override(&Authority::parse("api.test:80", 1).unwrap()), None);
    let servers = ["1.1.1.1:53", "[2001:db8::53]:5353", "[2001:db8::53]:53"];
    let asked: Vec<_> = upstream.dns.iter().map(|server| server.address).collect();
    assert_eq!(asked, servers.map(|server| server.parse::<SocketAddr>().unwrap()));
    for (address, allowed) in [
        ("10.1.255.1", true),
        ("::ffff:10.1.0.1", true),
        ("192.168.0.1", true),
        ("192.168.0.2", false),
        ("10.2.0.1", false),
    ] {
        assert_eq!(upstream.allows_address(address.parse().unwrap()), allowed, "{address}");
    }
    assert_eq!(upstream.connect_timeout.as_millis(), 1500);
    assert_eq!(upstream.idle_timeout, Upstream::IDLE_TIMEOUT_DEFAULT);
    let summary = Summary { internet: false, allowed_hosts: None, denied_hosts: 1, rules: 1, secrets: 1 };
    assert_eq!(policy.summary(), summary);
}

#[test]
fn o03_the_refusal_is_as_configured() {
    let policy = compiled(DOCUMENT);
    let refusal = policy.refusal();
    assert_eq!(refusal.status, 451);
    assert!(refusal.headers.iter().any(|(name, value)| name == "x-reason" && value == "policy"));
    let facts = crate::refusal::RefusalFacts {
        reason: DenyReason::NotNamed,
        detail: "\"quoted\"",
        rule: None,
        host: "a.test",
        request_id: "1",
    };
    assert_eq!(refusal.body(&facts), r#"{"why":"\"quoted\""}"#);
}

#[test]
fn no_prefix_of_a_document_panics() {
    for end in 0..DOCUMENT.len() {
        drop(Policy::compile("prefix.toml", DOCUMENT.get(..end).unwrap(), &NoSources));
    }
}

#[test]
fn a_document_is_bounded() {
    let text = format!("version = 1\n#{}", "x".repeat(4 * 1024 * 1024));
    let error = Policy::compile("large.toml", &text, &NoSources).unwrap_err();
    assert!(error.to_string().contains("larger than"), "{error}");
}
