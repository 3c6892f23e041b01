//! How the proxy reaches upstreams: the `[upstream]` section, parsed.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;

use crate::edits::BasicAuth;
use crate::host::{Authority, Scheme};
use crate::name_server::NameServer;
use crate::pattern::HostPattern;
use crate::secret::SecretName;

/// What becomes of flows that pass unopened, and of upgraded ones, when a policy is published.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FlowsOnPublish {
    /// Those that the new policy does not let through are closed.
    #[default]
    Judge,
    /// They go on to their end.
    Keep,
}

/// How the gate speaks with a proxy on its way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyProtocol {
    /// HTTP CONNECT (RFC 9110 section 9.3.6), in the clear up to the proxy.
    Http,
    /// The same within TLS to the proxy.
    Https,
    /// SOCKS version 5 (RFC 1928), with user name and password (RFC 1929) if there are any.
    Socks5,
}

/// A proxy that every connection to an upstream goes through, as a tunnel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamProxy {
    /// How it is spoken with.
    pub protocol: ProxyProtocol,
    /// Where it is. Naming its address is allowing it.
    pub authority: Authority,
    /// What it is told of who asks.
    pub credentials: Option<BasicAuth>,
    /// Whether it is given names instead of addresses that were checked.
    pub resolves: bool,
    /// What is dialled without it.
    pub(crate) exceptions: Vec<HostPattern>,
}

impl UpstreamProxy {
    /// Whether this authority is reached through the proxy.
    #[must_use]
    pub fn is_for(&self, authority: &Authority) -> bool {
        !self
            .exceptions
            .iter()
            .any(|pattern| pattern.catches_port(authority.port) && pattern.names(&authority.host))
    }

    /// How what is told to the proxy itself travels: what decides whether a secret may be told.
    #[must_use]
    pub fn scheme(&self) -> Scheme {
        match self.protocol {
            ProxyProtocol::Http | ProxyProtocol::Socks5 => Scheme::Http,
            ProxyProtocol::Https => Scheme::Https,
        }
    }
}

/// A certificate that the gate shows to some hosts that ask for one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    /// Who is shown it; never empty.
    pub hosts: Vec<HostPattern>,
    /// The PEM file of the certificate and those that lead to its root; a relative path counts from
    /// the document's folder.
    pub certificate: Box<str>,
    /// The secret that holds the private key as PEM.
    pub key: SecretName,
}

/// The `[upstream]` section of the document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// PEM files of additional roots, as written; a relative path counts from the document's folder.
    pub extra_ca: Vec<Box<str>>,
    /// Where these authorities are dialled instead of at their resolved address.
    pub resolve: BTreeMap<Authority, SocketAddr>,
    /// Name servers to ask; empty means the system's.
    pub dns: Vec<NameServer>,
    /// The proxy on the way out.
    pub proxy: Option<UpstreamProxy>,
    /// The certificates that are shown to hosts which ask for one.
    pub client_certificates: Vec<ClientCertificate>,
    /// The longest time for one TCP connection and TLS handshake.
    pub connect_timeout: Duration,
    /// The longest time from the sent request to the response's head.
    pub response_timeout: Duration,
    /// The longest time without a byte in either direction of a body.
    pub idle_timeout: Duration,
    pub(crate) allow_ranges: Vec<IpNet>,
}

impl Upstream {
    /// A connection that takes longer than this will not come about.
    pub const CONNECT_TIMEOUT_DEFAULT: Duration = Duration::from_millis(10_000);
    /// Slow services answer within a minute or stream.
    pub const RESPONSE_TIMEOUT_DEFAULT: Duration = Duration::from_millis(60_000);
    /// Long enough for event streams with sparse keep-alives.
    pub const IDLE_TIMEOUT_DEFAULT: Duration = Duration::from_millis(300_000);
    /// The longest timeout that a document may state: an hour.
    pub const TIMEOUT_MAX: Duration = Duration::from_millis(3_600_000);

    /// The address that the document names for this authority. Naming an address allows it.
    #[must_use]
    pub fn resolve_override(&self, authority: &Authority) -> Option<SocketAddr> {
        self.resolve.get(authority).copied()
    }

