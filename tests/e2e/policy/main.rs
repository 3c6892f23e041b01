//! What a policy decides, where its secrets go, what the workload can see of both, and what the log tells.
#![cfg(test)]

mod commands;
mod credentials;
mod hosts;
mod log;
mod support;
mod workload;
