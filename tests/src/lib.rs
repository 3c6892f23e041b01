//! A small world to judge the gate in: two network namespaces, origins, a name server, processes.
//!
//! ```text
//!   gate namespace  10.77.0.1 ─────veth───── 10.77.0.2  origin namespace
//!   `sluicegate run` and its workload,                  Origin, TcpServer, Dns, nginx, …
//!   as an unprivileged user                             and packet counters
//! ```
//! A test makes a [`World`], starts an [`Origin`] in it, runs a workload behind the gate with
//! [`World::run`], and judges at the origin, by the workload's output and by the log. Nothing here
//! knows how the gate works inside.
//!
//! Every function panics when it cannot do what it says: a check that could not set itself up must
//! fail. [`World`]'s `Drop` ends every process and removes both namespaces.
#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot be set up must fail, and say where"
)]
#![expect(
    clippy::let_underscore_must_use,
    reason = "what is ended may have ended, and who is answered may have gone"
)]

mod certificates;
mod chance;
mod dig;
mod dns;
mod gate;
mod git_backend;
mod job;
mod moto;
mod namespace;
mod nginx;
mod origin;
mod postgres;
mod python_server;
mod registries;
mod reply;
mod site;
mod sshd;
mod token;
mod told;
pub mod tonic_client;
mod unbound;
mod world;

pub use certificates::{Identity, TestAuthority};
pub use chance::Chance;
pub use dig::{Answer, DIG, dig};
pub use dns::Dns;
pub use gate::{Attached, Gate};
pub use git_backend::GitBackend;
pub use job::{Job, Outcome, Running};
pub use moto::Moto;
pub use namespace::{Arrivals, Namespace};
pub use nginx::Nginx;
pub use origin::{Handshake, Origin, OriginConfig, Received, TcpServer};
pub use postgres::Postgres;
pub use python_server::PythonServer;
pub use registries::{npm_registry, python_registry};
pub use reply::{Reply, pseudo_random_chunks, pseudo_random_sha256, sha256_hex};
pub use site::Site;
pub use sshd::Sshd;
pub use token::{assert_token_absent, new_token, with_token_scan};
pub use told::{answer, assert_line, curl, of_kind};
pub use unbound::{Speaks, Unbound};
pub use world::{GATE_IPV4, GATE_IPV6, ORIGIN_IPV4, ORIGIN_IPV6, WORKLOAD_USER, World, wait_until};
