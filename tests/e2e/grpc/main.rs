//! gRPC through the gate: the whole of it over HTTP/2, with TLS and without, by a client and a server that
//! know nothing of each other's way.
#![cfg(test)]

mod calls;
mod support;
mod tonic_calls;
mod tonic_client;
mod tonic_server;
