//! Sends our tables to the kernel as one netlink batch: there entirely or not at all.

use crate::failure::{Failure, Kind};
use crate::nft_expressions::{Direction, FlaggedTable, NoTrack, Tproxy};
use crate::ruleset::{self, Connection, Term, Transport};
use nftnl::expr::{
    IcmpCode, Icmpv6HeaderField, Immediate, Payload, Register, RejectionType, TransportHeaderField, Verdict,
};
use nftnl::{Batch, Chain, FinalizedBatch, MsgType, ProtoFamily, Rule, Table, nft_expr};
use nix::sys::socket::{MsgFlags, recv};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

const STEP: &str = "nftables rules";
/// Index of `lo` in every network namespace: it is made with the namespace.
pub(crate) const LOOPBACK_INDEX: u32 = 1;
/// `NFT_TABLE_F_OWNER` (Linux 5.12): while our socket lives, nobody else changes the table.
const OWNER: u32 = 2;
/// `NFT_TABLE_F_PERSIST` (Linux 6.9): the table outlives the socket. For a table that stays, OWNER is never asked
/// for without it, since the rules would then go with the gate.
const PERSIST: u32 = 4;
/// The bits of a TCP header's flags that say whether it opens a connection (RFC 9293 section 3.1), and where in the
/// header they are.
const TCP_FIN_SYN_RST_ACK: u8 = 0x17;
const TCP_SYN: u8 = 0x02;
const TCP_FLAGS_OFFSET: u32 = 13;
/// `NF_CT_STATE_BIT(IP_CT_NEW)` (linux/netfilter/nf_conntrack_common.h).
const STATE_NEW: u32 = 8;
/// `IP_CT_DIR_REPLY`, likewise.
const DIRECTION_REPLY: u8 = 1;
/// Acks come with the call; the deadline is for a kernel that sends fewer than it promised.
const ACK_DEADLINE: Duration = Duration::from_secs(10);

/// The rules as installed in the current thread's network namespace.
#[derive(Debug)]
pub(crate) struct Installed {
    /// The socket that owns the table. It must live as long as the gate.
    pub(crate) owner: OwnedFd,
    /// Whether the kernel refuses a second owner while this one lives.
    pub(crate) exclusive: bool,
}

/// Replaces those of our tables that are there by these.
pub(crate) fn install(tables: &[ruleset::Table]) -> Result<Installed, Failure> {
    match send(&batch(tables, OWNER | PERSIST)) {
        Ok(owner) => Ok(Installed { owner, exclusive: true }),
        Err(Refused::ByKernel(libc::EOPNOTSUPP | libc::EINVAL)) => send(&batch(tables, 0))
            .map(|owner| Installed { owner, exclusive: false })
            .map_err(Refused::into_failure),
        Err(refused) => Err(refused.into_failure()),
    }
}

/// Why a batch did not take effect.
#[derive(Debug)]
enum Refused {
    Socket(io::Error),
    /// The errno of the first message that the kernel refused.
    ByKernel(i32),
}

impl Refused {
    fn into_failure(self) -> Failure {
        let code = match self {
            Self::Socket(cause) => {
                return Failure::new(Kind::Privilege, STEP, "the nf_tables socket failed")
                    .because(cause)
                    .hint("the kernel needs CONFIG_NF_TABLES and CONFIG_NF_TABLES_INET");
            }
            Self::ByKernel(code) => code,
        };
        match code {
            // CAP_NET_ADMIN was there when the listeners were made, so this is about the owner.
            libc::EPERM | libc::EBUSY => {
                Failure::new(Kind::Busy, STEP, "another gate is attached to this namespace")
                    .hint("stop that gate first; when it is dead, attaching again replaces its rules")
            }
            _ => Failure::new(Kind::Privilege, STEP, "the kernel refused the rules")
                .because(io::Error::from_raw_os_error(code))
                .hint("the kernel needs CONFIG_NFT_TPROXY, CONFIG_NFT_CT and CONFIG_NFT_REJECT_INET, as modules or built in; --keep-interface needs Linux 5.12 too"),
        }
    }
}

/// `staying` are the flags of tables that stay.
fn batch(tables: &[ruleset::Table], staying: u32) -> FinalizedBatch {
    let mut batch = Batch::new();
    for ours in tables {
        let flagged = |flags| FlaggedTable { name: ours.name, flags };
        // Within the one transaction: make sure that it exists, delete it with its contents, make it anew.
        batch.add(&flagged(0), MsgType::Add);
        batch.add(&flagged(0), MsgType::Del);
        batch.add(&flagged(if ours.stays { staying } else { OWNER }), MsgType::Add);
        let table = Table::new(ours.name, ProtoFamily::Inet);
        for chain in &ours.chains {
            add_chain(&mut batch, &table, chain);
        }
    }
    batch.finalize()
}

