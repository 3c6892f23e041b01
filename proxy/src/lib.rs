//! The data plane of Sluicegate: everything between a captured connection and its upstream.
//!
//! ```text
//! accept ─▶ sniff ─▶ tls (or splice) ─▶ exchange ─▶ request_authority ─▶ policy of a generation
//!                                          │
//!                    respond ◀── refuse ───┼─────────▶ handling (a handler decides, and fetches)
//!                                  forward │              │
//!                                          ▼              ▼
//!                                  hop ─▶ send: credentials ─▶ upstream ─▶ body ─▶ audit
//! ```
//!
//! Read `flow` first: it is the life of one connection. `instance` is the life of the whole,
//! `controller` what changes it while it runs.
//!
//! **Invariant:** no capability, no netlink, no `unsafe`: the namespace's sockets come from
//! `sluicegate-netns`, and what is dialled is dialled from the gate's own namespace.

#![forbid(unsafe_code)]

pub mod accept;
pub mod activity;
pub mod approvals;
pub mod attach;
pub mod audit;
pub mod background;
pub mod bindings;
pub mod body;
pub mod capture;
pub mod causes;
pub mod cli;
pub mod cni;
mod commands;
pub mod compiling;
pub mod components;
pub mod confinement;
pub mod container;
pub mod control;
pub mod controller;
pub mod credentials;
pub mod datagram;
pub mod doctor;
pub mod document;
mod elf;
pub mod engine_run;
pub mod exchange;
pub mod exit;
pub mod flow;
pub mod folders;
pub mod follow;
pub mod frame_watch;
pub mod gate;
pub mod generation;
mod handler_files;
pub mod handling;
pub mod handover;
pub mod head_guard;
pub mod hop;
pub mod http2;
pub mod inbound;
pub mod instance;
pub mod interim;
pub mod log_command;
mod manual;
pub mod name_server;
pub mod oci_hook;
pub mod opening;
pub mod process;
pub mod report;
pub mod request_authority;
pub mod request_head;
pub mod respond;
pub mod rewind;
pub mod scrub;
pub mod secrets;
pub mod send;
mod service_manager;
pub mod sidecar;
pub mod sniff;
pub mod splice;
pub mod state;
pub mod tap;
pub mod telemetry;
pub mod tls;
pub mod trust;
pub mod udp;
pub mod upgrade;
pub mod upstream;
pub mod watch;
pub mod workload;
