//! Whether a workload may ask a name server of its own choice over TLS or HTTPS.
//!
//! Names that are resolved elsewhere make no hole, since the gate resolves by itself whatever it dials;
//! but their questions carry data, and a program that has found an address so gets nowhere with it.

use http::{HeaderMap, HeaderValue, header};
use percent_encoding::percent_decode_str;

use super::{Mode, Policy, RequestFacts};
use crate::deny_reason::DenyReason;
use crate::dns::EncryptedDns;
use crate::host::{Authority, Host};
use crate::name_server::NameServer;
use crate::public_resolvers::{PATH, is_canary, is_public_resolver};
use crate::verdict::Refusal;

impl RequestFacts<'_> {
    /// Whether a request with these headers carries DNS: a message (RFC 8484 section 4.1), or the JSON
    /// that some public resolvers have instead.
    #[must_use]
    pub fn carry_dns(headers: &HeaderMap) -> bool {
        const TYPES: [&str; 2] = ["application/dns-message", "application/dns-json"];
        let is_dns = |value: &HeaderValue| {
            value
                .to_str()
                .unwrap_or_default()
                .split([',', ';'])
                .map(str::trim)
                .any(|part| TYPES.iter().any(|media_type| part.eq_ignore_ascii_case(media_type)))
        };
        [header::CONTENT_TYPE, header::ACCEPT].iter().any(|name| headers.get_all(name).iter().any(is_dns))
    }
}

impl Policy {
    /// The refusal of a TLS flow to the port of DNS over TLS, whose bytes would be no HTTP.
    #[must_use]
    pub fn refuses_dns_over_tls(&self, authority: &Authority) -> Option<Refusal> {
        let is_meant = authority.port == NameServer::TLS_PORT && self.mode() == Mode::Enforce;
        is_meant.then(|| self.refuses_encrypted_dns(authority)).flatten()
    }

    /// Whether DNS over TLS to this authority, or anything to a public resolver, is refused: by
    /// `[dns] encrypted`, unless a pattern names the host exactly.
    pub(super) fn refuses_encrypted_dns(&self, authority: &Authority) -> Option<Refusal> {
        let what = if authority.port == NameServer::TLS_PORT {
            "the port of DNS over TLS"
        } else if is_public_resolver(&authority.host) {
            "a public name server"
        } else {
            return None;
        };
        self.refusal_of_encrypted_dns(&authority.host, || format!("{authority} is {what}"))
    }

    /// The same of a request that is DNS over HTTPS, by its path or by what it says that it carries.
    pub(super) fn refuses_dns_message(&self, request: &RequestFacts<'_>) -> Option<Refusal> {
        // A server that decodes the path answers the same to `/%64ns-query`.
        if !request.carries_dns && !percent_decode_str(request.path).eq(PATH.bytes()) {
            return None;
        }
        let authority = request.authority;
        self.refusal_of_encrypted_dns(&authority.host, || format!("the request asks {authority} for names"))
    }

    /// Whether everything to this host is refused as encrypted DNS.
    pub(super) fn is_refused_resolver(&self, host: &Host) -> bool {
        is_public_resolver(host) && self.refusal_of_encrypted_dns(host, String::new).is_some()
    }

    /// Whether the name is to have no existence, so that programs keep to the resolver that they were
    /// given: a name that only tells whether encrypted DNS is welcome.
    #[must_use]
    pub fn hides(&self, host: &Host) -> bool {
        self.dns().encrypted == EncryptedDns::Refuse && is_canary(host) && !self.names_exactly(host)
    }

    fn refusal_of_encrypted_dns(&self, host: &Host, why: impl FnOnce() -> String) -> Option<Refusal> {
        if self.dns().encrypted == EncryptedDns::Allow || self.names_exactly(host) {
            return None;
        }
        Some(Refusal {
            reason: DenyReason::EncryptedDns,
            detail: format!("{}, and nothing in the policy names it exactly", why()),
        })
    }
}
