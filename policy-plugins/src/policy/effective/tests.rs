//! The policy in force as lines.

use super::*;
use crate::policy::tests::policy;

#[test]
fn every_part_of_a_document_has_its_line() {
    let policy = policy(
        r#"internet = true
mode = "audit"
denied_hosts = [
  "a.test",
  "10.0.0.0/8",
]
outbound = { deny = "closed" }

[secrets.TOKEN]
source = "env://TOKEN_{container_id}"
hosts = ["api.test"]

[bindings.keys]
kind = "kv"
url = "redis://10.0.0.5"
prefix = "x/"

[handler_limits]
cpu_ms = 7

[outbound_by_host]
"b.test" = "b.rhai"

[[rules]]
name = "read"
host = "https://api.test"
methods = ["GET"]
paths = ["/v1/**"]
set_headers = { authorization = "Bearer ${secret:TOKEN}" }

[[rules]]
host = "no.test"
deny = "no"
mode = "enforce"

[[rules]]
host = "opaque.test"
intercept = false
"#,
    );
    let shown = |entry: &EffectiveEntry| {
        let line = match &entry.source {
            Source::Document { line, .. } => line.to_string(),
            Source::Runtime => String::from("runtime"),
            Source::Default => String::from("default"),
        };
        format!("{} = {} [{line}]", entry.key, entry.value)
    };
    let effective = policy.effective();
    assert_eq!(effective.generation, policy.generation());
    let version = effective.entries.iter().find(|entry| entry.key == "outbound_by_host.b.test").unwrap();
    let version = version.value.clone();
    assert!(version.starts_with("b.rhai (b.rhai, version "), "{version}");
    let lines: Vec<String> = effective.entries.iter().map(shown).collect();
    let expected = [
        "internet = true [2]",
        "mode = audit [3]",
        "denied_hosts = a.test [5]",
        "denied_hosts = 10.0.0.0/8 [6]",
        "rules.read = allow GET on /v1/** of https://api.test, put on secrets TOKEN (audit) [25]",
        "rules.rules[2] = deny no.test [32]",
        "rules.rules[3] = pass on unopened TLS to opaque.test (audit) [37]",
        &format!("outbound_by_host.b.test = {version} [23]"),
        "outbound = deny: deny \"closed\" [8]",
        "secrets.TOKEN = env://TOKEN_{container_id} for api.test [10]",
        "bindings.keys = kv at redis://10.0.0.5, prefix \"x/\" [14]",
        "bindings.kv = kv at file:kv [default]",
        "bindings.objects = objects at file:objects [default]",
        "handler_limits.operations = 200000 [default]",
    ];
    assert_eq!(lines[..expected.len()], expected);
    assert!(lines.contains(&String::from("handler_limits.cpu_ms = 7 [20]")), "{lines:?}");
}
