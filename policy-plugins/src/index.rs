//! Finds the patterns that name a host without looking at the others.

use std::collections::HashMap;

use crate::host::Host;
use crate::pattern::{HostPattern, Hosts};

/// Patterns by what they name, each with the position of its owner (a rule's, for instance).
///
/// Names cost one look-up a label; ranges are few and are looked through.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct HostIndex {
    names: HashMap<Box<str>, Vec<Entry>>,
    ranges: Vec<Entry>,
    any: Vec<Entry>,
    len: usize,
}

/// A pattern and its owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) pattern: HostPattern,
    pub(crate) owner: usize,
}

impl HostIndex {
    pub(crate) fn insert(&mut self, pattern: HostPattern, owner: usize) {
        self.len += 1;
        let entry = Entry { pattern, owner };
        let list = match entry.pattern.hosts() {
            Hosts::Any => &mut self.any,
            Hosts::Range(_) => &mut self.ranges,
            Hosts::Name(name) | Hosts::Below(name) => self.names.entry(name.clone()).or_default(),
        };
        list.push(entry);
    }

    /// The number of patterns.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Every entry whose pattern names the host, in no order that means anything.
    pub(crate) fn naming<'index>(&'index self, host: &Host) -> impl Iterator<Item = &'index Entry> {
        let (name, ranges) = match host {
            Host::Dns(name) => (Some(&**name), [].as_slice()),
            Host::Ip(_) => (None, self.ranges.as_slice()),
        };
        self.along(name, ranges).filter(|entry| entry.pattern.names(host))
    }

    /// Entries among which every pattern is that covers one of these hosts.
    pub(crate) fn around<'index>(&'index self, hosts: &Hosts) -> impl Iterator<Item = &'index Entry> {
        let (name, ranges) = match hosts {
            Hosts::Any => (None, [].as_slice()),
            Hosts::Name(name) | Hosts::Below(name) => (Some(&**name), [].as_slice()),
            Hosts::Range(_) => (None, self.ranges.as_slice()),
        };
        self.along(name, ranges)
    }

    /// The pattern that means the same as this one, if there is one.
    pub(crate) fn same(&self, pattern: &HostPattern) -> Option<&HostPattern> {
        if self.len == 0 {
            return None;
        }
        self.around(pattern.hosts()).map(|entry| &entry.pattern).find(|own| own.is_same_as(pattern))
    }

    /// Whether a pattern that means the same as this one is here.
    pub(crate) fn contains(&self, pattern: &HostPattern) -> bool {
        self.same(pattern).is_some()
    }

    /// Every entry, by the position of its owner.
    pub(crate) fn in_order(&self) -> Vec<&Entry> {
        let mut entries: Vec<&Entry> =
            self.names.values().flatten().chain(&self.ranges).chain(&self.any).collect();
        entries.sort_by_key(|entry| entry.owner);
        entries
    }

    /// The entries filed under the name and its parents, then these and those for any host.
    fn along<'index>(
        &'index self,
        name: Option<&str>,
        ranges: &'index [Entry],
    ) -> impl Iterator<Item = &'index Entry> {
        std::iter::successors(name, |name| name.split_once('.').map(|(_, parent)| parent))
            .filter_map(|name| self.names.get(name))
            .flatten()
            .chain(ranges)
            .chain(&self.any)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pattern::ListedIn;

    #[test]
    fn every_pattern_that_names_the_host_is_found_and_no_other() {
        let patterns =
            ["a.b.test", "*.b.test", "*.test", "b.test", "*.a.b.test", "*", "10.0.0.0/8", "10.0.0.1"];
        let mut index = HostIndex::default();
        for (owner, text) in patterns.into_iter().enumerate() {
            index.insert(HostPattern::parse(text, ListedIn::Rule).unwrap(), owner);
        }
        let table: [(&str, &[usize]); 6] = [
            ("a.b.test", &[0, 1, 2, 5]),
            ("b.test", &[2, 3, 5]),
            ("x.a.b.test", &[1, 2, 4, 5]),
            ("test", &[5]),
            ("10.0.0.1", &[5, 6, 7]),
            ("11.0.0.1", &[5]),
        ];
        for (host, expected) in table {
            let host = Host::parse(host).unwrap();
            let mut found: Vec<usize> = index.naming(&host).map(|entry| entry.owner).collect();
            found.sort_unstable();
            assert_eq!(found, expected, "{host}");
        }
        assert_eq!(index.len(), patterns.len());
    }
}