fn add_chain(batch: &mut Batch, table: &Table, ours: &ruleset::Chain) {
    let mut chain = Chain::new(ours.name, table);
    chain.set_type(ours.kind);
    chain.set_hook(ours.hook, ours.priority);
    chain.set_policy(ours.policy);
    batch.add(&chain, MsgType::Add);
    for line in &ours.rules {
        let mut rule = Rule::new(&chain);
        for term in &line.terms {
            add_term(&mut rule, *term);
        }
        // A comment that libnftnl finds too long is left out: it is for the reader alone.
        rule.set_comment(line.comment).unwrap_or_default();
        batch.add(&rule, MsgType::Add);
    }
}

fn add_term(rule: &mut Rule<'_>, term: Term) {
    match term {
        Term::FromLoopback => {
            rule.add_expr(&nft_expr!(meta iif));
            rule.add_expr(&nft_expr!(cmp == LOOPBACK_INDEX));
        }
        Term::ToLoopback => {
            rule.add_expr(&nft_expr!(meta oif));
            rule.add_expr(&nft_expr!(cmp == LOOPBACK_INDEX));
        }
        Term::FromOutside => {
            rule.add_expr(&nft_expr!(meta iif));
            rule.add_expr(&nft_expr!(cmp != LOOPBACK_INDEX));
        }
        Term::Is(transport) => {
            rule.add_expr(&nft_expr!(meta l4proto));
            rule.add_expr(&nft_expr!(cmp == protocol_number(transport)));
        }
        Term::From4(address) => {
            family(rule, libc::NFPROTO_IPV4);
            rule.add_expr(&nft_expr!(payload ipv4 saddr));
            rule.add_expr(&nft_expr!(cmp == address));
        }
        Term::To4(address, length) => {
            family(rule, libc::NFPROTO_IPV4);
            rule.add_expr(&nft_expr!(payload ipv4 daddr));
            if length < 32 {
                let mask = Ipv4Addr::from(!(u32::MAX >> length));
                rule.add_expr(&nft_expr!(bitwise mask mask, xor 0u32));
            }
            rule.add_expr(&nft_expr!(cmp == address));
        }
        Term::To6(address) => {
            family(rule, libc::NFPROTO_IPV6);
            rule.add_expr(&nft_expr!(payload ipv6 daddr));
            rule.add_expr(&nft_expr!(cmp == address));
        }
        Term::Port(port) => {
            // The same two bytes in TCP and UDP.
            rule.add_expr(&nft_expr!(payload tcp dport));
            rule.add_expr(&nft_expr!(cmp == port.to_be()));
        }
        Term::OpensConnection => opens_connection(rule),
        Term::Icmp6(kind) => icmp6(rule, kind),
        Term::Of(connection) => add_connection(rule, connection),
        Term::Marked(mark) => {
            rule.add_expr(&nft_expr!(meta mark));
            rule.add_expr(&nft_expr!(cmp == mark));
        }
        Term::Mark(mark) => {
            rule.add_expr(&Immediate::new(mark, Register::Reg1));
            rule.add_expr(&nft_expr!(meta mark set));
        }
        Term::NoTrack => rule.add_expr(&NoTrack),
        Term::Count => rule.add_expr(&nft_expr!(counter)),
        Term::Capture4(port) => capture(rule, Ipv4Addr::LOCALHOST.into(), port),
        Term::Capture6(port) => capture(rule, Ipv6Addr::LOCALHOST.into(), port),
        Term::Accept => rule.add_expr(&Verdict::Accept),
        Term::Drop => rule.add_expr(&Verdict::Drop),
        Term::RejectProhibited => {
            rule.add_expr(&Verdict::Reject(RejectionType::Icmp(IcmpCode::AdminProhibited)))
        }
        Term::RejectReset => rule.add_expr(&Verdict::Reject(RejectionType::TcpRst)),
    }
}

/// Leads to the listener on this address and `port`.
fn capture(rule: &mut Rule<'_>, listener: IpAddr, port: u16) {
    let protocol = match listener {
        IpAddr::V4(_) => libc::NFPROTO_IPV4,
        IpAddr::V6(_) => libc::NFPROTO_IPV6,
    };
    family(rule, protocol);
    match listener {
        IpAddr::V4(address) => rule.add_expr(&Immediate::new(address.octets(), Register::Reg1)),
        IpAddr::V6(address) => rule.add_expr(&Immediate::new(address.octets(), Register::Reg1)),
    }
    rule.add_expr(&Immediate::new(port.to_be(), Register::Reg2));
    rule.add_expr(&Tproxy { family: family_number(protocol) });
}

fn opens_connection(rule: &mut Rule<'_>) {
    // The crate says bits and means bytes.
    let flags = TransportHeaderField::Raw { offset_bits: TCP_FLAGS_OFFSET, length_bits: 1 };
    rule.add_expr(&Payload::Transport(flags));
    rule.add_expr(&nft_expr!(bitwise mask TCP_FIN_SYN_RST_ACK, xor 0_u8));
    rule.add_expr(&nft_expr!(cmp == TCP_SYN));
}

fn icmp6(rule: &mut Rule<'_>, kind: u8) {
    family(rule, libc::NFPROTO_IPV6);
    rule.add_expr(&nft_expr!(meta l4proto));
    rule.add_expr(&nft_expr!(cmp == ICMP6_PROTOCOL));
    rule.add_expr(&Payload::Transport(TransportHeaderField::Icmpv6(Icmpv6HeaderField::Type)));
    rule.add_expr(&nft_expr!(cmp == kind));
}

