//! The interfaces of a namespace, with what is set on them, on their way into another one.
//!
//! The kernel takes addresses, routes and neighbours off an interface that changes its namespace, so they are
//! noted before and set again there. Noted is the main routing table; rules that lead to others are not.

use crate::failure::{Failure, Kind};
use crate::nft::LOOPBACK_INDEX;
use crate::routes::{self, Routing, unless_there};
use crate::settings;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage};
use netlink_packet_route::link::{LinkFlags, LinkMessage};
use netlink_packet_route::neighbour::{NeighbourAttribute, NeighbourMessage, NeighbourState};
use netlink_packet_route::route::{
    RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteNextHopFlags, RouteProtocol, RouteType,
};
use rtnetlink::LinkUnspec;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, OwnedFd};

const STEP: &str = "interfaces";

/// Settings of an interface that say which addresses it has; below `ipv6/conf`.
const IPV6_SETTINGS: [&str; 2] = ["disable_ipv6", "accept_ra"];

/// All interfaces by which packets could leave a namespace.
#[derive(Debug)]
pub(crate) struct Interfaces {
    links: Vec<Link>,
    addresses: Vec<AddressMessage>,
    routes: Vec<RouteMessage>,
    neighbours: Vec<NeighbourMessage>,
}

#[derive(Debug)]
struct Link {
    index: u32,
    name: String,
    up: bool,
    /// Of [`IPV6_SETTINGS`]; none without IPv6.
    settings: Vec<(&'static str, String)>,
}

/// An index in the namespace that was left, to the one in the namespace that was come to.
type Indexes = BTreeMap<u32, u32>;

impl Interfaces {
    /// Notes those of the current thread's network namespace, to which `here` speaks.
    pub(crate) fn note(here: &Routing) -> Result<Self, Failure> {
        let links: Vec<Link> = here.ways_out()?.iter().map(Link::note).collect();
        if links.is_empty() {
            return Err(Failure::new(Kind::Usage, STEP, "the namespace has none besides lo to take over")
                .hint("an earlier gate took it along when it ended: make the container, or the pod, anew"));
        }
        let handle = here.handle();
        let addresses = here.list(handle.address().get().execute(), "addresses could not be listed")?;
        let mut routes = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut every = RouteMessage::default();
            every.header.address_family = family;
            routes.extend(here.list(handle.route().get(every).execute(), "routes could not be listed")?);
        }
        let neighbours = here.list(handle.neighbours().get().execute(), "neighbours could not be listed")?;
        let is_of_one = |index: u32| links.iter().any(|link| link.index == index);
        Ok(Self {
            addresses: addresses.into_iter().filter(|found| is_of_one(found.header.index)).collect(),
            routes: in_order(routes.into_iter().filter(is_set).collect()),
            neighbours: neighbours
                .into_iter()
                .filter(|found| found.header.state == NeighbourState::Permanent)
                .filter(|found| is_of_one(found.header.ifindex))
                .collect(),
            links,
        })
    }

    /// Moves them out of the namespace to which `here` speaks; down first, so that of several none is left that
    /// leads out, should another not be moved.
    pub(crate) fn send(&self, here: &Routing, there: &OwnedFd) -> Result<(), Failure> {
        for link in &self.links {
            let down = LinkUnspec::new_with_index(link.index).down().build();
            here.bounded(here.handle().link().set(down).execute(), "an interface does not go down")?;
        }
        for link in &self.links {
            let moved = LinkUnspec::new_with_index(link.index).setns_by_fd(there.as_raw_fd()).build();
            here.bounded(here.handle().link().set(moved).execute(), "an interface cannot be moved").map_err(
                |failure| {
                    failure.hint(format!(
                        "{} has to be one that can change its namespace, such as those of containers",
                        link.name
                    ))
                },
            )?;
        }
        Ok(())
    }