    /// Which of `client_certificates` this authority is shown over TLS: of those that name it the one
    /// with the most specific pattern, the first among equals.
    #[must_use]
    pub fn client_certificate(&self, authority: &Authority) -> Option<usize> {
        let mut best = None;
        for (position, certificate) in self.client_certificates.iter().enumerate() {
            let naming = certificate.hosts.iter().filter(|host| host.admits(Scheme::Https, authority));
            let Some(specificity) = naming.map(HostPattern::specificity).max() else { continue };
            if best.is_none_or(|(held, _)| specificity > held) {
                best = Some((specificity, position));
            }
        }
        best.map(|(_, position)| position)
    }

    /// The secrets that only this section uses: for the proxy, and for client certificates.
    pub(crate) fn secrets(&self) -> impl Iterator<Item = &SecretName> {
        let credentials = self.proxy.iter().filter_map(|proxy| proxy.credentials.as_ref());
        let told = credentials.flat_map(|basic| basic.username.secrets().chain(basic.password.secrets()));
        told.chain(self.client_certificates.iter().map(|certificate| &certificate.key))
    }

    /// Whether `allow_ranges` permits dialling this address although it is private or local.
    #[must_use]
    pub fn allows_address(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.allow_ranges.iter().any(|range| range.contains(&address))
    }
}

impl Default for Upstream {
    fn default() -> Self {
        Self {
            extra_ca: Vec::new(),
            resolve: BTreeMap::new(),
            dns: Vec::new(),
            proxy: None,
            client_certificates: Vec::new(),
            connect_timeout: Self::CONNECT_TIMEOUT_DEFAULT,
            response_timeout: Self::RESPONSE_TIMEOUT_DEFAULT,
            idle_timeout: Self::IDLE_TIMEOUT_DEFAULT,
            allow_ranges: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pattern::ListedIn;

    fn patterns(texts: &[&str], listed_in: ListedIn) -> Vec<HostPattern> {
        texts.iter().map(|text| HostPattern::parse(text, listed_in).unwrap()).collect()
    }

    fn authority(text: &str) -> Authority {
        Authority::parse(text, 443).unwrap()
    }

    #[test]
    fn the_most_specific_pattern_decides_which_certificate_is_shown() {
        let certificate = |hosts: &[&str]| ClientCertificate {
            hosts: patterns(hosts, ListedIn::Secret),
            certificate: "client.pem".into(),
            key: SecretName::parse("KEY").unwrap(),
        };
        let upstream = Upstream {
            client_certificates: vec![
                certificate(&["*.corp.test"]),
                certificate(&["db.corp.test", "10.0.0.0/8"]),
                certificate(&["db.corp.test", "*.eu.corp.test:8443"]),
            ],
            ..Upstream::default()
        };
        let table = [
            ("a.corp.test", Some(0)),
            ("db.corp.test", Some(1)),
            ("a.eu.corp.test", Some(0)),
            ("a.eu.corp.test:8443", Some(2)),
            ("db.corp.test:8443", None),
            ("corp.test", None),
            ("10.1.2.3", Some(1)),
            ("11.1.2.3", None),
        ];
        for (text, shown) in table {
            assert_eq!(upstream.client_certificate(&authority(text)), shown, "{text}");
        }
    }

    #[test]
    fn exceptions_of_a_proxy_are_wide() {
        let proxy = UpstreamProxy {
            protocol: ProxyProtocol::Socks5,
            authority: authority("proxy.test:1080"),
            credentials: None,
            resolves: false,
            exceptions: patterns(&["*.corp.test", "a.test:22", "10.0.0.0/8"], ListedIn::Denied),
        };
        let table = [
            ("api.test", true),
            ("db.corp.test", false),
            ("db.corp.test:5432", false),
            ("corp.test", true),
            ("a.test:22", false),
            ("a.test", true),
            ("10.9.9.9:1", false),
        ];
        for (text, through) in table {
            assert_eq!(proxy.is_for(&authority(text)), through, "{text}");
        }
        assert_eq!(proxy.scheme(), Scheme::Http);
    }
}
