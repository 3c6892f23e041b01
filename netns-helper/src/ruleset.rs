//! What table `inet sluicegate` says in a namespace with nothing but `lo`, as data in the order of an nft listing;
//! `nft.rs` sends it. Where interfaces stay, `kept_ruleset.rs` says more.
//!
//! **Invariant:** every chain's policy is drop, and no rule reads or sets a mark, a uid or a cgroup:
//! there is no packet that is let past, hence no exemption to forge.

use nftnl::{ChainType, Hook, Policy};
use std::ffi::CStr;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The name of our table; nothing outside it is ever touched.
pub(crate) const TABLE: &CStr = c"sluicegate";
/// The namespace's own IPv4 address: with loopback alone, AI_ADDRCONFIG would hide every A record.
pub(crate) const OWN_V4: Ipv4Addr = Ipv4Addr::new(100, 64, 0, 2);
/// The namespace's own IPv6 address, unique-local, so that IPv4 is preferred (RFC 6724 §2.1).
pub(crate) const OWN_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xe9, 0, 0, 0, 0, 0, 2);
/// Docker's resolver: inside the namespace it answers on two random ports besides 53.
const DOCKER_RESOLVER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);
const DNS: u16 = 53;

/// A table of family inet.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) name: &'static CStr,
    /// Whether it stays when the gate has ended, where the kernel lets one say so.
    pub(crate) stays: bool,
    pub(crate) chains: Vec<Chain>,
}

/// A base chain.
#[derive(Debug)]
pub(crate) struct Chain {
    pub(crate) name: &'static CStr,
    pub(crate) kind: ChainType,
    pub(crate) hook: Hook,
    pub(crate) priority: i32,
    pub(crate) policy: Policy,
    pub(crate) rules: Vec<Rule>,
}

impl Chain {
    /// One of type filter and policy drop.
    pub(crate) fn filter(name: &'static CStr, hook: Hook, priority: i32, rules: Vec<Rule>) -> Self {
        Self { name, kind: ChainType::Filter, hook, priority, policy: Policy::Drop, rules }
    }
}

/// One line of a chain.
#[derive(Clone, Debug)]
pub(crate) struct Rule {
    pub(crate) comment: &'static CStr,
    pub(crate) terms: Vec<Term>,
}

/// The two transports that are captured; all others are refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    Tcp,
    Udp,
}

/// A match or a statement; they take effect from left to right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Term {
    /// `iif lo`
    FromLoopback,
    /// `oif lo`
    ToLoopback,
    /// `iif != lo`
    FromOutside,
    /// `meta l4proto`
    Is(Transport),
    /// `ip saddr ADDRESS`
    From4(Ipv4Addr),
    /// `ip daddr ADDRESS/LENGTH`
    To4(Ipv4Addr, u32),
    /// `ip6 daddr ADDRESS`
    To6(Ipv6Addr),
    /// `th dport`; stands behind `Is`.
    Port(u16),
    /// `tcp flags & (fin | syn | rst | ack) == syn`; stands behind `Is`.
    OpensConnection,
    /// `icmpv6 type`
    Icmp6(u8),
    /// What is known of the connection that the packet is of; matches nothing where it is of none.
    Of(Connection),
    /// `meta mark`
    Marked(u32),
    /// `meta mark set`
    Mark(u32),
    /// `notrack`
    NoTrack,
    /// `counter`
    Count,
    /// `meta nfproto ipv4 tproxy ip to 127.0.0.1:PORT`; ends the rule when nobody listens.
    Capture4(u16),
    /// `meta nfproto ipv6 tproxy ip6 to [::1]:PORT`; ends the rule when nobody listens.
    Capture6(u16),
    Accept,
    Drop,
    /// `reject with icmpx admin-prohibited`: EPERM at once for UDP and raw senders.
    RejectProhibited,
    /// `reject with tcp reset`
    RejectReset,
}

