//! TLS between workload and gate, and the ways in which a workload may try to get round the gate.
#![cfg(test)]

mod ages;
mod closing;
mod distrust;
mod edge_certificates;
mod edge_names;
mod edge_requests;
mod evasion;
mod inner_addresses;
mod malformed;
mod smuggling;
mod support;
mod tls;
