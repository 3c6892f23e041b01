//! `flow`: a connection, as `on_connect` is asked about it.

use std::net::SocketAddr;
use std::sync::Arc;

use rhai::{Array, Dynamic};

use super::{Registrar, entry, optional};
use crate::handler::{FlowFacts, HandlerInput};
use crate::host::Authority;

/// A connection as a script holds it. A type, and no map: a name that is not there is an error, and does
/// not compare as different.
#[derive(Clone, Debug)]
pub(in crate::handler) struct Flow(Arc<Facts>);

#[derive(Debug)]
struct Facts {
    authority: Authority,
    original_destination: SocketAddr,
    sni: Option<Box<str>>,
    flow: FlowFacts,
}

impl Flow {
    pub(in crate::handler) fn new(input: &HandlerInput, flow: &FlowFacts) -> Self {
        Self(Arc::new(Facts {
            authority: input.authority.clone(),
            original_destination: input.original_destination,
            sni: input.sni.clone(),
            flow: flow.clone(),
        }))
    }

    fn alpn(&self) -> Array {
        self.0.flow.alpn.iter().map(|name| Dynamic::from(name.to_string())).collect()
    }
}

pub(super) fn register(api: &mut Registrar<'_>) {
    api.engine.register_type_with_name::<Flow>("flow");
    api.section("The connection, in on_connect(flow, env, ctx)");
    api.property(
        entry(
            "flow.host",
            "Whom it is for, in the one normal form: the server name in its TLS, else the name that its address \
             was given out for, else the address",
            "if flow.host == \"pinned.example.test\" { return \"pass\"; }",
        ),
        |flow: &mut Flow| flow.0.authority.host.to_string(),
    );
    api.property(entry("flow.port", "The port", ""), |flow: &mut Flow| i64::from(flow.0.authority.port));
    api.property(
        entry("flow.original_destination", "Where the workload dialled, such as `198.18.0.2:443`", ""),
        |flow: &mut Flow| flow.0.original_destination.to_string(),
    );
    api.property(entry("flow.tls", "Whether it begins with TLS", ""), |flow: &mut Flow| flow.0.flow.is_tls);
    api.property(entry("flow.sni", "The server name in its TLS, or `()`", ""), |flow: &mut Flow| {
        optional(flow.0.sni.as_deref().map(str::to_owned))
    });
    api.property(
        entry(
            "flow.alpn",
            "The protocols that its TLS offers, an array",
            "if flow.alpn.contains(\"h2\") { return deny(\"no HTTP/2 here\"); }",
        ),
        |flow: &mut Flow| flow.alpn(),
    );
}