fn add_connection(rule: &mut Rule<'_>, term: Connection) {
    match term {
        Connection::IsNew => {
            rule.add_expr(&nft_expr!(ct state));
            rule.add_expr(&nft_expr!(bitwise mask STATE_NEW, xor 0_u32));
            rule.add_expr(&nft_expr!(cmp != 0_u32));
        }
        Connection::IsAnswered => {
            rule.add_expr(&Direction);
            rule.add_expr(&nft_expr!(cmp == DIRECTION_REPLY));
        }
        Connection::IsMarked(mark) => {
            rule.add_expr(&nft_expr!(ct mark));
            rule.add_expr(&nft_expr!(cmp == mark));
        }
        Connection::Mark(mark) => {
            rule.add_expr(&Immediate::new(mark, Register::Reg1));
            rule.add_expr(&nft_expr!(ct mark set));
        }
    }
}

fn family(rule: &mut Rule<'_>, family: i32) {
    rule.add_expr(&nft_expr!(meta nfproto));
    rule.add_expr(&nft_expr!(cmp == family_number(family)));
}

fn protocol_number(transport: Transport) -> u8 {
    match transport {
        Transport::Tcp => 6,
        Transport::Udp => 17,
    }
}

fn family_number(family: i32) -> u8 {
    if family == libc::NFPROTO_IPV6 { 10 } else { 2 }
}

/// Sends the batch and reads an ack for each message. The socket returned owns the table.
fn send(batch: &FinalizedBatch) -> Result<OwnedFd, Refused> {
    let socket = mnl::Socket::new(mnl::Bus::Netfilter).map_err(Refused::Socket)?;
    // SAFETY: the descriptor is open for as long as `socket`, which outlives this borrow.
    let borrowed = unsafe { BorrowedFd::borrow_raw(socket.as_raw_fd()) };
    let owner = borrowed.try_clone_to_owned().map_err(Refused::Socket)?;
    socket2::SockRef::from(&owner).set_read_timeout(Some(ACK_DEADLINE)).map_err(Refused::Socket)?;
    socket.send_all(batch).map_err(Refused::Socket)?;

    let mut left = batch.sequence_numbers().len();
    let mut buffer = vec![0_u8; 1 << 16];
    while left > 0 {
        let length = recv(owner.as_raw_fd(), &mut buffer, MsgFlags::empty())
            .map_err(|errno| Refused::Socket(errno.into()))?;
        for code in acks(buffer.get(..length).unwrap_or_default()) {
            if code != 0 {
                return Err(Refused::ByKernel(code));
            }
            left = left.saturating_sub(1);
        }
    }
    Ok(owner)
}

/// The errno, or 0, of each `NLMSG_ERROR` in a datagram of netlink messages (struct nlmsghdr: length,
/// type, flags, sequence, port; then the negated errno).
fn acks(mut datagram: &[u8]) -> Vec<i32> {
    const HEADER: usize = 16;
    let mut codes = Vec::new();
    while let Some((header, _)) = datagram.split_at_checked(HEADER) {
        let word = |at: usize| {
            header.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_ne_bytes)
        };
        let (length, kind) = (word(0) as usize, word(4) & 0xffff);
        if length < HEADER {
            break;
        }
        if kind == u32::from(NLMSG_ERROR) {
            let code = datagram
                .get(HEADER..HEADER + 4)
                .and_then(|bytes| bytes.try_into().ok())
                .map_or(0, i32::from_ne_bytes);
            codes.push(-code);
        }
        datagram = datagram.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    codes
}

const NLMSG_ERROR: u16 = 2;
/// IANA's protocol number of ICMPv6.
const ICMP6_PROTOCOL: u8 = 58;

#[cfg(test)]
mod tests {
    use super::*;

    fn ack(code: i32) -> Vec<u8> {
        let mut message = Vec::new();
        message.extend(36_u32.to_ne_bytes());
        message.extend(NLMSG_ERROR.to_ne_bytes());
        message.extend([0; 10]);
        message.extend((-code).to_ne_bytes());
        message.extend([0; 16]);
        message
    }

    #[test]
    fn acks_are_read_one_by_one() {
        assert_eq!(acks(&[ack(0), ack(libc::EPERM), ack(0)].concat()), [0, libc::EPERM, 0]);
    }

    #[test]
    fn every_prefix_of_a_datagram_ends() {
        let datagram = [ack(0), ack(libc::ENOENT)].concat();
        for length in 0..datagram.len() {
            assert!(acks(&datagram[..length]).len() <= 2);
        }
        assert!(acks(&[0; 64]).is_empty());
    }

    #[test]
    fn n09_a_live_owner_is_busy_and_a_missing_module_is_named() {
        assert_eq!(Refused::ByKernel(libc::EPERM).into_failure().kind(), Kind::Busy);
        let missing = serde_json::to_value(Refused::ByKernel(libc::ENOENT).into_failure().report()).unwrap();
        assert!(missing["hint"].as_str().unwrap().contains("CONFIG_NFT_TPROXY"));
    }
}