    /// Makes them work in the current thread's network namespace, to which `here` speaks and into which they
    /// were sent.
    pub(crate) fn set_up(&self, here: &Routing) -> Result<(), Failure> {
        let arrived = here.ways_out()?;
        let mut indexes = Indexes::from([(LOOPBACK_INDEX, LOOPBACK_INDEX)]);
        for link in &self.links {
            let index = link.index_among(&arrived)?;
            indexes.insert(link.index, index);
            link.apply_settings();
        }
        let handle = here.handle();
        let up = |index| handle.link().set(LinkUnspec::new_with_index(index).up().build()).execute();
        here.bounded(up(LOOPBACK_INDEX), "lo does not come up")?;
        for address in &self.addresses {
            let address = address_again(address, &indexes)?;
            let mut request = handle.address().add(0, Ipv4Addr::UNSPECIFIED.into(), 0);
            *request.message_mut() = address;
            here.bounded(async { unless_there(request.execute().await) }, "an address cannot be set again")?;
        }
        for link in self.links.iter().filter(|link| link.up) {
            here.bounded(up(mapped(link.index, &indexes)?), "an interface does not come up")?;
        }
        for neighbour in &self.neighbours {
            let mut request = handle.neighbours().add(0, Ipv4Addr::UNSPECIFIED.into());
            *request.message_mut() = neighbour_again(neighbour, &indexes)?;
            here.bounded(async { unless_there(request.execute().await) }, "a neighbour cannot be set again")?;
        }
        for route in &self.routes {
            let request = handle.route().add(route_again(route, &indexes)?);
            here.bounded(async { unless_there(request.execute().await) }, "a route cannot be set again")?;
        }
        Ok(())
    }
}

impl Link {
    fn note(link: &LinkMessage) -> Self {
        let name = routes::name(link);
        let setting = |setting| Some((setting, settings::read(&setting_path(&name, setting)).ok()?));
        Self {
            index: link.header.index,
            up: link.header.flags.contains(LinkFlags::Up),
            settings: IPV6_SETTINGS.into_iter().filter_map(setting).collect(),
            name,
        }
    }

    /// An interface keeps its name, and its index where that is free.
    fn index_among(&self, arrived: &[LinkMessage]) -> Result<u32, Failure> {
        let found = arrived.iter().find(|link| routes::name(link) == self.name);
        found.map(|link| link.header.index).ok_or_else(|| lost(&self.name))
    }

    /// Where one cannot be set, the gate has an address more in a namespace that nobody else is in.
    fn apply_settings(&self) {
        for (setting, value) in &self.settings {
            settings::write(&setting_path(&self.name, setting), value).unwrap_or_default();
        }
    }
}

fn setting_path(interface: &str, setting: &str) -> String {
    format!("ipv6/conf/{interface}/{setting}")
}

fn mapped(index: u32, indexes: &Indexes) -> Result<u32, Failure> {
    indexes.get(&index).copied().ok_or_else(|| lost(&index.to_string()))
}

fn lost(interface: &str) -> Failure {
    Failure::new(Kind::Internal, STEP, format!("{interface} did not arrive in the private namespace"))
}

/// Whether somebody set this route, and we shall again: the kernel makes its own by itself.
fn is_set(route: &RouteMessage) -> bool {
    let table = route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Table(table) => Some(*table),
        _ => None,
    });
    let kinds = [RouteType::Unicast, RouteType::BlackHole, RouteType::Unreachable, RouteType::Prohibit];
    table.unwrap_or_else(|| route.header.table.into()) == u32::from(RouteHeader::RT_TABLE_MAIN)
        && route.header.protocol != RouteProtocol::Kernel
        && kinds.contains(&route.header.kind)
        && !route.header.flags.contains(RouteFlags::Cloned)
}

/// A gateway is refused until there is a route that leads to it.
fn in_order(mut routes: Vec<RouteMessage>) -> Vec<RouteMessage> {
    routes.sort_by_key(|route| {
        route.attributes.iter().any(|attribute| {
            matches!(
                attribute,
                RouteAttribute::Gateway(_) | RouteAttribute::Via(_) | RouteAttribute::MultiPath(_)
            )
        })
    });
    routes
}

/// The same address, without what only the kernel says of one.
fn address_again(found: &AddressMessage, indexes: &Indexes) -> Result<AddressMessage, Failure> {
    use AddressAttribute::{Address, Broadcast, Flags, Label, Local, RoutePriority};
    let mut address = found.clone();
    address.header.index = mapped(found.header.index, indexes)?;
    address.header.flags = AddressHeaderFlags::empty();
    address.attributes.retain(|attribute| {
        matches!(attribute, Address(_) | Broadcast(_) | Label(_) | Local(_) | RoutePriority(_))
    });
    let had = found.attributes.iter().find_map(|attribute| match attribute {
        Flags(flags) => Some(*flags),
        _ => None,
    });
    let mut flags = had.unwrap_or(AddressFlags::empty()) & AddressFlags::Noprefixroute;
    if found.header.family == AddressFamily::Inet6 {
        // It was found to be nobody else's before.
        flags |= AddressFlags::Nodad;
    }
    address.attributes.push(Flags(flags));
    Ok(address)
}

