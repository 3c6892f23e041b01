//! From an authority to a connection that carries its bytes: dialled, or as a tunnel through a proxy.

use std::net::SocketAddr;
use std::sync::Arc;

use sluicegate_policy::{Authority, Host, ProxyProtocol, UpstreamProxy};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::client::TlsStream;
use tokio_util::either::Either;

use super::proxy::{ProxyError, Target, tunnel};
use super::race::{PROXY_STAGGER, STAGGER, in_order, race};
use super::resolve::ChosenBy;
use super::tls::handshake;
use super::{Upstream, UpstreamError};
use crate::credentials::Slots;

/// What carries an upstream's bytes as they are: a connection, or within TLS to a proxy that is spoken
/// with over TLS.
pub type Wire = Either<TcpStream, Box<TlsStream<TcpStream>>>;

/// How an authority is reached, resolved and checked.
#[derive(Debug)]
pub(super) enum Way<'upstream> {
    /// By one of these addresses.
    Direct(Vec<SocketAddr>),
    /// Through the proxy at one of `addresses`, to one of `targets`.
    Through { proxy: &'upstream UpstreamProxy, addresses: Vec<SocketAddr>, targets: Vec<Target> },
}

impl Upstream {
    /// Finds out how `authority` is reached.
    ///
    /// # Errors
    /// [`UpstreamError`] of resolving and checking.
    pub(super) async fn way(
        &self,
        authority: &Authority,
        chosen_by: ChosenBy,
    ) -> Result<Way<'_>, UpstreamError> {
        let Some(proxy) = self.proxy_for(authority) else {
            return self.resolve(authority, chosen_by).await.map(Way::Direct);
        };
        let addresses = self
            .resolve(&proxy.authority, ChosenBy::Document)
            .await
            .map_err(|error| ProxyError::reaching(error).of(proxy))?;
        let is_resolved_there = proxy.resolves
            && matches!(authority.host, Host::Dns(_))
            && self.policy.upstream().resolve_override(authority).is_none();
        let targets = if is_resolved_there {
            vec![Target::Name(authority.clone())]
        } else {
            self.resolve(authority, chosen_by).await?.into_iter().map(Target::Address).collect()
        };
        Ok(Way::Through { proxy, addresses, targets })
    }

    /// The addresses of an authority that cannot be reached but directly.
    ///
    /// # Errors
    /// [`UpstreamError`] of resolving and checking, or that the document names a proxy for it.
    pub(super) async fn addresses(&self, authority: &Authority) -> Result<Vec<SocketAddr>, UpstreamError> {
        match self.proxy_for(authority) {
            Some(proxy) => Err(ProxyError::NoDatagrams.of(proxy)),
            None => self.resolve(authority, ChosenBy::Workload).await,
        }
    }

    /// Connects, and says where to: the address that was dialled, which is the proxy's where there is
    /// one.
    ///
    /// # Errors
    /// [`UpstreamError`] of connecting.
    pub(super) async fn dial(
        &self,
        way: &Way<'_>,
        deadline: Instant,
    ) -> Result<(Wire, SocketAddr), UpstreamError> {
        match way {
            Way::Direct(addresses) => {
                let dialled = timeout_at(deadline, race(addresses, STAGGER, connect)).await;
                let (io, address) = dialled.map_err(|_| UpstreamError::ConnectTimeout)??;
                Ok((Either::Left(io), address))
            }
            Way::Through { proxy, addresses, targets } => {
                let attempt = |target| Box::pin(self.through(proxy, addresses, target));
                timeout_at(deadline, race(targets, PROXY_STAGGER, attempt))
                    .await
                    .map_err(|_| ProxyError::Timeout.of(proxy))?
            }
        }
    }

    async fn through(
        &self,
        proxy: &UpstreamProxy,
        addresses: &[SocketAddr],
        target: Target,
    ) -> Result<(Wire, SocketAddr), UpstreamError> {
        let unreachable = |error| ProxyError::reaching(error).of(proxy);
        let (io, address) = race(addresses, STAGGER, connect).await.map_err(unreachable)?;
        let mut wire = if proxy.protocol == ProxyProtocol::Https {
            let config = Arc::clone(&self.configuration_for(&proxy.authority)?.http1);
            Either::Right(handshake(&config, &proxy.authority, io).await.map_err(unreachable)?)
        } else {
            Either::Left(io)
        };
        let slots = Slots {
            policy: &self.policy,
            secrets: &self.secrets,
            authority: &proxy.authority,
            scheme: proxy.scheme(),
        };
        tunnel(&mut wire, &target, proxy, slots).await.map_err(|error| error.of(proxy))?;
        Ok((wire, address))
    }

    fn proxy_for(&self, authority: &Authority) -> Option<&UpstreamProxy> {
        self.policy.upstream().proxy.as_ref().filter(|proxy| proxy.is_for(authority))
    }

    /// The addresses to try, in order, each checked against what is denied and forbidden.
    async fn resolve(
        &self,
        authority: &Authority,
        chosen_by: ChosenBy,
    ) -> Result<Vec<SocketAddr>, UpstreamError> {
        timeout(self.connect_timeout, self.names.addresses(authority, chosen_by))
            .await
            .map_err(|_| UpstreamError::ConnectTimeout)?
            .map(in_order)
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "this is the place that dials: the verdict and the address check came before"
)]
async fn connect(address: SocketAddr) -> Result<(TcpStream, SocketAddr), UpstreamError> {
    let failed = |source| UpstreamError::Connect { address, source };
    let io = TcpStream::connect(address).await.map_err(failed)?;
    // A request's head and body are two writes; without this the second waits.
    io.set_nodelay(true).map_err(failed)?;
    Ok((io, address))
}
