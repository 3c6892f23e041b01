//! What leads every packet of a namespace to `lo`, or, where interfaces stay, those that are to be captured:
//! addresses, routes, rules.

use crate::failure::{Failure, Kind};
use crate::nft::LOOPBACK_INDEX;
use crate::ruleset::{OWN_V4, OWN_V6};
use crate::settings;
use futures_util::{Stream, TryStreamExt};
use netlink_packet_route::address::AddressHeaderFlags;
use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use netlink_packet_route::route::{RouteScope, RouteType};
use netlink_packet_route::rule::RuleAction;
use rtnetlink::{Handle, LinkUnspec, RouteMessageBuilder, RuleAddRequest};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;
use tokio::runtime::Runtime;

const STEP: &str = "addresses and routes";
/// Our routing table's number, and the place of the rule that leads to it: behind `local` (0).
const ROUTE_TABLE: u32 = 59_877;
const RULE_PREFERENCE: u32 = 100;
/// Behind `main` (32766) and `default` (32767).
const LAST_RULE_PREFERENCE: u32 = 40_000;
/// Routes of other interfaces than `lo` stand behind those of `lo`, whose metric is 0, or 1024 for IPv6.
const BOUND_METRIC: u32 = 2_000;
/// Each request is answered by the kernel at once.
const DEADLINE: Duration = Duration::from_secs(10);
/// Interfaces, addresses, routes or neighbours of a namespace that are looked at: far more than a container has.
const ENTRIES_MAX: usize = 4_096;

/// A conversation with the kernel about the network namespace in which it was opened.
pub(crate) struct Routing {
    runtime: Runtime,
    handle: Handle,
}

impl Routing {
    /// Opens it in the current thread's network namespace.
    pub(crate) fn open() -> Result<Self, Failure> {
        let failed =
            |error: io::Error| Failure::new(Kind::Internal, STEP, "no routing socket").because(error);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .build()
            .map_err(failed)?;
        let entered = runtime.enter();
        let (connection, handle, _) = rtnetlink::new_connection().map_err(failed)?;
        drop(entered);
        runtime.spawn(connection);
        Ok(Self { runtime, handle })
    }

    /// Refuses a namespace with a way around `lo`.
    pub(crate) fn refuse_other_interfaces(&self) -> Result<(), Failure> {
        let others: Vec<String> = self.ways_out()?.iter().map(name).collect();
        if others.is_empty() {
            return Ok(());
        }
        Err(Failure::new(
            Kind::Usage,
            "interfaces",
            format!(
                "the namespace has interfaces besides lo, so packets could get round the gate: {}",
                others.join(", ")
            ),
        )
        .hint(
            "start the container with --network none; or attach with --keep-interface, which leaves them there \
             for what comes in",
        ))
    }

    /// The interfaces by which packets could leave.
    pub(crate) fn ways_out(&self) -> Result<Vec<LinkMessage>, Failure> {
        let mut links = self.list(self.handle.link().get().execute(), "interfaces could not be listed")?;
        links.retain(is_a_way_out);
        Ok(links)
    }

    /// The same, but fails where one of them could bring in what was sent inside, which would count as begun outside:
    /// a tun device, a tunnel that ends here, a bridge of containers within the container.
    pub(crate) fn ways_in(&self) -> Result<Vec<LinkMessage>, Failure> {
        let links = self.ways_out()?;
        let inner: Vec<String> = links.iter().filter(|link| !leads_elsewhere(link)).map(name).collect();
        if inner.is_empty() {
            return Ok(links);
        }
        Err(Failure::new(
            Kind::Usage,
            "interfaces",
            format!("what comes in by {} could have been sent by the workload", inner.join(", ")),
        )
        .hint("an interface that stays has its other end in another network namespace, or is hardware"))
    }

