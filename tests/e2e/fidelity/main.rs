//! Messages pass the gate as they would without it: each is sent to its origin directly and through the
//! gate, and both sides must have seen the same.
#![cfg(test)]

mod answers;
mod client;
mod continuing;
mod events;
mod frames;
mod http2;
mod malformed;
mod malformed_http2;
mod requests;
mod slow;
mod support;
mod versions;
