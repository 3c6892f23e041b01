//! A gRPC server, documents that let calls to it through, and clients in the sealed namespace.

use std::net::{IpAddr, SocketAddr};

use e2e::{Attached, Job, ORIGIN_IPV4, PythonServer, World};
use serde_json::Value;

/// Where servers listen without TLS, and with it.
pub(crate) const PLAIN: SocketAddr = SocketAddr::new(IpAddr::V4(ORIGIN_IPV4), 50051);
pub(crate) const TLS: SocketAddr = SocketAddr::new(IpAddr::V4(ORIGIN_IPV4), 8443);

/// Where clients call: without TLS, which is HTTP/2 with prior knowledge, and with it.
pub(crate) const TARGETS: [(&str, &str); 2] = [("api.test:50051", "plain"), ("api.test:443", "tls")];

/// What lets both through.
pub(crate) const ALLOWED: &str = "allowed_hosts = [\"http://api.test:50051\", \"https://api.test\"]";

/// The server of `server.py`, for `api.test`.
pub(crate) struct Server<'world> {
    world: &'world World,
    python: PythonServer<'world>,
}

impl<'world> Server<'world> {
    pub(crate) fn start(world: &'world World) -> Self {
        Self {
            world,
            python: PythonServer::start(world, include_str!("server.py"), "api.test", [PLAIN, TLS]),
        }
    }

    /// A document with this text, by which `api.test` is found here.
    pub(crate) fn policy(&self, text: &str) -> String {
        policy(self.world, text)
    }

    /// Waits until it has seen this for the `count`th time, and says what it saw then.
    #[track_caller]
    pub(crate) fn wait_for(&mut self, kind: &str, count: usize) -> Value {
        let of_kind = |event: &Value| event["event"] == kind;
        self.python.wait_for(|events| events.into_iter().filter(of_kind).nth(count - 1))
    }
}

/// A document with this text, by which `api.test` is found where the servers of these tests listen.
pub(crate) fn policy(world: &World, text: &str) -> String {
    let found = [("api.test:50051", PLAIN), ("api.test:443", TLS)];
    format!("version = 1\n{text}\n{}", world.upstream(&found))
}

/// A client in the sealed namespace that begins with `client.py`. It is run by root, since the packages of
/// the tests may be where no other user can read them.
pub(crate) fn client<'world>(
    world: &'world World,
    gate: &Attached<'world>,
    (target, security): (&str, &str),
    script: &str,
) -> Job<'world> {
    let script = format!("{}\n{script}", include_str!("client.py"));
    let python = world.test_dependency("py/bin/python3");
    let line = [python.as_str(), "-c", &script, target, security];
    world.root_job(gate.namespace(), line).env("GRPC_DEFAULT_SSL_ROOTS_FILE_PATH", gate.ca_file())
}

/// What such a client prints, as JSON.
#[track_caller]
pub(crate) fn said(world: &World, gate: &Attached<'_>, target: (&str, &str), script: &str) -> Value {
    let outcome = client(world, gate, target, script).run();
    outcome.assert_success();
    outcome.json()
}
