//! **The spine**: everything that happens to one captured connection, top to bottom.

mod asking;
mod http;
mod http2;
mod passing;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use rustls::ProtocolVersion;
use sluicegate_policy::{Authority, DenyReason, FlowFacts, Host, Refusal, Transport};
use tokio::net::TcpStream;

use crate::accept::{Accepted, ClientAddress, OriginalDestination};
use crate::audit::{AuditRecord, Protocol as Carrier, Verdict};
use crate::causes::in_words;
use crate::gate::Gate;
use crate::generation::Generation;
use crate::name_server::{self, HeldName};
use crate::sniff::{Protocol, SniffError, Sniffed, is_capturable, reset, sniff};
use crate::tls::{Greeting, TlsError, leaf_name};

use asking::{Asking, Said};
use passing::{Ground, Passing};

/// The port of DNS (RFC 1035 section 4.2), whatever address it is sent to.
const DNS_PORT: u16 = 53;

/// How long a connection may say nothing before `on_connect` is asked whether the server speaks first:
/// a client that speaks first has mostly done so by then.
const SERVER_FIRST_AFTER: Duration = Duration::from_millis(300);

/// Ports of protocols in which the server speaks first (IANA): FTP, SSH, SMTP, POP3, IMAP, mail submission
/// and MySQL. Who is silent there waits for the server, and not to be refused ten seconds later.
const SERVER_FIRST_PORTS: [u16; 7] = [21, 22, 25, 110, 143, 587, 3306];

/// Why the gate ended a connection without an answer that says so.
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
    /// What it sent is not HTTP/2; it was told by GOAWAY.
    #[error("the workload broke the rules of HTTP/2")]
    Http2 {
        /// The name that its TLS was for.
        name: Option<Host>,
        /// The rule, as far as it is known: the error whose code the workload was told.
        #[source]
        source: h2::Error,
    },
}

impl FlowError {
    /// What the log calls it.
    fn reason(&self) -> &'static str {
        match self {
            Self::NotCapturable => DenyReason::ForbiddenAddress.as_str(),
            Self::Sniff(SniffError::Closed) => "closed_unused",
            Self::Sniff(SniffError::Hello(_) | SniffError::OldTls) => "tls_handshake_failed",
            Self::Sniff(_) => DenyReason::UnknownProtocol.as_str(),
            Self::Tls { .. } => "tls_handshake_failed",
            Self::Http2 { .. } => DenyReason::MalformedRequest.as_str(),
        }
    }

    /// The name that TLS was for.
    fn name(&self) -> Option<&Host> {
        match self {
            Self::Tls { name, .. } | Self::Http2 { name, .. } => name.as_ref(),
            _ => None,
        }
    }

    /// What happened, and what can be done about it.
    fn detail(&self) -> String {
        let hint = match self {
            Self::Tls { source, .. } => source.hint(),
            _ => None,
        };
        match hint {
            Some(hint) => format!("{}; {hint}", in_words(self)),
            None => in_words(self),
        }
    }

    /// Whether it was refused, or could not be gone on with.
    fn verdict(&self) -> Verdict {
        match self {
            Self::Sniff(SniffError::Closed | SniffError::Io(_))
            | Self::Tls { source: TlsError::Handshake(_) | TlsError::Deadline, .. } => Verdict::Failed,
            _ => Verdict::Refused,
        }
    }
}

/// Serves one connection to its end. What is refused before it was a request is reset, so that the
/// workload sees a refusal and not an end of data, and logged.
pub async fn serve(gate: Arc<Gate>, accepted: Accepted) {
    let Accepted { client, original_destination, .. } = accepted;
    if original_destination.port() == DNS_PORT {
        return name_server::serve_tcp(&gate, accepted).await;
    }
    // Held to the end, so that the address means this name as long as the connection lives.
    let held = gate.names.hold(original_destination.ip());
    let host = held.as_ref().map(|held| held.host().clone());
    let named = Authority {
        host: host.unwrap_or_else(|| Host::Ip(original_destination.ip())),
        port: original_destination.port(),
    };
    let from = From { client, original_destination };
    if let Err(error) = try_serve(&gate, accepted, &named).await {
        let mut record = from.fault(&gate, error.name());
        record.verdict = Some(error.verdict());
        record.reason = Some(error.reason());
        record.set_detail(error.detail());
    }
}

/// `named` is the host whose address was dialled.
async fn try_serve(gate: &Arc<Gate>, accepted: Accepted, named: &Authority) -> Result<(), FlowError> {
    let from = From { client: accepted.client, original_destination: accepted.original_destination };
    if !is_capturable(accepted.original_destination.0) {
        reset(accepted.io);
        return Err(FlowError::NotCapturable);
    }
    let generation = gate.generation();
    let is_named = generation.policy.names_flow(Transport::Tcp, named);
    let server_first = SERVER_FIRST_PORTS.contains(&named.port);
    let may_be_unread = server_first || generation.policy.on_connect().is_some();
    if is_named || (may_be_unread && !speaks_soon(&accepted.io).await) {
        let said = Asking { gate, generation: &generation, from, authority: named, sni: None };
        let said = said.ask(FlowFacts::default()).await;
        if is_named || server_first || !matches!(said, Said::Judge) {
            let untouched = Untouched { seen: Bytes::new(), io: accepted.io };
            serve_unread(gate, &generation, (from, named), untouched, said).await;
            return Ok(());
        }
    }
    drop(generation);
    let Sniffed { protocol, .. } = sniff(accepted).await.map_err(FlowError::Sniff)?;
    match protocol {
        Protocol::Tls { hello, seen, hello_bytes, io } => {
            let greeting = Greeting::new(hello, (seen, hello_bytes), io, from.original_destination)
                .map_err(|source| FlowError::Tls { name: None, source })?;
            return serve_tls(gate, from, greeting).await;
        }
        Protocol::Http1(io) => http::serve_http1(gate, from.plain(), io).await,
        Protocol::Http2PriorKnowledge(io) => return http2::serve_http2(gate, from.plain(), io).await,
        Protocol::Opaque { seen, io } => {
            let generation = gate.generation();
            let asking = Asking { gate, generation: &generation, from, authority: named, sni: None };
            let said = asking.ask(FlowFacts::default()).await;
            serve_unread(gate, &generation, (from, named), Untouched { seen, io }, said).await;
        }
    }
    Ok(())
}