    /// Takes in all that the kernel has of something.
    pub(crate) fn list<T>(
        &self,
        entries: impl Stream<Item = Result<T, rtnetlink::Error>>,
        what: &'static str,
    ) -> Result<Vec<T>, Failure> {
        let limited = async {
            let mut list = Vec::new();
            let mut entries = std::pin::pin!(entries);
            while let Some(entry) = entries.try_next().await? {
                if list.len() == ENTRIES_MAX {
                    return Ok(None);
                }
                list.push(entry);
            }
            Ok(Some(list))
        };
        let too_many = || Failure::new(Kind::Usage, STEP, format!("{what}: more than {ENTRIES_MAX}"));
        self.bounded(limited, what)?.ok_or_else(too_many)
    }

    /// What requests are made with.
    pub(crate) fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Brings `lo` up and routes every foreign address to it. Doing it again changes nothing.
    pub(crate) fn install(&self) -> Result<(), Failure> {
        for interface in ["all", "default", "lo"] {
            switch_ipv6_on(interface)?;
        }
        self.lead_to_loopback()?;
        self.add_rules(|| self.rule(RULE_PREFERENCE))
    }

    /// The same where interfaces stay: to `lo` goes what has the mark, and what no other route leads anywhere.
    pub(crate) fn install_beside(&self, interfaces: &[LinkMessage], mark: u32) -> Result<(), Failure> {
        // The interfaces keep what they have: without IPv6, they stay without.
        switch_ipv6_on("lo")?;
        self.lead_to_loopback()?;
        for interface in interfaces {
            self.lead_bound_to_loopback(interface.header.index)?;
        }
        // For what is sent from here alone, not for what comes in.
        self.add_rules(|| self.rule(RULE_PREFERENCE).fw_mark(mark).input_interface("lo"))?;
        self.add_rules(|| self.rule(LAST_RULE_PREFERENCE).input_interface("lo"))
    }

    /// Brings `lo` up, with addresses of its own, and fills our table.
    fn lead_to_loopback(&self) -> Result<(), Failure> {
        let handle = &self.handle;
        self.bounded(
            handle.link().set(LinkUnspec::new_with_index(LOOPBACK_INDEX).up().build()).execute(),
            "lo does not come up",
        )?;

        let own4 = handle.address().add(LOOPBACK_INDEX, OWN_V4.into(), 32);
        self.bounded(async { unless_there(own4.execute().await) }, "no IPv4 address")?;
        let mut own6 = handle.address().add(LOOPBACK_INDEX, OWN_V6.into(), 128);
        // A tentative address is refused as the source of a route (EINVAL).
        own6.message_mut().header.flags |= AddressHeaderFlags::Nodad;
        self.bounded(async { unless_there(own6.execute().await) }, "no IPv6 address")?;

        // Without an own source address IPv4 would take the destination for it, and refuse itself.
        let route4 = route4(LOOPBACK_INDEX).pref_source(OWN_V4).build();
        self.bounded(handle.route().add(route4).replace().execute(), "no IPv4 route")?;
        let route6 = route6(LOOPBACK_INDEX).pref_source(OWN_V6).build();
        self.bounded(handle.route().add(route6).replace().execute(), "no IPv6 route")
    }

    /// Of a socket that is bound to an interface, the kernel looks at that one's routes alone. It sends by `lo` all
    /// the same, since that is what kind local says.
    fn lead_bound_to_loopback(&self, interface: u32) -> Result<(), Failure> {
        let metric = BOUND_METRIC.saturating_add(interface);
        let handle = &self.handle;
        let route4 = handle.route().add(route4(interface).priority(metric).build()).replace();
        let route6 = handle.route().add(route6(interface).priority(metric).build()).replace();
        self.bounded(async { if_usable(route4.execute().await) }, "no IPv4 route of an interface")?;
        self.bounded(async { if_usable(route6.execute().await) }, "no IPv6 route of an interface")
    }

    /// Adds a rule of each family.
    fn add_rules(&self, rule: impl Fn() -> RuleAddRequest) -> Result<(), Failure> {
        self.bounded(async { unless_there(rule().v4().execute().await) }, "no IPv4 routing rule")?;
        self.bounded(async { unless_there(rule().v6().execute().await) }, "no IPv6 routing rule")
    }