fn neighbour_again(found: &NeighbourMessage, indexes: &Indexes) -> Result<NeighbourMessage, Failure> {
    use NeighbourAttribute::{Destination, LinkLayerAddress};
    let mut neighbour = found.clone();
    neighbour.header.ifindex = mapped(found.header.ifindex, indexes)?;
    neighbour.attributes.retain(|attribute| matches!(attribute, Destination(_) | LinkLayerAddress(_)));
    Ok(neighbour)
}

/// The same route, without what only the kernel says of one.
fn route_again(found: &RouteMessage, indexes: &Indexes) -> Result<RouteMessage, Failure> {
    use RouteAttribute::{CacheInfo, Expires, Iif, MultiPath, MulticastExpires, NhId, Oif, Uid};
    let mut route = found.clone();
    route.header.flags &= RouteFlags::Onlink;
    route.attributes.retain(|attribute| {
        !matches!(attribute, CacheInfo(_) | Expires(_) | Iif(_) | MulticastExpires(_) | NhId(_) | Uid(_))
    });
    for attribute in &mut route.attributes {
        match attribute {
            Oif(index) => *index = mapped(*index, indexes)?,
            MultiPath(hops) => {
                for hop in hops {
                    hop.interface_index = mapped(hop.interface_index, indexes)?;
                    hop.flags &= RouteNextHopFlags::Onlink;
                }
            }
            _ => {}
        }
    }
    Ok(route)
}

#[cfg(test)]
mod tests {
    use super::*;
    use netlink_packet_route::route::RouteAddress;

    fn route(protocol: RouteProtocol, table: u8, attributes: Vec<RouteAttribute>) -> RouteMessage {
        let mut route = RouteMessage::default();
        route.header.table = table;
        route.header.protocol = protocol;
        route.header.kind = RouteType::Unicast;
        route.attributes = attributes;
        route
    }

    fn indexes() -> Indexes {
        Indexes::from([(1, 1), (7, 2)])
    }

    #[test]
    fn what_somebody_set_in_the_main_table_is_noted() {
        assert!(is_set(&route(RouteProtocol::Boot, 254, vec![])));
        assert!(is_set(&route(RouteProtocol::Ra, 0, vec![RouteAttribute::Table(254)])));
        assert!(!is_set(&route(RouteProtocol::Kernel, 254, vec![])));
        assert!(!is_set(&route(RouteProtocol::Boot, 255, vec![])));
        assert!(!is_set(&route(RouteProtocol::Boot, 254, vec![RouteAttribute::Table(1_000)])));
    }

    #[test]
    fn routes_to_gateways_come_last() {
        let gateway = RouteAttribute::Gateway(RouteAddress::Inet(Ipv4Addr::new(169, 254, 1, 1)));
        let default = route(RouteProtocol::Boot, 254, vec![gateway, RouteAttribute::Oif(7)]);
        let direct = route(RouteProtocol::Boot, 254, vec![RouteAttribute::Oif(7)]);
        assert_eq!(in_order(vec![default.clone(), direct.clone()]), [direct, default]);
    }

    #[test]
    fn a_route_follows_its_interface_and_loses_what_the_kernel_said() {
        let found = route(
            RouteProtocol::Boot,
            254,
            vec![RouteAttribute::Oif(7), RouteAttribute::Priority(100), RouteAttribute::Expires(9)],
        );
        let set = route_again(&found, &indexes()).unwrap();
        assert_eq!(set.attributes, [RouteAttribute::Oif(2), RouteAttribute::Priority(100)]);
        let elsewhere = route(RouteProtocol::Boot, 254, vec![RouteAttribute::Oif(8)]);
        assert!(route_again(&elsewhere, &indexes()).is_err());
    }

    #[test]
    fn an_ipv6_address_is_usable_at_once() {
        let mut found = AddressMessage::default();
        found.header.family = AddressFamily::Inet6;
        found.header.index = 7;
        found.attributes = vec![AddressAttribute::Flags(AddressFlags::Permanent | AddressFlags::Tentative)];
        let set = address_again(&found, &indexes()).unwrap();
        assert_eq!(
            (set.header.index, set.attributes),
            (2, vec![AddressAttribute::Flags(AddressFlags::Nodad)])
        );
    }
}
