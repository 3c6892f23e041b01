//! What can go wrong between a verdict to forward and the upstream's answer.

use std::io;
use std::net::{IpAddr, SocketAddr};

use hickory_resolver::net::NetError;
use http::StatusCode;
use rustls::CertificateError;
use sluicegate_policy::Authority;

use super::ProxyError;
use crate::audit::Verdict;

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
    /// The proxy on the way does not lead there.
    #[error("no way through the proxy {proxy}")]
    Proxy {
        /// Which proxy.
        proxy: Authority,
        /// Why not.
        #[source]
        source: ProxyError,
    },
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
    /// The client certificate that the document names for it is not there.
    #[error("the client certificate for this host is not loaded")]
    NoIdentity,
    /// There can be no answer: the workload broke the request's body off, or what it sent is none.
    #[error("the request's body is cut short, or is not written as bodies are")]
    RequestCut,
    /// The connection broke, or what came was not HTTP.
    #[error("the upstream's answer is not acceptable HTTP")]
    Http(#[source] hyper::Error),
    /// The same of HTTP/2, or the upstream reset the stream.
    #[error("the upstream's answer is not acceptable HTTP")]
    Http2(#[source] h2::Error),
    /// The upstream changed the protocol of the connection in a way that nobody asked for.
    #[error("the upstream's answer to an upgrade is not acceptable: {0}")]
    Upgrade(&'static str),
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
    /// The status the workload gets: 504 for time, 403 for what policy forbids, 400 for what was its own fault,
    /// else 502.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::DeniedAddress(_) | Self::ForbiddenAddress { .. } => StatusCode::FORBIDDEN,
            Self::ConnectTimeout
            | Self::ResponseTimeout
            | Self::Proxy { source: ProxyError::Timeout, .. } => StatusCode::GATEWAY_TIMEOUT,
            Self::RequestCut => StatusCode::BAD_REQUEST,
            _ => StatusCode::BAD_GATEWAY,
        }
    }

    /// What it is for the log: refused where policy forbids it.
    pub fn verdict(&self) -> Verdict {
        match self {
            Self::DeniedAddress(_) | Self::ForbiddenAddress { .. } => Verdict::Refused,
            _ => Verdict::Failed,
        }
    }

    /// Whether another address of the same name may fare better.
    pub(super) fn is_about_one_address(&self) -> bool {
        match self {
            Self::Connect { .. } => true,
            Self::Proxy { source, .. } => source.is_about_the_target(),
            _ => false,
        }
    }

    /// Whether this is the better of two reasons why none of a name's addresses can be had: an answer
    /// tells more than the lack of a route, which is how a network without IPv6 looks.
    pub(super) fn tells_more_than(&self, other: &Self) -> bool {
        let is_no_route = |error: &Self| match error {
            Self::NoAddress => true,
            Self::Connect { source, .. } => {
                matches!(source.kind(), io::ErrorKind::NetworkUnreachable | io::ErrorKind::AddrNotAvailable)
            }
            _ => false,
        };
        !is_no_route(self) || is_no_route(other)
    }

    /// Whether the request, or a part of it, may have reached the upstream.
    pub fn was_sent(&self) -> bool {
        matches!(
            self,
            Self::RequestCut
                | Self::Http(_)
                | Self::Http2(_)
                | Self::ResponseTimeout
                | Self::Unreadable
                | Self::Upgrade(_)
        )
    }

    /// A code for programs; the closed list is in the documentation.
    pub fn code(&self) -> &'static str {
        match self {
            Self::DeniedAddress(_) => "denied_address",
            Self::ForbiddenAddress { .. } => "forbidden_address",
            Self::NoAddress | Self::NameNotFound => "name_not_found",
            Self::Resolver(_) => "name_not_resolved",
            Self::Proxy { source, .. } => source.code(),
            Self::Connect { .. } => "connect_failed",
            Self::ConnectTimeout => "connect_timeout",
            Self::Tls(error) => tls_code(error),
            Self::NoRoots => "no_root_certificates",
            Self::NoIdentity => "no_client_certificate",
            Self::Closed => "upstream_closed",
            Self::RequestCut => "request_cut",
            Self::Http(_) | Self::Http2(_) => "upstream_protocol_error",
            Self::Upgrade(_) => "upgrade_not_acceptable",
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
