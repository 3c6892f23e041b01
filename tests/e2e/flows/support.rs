//! Policies and callers of these tests.

use std::net::SocketAddr;

use e2e::{Attached, Job, World};
use serde_json::Value;

pub(crate) const PYTHON: &str = "/usr/bin/python3";

/// A policy with this text, which finds these authorities at these addresses.
pub(crate) fn policy(world: &World, text: &str, found: &[(&str, SocketAddr)]) -> String {
    format!("version = 1\n{text}\n{}", world.upstream(found))
}

/// What a Python script in the sealed namespace printed, as JSON.
#[track_caller]
pub(crate) fn python(gate: &Attached<'_>, script: &str) -> Value {
    let outcome = python_job(gate, script).run();
    outcome.assert_success();
    outcome.json()
}

pub(crate) fn python_job<'world>(gate: &Attached<'world>, script: &str) -> Job<'world> {
    gate.job([PYTHON, "-c", script])
}

/// Waits for the record of a flow to this host and port.
#[track_caller]
pub(crate) fn flow(gate: &mut Attached<'_>, host: &str, port: u16) -> Value {
    gate.wait_for_log(|line| line["kind"] == "flow" && line["host"] == host && line["port"] == port)
}
