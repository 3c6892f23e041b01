//! One handler, written in each language, and one outcome: docs/conformance.md, from outside.
#![cfg(test)]

#[macro_use]
mod language;

mod abuse;
mod connection;
mod connections;
mod credentials;
mod document;
mod identity;
mod kept;
mod messages;
mod others;
mod scenarios;
#[path = "../websocket/support.rs"]
mod socket;
mod stage;
mod swap;
mod table;
mod urls;
