//! A server of a test's own in Python, without TLS and with it, that prints what it sees as lines of JSON.

use std::net::SocketAddr;

use serde_json::Value;

use crate::job::Running;
use crate::world::World;

/// A server in the origin namespace. Dropping it kills it.
#[derive(Debug)]
pub struct PythonServer<'world> {
    running: Running<'world>,
}

impl<'world> PythonServer<'world> {
    /// Starts this text with the address, both ports, and the files of a certificate for `host` and its key
    /// as arguments; returns once it has printed `ready`. It has the packages of `scripts/setup --tests`.
    pub fn start(world: &'world World, text: &str, host: &str, [plain, tls]: [SocketAddr; 2]) -> Self {
        let (certificate, key) = world.certificate_files(&[host]);
        let program = world.file("server.py", text);
        let line = [
            world.test_dependency("py/bin/python3"),
            program.display().to_string(),
            plain.ip().to_string(),
            plain.port().to_string(),
            tls.port().to_string(),
            certificate.display().to_string(),
            key.display().to_string(),
        ];
        let mut running = world.root_job(world.origin_namespace(), line).spawn();
        running.wait_for_output("ready");
        Self { running }
    }

    /// What it saw so far.
    pub fn events(&self) -> Vec<Value> {
        events(&self.running)
    }

    /// Waits until this finds something in what it saw.
    #[track_caller]
    pub fn wait_for(&mut self, find: impl Fn(Vec<Value>) -> Option<Value>) -> Value {
        let mut found = None;
        self.running.wait_for("what the test waits for in what the server saw", |running| {
            found = find(events(running));
            found.is_some()
        });
        found.expect("it was found")
    }
}

fn events(running: &Running<'_>) -> Vec<Value> {
    let printed = running.stdout();
    // The last line may be on its way.
    let lines = printed.split_inclusive('\n').filter(|line| line.ends_with('\n'));
    lines.map(|line| serde_json::from_str(line).expect("the server prints JSON")).collect()
}
