//! Messages pass the gate as they would without it: each is sent to its origin directly and through the
//! gate, and both sides must have seen the same.
#![cfg(test)]

mod answers;
mod client;
mod continuing;
mod events;
mod frames;
mod framing_cases;
mod framings;
mod http2;
mod http2_faults;
mod interim;
mod large_heads;
mod malformed;
mod malformed_http2;
mod requests;
mod slow;
mod strict;
mod support;
mod versions;
