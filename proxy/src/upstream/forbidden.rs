//! The addresses that a name may not lead to unless the policy says so. Pure.
//!
//! The table is that of the IANA special-purpose address registries (RFC 6890 and its updates) with
//! what clouds put at link-local addresses: an allowed name whose owner points it at
//! 169.254.169.254 or at the machine next door must not get there (DNS rebinding).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Why `address` is not dialled for a public name, or `None` when it is an ordinary public one.
///
/// IPv6 forms that carry an IPv4 address (mapped, NAT64, 6to4) are judged by that address as well.
pub(super) fn why_forbidden(address: IpAddr) -> Option<&'static str> {
    match address.to_canonical() {
        IpAddr::V4(address) => why_forbidden_v4(address),
        IpAddr::V6(address) => why_forbidden_v6(address),
    }
}

fn why_forbidden_v4(address: Ipv4Addr) -> Option<&'static str> {
    let octets = address.octets();
    Some(match octets {
        [0, ..] => "this network (RFC 791)",
        [127, ..] => "loopback (RFC 1122)",
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] => "private (RFC 1918)",
        [100, 64..=127, ..] => "shared address space (RFC 6598)",
        [169, 254, ..] => "link-local, where cloud metadata is (RFC 3927)",
        [192, 0, 0, _] => "IETF protocol assignments (RFC 6890)",
        [192, 0, 2, _] | [198, 51, 100, _] | [203, 0, 113, _] => "documentation (RFC 5737)",
        [192, 88, 99, _] => "6to4 relay (RFC 7526)",
        [198, 18..=19, ..] => "benchmarking (RFC 2544)",
        [224..=239, ..] => "multicast (RFC 5771)",
        [240..=255, ..] => "reserved or broadcast (RFC 1112)",
        _ => return None,
    })
}

fn why_forbidden_v6(address: Ipv6Addr) -> Option<&'static str> {
    let [a, b, c, .., g, h] = address.segments();
    let embedded = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    Some(match (a, b) {
        _ if address.is_unspecified() || address.is_loopback() => "loopback (RFC 4291)",
        (0, 0) => "IPv4-compatible (RFC 4291)",
        (0x64, 0xff9b) if c == 0 => return why_forbidden_v4(embedded(g, h)),
        (0x64, 0xff9b) => "local NAT64 (RFC 8215)",
        (0x100, 0) => "discard-only (RFC 6666)",
        (0x2001, 0..=0x1ff) => "IETF protocol assignments, Teredo (RFC 4380)",
        (0x2001, 0xdb8) => "documentation (RFC 3849)",
        (0x2002, _) => return why_forbidden_v4(embedded(b, c)),
        (0x3fff, 0..=0xfff) => "documentation (RFC 9637)",
        (0x5f00, _) => "segment routing (RFC 9602)",
        (0xfc00..=0xfdff, _) => "unique local (RFC 4193)",
        (0xfe80..=0xfebf, _) => "link-local (RFC 4291)",
        (0xfec0..=0xfeff, _) => "site-local (RFC 3879)",
        (0xff00..=0xffff, _) => "multicast (RFC 4291)",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn special_addresses_are_forbidden_in_every_spelling() {
        for text in [
            "0.0.0.0",
            "10.1.2.3",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "127.9.9.9",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.8",
            "192.0.2.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.7",
            "203.0.113.9",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::7f00:1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "64:ff9b::a00:1",
            "64:ff9b::7f00:1",
            "64:ff9b:1::1",
            "100::1",
            "2001::1",
            "2001:db8::1",
            "2002:a00:1::",
            "2002:7f00:1::1",
            "3fff::1",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ] {
            assert!(why_forbidden(text.parse().unwrap()).is_some(), "{text}");
        }
    }

    #[test]
    fn public_addresses_are_not() {
        for text in [
            "1.1.1.1",
            "100.63.255.255",
            "100.128.0.1",
            "172.15.0.1",
            "172.32.0.1",
            "192.1.0.1",
            "198.17.0.1",
            "198.20.0.1",
            "223.255.255.255",
            "2606:4700::1111",
            "2a00:1450::1",
            "64:ff9b::101:101",
            "2002:101:101::1",
            "::ffff:1.1.1.1",
        ] {
            assert_eq!(why_forbidden(text.parse().unwrap()), None, "{text}");
        }
    }
}
