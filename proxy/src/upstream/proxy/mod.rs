//! A tunnel through the proxy that `[upstream]` names: by HTTP CONNECT, or by SOCKS5.
//!
//! Everything goes as a tunnel, plain HTTP as well, so that the address which was checked is the one
//! that is dialled, no two requests share a message with the proxy, and its credentials are told to it
//! once, apart from every request. A proxy that should see plain requests instead (absolute-form, RFC
//! 9112 section 3.2.2) would have to be told names, and its own answers could not be told from an
//! origin's.

mod connect_method;
mod socks5;

use std::fmt;
use std::io;
use std::net::SocketAddr;

use sluicegate_policy::{Authority, ProxyProtocol, UpstreamProxy};
use tokio::io::{AsyncRead, AsyncWrite};
use zeroize::Zeroizing;

use super::UpstreamError;
use crate::credentials::{CredentialError, Slots};

/// Why the proxy does not lead to an upstream.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProxyError {
    /// It cannot be found, reached or, over TLS, verified.
    #[error("it cannot be reached")]
    Unreachable(#[source] Box<UpstreamError>),
    /// It was not reached, or there was no tunnel, in time.
    #[error("it took too long")]
    Timeout,
    /// The connection ended within what is said before a tunnel.
    #[error("it broke off")]
    Broken(#[source] io::Error),
    /// What it said is neither an answer to CONNECT nor SOCKS5.
    #[error("its answer is not one of a proxy of this kind; look at the scheme of `proxy`")]
    Protocol,
    /// It wants credentials, or others: 407, 401, or as RFC 1928 and RFC 1929 say it.
    #[error("it does not accept who asks; look at `proxy_auth`")]
    Authentication,
    /// The credentials have no value now, or none that fits.
    #[error("its credentials cannot be used")]
    Credentials(#[source] CredentialError),
    /// There is no tunnel for UDP.
    #[error("it carries no UDP; name the host in `no_proxy` to send datagrams directly")]
    NoDatagrams,
    /// It answered CONNECT with this status.
    #[error("it refused the tunnel with status {0}; some proxies lead to port 443 only")]
    Refused(u16),
    /// It answered SOCKS5 with this reply, other than success.
    #[error("it refused the tunnel: {}", socks5::in_words(*.0))]
    RefusedBySocks(u8),
}

impl ProxyError {
    /// Whether another address of the same upstream may fare better: a proxy without IPv6 says so only
    /// by refusing.
    pub(super) fn is_about_the_target(&self) -> bool {
        matches!(self, Self::Refused(_) | Self::RefusedBySocks(_))
    }

    /// A code for programs; the closed list is in the documentation.
    pub(super) fn code(&self) -> &'static str {
        match self {
            Self::Unreachable(_) => "proxy_unreachable",
            Self::Timeout => "proxy_timeout",
            Self::Broken(_) | Self::Protocol => "proxy_protocol_error",
            Self::Authentication | Self::Credentials(_) => "proxy_authentication",
            Self::NoDatagrams | Self::Refused(_) | Self::RefusedBySocks(_) => "proxy_refused",
        }
    }

    /// What becomes of a failure on the way to the proxy itself.
    pub(super) fn reaching(error: UpstreamError) -> Self {
        match error {
            UpstreamError::ConnectTimeout => Self::Timeout,
            error => Self::Unreachable(Box::new(error)),
        }
    }

    /// The same as what happened to a request or flow that was to go through `proxy`.
    pub(super) fn of(self, proxy: &UpstreamProxy) -> UpstreamError {
        UpstreamError::Proxy { proxy: proxy.authority.clone(), source: self }
    }
}

/// Where a tunnel leads.
#[derive(Clone, Debug)]
pub(super) enum Target {
    /// An address that was checked.
    Address(SocketAddr),
    /// A name that the proxy resolves, because the document says so.
    Name(Authority),
}

impl fmt::Display for Target {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(formatter),
            Self::Name(authority) => authority.fmt(formatter),
        }
    }
}

/// What the proxy is told of who asks.
struct Login {
    username: Zeroizing<Vec<u8>>,
    password: Zeroizing<Vec<u8>>,
}

/// Has `proxy`, which is at the other end of `io`, connect it with `target`. After it, the bytes of
/// `io` are the upstream's, from the first one. The caller sets the deadline.
///
/// # Errors
/// [`ProxyError`]; `io` is of no use then.
pub(super) async fn tunnel<Io>(
    io: &mut Io,
    target: &Target,
    proxy: &UpstreamProxy,
    slots: Slots<'_>,
) -> Result<(), ProxyError>
where
    Io: AsyncRead + AsyncWrite + Unpin,
{
    let login = match &proxy.credentials {
        None => None,
        Some(basic) => Some(Login {
            username: slots.fill(&basic.username).map_err(ProxyError::Credentials)?,
            password: slots.fill(&basic.password).map_err(ProxyError::Credentials)?,
        }),
    };
    match proxy.protocol {
        ProxyProtocol::Http | ProxyProtocol::Https => connect_method::ask(io, target, login.as_ref()).await,
        ProxyProtocol::Socks5 => socks5::ask(io, target, login.as_ref()).await,
    }
}
