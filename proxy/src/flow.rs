//! **The spine**: everything that happens to one captured connection, top to bottom.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use hyper::server::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::ProtocolVersion;
use sluicegate_policy::{Authority, DenyReason, FlowsOnPublish, Host, Scheme};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::accept::{Accepted, ClientAddress, OriginalDestination};
use crate::activity::Activity;
use crate::audit::{AuditRecord, Protocol as Transport, Verdict};
use crate::causes::in_words;
use crate::exchange::{Connection, Exchanges};
use crate::gate::Gate;
use crate::generation::Generation;
use crate::head_guard::{Deadlines, HeadGuard};
use crate::name_server;
use crate::request_authority::ConnectionName;
use crate::request_head::{HEAD_BYTES_MAX, HEADERS_MAX};
use crate::sniff::{Protocol, SniffError, Sniffed, is_capturable, reset, sniff};
use crate::splice::splice;
use crate::tls::{Greeting, TlsError, leaf_name};
use crate::upstream::{CONNECTION_WINDOW, STREAM_WINDOW, UpstreamError};

/// The port of DNS (RFC 1035 section 4.2), whatever address it is sent to.
const DNS_PORT: u16 = 53;

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

/// Why a connection ended before its first request.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FlowError {
    /// It was for an address that is never captured on purpose.
    #[error("the address dialled is the gate's own or the workload's loopback")]
    NotCapturable,
    /// Its protocol could not be told.
    #[error("the protocol could not be told")]
    Sniff(#[source] SniffError),
    /// Its TLS could not be ended here.
    #[error("TLS with the workload failed")]
    Tls {
        /// The name that it was for, as far as it was understood.
        name: Option<Host>,
        /// What failed.
        #[source]
        source: TlsError,
    },
    /// A spliced flow could not be connected.
    #[error("the spliced upstream cannot be reached")]
    Upstream(#[source] UpstreamError),
    /// The log cannot be written.
    #[error("the audit log cannot be written")]
    AuditUnavailable,
}

impl FlowError {
    /// What the log calls it.
    fn reason(&self) -> &'static str {
        match self {
            Self::NotCapturable => DenyReason::ForbiddenAddress.as_str(),
            Self::Sniff(SniffError::Opaque) => DenyReason::OpaqueFlow.as_str(),
            Self::Sniff(SniffError::Closed) => "closed_unused",
            Self::Sniff(SniffError::Hello(_) | SniffError::OldTls) => "tls_handshake_failed",
            Self::Sniff(_) => DenyReason::UnknownProtocol.as_str(),
            Self::Tls { .. } => "tls_handshake_failed",
            Self::Upstream(error) => error.code(),
            Self::AuditUnavailable => DenyReason::AuditUnavailable.as_str(),
        }
    }

    /// Whether it was refused, or could not be gone on with.
    fn verdict(&self) -> Verdict {
        match self {
            Self::Sniff(SniffError::Closed | SniffError::Io(_))
            | Self::Tls { source: TlsError::Handshake(_) | TlsError::Deadline, .. }
            | Self::Upstream(_) => Verdict::Failed,
            _ => Verdict::Refused,
        }
    }
}

/// Serves one connection to its end. What is refused before it was a request is reset, so that the
/// workload sees a refusal and not an end of data, and logged.
pub async fn serve(gate: Arc<Gate>, accepted: Accepted) {
    let (client, destination) = (accepted.client, accepted.original_destination);
    if let Err(error) = try_serve(&gate, accepted).await {
        let mut record = gate.log.flow(Transport::Tcp, client.0, destination.0);
        record.verdict = Some(error.verdict());
        record.port = Some(destination.port());
        if let FlowError::Tls { name: Some(name), .. } = &error {
            record.host = Some(name.to_string());
        }
        record.reason = Some(error.reason());
        record.set_detail(in_words(&error));
    }
}

async fn try_serve(gate: &Arc<Gate>, accepted: Accepted) -> Result<(), FlowError> {
    if accepted.original_destination.port() == DNS_PORT {
        name_server::serve_tcp(gate, accepted).await;
        return Ok(());
    }
    if !is_capturable(accepted.original_destination.0) {
        reset(accepted.io);
        return Err(FlowError::NotCapturable);
    }
    let Sniffed { client, original_destination, protocol } =
        sniff(accepted).await.map_err(FlowError::Sniff)?;
    let from = From { client, original_destination };
    match protocol {
        Protocol::Tls { hello, seen, hello_bytes, io } => {
            let greeting = Greeting::new(hello, (seen, hello_bytes), io, original_destination)
                .map_err(|source| FlowError::Tls { name: None, source })?;
            serve_tls(gate, from, greeting).await
        }
        Protocol::Http1(io) => {
            serve_http1(gate, from.plain(), io).await;
            Ok(())
        }
        Protocol::Http2PriorKnowledge(io) => {
            serve_http2(gate, from.plain(), io).await;
            Ok(())
        }
    }
}

/// Where a connection came from and wanted to go.
#[derive(Clone, Copy)]
struct From {
    client: ClientAddress,
    original_destination: OriginalDestination,
}

/// What TLS told about a connection.
struct Told {
    from: From,
    name: Option<Host>,
    sni: Option<Host>,
    version: Option<ProtocolVersion>,
}

impl From {
    fn plain(self) -> Told {
        Told { from: self, name: None, sni: None, version: None }
    }
}

