//! The control socket: how the owner of an instance asks and changes it while it runs.
//!
//! HTTP and JSON on a UNIX socket that only its owner can open; docs/control.md is the reference for
//! those who use it. `api` is what is said, `socket` and `peer` who may say it, `server` for how long,
//! `routes` what comes of it.

pub mod api;
mod events;
mod peer;
mod problem;
mod routes;
mod server;
mod socket;
#[cfg(test)]
mod tests;

pub use peer::PeerError;
pub use socket::ControlSocket;
