//! Loading a program: compiled, checked, and tried out once.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sluicegate_policy::{Entry, Exports, ScriptProblem};
use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, InstancePre, Linker};

use crate::bindings::component::RevealingHandlerPre;
use crate::bindings::connection::ConnectionHandlerPre;
use crate::bindings::engine::EnginePre;
use crate::bindings::message::MessageHandlerPre;
use crate::embedded::PREAMBLE;
use crate::engine::Machine;
use crate::host;
use crate::instance::{Code, ComponentCode};
use crate::javascript;
use crate::problem::whole;
use crate::state::State;
use crate::trial::try_out;

/// The interfaces that a component may import begin with this; a name and a version follow.
const OURS: &str = "sluicegate:policy/";
/// The one of them that gives the bytes of secrets.
const REVEAL: &str = "sluicegate:policy/reveal@";
/// The most imports that a message names.
const NAMED_MAX: usize = 8;
/// The most that is shown of what the compiler says, in bytes.
const SAID_BYTES_MAX: usize = 512;

/// A program that is ready to run.
pub struct LoadedProgram {
    pub(crate) machine: Arc<Machine>,
    pub(crate) code: Code,
    /// The text, where it is JavaScript.
    pub(crate) source: Option<Arc<str>>,
    exports: Exports,
    pub(crate) report: LoadReport,
}

/// How loading went.
#[derive(Clone, Debug)]
pub struct LoadReport {
    /// The length of the file, in bytes.
    pub bytes: usize,
    /// The interfaces that the program imports, sorted: all that it can reach.
    pub imports: Vec<String>,
    /// How long it took to compile and check it.
    pub compile_time: Duration,
    /// Whether it was found compiled. For JavaScript: whether the engine was, or ran before.
    pub from_cache: bool,
}

impl LoadedProgram {
    /// Loads a component that was compiled from so many bytes.
    ///
    /// # Errors
    /// It is not one of ours.
    pub(crate) fn component(
        machine: &Arc<Machine>,
        component: &Component,
        bytes: usize,
    ) -> Result<Self, ScriptProblem> {
        let began = Instant::now();
        let (code, imports) = link(machine, component)?;
        let code = Code::Component(code);
        let offered = try_out(machine, &code, None)?.map_err(|why| whole(why, None))?;
        let entries = offered.iter().filter_map(|name| Entry::parse(name)).collect();
        let needs_reveal = imports.iter().any(|name| name.starts_with(REVEAL));
        let report = LoadReport { bytes, imports, compile_time: began.elapsed(), from_cache: false };
        let exports = checked(Exports { entries, needs_reveal }, ("on-message", "outbound"))?;
        Ok(Self { machine: Arc::clone(machine), code, source: None, exports, report })
    }

    /// Loads a text of JavaScript, to run on `engine`.
    ///
    /// # Errors
    /// It is no module, or offers no handler.
    pub(crate) fn javascript(
        machine: &Arc<Machine>,
        engine: &EnginePre<State>,
        content: &[u8],
    ) -> Result<Self, ScriptProblem> {
        let began = Instant::now();
        let source: Arc<str> = javascript::read(content)?.into();
        let code = Code::JavaScript(engine.clone());
        let offered = try_out(machine, &code, Some(&source))?;
        let offered = offered.map_err(|said| javascript::problem(content, &said))?;
        let mut entries: Vec<Entry> = offered.iter().filter_map(|name| Entry::parse(name)).collect();
        entries.sort();
        entries.dedup();
        if entries.is_empty() {
            let help =
                "write export default { async outbound(request, env, ctx) { return fetch(request); } }";
            return Err(whole("the file offers no handler", Some(help)));
        }
        let report = LoadReport {
            bytes: content.len(),
            imports: reachable(machine, engine),
            compile_time: began.elapsed(),
            from_cache: false,
        };
        let exports = checked(Exports { entries, needs_reveal: false }, ("onMessage", "outbound"))?;
        Ok(Self { machine: Arc::clone(machine), code, source: Some(source), exports, report })
    }

    /// What the program offers.
    #[must_use]
    pub fn exports(&self) -> &Exports {
        &self.exports
    }

    /// How loading it went.
    #[must_use]
    pub fn report(&self) -> &LoadReport {
        &self.report
    }
}

impl fmt::Debug for LoadedProgram {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("LoadedProgram")
            .field("exports", &self.exports)
            .field("report", &self.report)
            .finish_non_exhaustive()
    }
}

/// Refuses a function for messages that nobody would call: what was meant to be judged would pass.
fn checked(exports: Exports, (messages, requests): (&str, &str)) -> Result<Exports, ScriptProblem> {
    if !exports.has_idle_messages() {
        return Ok(exports);
    }
    let message = format!("`{messages}` is there without `{requests}`, which lets the WebSockets through");
    Err(whole(message, Some("offer a handler of requests beside it: one that fetches is enough")))
}

