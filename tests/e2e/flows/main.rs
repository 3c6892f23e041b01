//! Flows that pass unread: raw TCP and UDP by name and port, with real programs at both ends.
#![cfg(test)]

mod programs;
mod quic;
mod support;
mod tcp;
mod udp;