/// A match or a statement about a tracked connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Connection {
    /// `ct state new`
    IsNew,
    /// `ct direction reply`: the packet goes against the direction of the first one.
    IsAnswered,
    /// `ct mark`
    IsMarked(u32),
    /// `ct mark set`
    Mark(u32),
}

use Term::*;
use Transport::{Tcp, Udp};

/// The whole table for listeners on `port` of 127.0.0.1 and ::1.
pub(crate) fn table(port: u16) -> Table {
    let chains = vec![
        // Before conntrack (-200) and every nat output (-100): what is captured must be neither
        // tracked nor translated, docker's redirection of 127.0.0.11:53 included.
        Chain::filter(c"out", Hook::Out, -310, out(port)),
        Chain::filter(c"pre", Hook::PreRouting, -150, pre(port, &[])),
        Chain::filter(c"post", Hook::PostRouting, 300, post()),
    ];
    Table { name: TABLE, stays: true, chains }
}

/// What a process of the workload may send at all. Refusals stand here because only here does a UDP
/// or raw sender learn of them at once.
fn out(port: u16) -> Vec<Rule> {
    let mut rules = Vec::new();
    for is in [Is(Tcp), Is(Udp)] {
        rules.push(rule(c"DNS to any address", [is, Port(DNS), NoTrack, Count, Accept]));
    }
    for is in [Is(Tcp), Is(Udp)] {
        rules.push(rule(c"docker's resolver, any port", [To4(DOCKER_RESOLVER, 32), is, NoTrack, Accept]));
    }
    rules.extend(own_listener(port));
    // What a socket sent there before, docker's rules led elsewhere. The kernel's memory of that would give the gate's
    // answer to the same socket another port.
    for is in [Is(Tcp), Is(Udp)] {
        let loopback = To4(Ipv4Addr::new(127, 0, 0, 0), 8);
        rules.push(rule(
            c"answers of docker's resolver",
            [From4(DOCKER_RESOLVER), loopback, is, NoTrack, Accept],
        ));
    }
    rules.extend(to_itself(&[], [Accept]));
    for is in [Is(Tcp), Is(Udp)] {
        rules.push(rule(c"to be captured", [ToLoopback, is, NoTrack, Count, Accept]));
    }
    rules.push(rule(c"every other protocol", [Count, RejectProhibited]));
    rules
}

/// Our listener is for what is captured, and refuses who dials it.
pub(crate) fn own_listener(port: u16) -> Vec<Rule> {
    let mut rules = Vec::new();
    for localhost in [To4(Ipv4Addr::LOCALHOST, 32), To6(Ipv6Addr::LOCALHOST)] {
        rules.push(rule(
            c"our listener, dialled directly",
            [localhost, Is(Tcp), Port(port), Count, RejectReset],
        ));
        rules.push(rule(
            c"our listener, dialled directly",
            [localhost, Is(Udp), Port(port), Count, RejectProhibited],
        ));
    }
    rules
}

/// What comes back in by lo: to our listeners, whatever address it was sent to, but for those of the namespace's
/// own, of which `further` are those of its interfaces.
pub(crate) fn pre(port: u16, further: &[IpAddr]) -> Vec<Rule> {
    let mut rules = Vec::new();
    for is in [Is(Tcp), Is(Udp)] {
        for capture in [Capture4(port), Capture6(port)] {
            rules.push(rule(c"DNS to any address", [FromLoopback, is, Port(DNS), capture, Count, Accept]));
        }
        let resolver = To4(DOCKER_RESOLVER, 32);
        rules.push(rule(
            c"docker's resolver, any port",
            [FromLoopback, resolver, is, Capture4(port), Count, Accept],
        ));
    }
    rules.extend(to_itself(further, [Accept]));
    for is in [Is(Tcp), Is(Udp)] {
        for capture in [Capture4(port), Capture6(port)] {
            rules.push(rule(c"captured", [FromLoopback, is, capture, Count, Accept]));
        }
    }
    rules.push(rule(c"the gate is gone", [FromLoopback, Is(Tcp), Count, RejectReset]));
    rules.push(rule(c"the gate is gone", [Count, Drop]));
    rules
}

