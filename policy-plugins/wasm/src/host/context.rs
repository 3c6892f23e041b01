//! Who asks, and what the document gives to handlers.

use http::Version;
use sluicegate_policy::{BindingKind, HandlerAction, Subject};

use crate::bindings::policy::context::{Binding, Host, RequestContext};
use crate::state::State;

impl Host for State {
    fn current(&mut self) -> wasmtime::Result<RequestContext> {
        let input = &self.input;
        let identity = &input.identity;
        let labels = identity.labels.iter().map(|(name, value)| (name.to_string(), value.to_string()));
        let version = match &self.bound.action {
            HandlerAction::Program(program) => program.version.to_string(),
            HandlerAction::Script(_) | HandlerAction::Deny(_) => String::new(),
        };
        Ok(RequestContext {
            container_id: identity.container_id.to_string(),
            instance_id: identity.instance_id.to_string(),
            labels: labels.collect(),
            request_id: input.request_id.to_string(),
            original_destination: input.original_destination.to_string(),
            sni: input.sni.as_deref().map(str::to_owned),
            tls: input.tls.map(str::to_owned),
            protocol: match input.subject {
                Subject::Connection(_) => String::new(),
                Subject::Request | Subject::Message(_) => protocol(input.version).to_owned(),
            },
            handler: self.bound.name.to_string(),
            handler_version: version,
            params: self.bound.params.to_string(),
        })
    }

    fn environment(&mut self) -> wasmtime::Result<Vec<(String, Binding)>> {
        let environment = &self.environment;
        let secrets = environment.secrets.iter().map(|name| (name.to_string(), Binding::Secret));
        let bindings = environment.bindings.iter().map(|(name, kind)| {
            let binding = match kind {
                BindingKind::Kv => Binding::Kv,
                BindingKind::Objects => Binding::Objects,
            };
            (name.to_string(), binding)
        });
        let constants = environment.constants.iter();
        let constants =
            constants.map(|(name, value)| (name.to_string(), Binding::Constant(value.to_string())));
        Ok(secrets.chain(bindings).chain(constants).collect())
    }
}

fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2",
        _ => "HTTP/1.1",
    }
}
