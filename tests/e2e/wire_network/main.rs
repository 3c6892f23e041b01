//! What leaves and what does not: names, bytes on the wire, the namespace's fate, and `run` itself.
#![cfg(test)]

mod names;
mod network;
mod network_limits;
mod run;
mod run_signals;
mod support;
mod wire;
