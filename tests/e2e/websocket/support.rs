//! A WebSocket server, its policies, and clients in the sealed namespace.

use std::net::SocketAddr;

use e2e::{Attached, Job, ORIGIN_IPV4, PythonServer, World};
use serde_json::Value;

const PLAIN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(ORIGIN_IPV4), 8081);
const TLS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(ORIGIN_IPV4), 8444);

/// The WebSocket server of `origin.py`, for `echo.test`.
pub(crate) struct Server<'world> {
    world: &'world World,
    python: PythonServer<'world>,
}

impl<'world> Server<'world> {
    pub(crate) fn start(world: &'world World) -> Self {
        Self {
            world,
            python: PythonServer::start(world, include_str!("origin.py"), "echo.test", [PLAIN, TLS]),
        }
    }

    /// A document with this text, by which `echo.test` is found here; goes on with keys of `[upstream]`.
    pub(crate) fn policy(&self, text: &str) -> String {
        let found = [("echo.test:80", PLAIN), ("echo.test:443", TLS)];
        format!("version = 1\n{text}\n{}", self.world.upstream(&found))
    }

    /// What it saw of this kind on this path so far.
    pub(crate) fn events(&self, kind: &str, path: &str) -> Vec<Value> {
        let is_wanted = |event: &Value| event["event"] == kind && event["path"] == path;
        self.python.events().into_iter().filter(is_wanted).collect()
    }

    /// Waits until it has seen this once.
    #[track_caller]
    pub(crate) fn event(&mut self, kind: &str, path: &str) -> Value {
        let is_wanted = |event: &Value| event["event"] == kind && event["path"] == path;
        self.python.wait_for(|events| {
            let mut seen = events.into_iter().filter(is_wanted);
            seen.next().filter(|_| seen.next().is_none())
        })
    }
}

/// A Python program in the sealed namespace, which begins with `client.py`. It is run by root, since the
/// packages of the tests may be where no other user can read them.
pub(crate) fn python<'world>(world: &'world World, gate: &Attached<'world>, script: &str) -> Job<'world> {
    let script = format!("{}\n{script}", include_str!("client.py"));
    let line = [world.test_dependency("py/bin/python3"), "-c".to_owned(), script];
    world.root_job(gate.namespace(), line).env("SSL_CERT_FILE", gate.ca_file())
}

/// What such a program prints, as JSON.
#[track_caller]
pub(crate) fn said(world: &World, gate: &Attached<'_>, script: &str) -> Value {
    let outcome = python(world, gate, script).run();
    outcome.assert_success();
    outcome.json()
}

/// Waits for the record of the exchange on this path.
#[track_caller]
pub(crate) fn exchange(gate: &mut Attached<'_>, path: &str) -> Value {
    gate.wait_for_log(|line| line["kind"] == "exchange" && line["path"] == path)
}
