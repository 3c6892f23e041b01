//! A list of hosts as it is in force: what the document says, with what was changed at run time.

use std::sync::Arc;

use crate::host::Host;
use crate::index::HostIndex;
use crate::pattern::HostPattern;

/// `allowed_hosts` or `denied_hosts` in force. Cheap to clone and to change: the document's patterns
/// are shared.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct HostList {
    /// The document's list, or the one that took its place.
    base: Arc<HostIndex>,
    replaced: bool,
    removed: Arc<HostIndex>,
    added: Arc<HostIndex>,
}

/// What was changed in a list.
#[derive(Debug, Default)]
pub(crate) struct ListChanges {
    /// In place of the document's list.
    pub(crate) replaced: Option<Arc<HostIndex>>,
    pub(crate) removed: HostIndex,
    pub(crate) added: HostIndex,
}

/// A pattern of a list, and who put it there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Listed<'list> {
    pub(crate) pattern: &'list HostPattern,
    /// Its position in the document's list; `None` where it was put there at run time.
    pub(crate) position: Option<usize>,
}

impl HostList {
    /// The document's list, unchanged.
    pub(crate) fn written(base: Arc<HostIndex>) -> Self {
        Self { base, ..Self::default() }
    }

    pub(crate) fn changed(written: Arc<HostIndex>, changes: ListChanges) -> Self {
        let replaced = changes.replaced.is_some();
        Self {
            base: changes.replaced.unwrap_or(written),
            replaced,
            removed: Arc::new(changes.removed),
            added: Arc::new(changes.added),
        }
    }

    /// Every pattern in force that names the host.
    pub(crate) fn naming<'list>(&'list self, host: &Host) -> impl Iterator<Item = Listed<'list>> {
        let base = self.base.naming(host).filter(|entry| !self.removed.contains(&entry.pattern));
        let base = base.map(|entry| self.listed(&entry.pattern, entry.owner));
        let added = self.added.naming(host);
        base.chain(added.map(|entry| Listed { pattern: &entry.pattern, position: None }))
    }

    /// Every pattern in force, those of the document first and in its order.
    pub(crate) fn all(&self) -> Vec<Listed<'_>> {
        let kept = self.base.in_order().into_iter().filter(|entry| !self.removed.contains(&entry.pattern));
        let kept = kept.map(|entry| self.listed(&entry.pattern, entry.owner));
        let added = self.added.in_order().into_iter();
        kept.chain(added.map(|entry| Listed { pattern: &entry.pattern, position: None })).collect()
    }

    /// The number of patterns in force.
    pub(crate) fn len(&self) -> usize {
        if self.removed.len() == 0 { self.base.len() + self.added.len() } else { self.all().len() }
    }

    /// The list that took the document's place, if one did.
    pub(crate) fn replacement(&self) -> Option<&Arc<HostIndex>> {
        self.replaced.then_some(&self.base)
    }

    fn listed<'list>(&self, pattern: &'list HostPattern, owner: usize) -> Listed<'list> {
        Listed { pattern, position: (!self.replaced).then_some(owner) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pattern::ListedIn;

    fn index(patterns: &[&str]) -> HostIndex {
        let mut index = HostIndex::default();
        for (owner, text) in patterns.iter().enumerate() {
            index.insert(HostPattern::parse(text, ListedIn::Allowed).unwrap(), owner);
        }
        index
    }

    fn in_force(list: &HostList) -> Vec<(&str, Option<usize>)> {
        list.all().iter().map(|listed| (listed.pattern.as_str(), listed.position)).collect()
    }

    #[test]
    fn changes_are_laid_over_the_document() {
        let base = Arc::new(index(&["b.test", "*.b.test", "10.0.0.0/8"]));
        let removed = index(&["B.test."]);
        let changes = ListChanges { replaced: None, removed, added: index(&["c.test"]) };
        let list = HostList::changed(Arc::clone(&base), changes);
        assert_eq!(in_force(&list), [("*.b.test", Some(1)), ("10.0.0.0/8", Some(2)), ("c.test", None)]);
        assert_eq!(list.len(), 3);
        let names = |host: &str| list.naming(&Host::parse(host).unwrap()).count();
        assert_eq!((names("b.test"), names("a.b.test"), names("c.test"), names("10.1.1.1")), (0, 1, 1, 1));
        assert!(list.replacement().is_none());
    }

    #[test]
    fn a_replaced_list_says_nothing_of_the_document() {
        let base = Arc::new(index(&["b.test"]));
        let changes = ListChanges { replaced: Some(Arc::new(index(&["c.test"]))), ..ListChanges::default() };
        let list = HostList::changed(base, changes);
        assert_eq!(in_force(&list), [("c.test", None)]);
        assert_eq!(list.naming(&Host::parse("b.test").unwrap()).count(), 0);
        assert!(list.replacement().is_some());
    }
}
