//! Decides what a sealed workload may send, and does nothing else.
//!
//! A [`Policy`] is compiled from one TOML document and never changes afterwards; the proxy asks it
//! about every name, flow and request and acts on the answer. Nothing here opens a file or a
//! socket or reads the environment; a clock is looked at only to bound a handler's run.
//!
//! The life of a decision: text from the wire becomes a [`Host`] or an [`Authority`], or is
//! refused; [`RequestFacts`] go into [`Policy::decide`]; a [`Decision`] comes out, whose
//! [`Verdict`] is data. The same normaliser reads the document and the traffic.
//!
//! **Invariant:** whatever nothing allows is refused; a document that does not compile is no
//! policy at all.
#![forbid(unsafe_code)]

mod bindings;
mod compile;
mod content;
mod deny_reason;
mod digest;
mod dns;
mod document;
mod edits;
mod error;
mod handler;
mod host;
mod index;
mod instance_text;
mod lists;
mod name_server;
mod outbound;
mod overrides;
mod path;
mod pattern;
mod policy;
mod public_resolvers;
mod refusal;
mod rule;
mod secret;
mod sources;
mod template;
mod upstream;
mod verdict;

pub use bindings::BindingDeclaration;
pub use content::{Content, WeakContent};
pub use deny_reason::DenyReason;
pub use dns::{Dns, EncryptedDns, RefusedNames};
pub use document::document_schema;
pub use edits::{BasicAuth, Edits, HeaderEdit, QueryEdit};
pub use error::{PolicyError, Problem, Severity};
pub use handler::{
    Answer, BindingKind, BodyHandle, BodyPart, BodySource, BoundHandler, Effect, Encoding, Entry,
    Environment, Execution, Exports, FlowDecision, FlowFacts, HandlerAction, HandlerError, HandlerFault,
    HandlerInput, HandlerLimits, HandlerResponse, Identity, KvOperation, LogLevel, LogLine, MessageContent,
    MessageDirection, MessageVerdict, Object, ObjectsOperation, Outcome, OutgoingRequest, Patience,
    Placeholders, Program, ProgramKind, Script, ScriptProblem, SocketMessage, Step, Subject,
    handler_reference, message,
};
pub use host::{Authority, Host, HostError, Scheme, WrittenAuthority};
pub use name_server::{DnsTransport, NameServer};
pub use overrides::{Change, ListOverride, Override, OverrideError, Overrides};
pub use pattern::{HostPattern, ListedIn, PatternError, Specificity};
pub use policy::{
    Compiled, Effective, EffectiveEntry, ExplainedStep, Explanation, Mode, Passage, Policy, Reach,
    RequestFacts, Source, Summary, Transport,
};
pub use refusal::{RefusalAnswer, RefusalFacts};
pub use secret::{SecretDeclaration, SecretName, SecretSource};
pub use sources::{NoSources, Sources};
pub use template::{Template, TemplatePart};
pub use upstream::{ClientCertificate, FlowsOnPublish, ProxyProtocol, Upstream, UpstreamProxy};
pub use verdict::{Ask, Decision, FixedAnswer, Refusal, Verdict};
