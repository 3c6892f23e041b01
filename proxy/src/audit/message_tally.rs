//! What became of the messages of one WebSocket, counted while it lasts.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::ser::{Serialize, SerializeMap, Serializer};

/// Counts of messages, both directions together. Read when the line is written.
#[derive(Debug, Default)]
pub struct MessageTally {
    /// Those that a handler was asked about.
    pub judged: AtomicU64,
    /// Those of them in whose place another one went on.
    pub changed: AtomicU64,
    /// Those of them that were left out.
    pub dropped: AtomicU64,
}

impl Serialize for MessageTally {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(3))?;
        for (name, count) in
            [("judged", &self.judged), ("changed", &self.changed), ("dropped", &self.dropped)]
        {
            map.serialize_entry(name, &count.load(Ordering::Relaxed))?;
        }
        map.end()
    }
}
