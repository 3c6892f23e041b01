//! One authority for each request: from one parser, for policy, dialling and the log. Pure.

use http::header::HOST;
use http::{HeaderMap, Uri, request};
use sluicegate_policy::{Authority, DenyReason, Host, HostError, Scheme, WrittenAuthority};

use crate::accept::OriginalDestination;

/// What the connection already tells about every request on it.
#[derive(Clone, Debug)]
pub struct ConnectionName {
    /// Over TLS or not.
    pub scheme: Scheme,
    /// The name that the workload's TLS is for; none on plain HTTP.
    pub tls_name: Option<Host>,
    /// Where the workload dialled.
    pub original_destination: OriginalDestination,
}

/// Why a request has no authority that it may be judged by.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuthorityFault {
    /// The Host header or the target's authority cannot be read.
    #[error("the authority is not well-formed")]
    Unreadable(#[source] HostError),
    /// The target and the Host header, or two Host headers, say different things.
    #[error("the request target and the Host header differ")]
    Contradiction,
    /// No authority at all.
    #[error("the request names no host")]
    Missing,
    /// The target's scheme is not the connection's.
    #[error("the request target's scheme is not the connection's")]
    Scheme,
    /// The request is for another name than the TLS connection (RFC 9110 section 15.5.20).
    #[error("the request is for {0}, the TLS connection for {1}")]
    OtherName(Host, Host),
    /// The request is for another address or port than the one that was dialled.
    #[error("the request is for {0}, the connection went to {1}")]
    OtherAddress(Authority, OriginalDestination),
}

impl AuthorityFault {
    /// The code of the refusal.
    pub fn reason(&self) -> DenyReason {
        match self {
            Self::OtherName(..) => DenyReason::AuthorityMismatch,
            Self::OtherAddress(..) => DenyReason::Misdirected,
            _ => DenyReason::MalformedRequest,
        }
    }

    /// The host that the request is for, where that much is certain.
    pub fn asked_for(&self) -> Option<&Host> {
        match self {
            Self::OtherName(host, _) => Some(host),
            Self::OtherAddress(authority, _) => Some(&authority.host),
            _ => None,
        }
    }
}

/// The authority of a request on this connection.
///
/// The port is the one dialled: a request that states another would be judged for one service and
/// meant for a second.
///
/// # Errors
/// [`AuthorityFault`] for every request that two readers could understand in two ways.
pub fn authority(head: &request::Parts, connection: &ConnectionName) -> Result<Authority, AuthorityFault> {
    let written = written(&head.uri, &head.headers, connection)?;
    let port = connection.original_destination.port();
    let stated = written.port.unwrap_or(port);
    let authority = written.or_port(port);
    let other_address = match &authority.host {
        Host::Ip(ip) => *ip != connection.original_destination.ip(),
        Host::Dns(_) => false,
    };
    match &connection.tls_name {
        Some(name) if *name != authority.host => Err(AuthorityFault::OtherName(authority.host, name.clone())),
        _ if other_address || stated != port => {
            Err(AuthorityFault::OtherAddress(authority, connection.original_destination))
        }
        _ => Ok(authority),
    }
}

