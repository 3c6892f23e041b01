//! A handler at work, whatever it is written in.

use std::cell::Cell;
use std::sync::Arc;

use sluicegate_policy::{
    Answer, Entry, Execution, HandlerAction, HandlerInput, LogLine, Patience, Step, Subject,
};
use sluicegate_wasm::{Begin, Running};
use tokio::time::Instant;

use super::{Exchange, failed, timed_out};
use crate::gate::Gate;
use crate::respond::Failure;

/// A handler at work on one request.
pub(super) enum Work {
    /// A script, which runs on our threads and begins anew after each effect; gone while it runs on
    /// another thread.
    Script(Option<Box<Execution>>),
    /// A program, which runs on threads of its own and waits there.
    Program(Running),
}

impl Work {
    /// Begins.
    ///
    /// # Errors
    /// The program is not loaded, which is a fault of the gate.
    pub(super) fn begin(exchange: &Exchange, input: HandlerInput) -> Result<Self, Failure> {
        let Exchange { connection, generation, handler, .. } = exchange;
        let environment = generation.policy.environment();
        let HandlerAction::Program(program) = &handler.action else {
            return Ok(Self::Script(Some(Box::new(Execution::new(handler, environment, input)))));
        };
        let Some(loaded) = generation.program(program) else {
            return Err(failed(format!("{} is not loaded; this is a bug in the gate", program.file)));
        };
        let entry = match &input.subject {
            Subject::Message(_) => Entry::Message,
            Subject::Request | Subject::Connection(_) => program.entry.clone(),
        };
        let begin = Begin { entry, bound: Arc::clone(handler), environment: Arc::clone(environment), input };
        Ok(Self::Program(connection.gate.programs.run(loaded, begin)))
    }

    /// Runs until the handler asks for something or has decided.
    ///
    /// # Errors
    /// It did not come to that by `deadline`.
    pub(super) async fn next(&mut self, gate: &Gate, deadline: Instant) -> Result<Step, Failure> {
        match self {
            Self::Program(running) => tokio::time::timeout_at(deadline, running.next())
                .await
                .map_err(|_| timed_out("it was still running, or no place to run was free")),
            Self::Script(execution) => {
                let Some(mut running) = execution.take() else {
                    return Err(timed_out("it did not come back"));
                };
                let step = match running.run(Patience::Brief) {
                    Step::Unfinished => {
                        let (back, step) = run_apart(gate, running, deadline).await?;
                        running = back;
                        step
                    }
                    step => step,
                };
                *execution = Some(running);
                Ok(step)
            }
        }
    }

    /// Tells the handler what came of what it asked for.
    pub(super) fn answer(&mut self, answer: Answer) {
        match self {
            Self::Program(running) => running.answer(answer),
            Self::Script(Some(execution)) => execution.answer(answer),
            Self::Script(None) => {}
        }
    }

    /// What it has logged since the last call.
    pub(super) fn take_log(&mut self) -> Vec<LogLine> {
        match self {
            Self::Program(running) => running.take_log(),
            Self::Script(Some(execution)) => execution.take_log(),
            Self::Script(None) => Vec::new(),
        }
    }
}

/// How much behind the data plane a script that needs more than a moment gets a processor.
const NICENESS: i32 = 5;

/// Puts this thread behind the data plane, once and for good: what else is done on such a thread can wait
/// as well.
fn step_back() {
    thread_local! {
        static IS_BEHIND: Cell<bool> = const { Cell::new(false) };
    }
    if IS_BEHIND.replace(true) {
        return;
    }
    // On Linux this is of the calling thread alone.
    if let Err(error) = rustix::process::nice(NICENESS) {
        tracing::debug!(%error, "scripts run at the priority of the data plane");
    }
}

/// Runs a script that needs more than a moment on a thread where nobody waits for bytes.
async fn run_apart(
    gate: &Gate,
    mut execution: Box<Execution>,
    deadline: Instant,
) -> Result<(Box<Execution>, Step), Failure> {
    let free = Arc::clone(&gate.handler_threads).acquire_owned();
    let Ok(Ok(place)) = tokio::time::timeout_at(deadline, free).await else {
        return Err(timed_out("no handler thread was free"));
    };
    let ran = tokio::task::spawn_blocking(move || {
        // Held by the run and not by the request, which may be given up before.
        let _place = place;
        step_back();
        let step = execution.run(Patience::Full);
        (execution, step)
    });
    ran.await.map_err(|_| failed(String::from("the handler's thread ended")))
}
