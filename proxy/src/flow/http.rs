//! Plain or decrypted HTTP/1 of a workload, handed to hyper within its limits.

use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use sluicegate_policy::Scheme;
use tokio::io::{AsyncRead, AsyncWrite};

use super::Told;
use crate::activity::Activity;
use crate::exchange::{Connection, Exchanges};
use crate::gate::Gate;
use crate::head_guard::{Deadlines, HeadGuard};
use crate::request_authority::ConnectionName;
use crate::request_head::HEADERS_MAX;

/// How long a head may take from its first byte to its last.
const HEAD_DEADLINE: Duration = Duration::from_secs(30);

/// How long a connection without an exchange is kept. Longer than the usual client pool's idle
/// time (90 s and less), so that it is the client that closes.
pub(super) const IDLE_DEADLINE: Duration = Duration::from_secs(300);

/// What one read of hyper's takes at most: large for bulk, and grown into only when filled.
const READ_BUFFER_BYTES_MAX: usize = 512 * 1024;

/// Serves HTTP/1 until either side ends it.
pub(super) async fn serve_http1<Io>(gate: &Arc<Gate>, told: Told, io: Io)
where
    Io: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let io = HeadGuard::new(io, Deadlines { head: HEAD_DEADLINE, idle: IDLE_DEADLINE });
    let activity = io.activity();
    let exchanges = Exchanges(connection(gate, told, Arc::clone(&activity)));
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        // The guard below has the deadlines: it knows an idle connection from a slow head.
        .header_read_timeout(None)
        // A workload that has sent its request may close its half and still wants the answer.
        .half_close(true)
        .preserve_header_case(true)
        .auto_date_header(false)
        .max_headers(HEADERS_MAX)
        .max_buf_size(READ_BUFFER_BYTES_MAX)
        .serve_connection(TokioIo::new(io), exchanges)
        .with_upgrades();
    let mut served = std::pin::pin!(served);
    let ended = tokio::select! {
        ended = served.as_mut() => ended,
        () = gate.draining.cancelled() => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection of the workload ended");
    }
    // One that left HTTP goes on, and takes its place and holds its name until it ends.
    activity.until_idle().await;
}

/// What the exchanges of a connection have in common.
pub(super) fn connection(gate: &Arc<Gate>, told: Told, activity: Arc<Activity>) -> Arc<Connection> {
    let scheme = if told.name.is_some() { Scheme::Https } else { Scheme::Http };
    Arc::new(Connection {
        gate: Arc::clone(gate),
        client: told.from.client,
        name: ConnectionName {
            scheme,
            tls_name: told.name,
            original_destination: told.from.original_destination,
        },
        sni: told.sni.map(|name| name.to_string()),
        tls: told.version,
        activity,
    })
}
