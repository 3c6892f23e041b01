//! One request in one instance: made, called, and dropped.

use std::sync::Arc;

use sluicegate_policy::{Entry, FlowDecision, HandlerFault, MessageVerdict, Outcome, Step};
use tokio::sync::oneshot;
use wasmtime::component::{InstancePre, Resource};
use wasmtime::{Result, Store, UpdateDeadline};

use crate::bindings::component::{RevealingHandler, RevealingHandlerPre};
use crate::bindings::connection::sluicegate::policy::connection::Decision;
use crate::bindings::connection::{ConnectionHandler, ConnectionHandlerPre};
use crate::bindings::engine::EnginePre;
use crate::bindings::message::sluicegate::policy::websocket::Verdict;
use crate::bindings::message::{MessageHandler, MessageHandlerPre};
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
    Component(ComponentCode),
    JavaScript(EnginePre<State>),
}

/// A component by what it exports; there is one of them at least.
#[derive(Clone)]
pub(crate) struct ComponentCode {
    /// With what it imports.
    pub(crate) linked: InstancePre<State>,
    /// Where it exports `outbound`.
    pub(crate) requests: Option<RevealingHandlerPre<State>>,
    /// Where it exports `on-connect`.
    pub(crate) connections: Option<ConnectionHandlerPre<State>>,
    /// Where it exports `on-message`.
    pub(crate) messages: Option<MessageHandlerPre<State>>,
}

/// What an entry returned.
enum Returned {
    Response(Resource<Response>),
    Decision(Decision),
    Verdict(Verdict),
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
        let returned = meter.run(call(&mut store, &program.code, &entry)).await;
        let step = match returned {
            Ok(Ok(Returned::Response(response))) => answered(store.data_mut(), &meter, &file, response),
            Ok(Ok(Returned::Decision(decision))) => Step::Done(Outcome::Flow(decision.into())),
            Ok(Ok(Returned::Verdict(verdict))) => judged(store.data(), &file, verdict.into()),
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

/// Calls what an entry stands for.
async fn call(store: &mut Store<State>, code: &Code, entry: &Entry) -> Result<Result<Returned, Error>> {
    Ok(match entry {
        Entry::Connect => on_connect(store, code).await?.map(Returned::Decision),
        Entry::Message => on_message(store, code).await?.map(Returned::Verdict),
        Entry::Outbound | Entry::ByHost(_) | Entry::Named(_) => {
            outbound(store, code, entry).await?.map(Returned::Response)
        }
    })
}

async fn on_connect(store: &mut Store<State>, code: &Code) -> Result<Result<Decision, Error>> {
    let flow = store.data().flow()?;
    match code {
        Code::Component(code) => {
            let code = code.connections.as_ref().ok_or_else(|| not_exported("on-connect"))?;
            let instance = code.instantiate_async(&mut *store).await?;
            instance.call_on_connect(store, &flow).await
        }
        Code::JavaScript(code) => {
            let instance = code.instantiate_async(&mut *store).await?;
            store.run_concurrent(async |store| instance.call_on_connect(store, flow).await).await?
        }
    }
}

async fn on_message(store: &mut Store<State>, code: &Code) -> Result<Result<Verdict, Error>> {
    let message = store.data().message()?;
    match code {
        Code::Component(code) => {
            let code = code.messages.as_ref().ok_or_else(|| not_exported("on-message"))?;
            let instance = code.instantiate_async(&mut *store).await?;
            instance.call_on_message(store, &message).await
        }
        Code::JavaScript(code) => {
            let instance = code.instantiate_async(&mut *store).await?;
            store.run_concurrent(async |store| instance.call_on_message(store, message).await).await?
        }
    }
}

async fn outbound(
    store: &mut Store<State>,
    code: &Code,
    entry: &Entry,
) -> Result<Result<Resource<Response>, Error>> {
    match code {
        Code::Component(code) => {
            let code = code.requests.as_ref().ok_or_else(|| not_exported("outbound"))?;
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

/// What is bound offers its entry, as was checked before: without it the gate has mixed something up.
fn not_exported(function: &str) -> wasmtime::Error {
    wasmtime::Error::msg(format!("the component exports no `{function}`; this is a bug in the gate"))
}

/// Makes an instance and asks what it offers, in the words of [`Entry`]: what a component exports, and
/// what a text of JavaScript says of itself.
pub(crate) async fn try_out(store: &mut Store<State>, code: &Code) -> Result<Result<Vec<String>, String>> {
    match code {
        Code::Component(code) => {
            let instance = code.linked.instantiate_async(&mut *store).await?;
            let mut offered = Vec::new();
            // Naming the functions checks their types.
            if code.requests.is_some() {
                RevealingHandler::new(&mut *store, &instance)?;
                offered.push(Entry::Outbound.to_string());
            }
            if code.connections.is_some() {
                ConnectionHandler::new(&mut *store, &instance)?;
                offered.push(Entry::Connect.to_string());
            }
            if code.messages.is_some() {
                MessageHandler::new(&mut *store, &instance)?;
                offered.push(Entry::Message.to_string());
            }
            Ok(Ok(offered))
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

/// A secret has no way into a message: what stands for one is worth nothing there.
fn judged(state: &State, file: &str, verdict: MessageVerdict) -> Step {
    match &verdict {
        MessageVerdict::Replace(content) if state.holds_secret(content.bytes()) => {
            let message = "a secret cannot be put into a message";
            problem::failed(file, HandlerFault::Threw, message)
        }
        _ => Step::Done(Outcome::Message(verdict)),
    }
}

impl From<Decision> for FlowDecision {
    fn from(decision: Decision) -> Self {
        match decision {
            Decision::Judge => Self::Judge,
            Decision::Pass => Self::Pass,
        }
    }
}
