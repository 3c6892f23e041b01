//! From an authority to the addresses that may be dialled for it: by our own resolution, never by
//! the workload's.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{
    ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use sluicegate_policy::{Authority, Host, Policy};
use tokio::sync::OnceCell;

use super::UpstreamError;
use super::forbidden::why_forbidden;

/// One question to one server. Two servers and two attempts stay below the usual connect timeout.
const QUESTION_DEADLINE: Duration = Duration::from_secs(2);

/// Answers remembered, by (name, type): a workload talks to tens of names, not thousands.
const CACHE_ENTRIES: u64 = 256;

/// The most addresses of one name that are tried.
const ADDRESSES_MAX: usize = 8;

/// Resolves for one policy. The resolver proper is made when the first name needs it.
#[derive(Debug)]
pub(super) struct Names {
    policy: Arc<Policy>,
    resolver: OnceCell<TokioResolver>,
}

impl Names {
    pub(super) fn new(policy: Arc<Policy>) -> Self {
        Self { policy, resolver: OnceCell::new() }
    }

    /// The addresses to dial for `authority`, each checked against what is denied and forbidden.
    pub(super) async fn addresses(&self, authority: &Authority) -> Result<Vec<SocketAddr>, UpstreamError> {
        if let Some(address) = self.policy.upstream().resolve_override(authority) {
            // Naming an address in the document is allowing it, unless the document denies it too.
            return match self.policy.denies_address(address) {
                Some(_) => Err(UpstreamError::DeniedAddress(address.ip())),
                None => Ok(vec![address]),
            };
        }
        let found = match &authority.host {
            Host::Ip(ip) => vec![*ip],
            Host::Dns(name) => self.look_up(name).await?,
        };
        self.check(&found, authority.port)
    }

    fn check(&self, found: &[IpAddr], port: u16) -> Result<Vec<SocketAddr>, UpstreamError> {
        let denied = |ip: &&IpAddr| {
            let address = SocketAddr::new(ip.to_canonical(), port);
            self.policy.denies_address(address).is_some()
        };
        if let Some(ip) = found.iter().find(denied) {
            return Err(UpstreamError::DeniedAddress(*ip));
        }
        let mut forbidden = None;
        let mut allowed = Vec::with_capacity(found.len().min(ADDRESSES_MAX));
        for ip in found.iter().map(IpAddr::to_canonical).take(ADDRESSES_MAX) {
            match why_forbidden(ip) {
                Some(why) if !self.policy.upstream().allows_address(ip) => {
                    forbidden = Some((ip, why));
                }
                _ => allowed.push(SocketAddr::new(ip, port)),
            }
        }
        match (allowed.is_empty(), forbidden) {
            (false, _) => Ok(allowed),
            (true, Some((address, why))) => Err(UpstreamError::ForbiddenAddress { address, why }),
            (true, None) => Err(UpstreamError::NoAddress),
        }
    }

    async fn look_up(&self, name: &str) -> Result<Vec<IpAddr>, UpstreamError> {
        let resolver = self
            .resolver
            .get_or_try_init(|| async { make_resolver(&self.policy.upstream().dns) })
            .await
            .map_err(|error| UpstreamError::Resolver(Box::new(error)))?;
        // Absolute, so that no search domain of ours is tried.
        let answer = resolver.lookup_ip(format!("{name}.")).await;
        match answer {
            Ok(answer) => Ok(answer.iter().collect()),
            Err(error) if error.is_nx_domain() || error.is_no_records_found() => {
                Err(UpstreamError::NameNotFound)
            }
            Err(error) => Err(UpstreamError::Resolver(Box::new(error))),
        }
    }
}

fn make_resolver(servers: &[SocketAddr]) -> Result<TokioResolver, NetError> {
    let provider = TokioRuntimeProvider::default();
    let mut builder = if servers.is_empty() {
        TokioResolver::builder(provider)?
    } else {
        let servers = servers.iter().map(|server| name_server(*server)).collect();
        TokioResolver::builder_with_config(ResolverConfig::from_parts(None, Vec::new(), servers), provider)
    };
    limit(builder.options_mut(), servers.is_empty());
    builder.build()
}

fn name_server(address: SocketAddr) -> NameServerConfig {
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
        connection.port = address.port();
        connection
    });
    NameServerConfig::new(address.ip(), true, connections.into())
}

fn limit(options: &mut ResolverOpts, system: bool) {
    options.timeout = QUESTION_DEADLINE;
    options.attempts = 2;
    options.cache_size = CACHE_ENTRIES;
    // IPv4 first until connections are raced (RFC 8305): a broken IPv6 route costs a whole timeout.
    options.ip_strategy = LookupIpStrategy::Ipv4thenIpv6;
    options.use_hosts_file = if system { ResolveHosts::Always } else { ResolveHosts::Never };
}
