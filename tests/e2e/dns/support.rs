//! The policies and callers of these tests.

use e2e::{Attached, Outcome, World};
use serde_json::Value;

/// A document whose gate asks these name servers, may dial the origins, and trusts the test authority.
/// `rest` comes first, so that it may hold keys of the top level.
pub(crate) fn asking(world: &World, servers: &[&str], rest: &str) -> String {
    format!(
        "version = 1\n{rest}\n{}dns = {servers:?}\nallow_ranges = [\"10.77.0.0/24\"]\n",
        world.upstream(&[])
    )
}

pub(crate) fn curl(gate: &Attached<'_>, arguments: &[&str]) -> Outcome {
    gate.run([&["curl", "-sS"], arguments].concat())
}

/// The status of a request, and the reason of its refusal if it has one.
#[track_caller]
pub(crate) fn refusal(gate: &Attached<'_>, arguments: &[&str]) -> (String, String) {
    let outcome = curl(gate, &[&["-w", "\n%{http_code}"], arguments].concat());
    let (body, status) = outcome.assert_success().stdout.rsplit_once('\n').unwrap();
    let body: Value = serde_json::from_str(body).unwrap_or_default();
    (status.to_owned(), body["reason"].as_str().unwrap_or_default().to_owned())
}

/// Waits for a line of kind `dns` about this name and with this reason.
#[track_caller]
pub(crate) fn dns_line(gate: &mut Attached<'_>, name: &str, reason: Option<&str>) -> Value {
    gate.wait_for_log(|line| {
        line["kind"] == "dns" && line["host"] == name && line["reason"].as_str() == reason
    })
}
