mod served;

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use super::api::*;
use super::routes;
use crate::approvals::{Pending, Subject};

const REFERENCE: &str = include_str!("../../../docs/control.md");

/// Every operation of the description: method, path, and the rest.
fn operations() -> Vec<(String, String, Value)> {
    let (_, description) = routes::described();
    let description = serde_json::to_value(description).unwrap();
    let paths = description["paths"].as_object().unwrap().clone();
    let mut operations = Vec::new();
    for (path, item) in paths {
        for (method, operation) in item.as_object().unwrap() {
            operations.push((method.to_uppercase(), path.clone(), operation.clone()));
        }
    }
    operations
}

#[test]
fn every_route_is_in_the_reference_and_the_reference_names_no_other() {
    let served: Vec<String> =
        operations().into_iter().map(|(method, path, _)| format!("{method} {path}")).collect();
    assert!(served.len() > 25, "{served:?}");
    for route in &served {
        assert!(REFERENCE.contains(&format!("`{route}`")), "docs/control.md does not have `{route}`");
    }
    let methods = ["GET", "PUT", "POST", "DELETE"];
    for quoted in REFERENCE.split('`').skip(1).step_by(2) {
        let Some((method, path)) = quoted.split_once(' ') else { continue };
        if methods.contains(&method) && path.starts_with("/v1/") {
            assert!(served.iter().any(|route| route == quoted), "`{quoted}` in docs/control.md is no route");
        }
    }
}

#[test]
fn every_operation_is_described() {
    let mut ids = Vec::new();
    for (method, path, operation) in operations() {
        let route = format!("{method} {path}");
        let text = |field: &str| operation[field].as_str().unwrap_or_default().to_owned();
        assert!(!text("summary").is_empty(), "{route} has no summary");
        ids.push(text("operationId"));
        let responses = operation["responses"].as_object().unwrap();
        assert!(responses.keys().any(|status| status.starts_with('2')), "{route} says nothing of success");
        for (status, response) in responses {
            assert_ne!(response["description"], "", "{route} {status} has no description");
            if !status.starts_with('2') {
                let problem = &response["content"]["application/problem+json"]["schema"]["$ref"];
                assert_eq!(problem, "#/components/schemas/ProblemAnswer", "{route} {status}");
            }
        }
        let holes = path.matches('{').count();
        let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
        let in_path = parameters.iter().filter(|parameter| parameter["in"] == "path").count();
        assert_eq!(holes, in_path, "{route}");
    }
    ids.sort();
    let count = ids.len();
    ids.dedup();
    assert!(!ids[0].is_empty() && ids.len() == count, "operation ids repeat: {ids:?}");
}

#[test]
fn the_description_refers_to_nothing_that_it_does_not_have() {
    let (_, description) = routes::described();
    let description = serde_json::to_value(description).unwrap();
    let text = description.to_string();
    let schemas = description["components"]["schemas"].as_object().unwrap();
    let references: Vec<&str> =
        text.split("#/components/schemas/").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    assert!(references.len() > 10);
    for name in references {
        assert!(schemas.contains_key(name), "{name}");
    }
}

#[test]
fn times_are_rfc_3339_and_every_event_says_its_name() {
    let asked = SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_250);
    let subject = Subject {
        instance: "agent".into(),
        method: "POST".into(),
        scheme: "https".into(),
        authority: "api.test:443".into(),
        target: "/v1/x?y=1".into(),
        reason: "really write?".into(),
    };
    let pending = Pending {
        id: "a1".into(),
        subject,
        asked_by: "rules[0]".into(),
        request_id: "00000001-1".into(),
        waiting: 1,
        asked,
        expires: asked + Duration::from_secs(60),
    };
    let expected = json!({
        "event": "approval_asked", "id": "a1", "instance": "agent", "method": "POST", "scheme": "https",
        "authority": "api.test:443", "target": "/v1/x?y=1", "reason": "really write?",
        "asked_by": "rules[0]", "request_id": "00000001-1", "waiting": 1,
        "asked": "2023-11-14T22:13:20.250Z", "expires": "2023-11-14T22:14:20.250Z",
    });
    assert_eq!(serde_json::to_value(Event::ApprovalAsked(pending.clone())).unwrap(), expected);
    let events = [
        Event::ApprovalAsked(pending),
        Event::ApprovalDecided { id: "a1".into(), allow: true, by: "uid 0".into() },
        Event::ApprovalLapsed { id: "a1".into() },
        Event::PolicyPublished { generation: "b".into(), previous: "a".into(), by: "uid 0".into() },
        Event::PolicyRefused { error: "no".into() },
        Event::Lagged { missed: 3 },
    ];
    for event in events {
        let value = serde_json::to_value(&event).unwrap();
        assert_eq!(value["event"], event.name());
        assert!(REFERENCE.contains(&format!("`{}`", event.name())), "{}", event.name());
        assert_eq!(serde_json::from_value::<Event>(value).unwrap(), event);
    }
}

#[test]
fn what_is_sent_says_nothing_unknown() {
    let question: TestQuestion = serde_json::from_value(json!({"url": "https://a.test/"})).unwrap();
    assert_eq!(question.method, "GET");
    let answer: ApprovalAnswer = serde_json::from_value(json!({"allow": false})).unwrap();
    assert_eq!(answer, ApprovalAnswer { allow: false, remember_seconds: None, always: false });
    assert!(serde_json::from_value::<ApprovalAnswer>(json!({"allow": true, "alway": true})).is_err());
    assert!(serde_json::from_value::<ApprovalAnswer>(json!({})).is_err());
    let setting: HandlerSetting = serde_json::from_value(json!({"handler": "a"})).unwrap();
    assert_eq!(setting.params, Value::Null);
    let uploaded = UploadedPolicy {
        file: "/a/sluicegate.toml".into(),
        document: "version = 1\n".into(),
        scripts: BTreeMap::from([("h.rhai".into(), "fn outbound(r, e, c) {}".into())]),
        components: BTreeMap::from([("h.wasm".into(), "0".repeat(64))]),
    };
    let value = serde_json::to_value(&uploaded).unwrap();
    assert_eq!(serde_json::from_value::<UploadedPolicy>(value).unwrap(), uploaded);
}
