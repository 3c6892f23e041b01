//! Handlers in JavaScript: what the platform's objects do here, and files written for others as they are.
#![cfg(test)]

mod bodies;
mod changes;
mod entries;
#[path = "../conformance/kept.rs"]
mod kept;
mod logs;
mod memory;
mod platform;
mod reference;
mod support;
