//! Addresses of our own for names: one of each family for each name, so that a flow to an address has
//! a name.
//!
//! **Invariant:** an address means one name as long as a client may still use it: while its answer is
//! fresh or likely to be remembered, and while a flow holds it.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sluicegate_policy::Host;

/// Names with an address of their own: half of the benchmarking range (RFC 2544), which a workload
/// fills only on purpose.
pub(super) const NAMES_MAX: u32 = 65_536;

/// How long an address stays with a name after its last answer or flow: twenty times the TTL, since
/// runtimes remember answers longer than they were told.
const KEPT_FOR: Duration = Duration::from_secs(600);

/// The address of every refused name: whoever dials it is told why.
pub const SINK_V4: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);
/// The same over IPv6, in a unique local prefix of ours (RFC 4193).
pub const SINK_V6: Ipv6Addr = Ipv6Addr::new(0xfd53, 0x6c75, 0x6963, 0x6567, 0, 0, 0, 1);

/// The addresses of one name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Addresses {
    pub(super) v4: Ipv4Addr,
    pub(super) v6: Ipv6Addr,
}

impl Addresses {
    /// Those of every refused name.
    pub(super) const SINK: Self = Self { v4: SINK_V4, v6: SINK_V6 };
    /// Those of the machine itself.
    pub(super) const LOOPBACK: Self = Self { v4: Ipv4Addr::LOCALHOST, v6: Ipv6Addr::LOCALHOST };
}

/// Which name has which addresses.
#[derive(Clone, Debug)]
pub(super) struct Pool(Arc<Mutex<Names>>);

#[derive(Debug)]
struct Names {
    /// How many names there may be.
    size: u32,
    /// Where in the range the first name's address is. Another one at each start: an address that a
    /// client remembers from an earlier run means nothing then, rather than another name.
    first: u32,
    indexes: HashMap<Arc<str>, u32>,
    /// By index, in the order of their first answers.
    entries: Vec<Entry>,
    /// Entries that no flow holds, those that were used the longest time ago first.
    unheld: BTreeMap<u64, u32>,
    turn: u64,
}

#[derive(Debug)]
struct Entry {
    name: Arc<str>,
    flows: u32,
    /// Where the entry stands in `unheld` while no flow holds it.
    turn: u64,
    used: Instant,
}

/// The name that an address means. While it lives, the address means no other name.
#[derive(Debug)]
pub struct HeldName {
    names: Arc<Mutex<Names>>,
    index: u32,
    host: Host,
}

impl HeldName {
    /// The name.
    pub fn host(&self) -> &Host {
        &self.host
    }
}

impl Drop for HeldName {
    fn drop(&mut self) {
        locked(&self.names).release(self.index, Instant::now());
    }
}

impl Pool {
    /// An empty pool; `seed` says where in the range it begins.
    pub(super) fn new(seed: u32) -> Self {
        Self::of_size(NAMES_MAX, seed)
    }

    fn of_size(size: u32, seed: u32) -> Self {
        Self(Arc::new(Mutex::new(Names {
            size,
            first: seed % size,
            indexes: HashMap::new(),
            entries: Vec::new(),
            unheld: BTreeMap::new(),
            turn: 0,
        })))
    }

    /// The addresses of a name from now on; none while every address means another one.
    pub(super) fn addresses(&self, name: &str, now: Instant) -> Option<Addresses> {
        let mut names = locked(&self.0);
        let index = names.index(name, now)?;
        Some(names.addresses(index))
    }

    /// The name that an address means, kept until what is returned is dropped.
    pub(super) fn hold(&self, address: IpAddr) -> Option<HeldName> {
        let mut names = locked(&self.0);
        let index = names.index_of(address)?;
        let name = names.take(index)?;
        Some(HeldName { names: Arc::clone(&self.0), index, host: Host::Dns((&*name).into()) })
    }

