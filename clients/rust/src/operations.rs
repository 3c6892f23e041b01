//! What an instance can be asked for, and what can be changed while it runs.

use std::path::Path;

use serde_json::{Map, Value, json};

use crate::error::SandboxError;
use crate::routes::{self, Route};
use crate::wire::{self, Content, Events};
use crate::{Handler, Remember, Result, Sandbox};

/// # The instance
///
/// Each operation fails with [`SandboxError::Refused`] where the gate did not do it, and else where it gave no
/// answer that can be read.
impl Sandbox {
    /// Name, policy in force and where it comes from, log, what waits.
    pub async fn status(&self) -> Result<Value> {
        self.ask(routes::STATUS, &[]).await
    }

    /// The certificate that the workload is to trust, PEM.
    pub async fn ca(&self) -> Result<String> {
        let certificate = self.exchange(routes::CA, &[], None, Content::Nothing).await?;
        String::from_utf8(certificate).map_err(|error| SandboxError::Unreadable(error.to_string()))
    }

    /// The interface of the gate, OpenAPI.
    pub async fn openapi(&self) -> Result<Value> {
        self.ask(routes::OPENAPI, &[]).await
    }

    /// What happens from now on. What waits already is not told: ask for [`Sandbox::approvals`] then.
    pub async fn events(&self) -> Result<Events> {
        wire::follow(self.socket(), &routes::EVENTS.target(&[], None)).await
    }
}

/// # The policy
impl Sandbox {
    /// The policy in force line by line, each with its source.
    pub async fn policy(&self) -> Result<Value> {
        self.ask(routes::POLICY, &[]).await
    }

    /// Puts a document in force. Its relative paths begin where `file` is. `handlers` has what it needs of these:
    /// `scripts`, the texts of its handlers by path, and `components`, the SHA-256 of theirs, sent before
    /// by [`Sandbox::put_component`].
    pub async fn set_policy(
        &self,
        document: &str,
        file: &Path,
        handlers: Map<String, Value>,
    ) -> Result<Value> {
        let mut body = handlers;
        body.insert("document".into(), document.into());
        let file = file.to_str().ok_or_else(|| SandboxError::Request("the path is not UTF-8".into()))?;
        body.insert("file".into(), file.into());
        self.send(routes::SET_POLICY, &[], body.into()).await
    }

    /// Sends a component for the next policy, with the SHA-256 of its bytes in lowercase hexadecimal. The gate keeps
    /// it ten minutes.
    pub async fn put_component(&self, sha256: &str, content: Vec<u8>) -> Result<()> {
        self.exchange(routes::PUT_COMPONENT, &[sha256], None, Content::Bytes(content)).await.map(drop)
    }

    /// Goes back to the document of the start, read anew.
    pub async fn reset_policy(&self) -> Result<Value> {
        self.ask(routes::RESET_POLICY, &[]).await
    }

    /// Judges a request that is not made; it has at least `method` and `url`.
    pub async fn test(&self, request: Value) -> Result<Value> {
        self.send(routes::TEST, &[], request).await
    }

    /// The handlers that can be set by name, and those that are set.
    pub async fn handlers(&self) -> Result<Value> {
        self.ask(routes::HANDLERS, &[]).await
    }
}

/// # Changes at run time
///
/// They count for the next request, on connections that are open too. Each answers with the policy in force then.
impl Sandbox {
    /// Sets the handler for all hosts, in place of the document's `outbound`.
    pub async fn set_outbound_handler(&self, handler: impl Into<Handler>) -> Result<Value> {
        self.send(routes::SET_OUTBOUND_HANDLER, &[], handler.into().written()).await
    }

    /// Goes back to the document's.
    pub async fn remove_outbound_handler(&self) -> Result<Value> {
        self.ask(routes::REMOVE_OUTBOUND_HANDLER, &[]).await
    }

    /// Sets the handler of a host, or of all that a pattern stands for.
    pub async fn set_outbound_by_host(&self, host: &str, handler: impl Into<Handler>) -> Result<Value> {
        self.send(routes::SET_OUTBOUND_BY_HOST, &[host], handler.into().written()).await
    }

    /// Sets those of all hosts at once; none takes all away.
    pub async fn set_outbound_by_hosts<'host>(
        &self,
        handlers: impl IntoIterator<Item = (&'host str, Handler)>,
    ) -> Result<Value> {
        let written = handlers.into_iter().map(|(host, handler)| (host.to_owned(), handler.written()));
        self.send(routes::SET_OUTBOUND_BY_HOSTS, &[], Value::Object(written.collect())).await
    }

    /// Takes away the handler of a host that was set at run time; the document's own stays.
    pub async fn remove_outbound_by_host(&self, host: &str) -> Result<Value> {
        self.ask(routes::REMOVE_OUTBOUND_BY_HOST, &[host]).await
    }

    /// Sets `allowed_hosts` as a whole; an empty list allows nothing.
    pub async fn set_allowed_hosts(&self, hosts: &[&str]) -> Result<Value> {
        self.send(routes::SET_ALLOWED_HOSTS, &[], json!({ "patterns": hosts })).await
    }

