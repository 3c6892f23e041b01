//! Containers of real engines and runtimes: sealed by name and by hook.
#![cfg(test)]

mod cell;
mod cni;
mod compose;
mod doctor;
mod engine_run;
mod hook;
mod keep_interface;
mod names;
mod node;
mod nss;
mod plain;
mod probes;
mod sidecar;
mod support;
mod trust;
mod trust_programs;
