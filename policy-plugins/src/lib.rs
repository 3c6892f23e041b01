//! Decides what a sealed workload may send, and does nothing else.
//!
//! A [`Policy`] is compiled from one TOML document and never changes afterwards; the proxy asks it
//! about every name, flow and request and acts on the answer. Nothing here opens a file or a
//! socket, reads the environment or looks at a clock.
//!
//! The life of a decision: text from the wire becomes a [`Host`] or an [`Authority`], or is
//! refused; [`RequestFacts`] go into [`Policy::decide`]; a [`Decision`] comes out, whose
//! [`Verdict`] is data. The same normaliser reads the document and the traffic.
//!
//! **Invariant:** whatever nothing allows is refused; a document that does not compile is no
//! policy at all.
#![forbid(unsafe_code)]

mod compile;
mod deny_reason;
mod dns;
mod document;
mod edits;
mod error;
mod host;
mod index;
mod path;
mod pattern;
mod policy;
mod refusal;
mod rule;
mod secret;
mod template;
mod upstream;
mod verdict;

pub use deny_reason::DenyReason;
pub use dns::{Dns, RefusedNames};
pub use document::document_schema;
pub use edits::{BasicAuth, Edits, HeaderEdit, QueryEdit};
pub use error::{PolicyError, Problem, Severity};
pub use host::{Authority, Host, HostError, Scheme, WrittenAuthority};
pub use pattern::{HostPattern, ListedIn, PatternError, Specificity};
pub use policy::{Compiled, Policy, Reach, RequestFacts, Summary};
pub use refusal::{RefusalAnswer, RefusalFacts};
pub use secret::{SecretDeclaration, SecretName, SecretSource};
pub use template::{Template, TemplatePart};
pub use upstream::Upstream;
pub use verdict::{Decision, FixedAnswer, Refusal, Verdict};
