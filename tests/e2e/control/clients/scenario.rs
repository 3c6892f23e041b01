//! What a platform does with an instance, by the client for Rust. Prints what came of each step, as scenario.py.
#![expect(clippy::print_stdout, reason = "the test reads it")]
#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a scenario that fails must say so"
)]

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Map, Value, json};
use sluicegate_client::{Attach, Handler, ROUTES, Remember, Sandbox, SandboxError};
use tokio::process::Command;

/// Has a workload of this namespace fetch, and returns what it got, with the status.
async fn curl(namespace: &str, authority: &str, url: &str) -> String {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", namespace, "curl", "-sS", "--max-time", "30", "--cacert", authority]);
    let output = command.args(["-w", " %{http_code}", url]).output().await.unwrap();
    String::from_utf8(output.stdout).unwrap()
}

fn refused(result: Result<Value, SandboxError>) -> Value {
    match result {
        Err(SandboxError::Refused(refused)) => {
            json!([refused.status, refused.kind, !refused.to_string().is_empty()])
        }
        other => panic!("{other:?}"),
    }
}

/// The last three characters: the status.
fn status(told: &str) -> String {
    told.chars().skip(told.chars().count() - 3).collect()
}

/// The routes of the document and those of the client, where they differ.
fn differences(document: &Value) -> Vec<String> {
    let paths = document["paths"].as_object().unwrap().iter();
    let described: BTreeSet<_> = paths
        .flat_map(|(path, methods)| {
            methods.as_object().unwrap().keys().map(move |method| format!("{} {path}", method.to_uppercase()))
        })
        .collect();
    let known = ROUTES.iter().map(|route| format!("{} {}", route.method, route.path)).collect();
    described.symmetric_difference(&known).cloned().collect()
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, namespace, program, policy, log, state, ca, ..] = arguments.as_slice() else {
        panic!("{arguments:?}");
    };
    let flags = ["--log", log, "--state", state].map(Into::into).to_vec();
    let options = Attach { policy: Some(policy.into()), program: program.into(), flags };
    let sandbox = Sandbox::attach(&format!("/run/netns/{namespace}"), "box", &options).await.unwrap();
    std::fs::write(ca, sandbox.ca().await.unwrap()).unwrap();
    let curl = async |url: &str| curl(namespace, ca, url).await;
    let mut told = Vec::new();
    hosts(&sandbox, &mut told, &curl).await.unwrap();
    stores(&sandbox, &mut told).await.unwrap();
    people(&sandbox, &mut told, (namespace, ca)).await.unwrap();
    sandbox.reset_overrides().await.unwrap();
    told.push(json!(["reset", status(&curl("https://h.test/").await)]));
    sandbox.close().await.unwrap();
    told.push(json!(["closed", curl("https://198.51.100.7/").await]));
    println!("{}", Value::from(told));
}

async fn hosts(
    sandbox: &Sandbox,
    told: &mut Vec<Value>,
    curl: &impl AsyncFn(&str) -> String,
) -> Result<(), SandboxError> {
    let same = Sandbox::named("box").socket() == sandbox.socket();
    told.push(json!(["status", sandbox.status().await?["instance"], same]));
    told.push(json!(["routes", differences(&sandbox.openapi().await?)]));
    told.push(json!(["refused", status(&curl("https://h.test/").await)]));
    let changed = sandbox.set_outbound_handler(("one", json!({"a": 1}))).await?;
    told.push(json!(["changed", changed["changed"]]));
    told.push(json!(["outbound", curl("https://h.test/").await]));
    sandbox.set_outbound_by_host("*.test", "two").await?;
    told.push(json!(["by host", curl("https://h.test/").await]));
    let handlers = [("h.test", Handler::from(("one", json!({"b": [2]})))), ("i.test", "two".into())];
    sandbox.set_outbound_by_hosts(handlers).await?;
    told.push(json!(["by hosts", curl("https://h.test/").await, curl("https://i.test/").await]));
    sandbox.remove_outbound_by_host("i.test").await?;
    told.push(json!(["removed", curl("https://i.test/").await]));
    let judged = sandbox.test(json!({"method": "GET", "url": "https://h.test/"})).await?;
    told.push(json!(["judged", judged["verdict"]]));
    told.push(json!(["unknown", refused(sandbox.set_outbound_handler("onne").await)]));
    let broken = sandbox.set_policy("version = 1\nallowed = []\n", Path::new("/x.toml"), Map::new()).await;
    told.push(json!(["broken", refused(broken)]));
    let sent = "cd5d4935a48c0672cb06407bb443bc0087aff947c6b864bac886982c73b3027f";
    sandbox.put_component(sent, b"\0asm".to_vec()).await?;
    let mut step = vec![json!("component")];
    for sha256 in ["0".repeat(64), sent.to_owned()] {
        let components = Map::from_iter([("components".to_owned(), json!({ "c.wasm": sha256 }))]);
        let document = "version = 1\noutbound = \"c.wasm\"\n";
        step.push(refused(sandbox.set_policy(document, Path::new("/x.toml"), components).await));
    }
    told.push(Value::Array(step));
    sandbox.deny_host("10.0.0.0/8").await?;
    sandbox.allow_host("h.test").await?;
    sandbox.set_denied_hosts(&["h.test"]).await?;
    told.push(json!(["denied", status(&curl("https://h.test/").await)]));
    sandbox.remove_denied_host("h.test").await?;
    sandbox.set_allowed_hosts(&["*.test"]).await?;
    Ok(())
}

async fn stores(sandbox: &Sandbox, told: &mut Vec<Value>) -> Result<(), SandboxError> {
    let key = "a/b ü?";
    sandbox.put("kv", key, b"value".to_vec(), Some(600)).await?;
    let value = String::from_utf8(sandbox.get("kv", key).await?.unwrap()).unwrap();
    let (all, some) = (sandbox.keys("kv", "").await?, sandbox.keys("kv", "a/").await?);
    told.push(json!(["kv", all, some, value, sandbox.get("kv", "none").await?]));
    sandbox.delete("kv", key).await?;
    told.push(json!(["deleted", sandbox.keys("kv", "").await?]));
    Ok(())
}

async fn people(
    sandbox: &Sandbox,
    told: &mut Vec<Value>,
    (namespace, ca): (&str, &str),
) -> Result<(), SandboxError> {
    let mut events = sandbox.events().await?;
    let (namespace, ca) = (namespace.to_owned(), ca.to_owned());
    let asking = tokio::spawn(async move { curl(&namespace, &ca, "https://ask.test/x").await });
    let asked = loop {
        let event = events.next().await?.unwrap();
        if event["event"] == "approval_asked" {
            break event;
        }
    };
    told.push(json!(["event", asked["reason"]]));
    let waiting = sandbox.approvals().await?;
    sandbox.answer(waiting[0]["id"].as_str().unwrap(), true, Remember::Seconds(60)).await?;
    told.push(json!(["answered", waiting.len(), asking.await.unwrap()]));
    let remembered = sandbox.remembered().await?;
    sandbox.forget(remembered[0]["id"].as_str().unwrap()).await?;
    told.push(json!(["remembered", remembered.len(), sandbox.remembered().await?]));
    Ok(())
}
