//! The addresses that a namespace's interfaces have, on which it is reached from outside and by itself.

use crate::failure::{Failure, Kind};
use crate::routes::Routing;
use crate::ruleset::{OWN_V4, OWN_V6};
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use std::collections::BTreeSet;
use std::net::IpAddr;

/// Addresses of one namespace: each is in several rules, which every packet is held against. A container has two
/// or three.
const ADDRESSES_MAX: usize = 64;

/// Those of all interfaces, without what every namespace has.
pub(crate) fn of_interfaces(routing: &Routing) -> Result<Vec<IpAddr>, Failure> {
    let listed = routing.handle().address().get().execute();
    let found = routing.list(listed, "addresses could not be listed")?;
    let addresses: BTreeSet<IpAddr> = found.iter().filter_map(own).filter(is_of_interface).collect();
    if addresses.len() > ADDRESSES_MAX {
        return Err(Failure::new(
            Kind::Usage,
            "addresses",
            format!("the namespace has {} of them, and {ADDRESSES_MAX} can be kept", addresses.len()),
        )
        .hint("take some off, or start the container with --network none"));
    }
    Ok(addresses.into_iter().collect())
}

/// The namespace's own end of it: where another end has an address, that one stands in the other attribute.
fn own(address: &AddressMessage) -> Option<IpAddr> {
    let local = address.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Local(address) => Some(*address),
        _ => None,
    });
    local.or_else(|| {
        address.attributes.iter().find_map(|attribute| match attribute {
            AddressAttribute::Address(address) => Some(*address),
            _ => None,
        })
    })
}

fn is_of_interface(address: &IpAddr) -> bool {
    !address.is_loopback() && *address != OWN_V4 && *address != OWN_V6
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    #[test]
    fn an_address_is_ours_and_not_the_other_end_s() {
        let (ours, theirs) =
            (IpAddr::from(Ipv4Addr::new(10, 0, 0, 1)), IpAddr::from(Ipv4Addr::new(10, 0, 0, 2)));
        let mut address = AddressMessage::default();
        address.attributes = vec![AddressAttribute::Address(theirs), AddressAttribute::Local(ours)];
        assert_eq!(own(&address), Some(ours));
        address.attributes = vec![AddressAttribute::Address(theirs)];
        assert_eq!(own(&address), Some(theirs));
    }

    #[test]
    fn what_every_namespace_has_is_left_out() {
        for always in
            [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into(), OWN_V4.into(), OWN_V6.into()]
        {
            assert!(!is_of_interface(&always));
        }
        assert!(is_of_interface(&Ipv4Addr::new(172, 17, 0, 2).into()));
    }
}
