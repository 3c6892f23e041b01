//! A name server that the gate asks, and how it is asked.

use std::net::SocketAddr;

use crate::host::Host;

/// An entry of `[upstream] dns`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameServer {
    /// Where it is.
    pub address: SocketAddr,
    /// How it is asked.
    pub transport: DnsTransport,
}

/// How a name server is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DnsTransport {
    /// By UDP, and by TCP where an answer is cut (RFC 7766 section 5).
    Udp,
    /// By TCP (RFC 7766).
    Tcp,
    /// Over TLS (RFC 7858), with a certificate for this name or address.
    Tls(Host),
    /// Over HTTPS (RFC 8484).
    Https {
        /// Whom the certificate is for.
        name: Host,
        /// The path that questions are posted to.
        path: Box<str>,
    },
}

impl NameServer {
    /// The port of DNS (RFC 1035 section 4.2).
    pub const PORT: u16 = 53;
    /// The port of DNS over TLS (RFC 7858 section 3.1).
    pub const TLS_PORT: u16 = 853;
    /// The port of HTTPS.
    pub const HTTPS_PORT: u16 = 443;
}