    /// The name that an address means now.
    pub(super) fn name(&self, address: IpAddr) -> Option<Arc<str>> {
        let names = locked(&self.0);
        let index = names.index_of(address)?;
        names.entries.get(as_position(index)).map(|entry| Arc::clone(&entry.name))
    }
}

impl Names {
    fn index(&mut self, name: &str, now: Instant) -> Option<u32> {
        if let Some(&index) = self.indexes.get(name) {
            self.touch(index, now);
            return Some(index);
        }
        let shared: Arc<str> = name.into();
        let index = match u32::try_from(self.entries.len()) {
            Ok(index) if index < self.size => {
                let entry = Entry { name: Arc::clone(&shared), flows: 0, turn: 0, used: now };
                self.entries.push(entry);
                index
            }
            _ => {
                let index = self.least_recently_used(now)?;
                let entry = self.entries.get_mut(as_position(index))?;
                self.indexes.remove(&entry.name);
                entry.name = Arc::clone(&shared);
                index
            }
        };
        self.indexes.insert(shared, index);
        self.touch(index, now);
        Some(index)
    }

    /// The entry to give to another name, if one has been out of use for long enough.
    fn least_recently_used(&self, now: Instant) -> Option<u32> {
        let (_, &index) = self.unheld.first_key_value()?;
        let entry = self.entries.get(as_position(index))?;
        (now.saturating_duration_since(entry.used) >= KEPT_FOR).then_some(index)
    }

    fn touch(&mut self, index: u32, now: Instant) {
        let Some(entry) = self.entries.get_mut(as_position(index)) else { return };
        entry.used = now;
        if entry.flows == 0 {
            self.unheld.remove(&entry.turn);
            self.turn += 1;
            entry.turn = self.turn;
            self.unheld.insert(entry.turn, index);
        }
    }

    fn take(&mut self, index: u32) -> Option<Arc<str>> {
        let entry = self.entries.get_mut(as_position(index))?;
        entry.flows += 1;
        self.unheld.remove(&entry.turn);
        Some(Arc::clone(&entry.name))
    }

    fn release(&mut self, index: u32, now: Instant) {
        let Some(entry) = self.entries.get_mut(as_position(index)) else { return };
        entry.flows = entry.flows.saturating_sub(1);
        self.touch(index, now);
    }

    fn addresses(&self, index: u32) -> Addresses {
        // One behind the sink's.
        let offset = 1 + (self.first + index) % self.size;
        Addresses {
            v4: Ipv4Addr::from(u32::from(SINK_V4) + offset),
            v6: Ipv6Addr::from(u128::from(SINK_V6) + u128::from(offset)),
        }
    }

    /// Which entry an address would belong to, whether there is one or not.
    fn index_of(&self, address: IpAddr) -> Option<u32> {
        let offset = match address.to_canonical() {
            IpAddr::V4(address) => u32::from(address).checked_sub(u32::from(SINK_V4)),
            IpAddr::V6(address) => {
                let offset = u128::from(address).checked_sub(u128::from(SINK_V6));
                offset.and_then(|offset| u32::try_from(offset).ok())
            }
        };
        let place = offset?.checked_sub(1).filter(|&place| place < self.size)?;
        Some((place + self.size - self.first) % self.size)
    }
}

fn as_position(index: u32) -> usize {
    usize::try_from(index).unwrap_or(usize::MAX)
}

