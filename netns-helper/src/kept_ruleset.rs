//! What our tables say in a namespace that keeps its interfaces, as data; `nft.rs` sends it.
//!
//! By an interface leaves what answers a connection that came in by one, and what finds neighbours. Everything else
//! that is sent inside is turned round to `lo`, where it is captured as it is in a namespace without interfaces.
//!
//! **Invariant:** a mark leads a packet to the gate and never past it: each packet that is sent inside has its own
//! overwritten, and what may leave is asked of the connection, which only nftables can mark. Connections are marked
//! when they come in by an interface with their first packet.

use crate::ruleset::{
    Chain, Connection, Rule, TABLE, Table, Term, Transport, own_listener, pre, rule, to_itself,
};
use nftnl::{ChainType, Hook, Policy};
use std::ffi::CStr;
use std::net::IpAddr;

/// The table that lets answers out. It goes with the gate, and so do they.
const ANSWERS_TABLE: &CStr = c"sluicegate_answers";
/// On packets: to be captured. The routing rule of `kept.rs` leads what has it to `lo`.
pub(crate) const CAPTURED: u32 = 59_877;
/// On packets, within one hook: an answer that is sent while there is a gate.
const ANSWER: u32 = 59_878;
/// On connections: begun outside.
const CAME_IN: u32 = 59_877;
/// Router solicitation, neighbour solicitation and neighbour advertisement (RFC 4861 section 4): what a kernel
/// needs to be found. It alone sends them; a program would need a raw socket.
const NEIGHBOUR_DISCOVERY: [u8; 3] = [133, 135, 136];

use Connection::{IsAnswered, IsMarked, IsNew};
use Term::*;
use Transport::{Tcp, Udp};

/// The tables for listeners on `port` of 127.0.0.1 and ::1, and for interfaces with these addresses.
pub(crate) fn tables(port: u16, addresses: &[IpAddr]) -> [Table; 2] {
    let post = |name, priority, policy, rules| Chain {
        policy,
        ..Chain::filter(name, Hook::PostRouting, priority, rules)
    };
    let sealed = vec![
        // Before conntrack (-200) and every nat output (-100).
        Chain::filter(c"out", Hook::Out, -310, out(port, addresses)),
        // Behind conntrack, which knows what is an answer. What is marked here is routed anew.
        Chain { kind: ChainType::Route, ..Chain::filter(c"turn", Hook::Out, -150, turn(addresses)) },
        Chain::filter(c"pre", Hook::PreRouting, -150, [come_in(), pre(port, addresses)].concat()),
        post(c"post", 300, Policy::Drop, leave()),
    ];
    let answers =
        vec![rule(c"the gate is there", [Of(IsAnswered), Of(IsMarked(CAME_IN)), Mark(ANSWER), Accept])];
    // Before the chain that asks for it.
    let answers = vec![post(c"answers", 299, Policy::Accept, answers)];
    [
        Table { name: TABLE, stays: true, chains: sealed },
        Table { name: ANSWERS_TABLE, stays: false, chains: answers },
    ]
}

/// What a process sends to the namespace itself, and what the gate answers it, is no connection: it must neither be
/// translated nor ever be taken for one that somebody outside began.
fn out(port: u16, addresses: &[IpAddr]) -> Vec<Rule> {
    let mut rules = own_listener(port);
    rules.extend(to_itself(addresses, [NoTrack, Accept]));
    rules.push(rule(c"looked at when it is tracked", [Accept]));
    rules
}

/// Answers go where they would go; what the workload begins goes to lo. Refusals stand here because only in
/// `output` does a UDP or raw sender learn of them at once.
fn turn(addresses: &[IpAddr]) -> Vec<Rule> {
    let mut rules = to_itself(addresses, [Accept]);
    rules.extend(neighbour_discovery());
    rules.push(rule(
        c"answers to who came in",
        [Of(IsAnswered), Of(IsMarked(CAME_IN)), Mark(0), Count, Accept],
    ));
    for is in [Is(Tcp), Is(Udp)] {
        rules.push(rule(c"to be captured", [is, Mark(CAPTURED), Count, Accept]));
    }
    rules.push(rule(c"every other protocol", [Count, RejectProhibited]));
    rules
}

