//! Ends the workload's TLS here, with a leaf for the name that it asked for.

use std::io::{self, ErrorKind};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rustls::server::Accepted as Hello;
use rustls::{AlertDescription, ServerConfig};
use tokio::net::TcpStream;
use tokio_rustls::server::{StartHandshake, TlsStream};

use sluicegate_policy::{FlowFacts, Host, HostError};

use crate::accept::OriginalDestination;
use crate::rewind::Rewind;
use crate::sniff::reset;

/// How long a workload may take to answer our half of the handshake.
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(10);

/// Why the workload's TLS could not be ended here.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// The server name is not a name the gate can judge.
    #[error("the server name in the ClientHello is not acceptable")]
    ServerName(#[source] HostError),
    /// No leaf could be made for the name.
    #[error("no leaf for this name")]
    Leaf(#[source] sluicegate_certs::CertError),
    /// The workload did not go on with the handshake: it does not trust the instance's authority, or pins the
    /// origin's certificate. [`Self::hint`] tells from how it said so.
    #[error("the TLS handshake with the workload failed")]
    Handshake(#[source] io::Error),
    /// The workload stopped answering.
    #[error("the TLS handshake took longer than {} s", HANDSHAKE_DEADLINE.as_secs())]
    Deadline,
}

impl TlsError {
    /// Which programs end a handshake so, and what the operator can do about it. docs/trust.md has a table of
    /// what each says.
    pub fn hint(&self) -> Option<&'static str> {
        let Self::Handshake(error) = self else { return None };
        let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>());
        match (cause, error.kind()) {
            (Some(rustls::Error::AlertReceived(alert)), _) => of_alert(*alert),
            (_, ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset) => Some(
                "it hung up without an alert: Node.js (NODE_EXTRA_CA_CERTS) and apt do where they do not trust the \
                 instance's CA, and any program that gives up",
            ),
            _ => None,
        }
    }
}

/// The alerts of RFC 8446 section 6.2 that are about certificates.
fn of_alert(alert: AlertDescription) -> Option<&'static str> {
    match alert {
        AlertDescription::UnknownCA => Some(
            "it does not trust the instance's CA, in the words of OpenSSL and rustls: give it a bundle that has the \
             CA, by --trust or a variable such as SSL_CERT_FILE",
        ),
        AlertDescription::CertificateUnknown => Some(
            "it does not trust the instance's CA, in the words of Java and Chromium: Java needs it in its store, \
             Chromium in the NSS of its user (--trust)",
        ),
        AlertDescription::BadCertificate => Some(
            "it does not take the certificate, in the words of Go, gnutls-cli and programs that pin: give it a bundle \
             that has the CA (--trust), or pass the host on unopened (intercept = false)",
        ),
        AlertDescription::UnsupportedCertificate
        | AlertDescription::CertificateExpired
        | AlertDescription::CertificateRevoked
        | AlertDescription::AccessDenied => Some(
            "it trusts the instance's CA and takes no certificate like this one: pass the host on unopened \
             (intercept = false)",
        ),
        _ => None,
    }
}

/// A ClientHello with the name it is decided by.
pub struct Greeting {
    hello: Box<Hello>,
    seen: Bytes,
    hello_bytes: usize,
    io: TcpStream,
    /// The server name as sent (RFC 6066 section 3), if any.
    pub sni: Option<Host>,
    /// The name policy decides on: the server name, else the address dialled.
    pub name: Host,
}

impl Greeting {
    /// Reads the name out of a parsed hello.
    ///
    /// # Errors
    /// [`TlsError::ServerName`] when the name is not one that could be an authority.
    pub fn new(
        hello: Box<Hello>,
        (seen, hello_bytes): (Bytes, usize),
        io: TcpStream,
        original_destination: OriginalDestination,
    ) -> Result<Self, TlsError> {
        let sni = match hello.client_hello().server_name().map(Host::parse).transpose() {
            Ok(sni) => sni,
            Err(error) => {
                reset(io);
                return Err(TlsError::ServerName(error));
            }
        };
        let name = sni.clone().unwrap_or_else(|| Host::Ip(original_destination.ip()));
        Ok(Self { hello, seen, hello_bytes, io, sni, name })
    }

    /// What a handler is told of it.
    pub fn facts(&self) -> FlowFacts {
        let hello = self.hello.client_hello();
        let offered = hello.alpn().into_iter().flatten();
        let alpn = offered.filter_map(|name| str::from_utf8(name).ok()).map(Into::into).collect();
        FlowFacts { is_tls: true, alpn }
    }

    /// The untouched connection: the bytes already read, and the stream behind them.
    pub fn into_untouched(self) -> (Bytes, TcpStream) {
        (self.seen, self.io)
    }

    /// Completes the handshake with `config`.
    ///
    /// # Errors
    /// [`TlsError::Handshake`] or [`TlsError::Deadline`].
    pub async fn terminate(
        self,
        config: Arc<ServerConfig>,
    ) -> Result<TlsStream<Rewind<TcpStream>>, TlsError> {
        let Self { hello, mut seen, hello_bytes, io, .. } = self;
        let rest = seen.split_off(hello_bytes.min(seen.len()));
        let handshake = StartHandshake::from_parts(*hello, Rewind::new(io, rest)).into_stream(config);
        // Boxed so that a handshake's state does not size the task of an idle connection.
        match tokio::time::timeout(HANDSHAKE_DEADLINE, Box::pin(handshake)).await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(error)) => Err(TlsError::Handshake(error)),
            Err(_) => Err(TlsError::Deadline),
        }
    }
}

/// The name a leaf is minted for.
///
/// # Errors
/// [`TlsError::Leaf`] when the name cannot stand in a certificate.
pub fn leaf_name(name: &Host) -> Result<sluicegate_certs::LeafName, TlsError> {
    match name {
        Host::Dns(name) => sluicegate_certs::LeafName::dns(name).map_err(TlsError::Leaf),
        Host::Ip(ip) => Ok(sluicegate_certs::LeafName::from(IpAddr::clone(ip))),
    }
}
