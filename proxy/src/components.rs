//! Components that somebody gave to the gate and that are not in force yet, or no more: a policy names them by
//! their SHA-256 and does not bring them along.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sluicegate_policy::Content;

/// Of all together, in bytes: three of the greatest length.
const BYTES_MAX: usize = 96 * 1024 * 1024;

/// How long one is kept that no policy in force has: time to go back to the policy before.
const KEPT: Duration = Duration::from_secs(600);

/// The components of an instance that are not in force. The last is the one that was used last.
#[derive(Debug, Default)]
pub struct Components(Mutex<Kept>);

#[derive(Debug)]
struct Kept {
    components: VecDeque<(Content, Instant)>,
    /// Whether something was let go of since somebody asked.
    has_forgotten: bool,
}

impl Default for Kept {
    fn default() -> Self {
        // A process before this one may have left some on disk.
        Self { components: VecDeque::new(), has_forgotten: true }
    }
}

impl Components {
    /// Keeps one from now on. The oldest go where it is too much.
    pub fn keep(&self, component: Content, now: Instant) {
        let mut kept = self.lock();
        kept.components.retain(|(known, _)| *known != component);
        kept.components.push_back((component, now));
        while kept.components.len() > 1 && kept.bytes() > BYTES_MAX {
            kept.components.pop_front();
            kept.has_forgotten = true;
        }
    }

    /// The one with this SHA-256, in hexadecimal.
    pub fn get(&self, sha256: &str) -> Option<Content> {
        let kept = self.lock();
        let found = kept.components.iter().find(|(component, _)| component.sha256_hex() == sha256);
        found.map(|(component, _)| component.clone())
    }

    /// Lets go of those that were not used for a while. Whether something was let go of since this was asked.
    pub fn forget_unused(&self, now: Instant) -> bool {
        let mut kept = self.lock();
        let before = kept.components.len();
        kept.components.retain(|(_, used)| now.saturating_duration_since(*used) < KEPT);
        let has_now = kept.components.len() < before;
        std::mem::take(&mut kept.has_forgotten) || has_now
    }

    /// The SHA-256 of each.
    pub fn sums(&self) -> BTreeSet<String> {
        self.lock().components.iter().map(|(component, _)| component.sha256_hex()).collect()
    }

    /// No panic happens under this lock; if one did, what it holds would still be consistent.
    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn bytes(&self) -> usize {
        self.components.iter().map(|(component, _)| component.len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(byte: u8, length: usize) -> Content {
        vec![byte; length].into()
    }

    #[test]
    fn a_component_is_found_by_its_sum_for_a_while() {
        let (components, began) = (Components::default(), Instant::now());
        let one = content(1, 10);
        components.keep(one.clone(), began);
        components.keep(content(2, 10), began + KEPT / 2);
        assert_eq!(components.get(&one.sha256_hex()), Some(one.clone()));
        assert_eq!(components.get(&content(3, 10).sha256_hex()), None);
        assert!(components.forget_unused(began), "what was there before is unknown");
        assert!(!components.forget_unused(began + KEPT / 2));
        assert!(components.forget_unused(began + KEPT));
        assert!(!components.forget_unused(began + KEPT));
        assert_eq!(components.get(&one.sha256_hex()), None);
        assert_eq!(components.sums(), BTreeSet::from([content(2, 10).sha256_hex()]));
    }

    #[test]
    fn the_oldest_go_where_it_is_too_much() {
        let (components, now) = (Components::default(), Instant::now());
        for byte in [1, 2, 1, 3] {
            components.keep(content(byte, BYTES_MAX / 2), now);
        }
        let sums = [1, 3].map(|byte| content(byte, BYTES_MAX / 2).sha256_hex());
        assert_eq!(components.sums(), BTreeSet::from(sums));
        assert!(components.forget_unused(now));
        components.keep(content(4, BYTES_MAX + 1), now);
        assert_eq!(components.sums().len(), 1);
    }
}
