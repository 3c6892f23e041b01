//! `AuditRecord`: the handle to a line to be, written when dropped.
//!
//! **Invariant:** every record made is handed to the log exactly once, by its `Drop` and nothing else.

use std::fmt;
use std::mem;
use std::ops::{Deref, DerefMut};

use super::Log;
use super::entry::Entry;

/// One line of the log to be. Set the fields of [`Entry`] on it as they become known; dropping it
/// writes it.
pub struct AuditRecord(Box<Unwritten>);

/// Boxed above: a record changes hands several times, and is some hundred bytes.
struct Unwritten {
    log: Log,
    entry: Entry,
}

impl AuditRecord {
    pub(super) fn new(log: Log, entry: Entry) -> Self {
        Self(Box::new(Unwritten { log, entry }))
    }
}

impl Deref for AuditRecord {
    type Target = Entry;

    fn deref(&self) -> &Entry {
        &self.0.entry
    }
}

impl DerefMut for AuditRecord {
    fn deref_mut(&mut self) -> &mut Entry {
        &mut self.0.entry
    }
}

impl fmt::Debug for AuditRecord {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("AuditRecord").field(&self.0.entry).finish()
    }
}

impl Drop for Unwritten {
    fn drop(&mut self) {
        self.entry.finish();
        let spent = Entry::begun(self.entry.kind, self.entry.began, self.entry.started);
        self.log.push(mem::replace(&mut self.entry, spent));
    }
}