/// Whether the workload says something within [`SERVER_FIRST_AFTER`], or leaves.
async fn speaks_soon(io: &TcpStream) -> bool {
    // Being readable may be a false alarm.
    tokio::time::timeout(SERVER_FIRST_AFTER, io.peek(&mut [0])).await.is_ok()
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

/// A connection of which nothing was answered: what was read of it, and the stream behind that.
struct Untouched {
    seen: Bytes,
    io: TcpStream,
}

impl From {
    fn plain(self) -> Told {
        Told { from: self, name: None, sni: None, version: None }
    }

    /// The record of a flow.
    fn record(self, gate: &Gate, authority: &Authority) -> AuditRecord {
        let mut record = gate.log.flow(Carrier::Tcp, self.client.0, self.original_destination.0);
        record.host = Some(authority.host.to_string());
        record.port = Some(authority.port);
        record
    }

    /// The record of something that ended for what was sent. An address that stands for no name says nothing
    /// that the destination does not.
    fn fault(self, gate: &Gate, tls_name: Option<&Host>) -> AuditRecord {
        let held = gate.names.hold(self.original_destination.ip());
        let name = tls_name.or_else(|| held.as_ref().map(HeldName::host));
        let mut record = gate.log.flow(Carrier::Tcp, self.client.0, self.original_destination.0);
        record.host = name.map(ToString::to_string);
        record.port = Some(self.original_destination.port());
        record
    }
}

async fn serve_tls(gate: &Arc<Gate>, from: From, greeting: Greeting) -> Result<(), FlowError> {
    let port = from.original_destination.port();
    let authority = Authority { host: greeting.name.clone(), port };
    let generation = gate.generation();
    let sni = greeting.sni.clone();
    let asking = Asking { gate, generation: &generation, from, authority: &authority, sni: sni.as_ref() };
    let ground = match asking.ask(greeting.facts()).await {
        Said::Refused => {
            reset(greeting.into_untouched().1);
            return Ok(());
        }
        Said::Pass(ground, mut record) => {
            record.sni = sni.as_ref().map(ToString::to_string);
            Some((ground, record))
        }
        Said::Judge => generation.policy.splices(&authority).map(|rule| {
            let mut record = from.record(gate, &authority);
            record.rule = Some(rule.to_owned());
            record.sni = Some(authority.host.to_string());
            (Ground::Rule, record)
        }),
    };
    if let Some((ground, record)) = ground {
        let passing = Passing { gate, generation: &generation, authority: &authority, ground };
        let (seen, io) = greeting.into_untouched();
        passing.pass(Untouched { seen, io }, record).await;
        return Ok(());
    }
    if let Some(Refusal { reason, detail }) = generation.policy.refuses_dns_over_tls(&authority) {
        let mut record = from.record(gate, &authority);
        record.generation = Some(Arc::clone(&generation.id));
        record.verdict = Some(Verdict::Refused);
        record.reason = Some(reason.as_str());
        record.set_detail(detail);
        reset(greeting.into_untouched().1);
        return Ok(());
    }
    drop(generation);
    let name = greeting.name.clone();
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
        return http2::serve_http2(gate, told, io).await;
    }
    http::serve_http1(gate, told, io).await;
    Ok(())
}

/// A flow whose bytes nobody reads: judged by the name whose address was dialled, and by what a handler
/// said.
async fn serve_unread(
    gate: &Arc<Gate>,
    generation: &Arc<Generation>,
    (from, authority): (From, &Authority),
    untouched: Untouched,
    said: Said,
) {
    let (ground, mut record) = match said {
        Said::Refused => return reset(untouched.io),
        Said::Pass(ground, record) => (ground, record),
        Said::Judge => {
            let mut record = from.record(gate, authority);
            record.generation = Some(Arc::clone(&generation.id));
            match generation.policy.decide_flow(Transport::Tcp, authority) {
                Ok(passage) => {
                    record.rule = passage.pattern.map(|pattern| format!("tcp: {pattern}"));
                    record.would_refuse = passage.would_refuse.map(|refusal| refusal.reason.as_str());
                }
                Err(Refusal { reason, detail }) => {
                    record.verdict = Some(Verdict::Refused);
                    record.reason = Some(reason.as_str());
                    record.set_detail(detail);
                    return reset(untouched.io);
                }
            }
            (Ground::List, record)
        }
    };
    record.generation = Some(Arc::clone(&generation.id));
    Passing { gate, generation, authority, ground }.pass(untouched, record).await;
}
