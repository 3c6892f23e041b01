//! A platform that starts a sandbox, opens it for a while, and asks a person about the rest.

use serde_json::{Value, json};
use sluicegate_client::{Attach, Remember, Sandbox, SandboxError};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), SandboxError> {
    let options = Attach { policy: Some("sluicegate.toml".into()), ..Attach::default() };
    let sandbox = Sandbox::attach("/run/netns/box", "box", &options).await?;
    sandbox.set_outbound_handler(("allow_hosts", json!({ "hosts": ["git.example.test"] }))).await?;
    // git clone, npm install …
    sandbox.set_outbound_handler("no_http").await?;
    let mut events = sandbox.events().await?;
    while let Some(event) = events.next().await? {
        let text = |name| event.get(name).and_then(Value::as_str).unwrap_or_default();
        if text("event") == "approval_asked" {
            sandbox.answer(text("id"), text("method") == "GET", Remember::Seconds(3600)).await?;
        }
    }
    sandbox.close().await
}
