//! The first instance of a program, made when it is loaded: what cannot start is refused before it is in
//! force.

use std::sync::{Arc, mpsc};
use std::time::Duration;

use sluicegate_policy::{Environment, HandlerLimits, ScriptProblem, Step};

use crate::engine::{MEMORY_MAX, Machine};
use crate::instance::{self, Code};
use crate::meter::Meter;
use crate::problem::{self, whole};
use crate::state::State;

/// Processor time for it: more than a request gets, because everything is touched for the first time.
const CPU: Duration = Duration::from_millis(500);
/// How long it may take by the clock, on a machine that is busy.
const WALL: Duration = Duration::from_secs(10);

/// Makes an instance, and asks a text of JavaScript what it offers: what it said, or why it cannot be
/// read. Blocks, for [`WALL`] at most.
///
/// # Errors
/// It cannot be started.
pub(crate) fn try_out(
    machine: &Arc<Machine>,
    code: &Code,
    source: Option<&Arc<str>>,
) -> Result<Result<Vec<String>, String>, ScriptProblem> {
    let limits = HandlerLimits { memory: MEMORY_MAX, ..HandlerLimits::default() };
    let environment = Arc::new(Environment { limits, ..Environment::default() });
    let mut state = State::loading(&environment);
    state.source = source.cloned();
    let (tell, told) = mpsc::sync_channel(1);
    let (ours, code) = (Arc::clone(machine), code.clone());
    // On the threads of programs, so that it can be interrupted.
    machine.threads.spawn(async move {
        let ended = tokio::time::timeout(WALL, run(&ours, &code, state)).await;
        // Nobody has stopped waiting.
        drop(tell.send(ended.unwrap_or_else(|_| Err("it does not end".to_owned()))));
    });
    match told.recv() {
        Ok(Ok(offered)) => Ok(offered),
        Ok(Err(why)) => Err(whole(format!("it cannot be started: {why}"), None)),
        Err(_) => Err(whole("its thread ended; this is a bug in the gate", None)),
    }
}

async fn run(machine: &Machine, code: &Code, state: State) -> Result<Result<Vec<String>, String>, String> {
    let meter = Arc::new(Meter::new(&machine.threads.ticker, CPU));
    let mut store = instance::store(machine, &meter, state);
    let offered = meter.run(instance::try_out(&mut store, code)).await;
    offered.map_err(|error| match problem::trapped(store.data(), &meter, "", &error) {
        Step::Failed(error) => error.message.into(),
        _ => error.to_string(),
    })
}