/// What comes in by an interface. TCP that does not begin with its first packet was there before us, and whoever
/// began it could be inside.
fn come_in() -> Vec<Rule> {
    let begun = Of(Connection::Mark(CAME_IN));
    vec![
        rule(c"comes in", [FromOutside, Of(IsNew), Is(Tcp), OpensConnection, begun, Count, Accept]),
        rule(c"was there before", [FromOutside, Of(IsNew), Is(Tcp), Count, Drop]),
        rule(c"comes in", [FromOutside, Of(IsNew), begun, Count, Accept]),
        rule(c"goes on", [FromOutside, Accept]),
    ]
}

/// What may leave, whatever was done to it before.
fn leave() -> Vec<Rule> {
    let mut rules = vec![rule(c"loopback", [ToLoopback, Accept])];
    rules.extend(neighbour_discovery());
    rules.push(rule(
        c"answers to who came in",
        [Of(IsAnswered), Of(IsMarked(CAME_IN)), Marked(ANSWER), Count, Accept],
    ));
    rules.push(rule(c"leak stopped", [Count, Drop]));
    rules
}

fn neighbour_discovery() -> [Rule; 3] {
    NEIGHBOUR_DISCOVERY.map(|kind| rule(c"neighbours are found", [Icmp6(kind), Accept]))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(172, 17, 0, 2));

    fn has(rule: &Rule, term: Term) -> bool {
        rule.terms.contains(&term)
    }

    #[test]
    fn by_an_interface_leave_answers_and_neighbour_discovery_alone() {
        for rule in leave().iter().filter(|rule| rule.terms.last() == Some(&Accept)) {
            let answers =
                has(rule, Of(IsAnswered)) && has(rule, Of(IsMarked(CAME_IN))) && has(rule, Marked(ANSWER));
            let found = NEIGHBOUR_DISCOVERY.iter().any(|kind| has(rule, Icmp6(*kind)));
            assert!(has(rule, ToLoopback) || answers || found, "{rule:?}");
        }
        assert_eq!(leave().last().unwrap().terms, [Count, Drop]);
    }

    #[test]
    fn the_workload_s_own_mark_stays_on_nothing_that_could_leave() {
        let discovery = |rule: &Rule| rule.terms.iter().any(|term| matches!(term, Icmp6(_)));
        let to_itself = |rule: &Rule| rule.terms.iter().any(|term| matches!(term, To4(..) | To6(_)));
        let marks = |rule: &Rule| rule.terms.iter().any(|term| matches!(term, Mark(_)));
        for rule in turn(&[OWN]).iter().filter(|rule| rule.terms.last() == Some(&Accept)) {
            assert!(marks(rule) || discovery(rule) || to_itself(rule), "{rule:?}");
        }
    }

    #[test]
    fn only_what_comes_in_with_its_first_packet_is_marked() {
        let rules = come_in();
        for rule in rules.iter().filter(|rule| has(rule, Of(Connection::Mark(CAME_IN)))) {
            assert_eq!(rule.terms[..2], [FromOutside, Of(IsNew)], "{rule:?}");
        }
        let drops = rules.iter().position(|rule| rule.terms.last() == Some(&Drop)).unwrap();
        assert!(has(&rules[drops - 1], OpensConnection) && !has(&rules[drops], OpensConnection));
    }

    #[test]
    fn the_table_that_lets_answers_out_goes_with_the_gate() {
        let [sealed, answers] = tables(4000, &[OWN]);
        assert!(sealed.stays && !answers.stays);
        assert!(sealed.chains.iter().all(|chain| chain.policy == Policy::Drop));
        let sets = |table: &Table| {
            table.chains.iter().flat_map(|chain| &chain.rules).any(|rule| has(rule, Mark(ANSWER)))
        };
        assert!(sets(&answers) && !sets(&sealed));
    }
}