async fn serve_tls(gate: &Arc<Gate>, from: From, greeting: Greeting) -> Result<(), FlowError> {
    let port = from.original_destination.port();
    let authority = Authority { host: greeting.name.clone(), port };
    let generation = gate.generation();
    if let Some(rule) = generation.policy.splices(&authority) {
        let mut record = splice_record(gate, from, &authority, rule);
        record.generation = Some(Arc::clone(&generation.id));
        return serve_spliced(gate, &generation, greeting, &authority, record).await;
    }
    drop(generation);
    let (name, sni) = (greeting.name.clone(), greeting.sni.clone());
    let failed = |source| FlowError::Tls { name: Some(name.clone()), source };
    let config = match leaf_name(&name)
        .and_then(|leaf| gate.leaves.server_config(&leaf, SystemTime::now()).map_err(TlsError::Leaf))
    {
        Ok(config) => config,
        Err(source) => {
            reset(greeting.into_untouched().1);
            return Err(failed(source));
        }
    };
    let io = greeting.terminate(config).await.map_err(failed)?;
    let session = io.get_ref().1;
    let told = Told { from, name: Some(name), sni, version: session.protocol_version() };
    if session.alpn_protocol() == Some(b"h2") {
        serve_http2(gate, told, io).await;
    } else {
        serve_http1(gate, told, io).await;
    }
    Ok(())
}

fn splice_record(gate: &Gate, from: From, authority: &Authority, rule: &str) -> AuditRecord {
    let mut record = gate.log.flow(Transport::Tcp, from.client.0, from.original_destination.0);
    record.rule = Some(rule.to_owned());
    let name = authority.host.to_string();
    record.sni = Some(name.clone());
    record.host = Some(name);
    record.port = Some(authority.port);
    record
}

/// The workload's own TLS, end to end: judged by its name, dialled by our resolution of it.
async fn serve_spliced(
    gate: &Arc<Gate>,
    generation: &Generation,
    greeting: Greeting,
    authority: &Authority,
    mut record: AuditRecord,
) -> Result<(), FlowError> {
    let (seen, workload) = greeting.into_untouched();
    record.verdict = Some(Verdict::Failed);
    if !gate.log.is_healthy() {
        record.verdict = Some(Verdict::Refused);
        record.reason = Some(DenyReason::AuditUnavailable.as_str());
        reset(workload);
        return Ok(());
    }
    match generation.upstream.connect_raw(authority).await {
        Err(error) => {
            record.reason = Some(error.code());
            record.set_detail(in_words(&error));
            reset(workload);
        }
        Ok((upstream, address)) => {
            record.verdict = Some(Verdict::Allowed);
            record.upstream = Some(address);
            let counters = (record.request_bytes_counter(), record.response_bytes_counter());
            let idle = generation.policy.upstream().idle_timeout;
            let spliced = splice(workload, upstream, seen, counters, idle);
            // Its bytes are in many hands by then: both ends are closed when the copy is dropped.
            let copied = tokio::select! {
                copied = spliced => copied,
                () = until_not_allowed(gate, authority) => {
                    record.complete = Some(false);
                    record.set_detail("closed: a newer policy does not pass this flow on");
                    return Ok(());
                }
            };
            record.complete = Some(copied.is_ok());
            if let Err(error) = copied {
                record.set_detail(error.to_string());
            }
        }
    }
    Ok(())
}

/// Ends when a policy comes that does not splice the authority, and does not say to keep such flows.
async fn until_not_allowed(gate: &Gate, authority: &Authority) {
    let mut current = gate.current.subscribe();
    // One may have come since the flow was judged.
    current.mark_changed();
    while current.changed().await.is_ok() {
        let policy = Arc::clone(&current.borrow_and_update().policy);
        if policy.flows_on_publish() == FlowsOnPublish::Judge && policy.splices(authority).is_none() {
            return;
        }
    }
    std::future::pending().await
}

async fn serve_http1<Io>(gate: &Arc<Gate>, told: Told, io: Io)
where
    Io: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let io = HeadGuard::new(io, Deadlines { head: HEAD_DEADLINE, idle: IDLE_DEADLINE });
    let exchanges = exchanges(gate, told, io.activity());
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
        .serve_connection(TokioIo::new(io), exchanges);
    if let Err(error) = served.await {
        tracing::debug!(%error, "a connection of the workload ended");
    }
}

async fn serve_http2<Io>(gate: &Arc<Gate>, told: Told, io: Io)
where
    Io: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let activity = Arc::<Activity>::default();
    let served = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(u32::try_from(HEAD_BYTES_MAX).unwrap_or(u32::MAX))
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .auto_date_header(false)
        // Finds a workload that is gone without a word; a live one answers the ping.
        .keep_alive_interval(Duration::from_secs(60))
        .keep_alive_timeout(Duration::from_secs(20))
        .serve_connection(TokioIo::new(io), exchanges(gate, told, Arc::clone(&activity)));
    let mut served = std::pin::pin!(served);
    let mut begun = 0;
    let result = loop {
        match tokio::time::timeout(IDLE_DEADLINE, served.as_mut()).await {
            Ok(result) => break result,
            // Nothing going on, and nothing begun since the last look.
            Err(_) if !activity.is_active() && activity.begun() == begun => {
                served.as_mut().graceful_shutdown();
            }
            Err(_) => begun = activity.begun(),
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, "a connection of the workload ended");
    }
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
