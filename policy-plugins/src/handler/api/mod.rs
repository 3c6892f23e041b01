//! The host API: every function and property that a handler can use, registered and described in
//! one place each.

mod ask;
mod body;
mod codec;
mod context;
mod environment;
mod flow;
mod functions;
mod headers;
mod kv;
mod objects;
mod random;
pub(super) mod request;
pub(super) mod response;
pub(super) mod secret;
mod socket;
mod text;

pub(super) use ask::Approval;
pub(super) use context::context;
pub(super) use environment::Env;
pub(super) use flow::Flow;
pub(super) use headers::Headers;
pub(super) use socket::Message;

use rhai::{Dynamic, Engine, RhaiNativeFunc};

use super::failure::Fallible;

/// One line of the reference.
#[derive(Clone, Copy)]
pub(super) struct Entry {
    /// How it is written, such as `request.header(name)`; empty where a section begins.
    pub(super) signature: &'static str,
    /// What it does, in a sentence; of a section, its title.
    pub(super) says: &'static str,
    /// A statement that compiles inside of `outbound`, of `on_connect` where the signature is of `flow`, or
    /// of `on_message` where it is of `message`; empty if it needs none.
    pub(super) example: &'static str,
}

const fn entry(signature: &'static str, says: &'static str, example: &'static str) -> Entry {
    Entry { signature, says, example }
}

/// Puts functions into an engine and keeps what is said of them.
pub(super) struct Registrar<'engine> {
    engine: &'engine mut Engine,
    entries: Vec<Entry>,
}

impl Registrar<'_> {
    fn section(&mut self, title: &'static str) {
        self.entries.push(entry("", title, ""));
    }

    /// Describes what is registered by other means, or is of Rhai's own.
    fn describe(&mut self, entry: Entry) {
        self.entries.push(entry);
    }

    /// A function or method; its name is that of the signature.
    fn function<
        A: 'static,
        const N: usize,
        const X: bool,
        R: Clone + Send + Sync + 'static,
        const F: bool,
    >(
        &mut self,
        entry: Entry,
        function: impl RhaiNativeFunc<A, N, X, R, F> + Send + Sync + 'static,
    ) {
        self.entries.push(entry);
        self.also(name_of(entry.signature), function);
    }

    /// Another form of a function that is described already.
    fn also<A: 'static, const N: usize, const X: bool, R: Clone + Send + Sync + 'static, const F: bool>(
        &mut self,
        name: &'static str,
        function: impl RhaiNativeFunc<A, N, X, R, F> + Send + Sync + 'static,
    ) {
        self.engine.register_fn(name, function);
    }

    /// A property to read.
    fn property<T: Clone + Send + Sync + 'static, R: Clone + Send + Sync + 'static>(
        &mut self,
        entry: Entry,
        get: impl Fn(&mut T) -> R + Send + Sync + 'static,
    ) {
        self.entries.push(entry);
        self.engine.register_get(name_of(entry.signature), get);
    }

    /// Lets a property be written too.
    fn writable<T: Clone + Send + Sync + 'static, R: Clone + Send + Sync + 'static>(
        &mut self,
        name: &'static str,
        set: impl Fn(&mut T, R) -> Fallible<()> + Send + Sync + 'static,
    ) {
        self.engine.register_set(name, set);
    }
}

/// `header` of `request.header(name)`.
fn name_of(signature: &'static str) -> &'static str {
    let path = signature.split_once('(').map_or(signature, |(path, _)| path);
    path.rsplit_once('.').map_or(path, |(_, name)| name)
}

/// Puts the whole API into an engine.
pub(super) fn register(engine: &mut Engine) -> Vec<Entry> {
    let mut registrar = Registrar { engine, entries: Vec::new() };
    request::register(&mut registrar);
    response::register(&mut registrar);
    body::register(&mut registrar);
    functions::register(&mut registrar);
    ask::register(&mut registrar);
    codec::register(&mut registrar);
    random::register(&mut registrar);
    text::register(&mut registrar);
    secret::register(&mut registrar);
    environment::register(&mut registrar);
    kv::register(&mut registrar);
    objects::register(&mut registrar);
    context::register(&mut registrar);
    flow::register(&mut registrar);
    socket::register(&mut registrar);
    registrar.entries
}

/// A value or nothing, as a script has it.
fn optional<T: Into<Dynamic>>(value: Option<T>) -> Dynamic {
    value.map_or(Dynamic::UNIT, Into::into)
}
