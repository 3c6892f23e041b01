//! Runs handlers that are programs: JavaScript, and WebAssembly components of the world `handler` in
//! `wit/policy.wit`.
//!
//! A program is loaded once ([`Programs::load`]) and gets a fresh instance for each request
//! ([`Programs::run`]), which asks for effects as scripts do and is told answers. Instances run on
//! threads of their own, and nothing here opens a socket or a file.
//!
//! **Invariant:** a program reaches what `host` defines and nothing else, within the limits of its
//! request; whatever goes wrong in it ends that request only, and refuses it.
#![forbid(unsafe_code)]

mod bindings;
mod embedded;
mod engine;
mod host;
mod instance;
mod javascript;
mod limits;
mod load;
mod meter;
mod problem;
mod programs;
mod running;
mod state;
#[cfg(test)]
mod tests;
mod threads;
mod ticker;
mod trial;

pub use embedded::{EmbeddedText, embed_text, embedded_text};
pub use load::{LoadReport, LoadedProgram};
pub use programs::{Compiler, Programs, Teller};
pub use running::{Begin, Running};