fn written(
    uri: &Uri,
    headers: &HeaderMap,
    connection: &ConnectionName,
) -> Result<WrittenAuthority, AuthorityFault> {
    if uri.scheme_str().is_some_and(|scheme| !scheme.eq_ignore_ascii_case(connection.scheme.as_str())) {
        return Err(AuthorityFault::Scheme);
    }
    let mut hosts = headers.get_all(HOST).iter();
    let host = hosts.next();
    if hosts.next().is_some() {
        return Err(AuthorityFault::Contradiction);
    }
    let host = host
        .map(|host| {
            let text = host.to_str().map_err(|_| HostError::Character('\u{fffd}'))?;
            WrittenAuthority::parse(text)
        })
        .transpose()
        .map_err(AuthorityFault::Unreadable)?;
    let target = uri
        .authority()
        .map(|authority| WrittenAuthority::parse(authority.as_str()))
        .transpose()
        .map_err(AuthorityFault::Unreadable)?;
    match (target, host) {
        (Some(target), Some(host)) => {
            let port = connection.original_destination.port();
            let same = target.host == host.host && target.port.unwrap_or(port) == host.port.unwrap_or(port);
            same.then_some(target).ok_or(AuthorityFault::Contradiction)
        }
        (Some(written), None) | (None, Some(written)) => Ok(written),
        // HTTP/1.0 without Host means the server that was dialled.
        (None, None) => connection
            .tls_name
            .clone()
            .or_else(|| Some(Host::from(connection.original_destination.ip())))
            .map(|host| WrittenAuthority { host, port: None })
            .ok_or(AuthorityFault::Missing),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(tls: Option<&str>, dialled: &str, uri: &str, host: &[&str]) -> Result<String, DenyReason> {
        let mut request = http::Request::builder().uri(uri);
        for host in host {
            request = request.header(HOST, *host);
        }
        let (head, ()) = request.body(()).unwrap().into_parts();
        let connection = ConnectionName {
            scheme: if tls.is_some() { Scheme::Https } else { Scheme::Http },
            tls_name: tls.map(|name| Host::parse(name).unwrap()),
            original_destination: OriginalDestination(dialled.parse().unwrap()),
        };
        authority(&head, &connection).map(|authority| authority.to_string()).map_err(|fault| fault.reason())
    }

    #[test]
    fn one_authority_comes_out_however_it_is_written() {
        let http = "198.18.0.7:80";
        let cases = [
            (None, http, "/", &["Example.COM."][..], "example.com:80"),
            (None, http, "/", &["example.com:80"], "example.com:80"),
            (None, http, "http://example.com/x", &["example.com"], "example.com:80"),
            (None, http, "http://EXAMPLE.com:80/x", &["example.com"], "example.com:80"),
            (None, http, "http://example.com/x", &[], "example.com:80"),
            (None, http, "/", &[], "198.18.0.7:80"),
            (None, "198.18.0.7:8080", "/", &["example.com"], "example.com:8080"),
            (None, "15.0.0.2:80", "/", &["15.0.0.2"], "15.0.0.2:80"),
            (None, "[2606::1]:80", "/", &["[2606::1]"], "[2606::1]:80"),
            (None, "[::ffff:15.0.0.2]:80", "/", &["15.0.0.2"], "15.0.0.2:80"),
            (Some("a.test"), "198.18.0.7:443", "https://a.test/", &[], "a.test:443"),
            (Some("a.test"), "198.18.0.7:443", "/", &["A.test"], "a.test:443"),
            (Some("15.0.0.2"), "15.0.0.2:443", "/", &["15.0.0.2"], "15.0.0.2:443"),
        ];
        for (tls, dialled, uri, host, expected) in cases {
            assert_eq!(judge(tls, dialled, uri, host).as_deref(), Ok(expected), "{uri} {host:?}");
        }
    }

    #[test]
    fn what_can_be_read_two_ways_is_refused() {
        use DenyReason::{AuthorityMismatch, MalformedRequest, Misdirected};
        let http = "198.18.0.7:80";
        let tls = Some("a.test");
        let https = "198.18.0.7:443";
        let cases = [
            (None, http, "/", &["a.test", "a.test"][..], MalformedRequest),
            (None, http, "http://b.test/", &["a.test"], MalformedRequest),
            (None, http, "http://a.test:81/", &["a.test"], MalformedRequest),
            (None, http, "https://a.test/", &["a.test"], MalformedRequest),
            (None, http, "/", &["user@a.test"], MalformedRequest),
            (None, http, "/", &["127.1"], MalformedRequest),
            (None, http, "/", &["a.test:0"], MalformedRequest),
            (None, http, "/", &[""], MalformedRequest),
            (None, http, "/", &["a.test:22"], Misdirected),
            (None, http, "/", &["10.0.0.1"], Misdirected),
            (tls, https, "/", &["b.test"], AuthorityMismatch),
            (tls, https, "https://b.test/", &[], AuthorityMismatch),
            (tls, https, "/", &["a.test:8443"], Misdirected),
            (Some("15.0.0.2"), "15.0.0.2:443", "/", &["a.test"], AuthorityMismatch),
        ];
        for (tls, dialled, uri, host, expected) in cases {
            assert_eq!(judge(tls, dialled, uri, host), Err(expected), "{uri} {host:?}");
        }
    }
}