    /// Adds to `allowed_hosts`.
    pub async fn allow_host(&self, host: &str) -> Result<Value> {
        self.ask(routes::ALLOW_HOST, &[host]).await
    }

    /// Takes out of it, whoever put it there.
    pub async fn remove_allowed_host(&self, host: &str) -> Result<Value> {
        self.ask(routes::REMOVE_ALLOWED_HOST, &[host]).await
    }

    /// Sets `denied_hosts` as a whole.
    pub async fn set_denied_hosts(&self, hosts: &[&str]) -> Result<Value> {
        self.send(routes::SET_DENIED_HOSTS, &[], json!({ "patterns": hosts })).await
    }

    /// Adds to `denied_hosts`.
    pub async fn deny_host(&self, host: &str) -> Result<Value> {
        self.ask(routes::DENY_HOST, &[host]).await
    }

    /// Takes out of it, whoever put it there.
    pub async fn remove_denied_host(&self, host: &str) -> Result<Value> {
        self.ask(routes::REMOVE_DENIED_HOST, &[host]).await
    }

    /// Forgets all changes that were made at run time; an uploaded policy stays.
    pub async fn reset_overrides(&self) -> Result<Value> {
        self.ask(routes::RESET_OVERRIDES, &[]).await
    }
}

/// # Asking a person
impl Sandbox {
    /// What waits for an answer, oldest first.
    pub async fn approvals(&self) -> Result<Vec<Value>> {
        list(self.ask(routes::APPROVALS, &[]).await?, "pending")
    }

    /// Answers what waits under this id.
    pub async fn answer(&self, id: &str, allow: bool, remember: Remember) -> Result<Value> {
        let body = match remember {
            Remember::Not => json!({ "allow": allow }),
            Remember::Seconds(seconds) => json!({ "allow": allow, "remember_seconds": seconds }),
            Remember::Always => json!({ "allow": allow, "always": true }),
        };
        self.send(routes::ANSWER, &[id], body).await
    }

    /// The answers that count again.
    pub async fn remembered(&self) -> Result<Vec<Value>> {
        list(self.ask(routes::REMEMBERED, &[]).await?, "remembered")
    }

    /// Forgets one of them.
    pub async fn forget(&self, id: &str) -> Result<Value> {
        self.ask(routes::FORGET, &[id]).await
    }
}

/// # Key-value stores
impl Sandbox {
    /// The keys of a binding that begin so, in order; an empty prefix is all.
    pub async fn keys(&self, binding: &str, prefix: &str) -> Result<Vec<String>> {
        let query = Some(("prefix", prefix)).filter(|_| !prefix.is_empty());
        let answer = self.exchange(routes::KEYS, &[binding], query, Content::Nothing).await?;
        let keys = list(wire::read(&answer)?, "keys")?;
        Ok(keys.iter().filter_map(Value::as_str).map(str::to_owned).collect())
    }

    /// The bytes of a value; none where there is none.
    pub async fn get(&self, binding: &str, key: &str) -> Result<Option<Vec<u8>>> {
        match self.exchange(routes::GET, &[binding, key], None, Content::Nothing).await {
            Err(SandboxError::Refused(refused)) if refused.kind == "sluicegate:not-found" => Ok(None),
            value => value.map(Some),
        }
    }

    /// Writes a value, for good or for so many seconds.
    pub async fn put(
        &self,
        binding: &str,
        key: &str,
        value: Vec<u8>,
        ttl_seconds: Option<u64>,
    ) -> Result<()> {
        let seconds = ttl_seconds.map(|seconds| seconds.to_string());
        let query = seconds.as_deref().map(|seconds| ("ttl_seconds", seconds));
        self.exchange(routes::PUT, &[binding, key], query, Content::Bytes(value)).await.map(drop)
    }

    /// Removes a key, there or not.
    pub async fn delete(&self, binding: &str, key: &str) -> Result<()> {
        self.ask(routes::DELETE, &[binding, key]).await.map(drop)
    }
}

impl Sandbox {
    async fn ask(&self, route: Route, parts: &[&str]) -> Result<Value> {
        wire::read(&self.exchange(route, parts, None, Content::Nothing).await?)
    }

    async fn send(&self, route: Route, parts: &[&str], body: Value) -> Result<Value> {
        wire::read(&self.exchange(route, parts, None, Content::Json(body)).await?)
    }

    async fn exchange(
        &self,
        route: Route,
        parts: &[&str],
        query: Option<(&str, &str)>,
        content: Content,
    ) -> Result<Vec<u8>> {
        wire::exchange(self.socket(), (route.method, &route.target(parts, query)), content)
            .await
            .map(Into::into)
    }
}

fn list(mut answer: Value, name: &str) -> Result<Vec<Value>> {
    match answer.get_mut(name).map(Value::take) {
        Some(Value::Array(list)) => Ok(list),
        _ => Err(SandboxError::Unreadable(format!("it has no list of {name}"))),
    }
}
