//! Gates with a handler in JavaScript, and clients that print what they got.

use std::path::PathBuf;
use std::time::Duration;

use e2e::{Attached, Gate, Outcome, Site, World, wait_until};
pub(crate) use e2e::{answer, assert_line, curl, of_kind};
use serde_json::Value;

use crate::kept::Kept;

/// What every gate of these tests is called.
pub(crate) const NAME: &str = "box";

/// A slow machine and a build without optimisation are no fault of a handler.
pub(crate) const LIMITS: &str = "[handler_limits]\ncpu_ms = 2000\n";

/// Writes `handlers/NAME.js` with this text.
pub(crate) fn script(world: &World, name: &str, text: &str) -> PathBuf {
    world.file(&format!("handlers/{name}.js"), text)
}

/// Writes `handlers/NAME.js`, whose function has this body.
pub(crate) fn handler(world: &World, name: &str, body: &str) -> PathBuf {
    let text = format!("export default {{\n  async outbound(request, env, ctx) {{\n{body}\n  }},\n}};\n");
    script(world, name, &text)
}

/// A document with `handlers/NAME.js` for everything, and these names at the site.
pub(crate) fn catch_all(world: &World, site: &Site, name: &str, names: &[&str]) -> String {
    document(world, site, &format!("outbound = \"handlers/{name}.js\""), names)
}

/// A document with this text, and these names at the site.
pub(crate) fn document(world: &World, site: &Site, text: &str, names: &[&str]) -> String {
    site.policy(world, &format!("{text}\n{LIMITS}"), names)
}

/// Starts a gate, which finds the engine compiled where a test before has done it.
pub(crate) fn attach<'world>(world: &'world World, policy: &str) -> Attached<'world> {
    start(world, world.gate(policy))
}

/// The same for a gate with flags and variables.
pub(crate) fn start<'world>(world: &'world World, gate: Gate<'world>) -> Attached<'world> {
    let kept = Kept::lend(world, "javascript");
    let gate = gate.named(NAME).attach();
    kept.keep();
    gate
}

/// Asks, and fails unless the answer is this body with status 200.
#[track_caller]
pub(crate) fn assert_answer(gate: &Attached<'_>, arguments: &[&str], body: &str) {
    let outcome = gate.run(curl(arguments));
    assert_eq!(answer(&outcome), (body, "200 "), "{outcome:?}\n{:#?}", gate.log());
}

/// Asks, and fails unless the answer has this status and reason.
#[track_caller]
pub(crate) fn assert_told(gate: &Attached<'_>, arguments: &[&str], told: &str) -> String {
    let outcome = gate.run(curl(arguments));
    assert_eq!(answer(&outcome).1, told, "{outcome:?}\n{:#?}", gate.log());
    answer(&outcome).0.to_owned()
}

/// Asks, and returns the answer's JSON.
#[track_caller]
pub(crate) fn json(gate: &Attached<'_>, arguments: &[&str]) -> Value {
    let outcome = gate.run(curl(arguments));
    let (body, told) = answer(&outcome);
    assert_eq!(told, "200 ", "{outcome:?}\n{:#?}", gate.log());
    serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {outcome:?}"))
}

/// A `sluicegate` command about this gate, to its good end.
#[track_caller]
pub(crate) fn operator(gate: &Attached<'_>, arguments: &[&str]) -> Outcome {
    let outcome = gate.operator(arguments).run();
    outcome.assert_success();
    outcome
}

/// The log, once it has the lines of this many exchanges: a line may be written after the answer has
/// arrived.
#[track_caller]
pub(crate) fn settled(gate: &Attached<'_>, exchanges: usize) -> Vec<Value> {
    wait_until(&format!("{exchanges} exchanges"), Duration::from_secs(10), || {
        of_kind(&gate.log(), "exchange").len() >= exchanges
    });
    gate.log()
}
