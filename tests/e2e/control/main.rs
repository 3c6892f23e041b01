//! A running instance, asked and changed by its operator: by commands, over the socket, by files.
#![cfg(test)]

mod approvals;
mod approvals_scope;
mod building;
mod clients;
mod commands;
mod hosts;
mod overrides;
mod persistence;
mod policies;
mod socket;
mod support;
mod watch;
