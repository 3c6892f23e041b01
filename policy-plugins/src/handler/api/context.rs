//! `ctx`: where a request comes from.

use http::Version;
use rhai::{Dynamic, Map};

use super::{Registrar, entry, optional};
use crate::handler::value::from_json;
use crate::handler::{BoundHandler, HandlerInput, Subject};

/// The map that a handler gets as its third argument.
pub(in crate::handler) fn context(input: &HandlerInput, bound: &BoundHandler, version: &str) -> Dynamic {
    let identity = &input.identity;
    let labels: Map =
        identity.labels.iter().map(|(name, value)| ((&**name).into(), (&**value).into())).collect();
    let mut map = Map::new();
    let mut put = |name: &'static str, value: Dynamic| drop(map.insert(name.into(), value));
    put("container_id", (&*identity.container_id).into());
    put("instance_id", (&*identity.instance_id).into());
    put("labels", Dynamic::from_map(labels));
    put("params", from_json(&bound.params));
    put("request_id", (&*input.request_id).into());
    put("original_destination", input.original_destination.to_string().into());
    put("sni", optional(input.sni.as_deref().map(str::to_owned)));
    put("tls", optional(input.tls));
    // A connection that nobody has opened speaks none yet.
    put(
        "protocol",
        if matches!(input.subject, Subject::Connection(_)) { "" } else { protocol(input.version) }.into(),
    );
    put("handler", (&*bound.name).into());
    put("handler_version", version.into());
    Dynamic::from_map(map)
}

fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2",
        _ => "HTTP/1.1",
    }
}

pub(super) fn register(api: &mut Registrar<'_>) {
    api.section("The context");
    for (signature, says) in [
        ("ctx.container_id", "The container, or what stands for it"),
        ("ctx.instance_id", "The instance's name"),
        ("ctx.labels", "The labels that the operator gave, a map"),
        ("ctx.params", "What the document or the command that set the handler gave it, a map"),
        ("ctx.request_id", "The request's id in the log"),
        ("ctx.original_destination", "Where the workload dialled, such as `198.18.0.2:443`"),
        ("ctx.sni", "The server name in its TLS, or `()`"),
        ("ctx.tls", "Its TLS version, or `()`"),
        ("ctx.protocol", "`HTTP/1.1` or `HTTP/2`; empty in `on_connect`"),
        ("ctx.handler", "The handler's name"),
        ("ctx.handler_version", "The first 12 hexadecimal digits of the script's SHA-256"),
    ] {
        api.describe(entry(signature, says, ""));
    }
}
