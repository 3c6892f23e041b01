//! Handlers of Sluicegate in Rust: code that sees each request which leaves a sealed program, and decides
//! what becomes of it.
//!
//! ```
//! use sluicegate_handler::{Context, Env, Handler, Request, Response, Result, fetch, log};
//!
//! struct ReadOnly;
//!
//! impl Handler for ReadOnly {
//!     fn outbound(request: Request, _env: Env, context: Context) -> Result<Response> {
//!         if request.method() == "GET" {
//!             return fetch(request);
//!         }
//!         log::warn(&format!("{} tried {} {}", context.container_id(), request.method(), request.url()));
//!         Response::text(405, "read only\n")
//!     }
//! }
//!
//! sluicegate_handler::export!(ReadOnly);
//! ```
//!
//! A connection can be decided about before there is a request: see [`ConnectionHandler`]; and each message of a
//! WebSocket after it was let through: see [`MessageHandler`].
//!
//! It is built as a `cdylib` for `wasm32-unknown-unknown` and made a component by `sluicegate policy
//! build`. For every request a fresh instance is made and dropped afterwards: statics begin anew, and
//! what is to stay goes into [`Kv`] or [`Objects`].
//!
//! What the gate does not give is not there: no files, no sockets, no threads, and of `std::time` only
//! [`Duration`](std::time::Duration); see [`clock`] and [`random`]. On a machine other than
//! `wasm32` the calls to the gate panic: only what does not call it can be tested there.
//!
//! Features: `json` for types of serde's, `reveal` for the bytes of secrets.

mod action;
mod body;
mod context;
mod encoding;
mod env;
mod error;
mod kv;
mod message;
mod objects;
mod query;
mod request;
mod response;
mod run;
mod secret;

#[doc(hidden)]
pub mod bindings;
pub mod clock;
pub mod log;
pub mod random;

pub use action::{ask, deny, fetch, fetch_within, respond};
pub use bindings::connection::sluicegate::policy::connection::{Decision, Flow};
pub use bindings::message::sluicegate::policy::websocket::{
    Content as MessageContent, Direction as MessageDirection, Message, Verdict as MessageVerdict,
};
pub use body::Body;
pub use context::Context;
pub use encoding::{base64, decode_uri, encode_uri, hex, sha256};
pub use env::Env;
pub use error::{Error, Result};
pub use kv::Kv;
pub use objects::{Metadata, Object, Objects};
pub use request::Request;
pub use response::Response;
pub use run::{ConnectionHandler, Handler, MessageHandler};
pub use secret::Secret;