/// Nothing leaves by an interface, should one ever appear.
fn post() -> Vec<Rule> {
    vec![rule(c"loopback", [ToLoopback, Accept]), rule(c"leak stopped", [Count, Drop])]
}

/// What becomes of the workload talking to itself, and of the gate's answers to it. Addresses are listed rather
/// than asked of `fib`, which for IPv6 would take our local default route for an own address.
pub(crate) fn to_itself<const N: usize>(further: &[IpAddr], terms: [Term; N]) -> Vec<Rule> {
    let always =
        [To4(Ipv4Addr::new(127, 0, 0, 0), 8), To6(Ipv6Addr::LOCALHOST), To4(OWN_V4, 32), To6(OWN_V6)];
    let further = further.iter().map(|address| match address {
        IpAddr::V4(address) => To4(*address, 32),
        IpAddr::V6(address) => To6(*address),
    });
    let to = |address| Rule { comment: c"to itself", terms: [&[address], &terms[..]].concat() };
    always.into_iter().chain(further).map(to).collect()
}

pub(crate) fn rule<const N: usize>(comment: &'static CStr, terms: [Term; N]) -> Rule {
    Rule { comment, terms: terms.to_vec() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn position(rules: &[Rule], wanted: &[Term]) -> usize {
        rules.iter().position(|rule| wanted.iter().all(|term| rule.terms.contains(term))).unwrap()
    }

    #[test]
    fn e16_the_listener_is_refused_before_loopback_is_accepted() {
        let rules = out(4000);
        let loopback = position(&rules, &[To4(Ipv4Addr::new(127, 0, 0, 0), 8), Accept]);
        for refused in [RejectReset, RejectProhibited] {
            assert!(position(&rules, &[To4(Ipv4Addr::LOCALHOST, 32), Port(4000), refused]) < loopback);
        }
        let loopback = position(&rules, &[To6(Ipv6Addr::LOCALHOST), Accept]);
        assert!(position(&rules, &[To6(Ipv6Addr::LOCALHOST), Port(4000), RejectReset]) < loopback);
    }

    #[test]
    fn n07_a_capture_without_a_listener_ends_in_a_refusal() {
        let rules = pre(4000, &[]);
        let captures = |rule: &Rule| rule.terms.iter().any(|term| matches!(term, Capture4(_) | Capture6(_)));
        let last_capture = rules.iter().rposition(captures).unwrap();
        let after: Vec<_> =
            rules[last_capture + 1..].iter().map(|rule| *rule.terms.last().unwrap()).collect();
        assert_eq!(after, [RejectReset, Drop]);
        assert_eq!(rules.last().unwrap().terms, [Count, Drop]);
    }

    #[test]
    fn e12_only_tcp_and_udp_are_let_out_to_foreign_addresses() {
        for rule in out(4000) {
            let own = rule.terms.iter().any(|term| matches!(term, To4(..) | To6(_)));
            let transport = rule.terms.iter().any(|term| matches!(term, Is(_)));
            assert!(own || transport || rule.terms.last() != Some(&Accept), "{rule:?}");
        }
        assert_eq!(out(4000).last().unwrap().terms, [Count, RejectProhibited]);
    }

    #[test]
    fn what_is_captured_goes_by_loopback_alone() {
        for rule in pre(4000, &[])
            .iter()
            .filter(|rule| rule.terms.iter().any(|t| matches!(t, Capture4(_) | Capture6(_))))
        {
            assert_eq!(rule.terms.first(), Some(&FromLoopback));
        }
        assert_eq!(post().last().unwrap().terms, [Count, Drop]);
    }
}
