//! What a program can call: every interface of `wit/policy.wit`, and nothing else.
//!
//! What the world has to do with becomes an [`Effect`](sluicegate_policy::Effect), which somebody
//! else performs. What a program writes is checked by the same code as in scripts.
#![expect(unreachable_pub, reason = "generated code names these types, and wants them to be pub")]

mod approval;
mod body;
mod clock;
mod connection;
mod context;
mod digest;
mod fetch;
mod headers;
mod kv;
mod log;
mod objects;
mod random;
mod request;
mod response;
mod reveal;
mod secrets;
mod slots;
#[cfg(test)]
mod tests;
mod websocket;

pub use body::Body;
pub use request::Request;
pub use response::Response;

use sluicegate_policy::message::MessageError;
use sluicegate_policy::{Answer, BindingKind};
use wasmtime::component::{HasSelf, Linker};

use crate::bindings::connection::sluicegate::policy::connection as connections;
use crate::bindings::message::sluicegate::policy::websocket as messages;
use crate::bindings::policy;
use crate::bindings::policy::http::Error;
use crate::state::State;

/// Why a function did not do what it was called for.
pub enum Refused {
    /// The program is told.
    Told(Error),
    /// The program ends: the reason is in [`State::stopped`].
    Ended(wasmtime::Error),
}

impl From<wasmtime::Error> for Refused {
    fn from(error: wasmtime::Error) -> Self {
        Self::Ended(error)
    }
}

impl From<MessageError> for Refused {
    fn from(error: MessageError) -> Self {
        invalid(error.0)
    }
}

/// Lets components reach every interface but `reveal`.
///
/// # Errors
/// An interface is defined already.
pub(crate) fn add_to_linker(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    policy::http::add_to_linker::<_, HasSelf<_>>(linker, |state| state)?;
    connections::add_to_linker::<_, HasSelf<_>>(linker, |state| state)?;
    messages::add_to_linker::<_, HasSelf<_>>(linker, |state| state)?;
    policy::context::add_to_linker::<_, HasSelf<_>>(linker, |state| state)?;
    policy::secrets::add_to_linker::<_, HasSelf<_>>(linker, |state| state)?;
    policy::kv::add_to_linker::<_, HasSelf<_>>(linker, |state| state)?;
    policy::objects::add_to_linker::<_, HasSelf<_>>(linker, |state| state)?;
    policy::approval::add_to_linker::<_, HasSelf<_>>(linker, |state| state)?;
    policy::log::add_to_linker::<_, HasSelf<_>>(linker, |state| state)?;
    policy::clock::add_to_linker::<_, HasSelf<_>>(linker, |state| state)?;
    policy::random::add_to_linker::<_, HasSelf<_>>(linker, |state| state)?;
    policy::digest::add_to_linker::<_, HasSelf<_>>(linker, |state| state)
}

/// Lets components reach `reveal` too.
///
/// # Errors
/// It is defined already.
pub(crate) fn add_reveal(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    policy::reveal::add_to_linker::<_, HasSelf<_>>(linker, |state| state)
}

fn invalid(message: impl Into<String>) -> Refused {
    Refused::Told(Error::Invalid(message.into()))
}

impl State {
    /// What an answer says that is not the one hoped for.
    fn unanswered(&mut self, answer: Answer) -> Refused {
        match answer {
            Answer::Failed(why) => Refused::Told(Error::Failed(why.into())),
            Answer::TimedOut => Refused::Told(Error::TimedOut),
            _ => Refused::Ended(self.wrong_answer()),
        }
    }

    /// Nothing, where it was done.
    fn done(&mut self, answer: Answer) -> Result<(), Refused> {
        match answer {
            Answer::Done => Ok(()),
            other => Err(self.unanswered(other)),
        }
    }

    fn keys(&mut self, answer: Answer) -> Result<Vec<String>, Refused> {
        match answer {
            Answer::Keys(keys) => Ok(keys.into_iter().map(String::from).collect()),
            other => Err(self.unanswered(other)),
        }
    }

    /// Checks that a name of the environment stands for a binding of this kind.
    fn check_binding(&self, name: &str, kind: BindingKind) -> Result<(), Refused> {
        let name_shown = self.shown(name, 64);
        match self.environment.bindings.get(name) {
            Some(known) if *known == kind => Ok(()),
            Some(known) => Err(invalid(format!(
                "binding {name_shown} is of kind {}, and not of kind {}",
                word(*known),
                word(kind)
            ))),
            None => Err(invalid(format!(
                "env has no {name_shown}: say [bindings.{name_shown}] or put it under [env] in the document"
            ))),
        }
    }

    /// A key of a store: not empty, and without a secret. The store bounds its length.
    fn checked_key(&self, key: String) -> Result<Box<str>, Refused> {
        if key.is_empty() {
            return Err(invalid("a key is not empty"));
        }
        self.checked_prefix(key)
    }

    /// What keys begin with: without a secret.
    fn checked_prefix(&self, prefix: String) -> Result<Box<str>, Refused> {
        if self.holds_secret(prefix.as_bytes()) {
            return Err(invalid("a secret cannot be put into a key"));
        }
        Ok(prefix.into())
    }
}

fn word(kind: BindingKind) -> &'static str {
    match kind {
        BindingKind::Kv => "kv",
        BindingKind::Objects => "objects",
    }
}
