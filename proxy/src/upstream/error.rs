//! What can go wrong between a verdict to forward and the upstream's answer.

use std::io;
use std::net::{IpAddr, SocketAddr};

use hickory_resolver::net::NetError;
use http::StatusCode;
use rustls::CertificateError;

/// Why there is no answer of the upstream's. Whose fault it was decides the status.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UpstreamError {
    /// The name leads to an address that `denied_hosts` names.
    #[error("the name leads to {0}, which denied_hosts names")]
    DeniedAddress(IpAddr),
    /// The name leads only where nothing public is: rebinding, or an internal service.
    #[error("the name leads to {address}, which is {why}")]
    ForbiddenAddress {
        /// Where it leads.
        address: IpAddr,
        /// What is there.
        why: &'static str,
    },
    /// The authority has no address that can be dialled.
    #[error("the name has no address")]
    NoAddress,
    /// The name does not exist, or has no A and no AAAA record.
    #[error("name not found")]
    NameNotFound,
    /// No name server of ours answered.
    #[error("the name could not be resolved")]
    Resolver(#[source] Box<NetError>),
    /// The upstream refused, or cannot be reached.
    #[error("cannot connect to {address}")]
    Connect {
        /// The address dialled last.
        address: SocketAddr,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// Neither connection nor handshake came about in time.
    #[error("connecting took too long")]
    ConnectTimeout,
    /// The upstream's certificate or handshake is not acceptable.
    #[error("the TLS handshake with the upstream failed")]
    Tls(#[source] io::Error),
    /// There is not one root certificate to verify with.
    #[error("no root certificates: neither the system has any nor does [upstream] extra_ca name one")]
    NoRoots,
    /// The connection broke, or what came was not HTTP.
    #[error("the upstream's answer is not acceptable HTTP")]
    Http(#[source] hyper::Error),
    /// The upstream closed the connection before the request could be sent.
    #[error("the upstream closed the connection before the request was sent")]
    Closed,
    /// No response head in time, with nothing more to send.
    #[error("no answer in time")]
    ResponseTimeout,
    /// A secret is to be masked in the response, which came compressed although that was not asked
    /// for.
    #[error("the response is compressed, so that secrets in it cannot be masked")]
    Unreadable,
}

impl UpstreamError {
    /// The status the workload gets: 504 for time, 403 for what policy forbids, else 502.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::DeniedAddress(_) | Self::ForbiddenAddress { .. } => StatusCode::FORBIDDEN,
            Self::ConnectTimeout | Self::ResponseTimeout => StatusCode::GATEWAY_TIMEOUT,
            _ => StatusCode::BAD_GATEWAY,
        }
    }

    /// Whether the request, or a part of it, may have reached the upstream.
    pub fn was_sent(&self) -> bool {
        matches!(self, Self::Http(_) | Self::ResponseTimeout | Self::Unreadable)
    }

    /// A code for programs; the closed list is in the documentation.
    pub fn code(&self) -> &'static str {
        match self {
            Self::DeniedAddress(_) => "denied_address",
            Self::ForbiddenAddress { .. } => "forbidden_address",
            Self::NoAddress | Self::NameNotFound => "name_not_found",
            Self::Resolver(_) => "name_not_resolved",
            Self::Connect { .. } => "connect_failed",
            Self::ConnectTimeout => "connect_timeout",
            Self::Tls(error) => tls_code(error),
            Self::NoRoots => "no_root_certificates",
            Self::Closed => "upstream_closed",
            Self::Http(_) => "upstream_protocol_error",
            Self::ResponseTimeout => "response_timeout",
            Self::Unreadable => "response_unreadable",
        }
    }
}

fn tls_code(error: &io::Error) -> &'static str {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    let Some(rustls::Error::InvalidCertificate(error)) = inner else {
        return "tls_failed";
    };
    match error {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "certificate_expired",
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "certificate_not_yet_valid"
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "certificate_name_mismatch"
        }
        CertificateError::UnknownIssuer => "certificate_unknown_issuer",
        CertificateError::Revoked => "certificate_revoked",
        _ => "certificate_invalid",
    }
}
