//! Connections: what a program is told of the one that it is asked about.

use sluicegate_policy::Subject;

use crate::bindings::connection::sluicegate::policy::connection::{Flow, Host};
use crate::state::State;

impl Host for State {}

impl State {
    /// The connection.
    ///
    /// # Errors
    /// There is a request in its place: the gate has mixed something up.
    pub(crate) fn flow(&self) -> wasmtime::Result<Flow> {
        let input = &self.input;
        let Subject::Connection(facts) = &input.subject else {
            return Err(wasmtime::Error::msg(
                "asked about a request as a connection; this is a bug in the gate",
            ));
        };
        Ok(Flow {
            host: input.authority.host.to_string(),
            port: input.authority.port,
            original_destination: input.original_destination.to_string(),
            tls: facts.is_tls,
            sni: input.sni.as_deref().map(str::to_owned),
            alpn: facts.alpn.iter().map(|name| name.to_string()).collect(),
        })
    }
}