fn link(machine: &Machine, component: &Component) -> Result<(ComponentCode, Vec<String>), ScriptProblem> {
    let imports = imports(machine, component);
    check_imports(&imports)?;
    let mut linker = Linker::new(&machine.engine);
    host::add_to_linker(&mut linker).map_err(|error| unlinked(&error))?;
    host::add_reveal(&mut linker).map_err(|error| unlinked(&error))?;
    let linked = linker.instantiate_pre(component).map_err(|error| unlinked(&error))?;
    Ok((exported(component, linked)?, imports))
}

/// The functions of a component that the gate calls: one of them at least. One that is there with another
/// type is no reason to go on without it.
fn exported(component: &Component, linked: InstancePre<State>) -> Result<ComponentCode, ScriptProblem> {
    let has = |function: &str| component.get_export_index(None, function).is_some();
    let misfit = |error: wasmtime::Error| {
        let help = "build it for the worlds of wit/policy.wit";
        whole(format!("the component exports no handler: {}", said(&error)), Some(help))
    };
    let requests = has("outbound").then(|| RevealingHandlerPre::new(linked.clone())).transpose();
    let connections = has("on-connect").then(|| ConnectionHandlerPre::new(linked.clone())).transpose();
    let messages = has("on-message").then(|| MessageHandlerPre::new(linked.clone())).transpose();
    match (requests.map_err(misfit)?, connections.map_err(misfit)?, messages.map_err(misfit)?) {
        (None, None, None) => {
            let help = "build it for the world sluicegate:policy/handler of wit/policy.wit and export \
                        `outbound`, or for connection-handler and export `on-connect`";
            Err(whole("the component exports no handler: neither `outbound` nor `on-connect`", Some(help)))
        }
        (requests, connections, messages) => Ok(ComponentCode { linked, requests, connections, messages }),
    }
}

/// Checks what a file is by its first bytes, for words that help.
///
/// # Errors
/// It is no component.
pub(crate) fn check_form(content: &[u8]) -> Result<(), ScriptProblem> {
    match content.first_chunk::<8>() {
        Some(PREAMBLE) => Ok(()),
        Some([0, b'a', b's', b'm', version @ ..]) if *version == [1, 0, 0, 0] => Err(whole(
            "this is a core module of WebAssembly, and not a component",
            Some("make a component of it: wasm-tools component new module.wasm -o handler.wasm"),
        )),
        _ => Err(whole(
            "this is no WebAssembly component",
            Some("build one for the world sluicegate:policy/handler of wit/policy.wit"),
        )),
    }
}

/// What a component imports, sorted: interfaces, or functions that stand alone. Of ours, those that have
/// something to call; types that a component uses in its exports are no reach of it.
fn imports(machine: &Machine, component: &Component) -> Vec<String> {
    let kind = component.component_type();
    let is_called = |name: &str, kind: &ComponentItem| match kind {
        ComponentItem::Type(_) | ComponentItem::Resource(_) => false,
        ComponentItem::ComponentInstance(interface) if name.starts_with(OURS) => interface
            .exports(&machine.engine)
            .any(|(_, item)| matches!(item.ty, ComponentItem::ComponentFunc(_))),
        _ => true,
    };
    let mut names: Vec<String> = kind
        .imports(&machine.engine)
        .filter(|(name, item)| is_called(name, &item.ty))
        .map(|(name, _)| name.to_owned())
        .collect();
    names.sort();
    names
}

/// What a handler in JavaScript can reach: all that our engine imports of ours.
fn reachable(machine: &Machine, engine: &EnginePre<State>) -> Vec<String> {
    let mut names = imports(machine, engine.instance_pre().component());
    names.retain(|name| name.starts_with(OURS));
    names
}

fn check_imports(imports: &[String]) -> Result<(), ScriptProblem> {
    let mut foreign: Vec<&str> =
        imports.iter().map(String::as_str).filter(|name| !name.starts_with(OURS)).collect();
    if foreign.is_empty() {
        return Ok(());
    }
    let more = foreign.len().saturating_sub(NAMED_MAX);
    foreign.truncate(NAMED_MAX);
    let mut named = foreign.join(", ");
    if more > 0 {
        named.push_str(&format!(" and {more} more"));
    }
    Err(whole(
        format!("the component imports what handlers do not have: {named}"),
        Some(
            "handlers import sluicegate:policy/* alone; build it without WASI: Rust for \
             wasm32-unknown-unknown, componentize-py with --stub-wasi",
        ),
    ))
}

/// Why a component cannot be compiled.
pub(crate) fn uncompiled(error: &wasmtime::Error) -> ScriptProblem {
    let text = said(error);
    if text.contains("component model async") {
        return whole(
            "the component uses the asynchronous half of the component model, which handlers do not have",
            Some("build it with synchronous functions: the gate lets others run while one waits"),
        );
    }
    whole(format!("the component cannot be compiled: {text}"), None)
}

fn unlinked(error: &wasmtime::Error) -> ScriptProblem {
    let help = "build it against the wit/policy.wit of this version";
    whole(format!("the component does not fit this version: {}", said(error)), Some(help))
}

/// An error of the engine's with its causes, on one line and not too long.
fn said(error: &wasmtime::Error) -> String {
    let text = format!("{error:#}").replace('\n', " ");
    text.get(..text.floor_char_boundary(SAID_BYTES_MAX)).unwrap_or_default().to_owned()
}
