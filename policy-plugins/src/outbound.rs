//! Which handler a request is given to: by host, or the one for all the rest.

use std::cmp::Reverse;
use std::sync::Arc;

use crate::handler::BoundHandler;
use crate::host::{Authority, Host, Scheme};
use crate::index::HostIndex;
use crate::pattern::HostPattern;

/// Handlers by host pattern and the catch-all, of the document or set at run time.
#[derive(Clone, Debug, Default)]
pub(crate) struct Routes {
    patterns: HostIndex,
    /// The owners of `patterns`.
    by_host: Vec<Arc<BoundHandler>>,
    pub(crate) catch_all: Option<Arc<BoundHandler>>,
}

/// A handler and the pattern that it is bound to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Route<'routes> {
    pub(crate) pattern: &'routes HostPattern,
    pub(crate) handler: &'routes Arc<BoundHandler>,
    /// The position among its kind, in the order of the patterns as written.
    pub(crate) position: usize,
}

impl Routes {
    pub(crate) fn insert(&mut self, pattern: HostPattern, handler: Arc<BoundHandler>) {
        self.patterns.insert(pattern, self.by_host.len());
        self.by_host.push(handler);
    }

    /// The most specific route for the authority; the first among equals.
    pub(crate) fn for_host(&self, scheme: Scheme, authority: &Authority) -> Option<Route<'_>> {
        self.naming(&authority.host)
            .filter(|route| route.pattern.admits(scheme, authority))
            .max_by_key(|route| (route.pattern.specificity(), Reverse(route.position)))
    }

    /// Every route whose pattern names the host, on whatever port and scheme.
    pub(crate) fn naming<'routes>(&'routes self, host: &Host) -> impl Iterator<Item = Route<'routes>> {
        self.patterns.naming(host).filter_map(|entry| {
            let handler = self.by_host.get(entry.owner)?;
            Some(Route { pattern: &entry.pattern, handler, position: entry.owner })
        })
    }

    /// Every route, in order.
    pub(crate) fn all(&self) -> Vec<Route<'_>> {
        self.patterns
            .in_order()
            .into_iter()
            .filter_map(|entry| {
                let handler = self.by_host.get(entry.owner)?;
                Some(Route { pattern: &entry.pattern, handler, position: entry.owner })
            })
            .collect()
    }

    /// The pattern that means the same as this one, if there is one.
    pub(crate) fn same(&self, pattern: &HostPattern) -> Option<&HostPattern> {
        self.patterns.same(pattern)
    }
}
