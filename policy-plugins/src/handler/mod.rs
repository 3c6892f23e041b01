//! Handlers: code of the policy author's that sees a request and decides.
//!
//! A handler runs without I/O. Where it needs the world (a fetch, a stored value, a person) its run
//! ends with an [`Effect`]; the proxy performs it, hands the [`Answer`] in, and runs the handler
//! again, which finds the answers so far in its journal and comes as far as the next effect.

mod api;
mod effect;
mod engine;
mod execution;
mod failure;
mod flow;
mod journal;
mod limits;
mod placeholder;
mod program;
mod reference;
mod run;
mod script;
mod socket;
#[cfg(test)]
mod tests;
mod value;
mod watch;

pub mod message;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use http::uri::PathAndQuery;
use http::{HeaderMap, Method, Version};

pub use effect::{
    Answer, BodyHandle, BodyPart, BodySource, Effect, Encoding, HandlerResponse, KvOperation, Object,
    ObjectsOperation, OutgoingRequest,
};
pub use execution::{Execution, HandlerError, HandlerFault, LogLevel, LogLine, Outcome, Patience, Step};
pub use flow::{FlowDecision, FlowFacts};
pub use limits::HandlerLimits;
pub use placeholder::Placeholders;
pub use program::{Entry, Exports, Program, ProgramKind};
pub use reference::handler_reference;
pub use script::{Script, ScriptProblem};
pub use socket::{MessageContent, MessageDirection, MessageVerdict, SocketMessage};

use crate::host::{Authority, Scheme};
use crate::secret::SecretName;

/// A handler where the policy binds it: what runs, by which name, and with what.
#[derive(Clone, Debug)]
pub struct BoundHandler {
    /// The name in logs and commands: the one of `[outbound_handlers]`, else the file's path as the
    /// document writes it.
    pub name: Box<str>,
    /// What it does.
    pub action: HandlerAction,
    /// `ctx.params`.
    pub params: Arc<serde_json::Value>,
    /// The secrets whose bytes it may have.
    pub reveal: Arc<[SecretName]>,
}

impl BoundHandler {
    /// Whether both are the same code with the same parameters, which would say the same.
    #[must_use]
    pub fn is_same_as(&self, other: &Self) -> bool {
        self.action.file_and_version() == other.action.file_and_version() && self.params == other.params
    }
}

/// What a handler does.
#[derive(Clone, Debug)]
pub enum HandlerAction {
    /// Runs a script.
    Script(Arc<Script>),
    /// Runs an entry of a program.
    Program(Arc<Program>),
    /// Refuses, and says why.
    Deny(Box<str>),
}

impl HandlerAction {
    /// The file of what runs, as the document writes it, and its version; `None` where nothing runs.
    #[must_use]
    pub fn file_and_version(&self) -> Option<(&str, &str)> {
        match self {
            Self::Script(script) => Some((script.file(), script.version())),
            Self::Program(program) => Some((&program.file, &program.version)),
            Self::Deny(_) => None,
        }
    }

    /// Whether it is asked about each message of the WebSockets that it lets through.
    #[must_use]
    pub fn judges_messages(&self) -> bool {
        match self {
            Self::Script(script) => script.has_on_message(),
            Self::Program(program) => program.judges_messages,
            Self::Deny(_) => false,
        }
    }
}

/// What `env` offers to every handler of a policy.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    /// `env.secrets.NAME`.
    pub secrets: Vec<SecretName>,
    /// `env.NAME` for stores.
    pub bindings: BTreeMap<Box<str>, BindingKind>,
    /// `env.NAME` for constants.
    pub constants: BTreeMap<Box<str>, serde_json::Value>,
    /// What a handler may use up.
    pub limits: HandlerLimits,
}

/// What a binding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BindingKind {
    /// Values by key.
    Kv,
    /// Streams by key.
    Objects,
}

/// Who the workload is, as far as handlers are told; the same for all its requests.
#[derive(Clone, Debug, Default)]
pub struct Identity {
    /// The container, or what stands for it; the instance's name where nobody said otherwise.
    pub container_id: Box<str>,
    /// The instance's name.
    pub instance_id: Box<str>,
    /// Labels that the operator gave.
    pub labels: BTreeMap<Box<str>, Box<str>>,
}

/// What a handler is asked about.
#[derive(Clone, Debug, Default)]
pub enum Subject {
    /// A request.
    #[default]
    Request,
    /// A connection, before there is a request: the method is then CONNECT, the scheme says whether it begins
    /// with TLS, the path is `/`, and there are neither headers nor a body.
    Connection(FlowFacts),
    /// A message of a WebSocket: the rest is of the request that opened it, without headers and body.
    Message(SocketMessage),
}

/// A request of the workload's, as its handler begins with it; or what stands in its place, which `subject`
/// says.
#[derive(Clone, Debug)]
pub struct HandlerInput {
    /// The method.
    pub method: Method,
    /// How it travels.
    pub scheme: Scheme,
    /// Whom it is for.
    pub authority: Authority,
    /// Path and query.
    pub path_and_query: PathAndQuery,
    /// The headers, after the edits of the rule that hold no secret.
    pub headers: HeaderMap,
    /// Whether a body may follow; it is [`BodyHandle::WORKLOAD`].
    pub has_body: bool,
    /// Who sends it.
    pub identity: Arc<Identity>,
    /// The request's id in the log.
    pub request_id: Box<str>,
    /// Where the workload dialled.
    pub original_destination: SocketAddr,
    /// The server name in its TLS.
    pub sni: Option<Box<str>>,
    /// Its TLS version, such as `TLSv1_3`.
    pub tls: Option<&'static str>,
    /// Its HTTP version.
    pub version: Version,
    /// When the handler begins: what `now()` says.
    pub now: SystemTime,
    /// What the handler is asked about.
    pub subject: Subject,
}
