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
use rustls::{ClientConfig, RootCertStore};
use sluicegate_policy::{Authority, DnsTransport, Host, NameServer, Policy};
use tokio::sync::OnceCell;

use super::UpstreamError;
use super::forbidden::why_forbidden;
use super::tls::Tls;

/// One question to one server. Two servers and two attempts stay below the usual connect timeout.
const QUESTION_DEADLINE: Duration = Duration::from_secs(2);

/// Answers remembered, by (name, type): a workload talks to tens of names, not thousands.
const CACHE_ENTRIES: u64 = 256;

/// How long an answer is remembered at most, whatever it says: a service that moves is found again.
const ANSWER_KEPT_MAX: Duration = Duration::from_secs(3_600);

/// The same where there is nothing: a name that comes to be is found soon (RFC 2308 section 5 has
/// hours).
const ABSENCE_KEPT_MAX: Duration = Duration::from_secs(30);

/// Who chose an authority that is to be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ChosenBy {
    /// The workload: its name may lead to no address that the public has no business at.
    Workload,
    /// The policy document, which allows an address by naming what is there.
    Document,
}

/// Resolves for one policy. The resolver proper is made when the first name needs it.
#[derive(Debug)]
pub(super) struct Names {
    policy: Arc<Policy>,
    tls: Arc<Tls>,
    resolver: OnceCell<TokioResolver>,
}

impl Names {
    pub(super) fn new(policy: Arc<Policy>, tls: Arc<Tls>) -> Self {
        Self { policy, tls, resolver: OnceCell::new() }
    }

    /// All addresses of `authority`, each checked against what is denied and forbidden.
    pub(super) async fn addresses(
        &self,
        authority: &Authority,
        chosen_by: ChosenBy,
    ) -> Result<Vec<SocketAddr>, UpstreamError> {
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
        self.check(&found, authority.port, chosen_by)
    }

    fn check(
        &self,
        found: &[IpAddr],
        port: u16,
        chosen_by: ChosenBy,
    ) -> Result<Vec<SocketAddr>, UpstreamError> {
        let denied = |ip: &&IpAddr| {
            let address = SocketAddr::new(ip.to_canonical(), port);
            self.policy.denies_address(address).is_some()
        };
        if let Some(ip) = found.iter().find(denied) {
            return Err(UpstreamError::DeniedAddress(*ip));
        }
        let mut forbidden = None;
        let mut allowed = Vec::with_capacity(found.len());
        let is_allowed = |ip| chosen_by == ChosenBy::Document || self.policy.upstream().allows_address(ip);
        for ip in found.iter().map(IpAddr::to_canonical) {
            match why_forbidden(ip) {
                Some(why) if !is_allowed(ip) => {
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

    /// What asks our name servers, made when the first name needs it.
    pub(super) async fn resolver(&self) -> Result<&TokioResolver, UpstreamError> {
        let make = || async {
            let servers = &self.policy.upstream().dns;
            make_resolver(servers, self.tls_for(servers)?)
                .map_err(|error| UpstreamError::Resolver(Box::new(error)))
        };
        self.resolver.get_or_try_init(make).await
    }

    /// How name servers are verified; whom nobody asks over TLS costs no roots.
    fn tls_for(&self, servers: &[NameServer]) -> Result<ClientConfig, UpstreamError> {
        let is_plain =
            |server: &NameServer| matches!(server.transport, DnsTransport::Udp | DnsTransport::Tcp);
        if servers.iter().all(is_plain) {
            return super::tls::trusting(RootCertStore::empty());
        }
        let mut config = (*self.tls.configuration(None)?.http1).clone();
        // The resolver offers what it speaks.
        config.alpn_protocols.clear();
        Ok(config)
    }

    async fn look_up(&self, name: &str) -> Result<Vec<IpAddr>, UpstreamError> {
        // Absolute, so that no search domain of ours is tried.
        let answer = self.resolver().await?.lookup_ip(format!("{name}.")).await;
        match answer {
            Ok(answer) => Ok(answer.iter().collect()),
            Err(error) if error.is_nx_domain() || error.is_no_records_found() => {
                Err(UpstreamError::NameNotFound)
            }
            Err(error) => Err(UpstreamError::Resolver(Box::new(error))),
        }
    }
}

/// Asks the servers of the document in no order of its own, or those of the system.
fn make_resolver(servers: &[NameServer], config: ClientConfig) -> Result<TokioResolver, NetError> {
    let provider = TokioRuntimeProvider::default();
    let mut builder = if servers.is_empty() {
        TokioResolver::builder(provider)?
    } else {
        let servers = servers.iter().map(name_server).collect();
        TokioResolver::builder_with_config(ResolverConfig::from_parts(None, Vec::new(), servers), provider)
    };
    limit(builder.options_mut(), servers.is_empty());
    builder.with_tls_config(config).build()
}

fn name_server(server: &NameServer) -> NameServerConfig {
    let name = |host: &Host| Arc::from(host.to_string());
    let connections = match &server.transport {
        DnsTransport::Udp => vec![ConnectionConfig::udp(), ConnectionConfig::tcp()],
        DnsTransport::Tcp => vec![ConnectionConfig::tcp()],
        DnsTransport::Tls(host) => vec![ConnectionConfig::tls(name(host))],
        DnsTransport::Https { name: host, path } => {
            vec![ConnectionConfig::https(name(host), Some(Arc::from(&**path)))]
        }
    };
    let at_port = |mut connection: ConnectionConfig| {
        connection.port = server.address.port();
        connection
    };
    NameServerConfig::new(server.address.ip(), true, connections.into_iter().map(at_port).collect())
}

fn limit(options: &mut ResolverOpts, system: bool) {
    options.timeout = QUESTION_DEADLINE;
    options.attempts = 2;
    options.cache_size = CACHE_ENTRIES;
    options.positive_max_ttl = Some(ANSWER_KEPT_MAX);
    options.negative_max_ttl = Some(ABSENCE_KEPT_MAX);
    // Both at once: connections to them are raced (RFC 8305).
    options.ip_strategy = LookupIpStrategy::Ipv6AndIpv4;
    options.use_hosts_file = if system { ResolveHosts::Always } else { ResolveHosts::Never };
}