fn locked(names: &Mutex<Names>) -> MutexGuard<'_, Names> {
    names.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v4(pool: &Pool, name: &str, now: Instant) -> Option<IpAddr> {
        pool.addresses(name, now).map(|addresses| addresses.v4.into())
    }

    #[test]
    fn a_name_keeps_its_addresses_and_shares_them_with_none() {
        let (pool, now) = (Pool::new(7), Instant::now());
        let first = pool.addresses("a.test", now).unwrap();
        let second = pool.addresses("b.test", now).unwrap();
        assert!(first.v4 != second.v4 && first.v6 != second.v6);
        assert_eq!(pool.addresses("a.test", now + KEPT_FOR * 9), Some(first));
        for (addresses, name) in [(first, "a.test"), (second, "b.test")] {
            for address in [IpAddr::V4(addresses.v4), IpAddr::V6(addresses.v6)] {
                assert_eq!(pool.name(address).as_deref(), Some(name));
                assert_eq!(pool.hold(address).unwrap().host(), &Host::Dns(name.into()));
            }
            let mapped = addresses.v4.to_ipv6_mapped();
            assert_eq!(pool.name(mapped.into()).as_deref(), Some(name));
        }
    }

    #[test]
    fn an_address_of_no_name_means_nothing() {
        let pool = Pool::new(0);
        pool.addresses("a.test", Instant::now());
        for other in ["198.18.0.1", "198.18.0.3", "198.17.255.255", "198.20.0.0", "10.0.0.1", "::1"] {
            assert!(pool.hold(other.parse().unwrap()).is_none(), "{other}");
        }
        for other in [SINK_V6, Ipv6Addr::from(u128::from(SINK_V6) + (1 << 64))] {
            assert!(pool.hold(other.into()).is_none(), "{other}");
        }
    }

    #[test]
    fn every_address_is_in_the_range_wherever_the_pool_begins() {
        for seed in [0, 1, NAMES_MAX - 1, u32::MAX] {
            let pool = Pool::of_size(3, seed);
            let now = Instant::now();
            let found: Vec<_> = ["a", "b", "c"].iter().filter_map(|name| v4(&pool, name, now)).collect();
            let mut sorted = found.clone();
            sorted.sort();
            assert_eq!(
                sorted,
                ["198.18.0.2", "198.18.0.3", "198.18.0.4"].map(|text| text.parse::<IpAddr>().unwrap())
            );
            for (address, name) in found.iter().zip(["a", "b", "c"]) {
                assert_eq!(pool.name(*address).as_deref(), Some(name), "{seed}");
            }
        }
        assert!(u32::from(SINK_V4) + NAMES_MAX < u32::from(Ipv4Addr::new(198, 20, 0, 0)));
    }

    #[test]
    fn a_full_pool_gives_away_what_was_used_the_longest_time_ago() {
        let (pool, start) = (Pool::of_size(2, 0), Instant::now());
        let a = v4(&pool, "a", start).unwrap();
        v4(&pool, "b", start).unwrap();
        // Asked for again, so that `b` is the older one.
        v4(&pool, "a", start + Duration::from_secs(1)).unwrap();
        assert_eq!(v4(&pool, "c", start + KEPT_FOR - Duration::from_millis(1)), None);
        let c = v4(&pool, "c", start + KEPT_FOR).unwrap();
        assert_ne!(c, a);
        assert_eq!(pool.name(c).as_deref(), Some("c"));
        // `b` has no address until `a` is out of use too.
        assert_eq!(v4(&pool, "b", start + KEPT_FOR), None);
        assert_eq!(v4(&pool, "b", start + KEPT_FOR + Duration::from_secs(1)), Some(a));
    }

    #[test]
    fn an_address_that_a_flow_holds_is_never_given_away() {
        let (pool, start) = (Pool::of_size(1, 0), Instant::now());
        let a = v4(&pool, "a", start).unwrap();
        let (held, again) = (pool.hold(a).unwrap(), pool.hold(a).unwrap());
        let later = start + KEPT_FOR * 1_000;
        assert_eq!(v4(&pool, "b", later), None);
        drop(held);
        assert_eq!(v4(&pool, "b", later), None);
        assert_eq!(again.host(), &Host::Dns("a".into()));
        drop(again);
        // From the end of the flow it stays for as long as after an answer.
        assert_eq!(v4(&pool, "b", Instant::now() + KEPT_FOR - Duration::from_secs(5)), None);
        assert_eq!(v4(&pool, "b", Instant::now() + KEPT_FOR), Some(a));
        assert_eq!(pool.hold(a).unwrap().host(), &Host::Dns("b".into()));
    }
}
