//! TLS between workload and gate, and the ways in which a workload may try to get round the gate.
#![cfg(test)]

mod evasion;
mod smuggling;
mod support;
mod tls;
