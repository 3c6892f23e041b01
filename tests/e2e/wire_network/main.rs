//! What leaves and what does not: names, bytes on the wire, the namespace's fate, and `run` itself.
#![cfg(test)]

mod doctor;
mod edge_capture;
mod edge_ends;
mod edge_exhaustion;
mod edge_upstream;
mod handover;
mod idle;
mod inbound;
mod later_interface;
mod names;
mod network;
mod network_limits;
mod privileges;
mod published;
mod run;
mod run_signals;
mod signed;
mod stale_sockets;
mod support;
mod wire;
