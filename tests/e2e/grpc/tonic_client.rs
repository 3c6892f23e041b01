//! From where tonic's client calls: through the gate, and without it.

use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

use e2e::tonic_client::{Client, use_aws_lc};
use e2e::{Attached, Namespace, World};
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint};

use crate::support::{PLAIN, TLS};

/// Longer than any call of these tests takes.
const PATIENCE: Duration = Duration::from_secs(50);
/// What clients dial through the gate, which dials by name.
const ANYWHERE: [u8; 4] = [198, 51, 100, 7];

/// From where a client calls, and by what it trusts the server.
pub(crate) struct Place<'a> {
    namespace: &'a Namespace,
    authority: String,
    /// Without TLS, and with it.
    addresses: [SocketAddr; 2],
}

impl<'a> Place<'a> {
    /// Where there is no gate.
    pub(crate) fn direct(world: &'a World) -> Self {
        let authority = world.authority().pem();
        Self { namespace: world.gate_namespace(), authority, addresses: [PLAIN, TLS] }
    }

    /// Behind this one.
    pub(crate) fn behind(gate: &'a Attached<'_>) -> Self {
        let authority = fs::read_to_string(gate.ca_file()).unwrap();
        let addresses = [PLAIN.port(), 443].map(|port| SocketAddr::from((ANYWHERE, port)));
        Self { namespace: gate.namespace(), authority, addresses }
    }

    /// Gives a client, connected with TLS or without, to `calls`.
    pub(crate) fn call<T: Send>(&self, tls: bool, calls: impl AsyncFnOnce(&mut Client) -> T + Send) -> T {
        use_aws_lc();
        let address = self.addresses[usize::from(tls)];
        let (scheme, port) =
            if tls { ("https", String::new()) } else { ("http", format!(":{}", PLAIN.port())) };
        let endpoint = Endpoint::from_shared(format!("{scheme}://{address}")).unwrap();
        let endpoint = endpoint.origin(format!("{scheme}://api.test{port}").parse().unwrap());
        let trusting = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(&self.authority))
            .domain_name("api.test");
        let endpoint = if tls { endpoint.tls_config(trusting).unwrap() } else { endpoint };
        self.namespace.enter(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let all = async {
                    let mut client = Client::connect(&endpoint).await;
                    calls(&mut client).await
                };
                tokio::time::timeout(PATIENCE, all).await.expect("the calls end")
            })
        })
    }
}
