//! From errors of programs and their engine to ours: what went wrong, in words without secrets.

use sluicegate_policy::{HandlerError, HandlerFault, Outcome, ScriptProblem, Step};
use wasmtime::Trap;

use crate::bindings::policy::http;
use crate::javascript;
use crate::meter::Meter;
use crate::state::State;

/// The longest message of a [`HandlerError`], in bytes.
const MESSAGE_BYTES_MAX: usize = 512;
/// The longest reason of a refusal, in bytes.
const REASON_BYTES_MAX: usize = 1024;

/// What a request came to that ended with a trap, or was ended by the gate.
///
/// What stopped it counts before what the program or the engine made of it.
pub(crate) fn trapped(state: &State, meter: &Meter, file: &str, error: &wasmtime::Error) -> Step {
    if let Some(stop) = state.stopped() {
        return failed(file, stop.fault, &stop.message);
    }
    if let Some(message) = state.limiter.exceeded() {
        return failed(file, HandlerFault::Limit, message);
    }
    if error.is::<TimeIsUp>() {
        let message = format!("more than {} ms of processor time", meter.allowed().as_millis());
        return failed(file, HandlerFault::Time, &message);
    }
    let (fault, message) = match error.downcast_ref::<Trap>() {
        Some(Trap::StackOverflow) => (HandlerFault::Limit, "its calls nest too deep".to_owned()),
        Some(Trap::UnreachableCodeReached) => {
            (HandlerFault::Threw, "it panicked: `unreachable` was reached".to_owned())
        }
        Some(Trap::NoAsyncResult | Trap::AsyncDeadlock) => {
            let message = "the handler never settles: it waits for a promise that nothing resolves";
            (HandlerFault::Threw, message.to_owned())
        }
        Some(trap) => (HandlerFault::Threw, trap.to_string()),
        None => (HandlerFault::Threw, error.root_cause().to_string()),
    };
    failed(file, fault, &state.shown(&message, MESSAGE_BYTES_MAX))
}

/// What a request came to in which the program returned an error.
pub(crate) fn returned(state: &State, file: &str, error: http::Error) -> Step {
    let message = match error {
        http::Error::Denied(_) if state.has_responded() => return Step::Done(Outcome::Responded),
        http::Error::Denied(reason) => {
            let reason = state.shown(&reason, REASON_BYTES_MAX);
            return Step::Done(Outcome::Refuse(reason.into()));
        }
        http::Error::TimedOut => "something that it waited for took too long".to_owned(),
        http::Error::Invalid(message) | http::Error::Failed(message) => message,
    };
    let (message, line, column) = javascript::place_after(&message).unwrap_or((&message, 0, 0));
    let message = state.shown(message, MESSAGE_BYTES_MAX).into();
    Step::Failed(HandlerError { fault: HandlerFault::Threw, file: file.into(), line, column, message })
}

/// A failure without a place.
pub(crate) fn failed(file: &str, fault: HandlerFault, message: &str) -> Step {
    Step::Failed(HandlerError { fault, file: file.into(), line: 0, column: 0, message: message.into() })
}

/// A program whose processor time is used up.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the processor time is used up")]
pub(crate) struct TimeIsUp;

/// A problem of a whole program.
pub(crate) fn whole(message: impl Into<String>, help: Option<&str>) -> ScriptProblem {
    ScriptProblem { message: message.into(), at: 0..0, help: help.map(str::to_owned) }
}