    /// A rule that leads to our table.
    fn rule(&self, preference: u32) -> RuleAddRequest {
        self.handle.rule().add().table_id(ROUTE_TABLE).priority(preference).action(RuleAction::ToTable)
    }

    /// Waits for the kernel's answer to `request`; `what` is said where it is a bad one.
    pub(crate) fn bounded<T>(
        &self,
        request: impl Future<Output = Result<T, rtnetlink::Error>>,
        what: &'static str,
    ) -> Result<T, Failure> {
        let failed = || {
            Failure::new(Kind::Privilege, STEP, what).hint(
                "the kernel needs CONFIG_IP_MULTIPLE_TABLES, CONFIG_IPV6_MULTIPLE_TABLES and CAP_NET_ADMIN",
            )
        };
        match self.runtime.block_on(async { tokio::time::timeout(DEADLINE, request).await }) {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(rtnetlink::Error::NetlinkError(message))) => Err(failed().because(message.to_io())),
            Ok(Err(error)) => Err(failed().because(io::Error::other(error))),
            Err(_elapsed) => Err(failed().because(io::Error::from(io::ErrorKind::TimedOut))),
        }
    }
}

/// What was there already is as good as added.
pub(crate) fn unless_there(result: Result<(), rtnetlink::Error>) -> Result<(), rtnetlink::Error> {
    match result {
        Err(rtnetlink::Error::NetlinkError(message)) if message.raw_code() == -libc::EEXIST => Ok(()),
        result => result,
    }
}

/// An interface that is down (ENETDOWN), or is without IPv6 (EACCES), has nothing sent by it.
fn if_usable(result: Result<(), rtnetlink::Error>) -> Result<(), rtnetlink::Error> {
    match result {
        Err(rtnetlink::Error::NetlinkError(message))
            if [-libc::ENETDOWN, -libc::EACCES].contains(&message.raw_code()) =>
        {
            Ok(())
        }
        result => result,
    }
}

/// Container runtimes switch IPv6 off in a namespace without an IPv6 network. /proc/sys/net is that of
/// the calling thread's network namespace.
fn switch_ipv6_on(interface: &str) -> Result<(), Failure> {
    let name = format!("ipv6/conf/{interface}/disable_ipv6");
    settings::write(&name, "0").map_err(|error| {
        Failure::new(Kind::Privilege, "IPv6", format!("/proc/sys/net/{name} cannot be set to 0"))
            .because(error)
            .hint("IPv4 and IPv6 are always captured together: the kernel must have IPv6, and /proc/sys must be writable, or the container be started with --sysctl net.ipv6.conf.all.disable_ipv6=0")
    })
}

/// Our table's route for every IPv4 address.
fn route4(interface: u32) -> RouteMessageBuilder<Ipv4Addr> {
    RouteMessageBuilder::<Ipv4Addr>::new()
        .output_interface(interface)
        .table_id(ROUTE_TABLE)
        .kind(RouteType::Local)
        .scope(RouteScope::Host)
}

/// Our table's route for every IPv6 address.
fn route6(interface: u32) -> RouteMessageBuilder<Ipv6Addr> {
    RouteMessageBuilder::<Ipv6Addr>::new()
        .output_interface(interface)
        .table_id(ROUTE_TABLE)
        .kind(RouteType::Local)
}

/// Anything but `lo`, and but the idle tunnel devices that the kernel puts into every namespace while
/// a tunnel module is loaded. Such a device moved in from elsewhere sends by its old namespace
/// (`LinkNetNsId`), hence the closer look.
fn is_a_way_out(link: &LinkMessage) -> bool {
    let moved_in = link.attributes.iter().any(|attribute| matches!(attribute, LinkAttribute::LinkNetNsId(_)));
    let up = link.header.flags.contains(LinkFlags::Up);
    let loopback = link.header.index == LOOPBACK_INDEX && link.header.flags.contains(LinkFlags::Loopback);
    let idle_tunnel = is_tunnel(link) && !up && !moved_in;
    !loopback && !idle_tunnel
}

