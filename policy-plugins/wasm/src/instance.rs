//! One request in one instance: made, called, and dropped.

use std::sync::Arc;

use sluicegate_policy::{Entry, Outcome, Step};
use tokio::sync::oneshot;
use wasmtime::component::Resource;
use wasmtime::{Result, Store, UpdateDeadline};

use crate::bindings::component::RevealingHandlerPre;
use crate::bindings::engine::EnginePre;
use crate::bindings::policy::http::Error;
use crate::engine::Machine;
use crate::host::{Refused, Response};
use crate::load::LoadedProgram;
use crate::meter::Meter;
use crate::problem::{self, TimeIsUp};
use crate::state::State;

/// The most bytes that a program hands over in one call.
const CALL_BYTES_MAX: usize = 32 << 20;

/// Code that only needs an instance. The text of JavaScript is in the [`State`].
#[derive(Clone)]
pub(crate) enum Code {
    Component(RevealingHandlerPre<State>),
    JavaScript(EnginePre<State>),
}

/// What a request needs to run.
pub(crate) struct Job {
    pub(crate) program: Arc<LoadedProgram>,
    pub(crate) entry: Entry,
    /// The program's file, for errors.
    pub(crate) file: Box<str>,
    pub(crate) state: State,
    pub(crate) meter: Arc<Meter>,
}

impl Job {
    /// Runs to the end, and tells of it before the instance is cleared away: nobody need wait for that.
    pub(crate) async fn run(self, end: oneshot::Sender<Step>) {
        let Self { program, entry, file, state, meter } = self;
        let machine = &program.machine;
        let Ok(_place) = machine.places.acquire().await else {
            return;
        };
        let mut store = store(machine, &meter, state);
        let returned = meter.run(outbound(&mut store, &program.code, &entry)).await;
        let step = match returned {
            Ok(Ok(response)) => answered(store.data_mut(), &meter, &file, response),
            Ok(Err(error)) => problem::returned(store.data(), &file, error),
            Err(error) => problem::trapped(store.data(), &meter, &file, &error),
        };
        // Whoever waited may be gone.
        drop(end.send(step));
    }
}

/// A store whose program is interrupted every millisecond, and ended when its time is up.
pub(crate) fn store(machine: &Machine, meter: &Arc<Meter>, state: State) -> Store<State> {
    let mut store = Store::new(&machine.engine, state);
    store.limiter(|state| &mut state.limiter);
    store.set_hostcall_fuel(CALL_BYTES_MAX);
    store.set_epoch_deadline(1);
    let meter = Arc::clone(meter);
    store.epoch_deadline_callback(move |_| {
        if meter.is_used_up() { Err(TimeIsUp.into()) } else { Ok(UpdateDeadline::Yield(1)) }
    });
    store
}

async fn outbound(
    store: &mut Store<State>,
    code: &Code,
    entry: &Entry,
) -> Result<Result<Resource<Response>, Error>> {
    match code {
        Code::Component(code) => {
            let instance = code.instantiate_async(&mut *store).await?;
            let request = store.data_mut().push_request()?;
            instance.call_outbound(store, request).await
        }
        Code::JavaScript(code) => {
            let instance = code.instantiate_async(&mut *store).await?;
            let request = store.data_mut().push_request()?;
            let entry = entry.to_string();
            store.run_concurrent(async |store| instance.call_outbound(store, entry, request).await).await?
        }
    }
}

/// Makes an instance and asks what it offers: what a text of JavaScript says of itself, in the words of
/// [`Entry`].
pub(crate) async fn try_out(store: &mut Store<State>, code: &Code) -> Result<Result<Vec<String>, String>> {
    match code {
        Code::Component(code) => {
            code.instantiate_async(store).await?;
            Ok(Ok(vec![Entry::Outbound.to_string()]))
        }
        Code::JavaScript(code) => {
            let instance = code.instantiate_async(&mut *store).await?;
            store.run_concurrent(async |store| instance.call_entries(store).await).await?
        }
    }
}

fn answered(state: &mut State, meter: &Meter, file: &str, response: Resource<Response>) -> Step {
    if state.has_responded() {
        return Step::Done(Outcome::Responded);
    }
    match state.take_response(response) {
        Ok(response) => Step::Done(Outcome::Respond(response)),
        Err(Refused::Told(error)) => problem::returned(state, file, error),
        Err(Refused::Ended(error)) => problem::trapped(state, meter, file, &error),
    }
}
