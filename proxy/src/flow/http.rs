//! Plain or decrypted HTTP of a workload, handed to hyper within its limits.

use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use sluicegate_policy::{DenyReason, Scheme};
use tokio::io::{AsyncRead, AsyncWrite};

use super::{FlowError, Told};
use crate::activity::Activity;
use crate::audit::Verdict;
use crate::exchange::{Connection, Exchanges};
use crate::frame_watch::{BrokenRequest, FrameWatch};
use crate::gate::Gate;
use crate::head_guard::{Deadlines, HeadGuard};
use crate::request_authority::ConnectionName;
use crate::request_head::{HEAD_BYTES_MAX, HEADERS_MAX};
use crate::upstream::{CONNECTION_WINDOW, STREAM_WINDOW};

/// How long a head may take from its first byte to its last.
const HEAD_DEADLINE: Duration = Duration::from_secs(30);

/// How long a connection without an exchange is kept. Longer than the usual client pool's idle
/// time (90 s and less), so that it is the client that closes.
const IDLE_DEADLINE: Duration = Duration::from_secs(300);

/// HTTP/2 streams that a workload may have open at once on one connection; nginx says 128, and
/// clients open another connection beyond it.
const STREAMS_MAX: u32 = 200;

/// What one read of hyper's takes at most: large for bulk, and grown into only when filled.
const READ_BUFFER_BYTES_MAX: usize = 512 * 1024;

/// Serves HTTP/1 until either side ends it.
pub(super) async fn serve_http1<Io>(gate: &Arc<Gate>, told: Told, io: Io)
where
    Io: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let io = HeadGuard::new(io, Deadlines { head: HEAD_DEADLINE, idle: IDLE_DEADLINE });
    let activity = io.activity();
    let exchanges = exchanges(gate, told, Arc::clone(&activity));
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

/// Serves HTTP/2 until either side ends it.
///
/// # Errors
/// [`FlowError::Http2`] where it was the gate that ended it, because of what the workload sent.
pub(super) async fn serve_http2<Io>(gate: &Arc<Gate>, told: Told, io: Io) -> Result<(), FlowError>
where
    Io: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let activity = Arc::<Activity>::default();
    let name = told.name.clone();
    let io = FrameWatch::new(io, HEAD_BYTES_MAX, telling(gate, &told));
    let changed_to = io.changed_to();
    let served = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(u32::try_from(HEAD_BYTES_MAX).unwrap_or(u32::MAX))
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .auto_date_header(false)
        // WebSockets over HTTP/2 (RFC 8441).
        .enable_connect_protocol()
        // Finds a workload that is gone without a word; a live one answers the ping.
        .keep_alive_interval(Duration::from_secs(60))
        .keep_alive_timeout(Duration::from_secs(20))
        .serve_connection(TokioIo::new(io), exchanges(gate, told, Arc::clone(&activity)));
    let mut served = std::pin::pin!(served);
    let mut begun = 0;
    let mut is_draining = false;
    let result = loop {
        let ended = tokio::select! {
            ended = tokio::time::timeout(IDLE_DEADLINE, served.as_mut()) => ended,
            () = gate.draining.cancelled(), if !is_draining => {
                is_draining = true;
                served.as_mut().graceful_shutdown();
                continue;
            }
        };
        match ended {
            Ok(result) => break result,
            // Nothing going on, and nothing begun since the last look.
            Err(_) if !activity.is_active() && activity.begun() == begun => {
                served.as_mut().graceful_shutdown();
            }
            Err(_) => begun = activity.begun(),
        }
    };
    match result {
        Err(error) if is_workloads_fault(&error) => {
            let source = match changed_to.get() {
                Some(&code) => h2::Error::from(code).into(),
                None => error.into(),
            };
            Err(FlowError::Http2 { name, source })
        }
        Err(error) => {
            tracing::debug!(%error, "a connection of the workload ended");
            Ok(())
        }
        Ok(()) => Ok(()),
    }
}

/// Logs what the library ended by itself: nobody judged it, and nothing of it went anywhere.
fn telling(gate: &Arc<Gate>, told: &Told) -> impl Fn(BrokenRequest) + Send + use<> {
    let (gate, from, name) = (Arc::clone(gate), told.from, told.name.clone());
    move |BrokenRequest { stream, reason }| {
        let mut record = from.fault(&gate, name.as_ref());
        record.verdict = Some(Verdict::Refused);
        record.reason = Some(DenyReason::MalformedRequest.as_str());
        record.set_detail(match reason {
            Some(reason) => {
                format!("the workload broke the rules of HTTP/2: stream {stream} was reset, {reason:?}")
            }
            None => format!("the head of stream {stream} has more than {} KiB: 431", HEAD_BYTES_MAX / 1024),
        });
    }
}

/// Whether the library ended a connection with a GOAWAY of its own (RFC 9113 section 5.4.1). All else is a
/// connection that broke, or that the workload gave up.
fn is_workloads_fault(error: &hyper::Error) -> bool {
    let cause = error.source().and_then(|source| source.downcast_ref::<h2::Error>());
    cause.is_some_and(|cause| cause.is_go_away() && cause.is_library())
}

fn exchanges(gate: &Arc<Gate>, told: Told, activity: Arc<Activity>) -> Exchanges {
    let scheme = if told.name.is_some() { Scheme::Https } else { Scheme::Http };
    Exchanges(Arc::new(Connection {
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
    }))
}
