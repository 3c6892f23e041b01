//! Names and addresses of public resolvers that speak DNS over HTTPS or TLS.
//!
//! The list is short on purpose: it tells programs that would use such a resolver by themselves why
//! they cannot. What carries DNS to a host that is not here is known by its port, path or media type.

use std::net::IpAddr;

use crate::host::Host;

/// Resolvers that browsers, operating systems and libraries have built in. Names below count too.
const NAMES: [&str; 22] = [
    "adguard-dns.com",
    "cloudflare-dns.com",
    "cloudflare-gateway.com",
    "controld.com",
    "dns.adguard.com",
    "dns.alidns.com",
    "dns.cloudflare.com",
    "dns.google",
    "dns.google.com",
    "dns.mullvad.net",
    "dns.nextdns.io",
    "dns.opendns.com",
    "dns.quad9.net",
    "dns.sb",
    "dns10.quad9.net",
    "dns11.quad9.net",
    "dns9.quad9.net",
    "doh.cleanbrowsing.org",
    "doh.familyshield.opendns.com",
    "doh.opendns.com",
    "doh.pub",
    "one.one.one.one",
];

/// The addresses that they are known by.
const ADDRESSES: [&str; 16] = [
    "1.0.0.1",
    "1.1.1.1",
    "149.112.112.112",
    "208.67.220.220",
    "208.67.222.222",
    "2001:4860:4860::8844",
    "2001:4860:4860::8888",
    "2606:4700:4700::1001",
    "2606:4700:4700::1111",
    "2620:119:35::35",
    "2620:fe::fe",
    "2620:fe::9",
    "8.8.4.4",
    "8.8.8.8",
    "9.9.9.10",
    "9.9.9.9",
];

/// Names that exist where DNS of one's own is welcome: without them browsers (Firefox's canary) and
/// operating systems (iCloud Private Relay) use the resolver that they were given.
const CANARIES: [&str; 3] = ["mask-h2.icloud.com", "mask.icloud.com", "use-application-dns.net"];

/// The path of DNS over HTTPS, which RFC 8484 uses throughout and every public resolver has.
pub(crate) const PATH: &str = "/dns-query";

/// Whether the host is a public resolver.
pub(crate) fn is_public_resolver(host: &Host) -> bool {
    match host {
        Host::Dns(name) => {
            let is_or_below = |known: &str| {
                name.strip_suffix(known).is_some_and(|front| front.is_empty() || front.ends_with('.'))
            };
            NAMES.iter().any(|known| is_or_below(known))
        }
        Host::Ip(address) => {
            ADDRESSES.iter().any(|known| known.parse::<IpAddr>().is_ok_and(|known| known == *address))
        }
    }
}

/// Whether the name only tells whether encrypted DNS is welcome.
pub(crate) fn is_canary(host: &Host) -> bool {
    matches!(host, Host::Dns(name) if CANARIES.contains(&&**name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_resolvers_are_known_in_every_spelling() {
        for text in ["DNS.Google.", "abc123.dns.nextdns.io", "mozilla.cloudflare-dns.com", "8.8.8.8"] {
            assert!(is_public_resolver(&Host::parse(text).unwrap()), "{text}");
        }
        for text in ["[2606:4700:4700::1111]", "::ffff:1.1.1.1", "security.cloudflare-dns.com"] {
            assert!(is_public_resolver(&Host::parse(text).unwrap()), "{text}");
        }
    }

    #[test]
    fn what_only_looks_like_one_is_not() {
        for text in ["cloudflare.com", "notdns.google", "dns.google.example.com", "1.1.1.2", "google.com"] {
            assert!(!is_public_resolver(&Host::parse(text).unwrap()), "{text}");
        }
    }

    #[test]
    fn every_entry_is_as_traffic_is_normalised() {
        for text in NAMES.iter().chain(&CANARIES) {
            assert_eq!(Host::parse(text), Ok(Host::Dns((*text).into())));
        }
        for text in ADDRESSES {
            assert!(text.parse::<IpAddr>().is_ok(), "{text}");
        }
    }
}