/// Whether its other end, or what it stands on, is not in this namespace.
fn leads_elsewhere(link: &LinkMessage) -> bool {
    let is_virtual = link.attributes.iter().any(|attribute| match attribute {
        LinkAttribute::LinkInfo(information) => {
            information.iter().any(|part| matches!(part, LinkInfo::Kind(_)))
        }
        _ => false,
    });
    let other_end = |attribute: &LinkAttribute| matches!(attribute, LinkAttribute::LinkNetNsId(_));
    !is_virtual || link.attributes.iter().any(other_end)
}

fn is_tunnel(link: &LinkMessage) -> bool {
    use InfoKind::{ErSpan, GreTap, GreTun, GreTun6, Ip6Tnl, IpIp, SitTun, Vti, Vti6};
    link.attributes.iter().any(|attribute| {
        let LinkAttribute::LinkInfo(information) = attribute else {
            return false;
        };
        information.iter().any(|part| {
            matches!(
                part,
                LinkInfo::Kind(ErSpan | GreTap | GreTun | GreTun6 | Ip6Tnl | IpIp | SitTun | Vti | Vti6)
            )
        })
    })
}

/// An interface's name.
pub(crate) fn name(link: &LinkMessage) -> String {
    link.attributes
        .iter()
        .find_map(
            |attribute| {
                if let LinkAttribute::IfName(name) = attribute { Some(name.clone()) } else { None }
            },
        )
        .unwrap_or_else(|| link.header.index.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(index: u32, flags: LinkFlags, attributes: Vec<LinkAttribute>) -> LinkMessage {
        let mut link = LinkMessage::default();
        link.header.index = index;
        link.header.flags = flags;
        link.attributes = attributes;
        link
    }

    fn kind(kind: InfoKind) -> LinkAttribute {
        LinkAttribute::LinkInfo(vec![LinkInfo::Kind(kind)])
    }

    #[test]
    fn loopback_and_idle_fallback_tunnels_lead_nowhere() {
        assert!(!is_a_way_out(&link(1, LinkFlags::Loopback, vec![])));
        assert!(!is_a_way_out(&link(2, LinkFlags::empty(), vec![kind(InfoKind::IpIp)])));
    }

    #[test]
    fn an_interface_whose_other_end_is_inside_does_not_lead_elsewhere() {
        let elsewhere = LinkAttribute::LinkNetNsId(0);
        assert!(leads_elsewhere(&link(2, LinkFlags::Up, vec![kind(InfoKind::Veth), elsewhere])));
        assert!(leads_elsewhere(&link(2, LinkFlags::Up, vec![])), "hardware");
        for inner in [InfoKind::Veth, InfoKind::Tun, InfoKind::Bridge, InfoKind::Vxlan] {
            assert!(!leads_elsewhere(&link(2, LinkFlags::Up, vec![kind(inner)])));
        }
    }

    #[test]
    fn every_other_interface_leads_out() {
        let named = LinkAttribute::IfName("tunl0".into());
        assert!(is_a_way_out(&link(2, LinkFlags::Up, vec![kind(InfoKind::Veth)])));
        assert!(
            is_a_way_out(&link(2, LinkFlags::empty(), vec![named, kind(InfoKind::Veth)])),
            "a name proves nothing"
        );
        assert!(is_a_way_out(&link(2, LinkFlags::Up, vec![kind(InfoKind::IpIp)])));
        assert!(is_a_way_out(&link(
            2,
            LinkFlags::empty(),
            vec![kind(InfoKind::IpIp), LinkAttribute::LinkNetNsId(0)]
        )));
        assert!(is_a_way_out(&link(2, LinkFlags::empty(), vec![])));
    }
}
