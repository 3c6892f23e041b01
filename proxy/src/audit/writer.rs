//! The writer thread: takes what is queued, serialises and chains it, and writes it, one `write`
//! a batch.
//!
//! A batch that cannot be written is kept and tried again until it can be, so that a full disk costs
//! no line. The file is synchronised when the log is closed and not before: a line is safe from the
//! crash of the gate once it is written, and waiting for the disk after each batch, to be safe from
//! the crash of the machine too, would hold up all exchanges behind it.

use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use super::chain::Chain;
use super::entry::Entry;
use super::kind::Kind;
use super::line::Line;
use super::queue::Queue;

/// How long the writer lets records gather after a batch: under load it then wakes a few hundred
/// times a second instead of once a request, and a lone record is still written at once.
const GATHER_PAUSE: Duration = Duration::from_millis(2);

/// Between two tries of a write that failed.
const RETRY_PAUSE: Duration = Duration::from_millis(200);

/// What the buffer of a batch keeps once it is written: an ordinary batch fits.
const IDLE_BUFFER: usize = 64 * 1024;

/// What every line of this run says of where it comes from.
#[derive(Debug)]
pub(super) struct Identity {
    pub(super) instance: String,
    pub(super) generation: String,
}

/// Everything that the writer thread owns.
pub(super) struct Writer<W> {
    sink: W,
    queue: Arc<Queue>,
    chain: Chain,
    identity: Identity,
    /// The lines of the batch under way.
    batch: Vec<u8>,
    /// Lines of this run.
    records: u64,
}

impl<W: Write> Writer<W> {
    pub(super) fn new(sink: W, queue: Arc<Queue>, chain: Chain, identity: Identity) -> Self {
        Self { sink, queue, chain, identity, batch: Vec::new(), records: 0 }
    }

    /// Writes the first line of this run.
    pub(super) fn write_started(&mut self, torn_bytes: u64) -> io::Result<()> {
        let mut entry = control("started");
        entry.torn_bytes = Some(torn_bytes).filter(|bytes| *bytes > 0);
        self.append(&entry);
        self.sink.write_all(&self.batch)?;
        self.batch.clear();
        Ok(())
    }

    /// Writes what is queued until the log is closed.
    pub(super) fn run(mut self) {
        let outcome = self.write_until_closed();
        let Self { sink, queue, .. } = self;
        // Before the last word, so that whoever waits for it can open the file again.
        drop(sink);
        queue.finish(outcome);
    }

    fn write_until_closed(&mut self) -> io::Result<()> {
        let mut entries = Vec::new();
        loop {
            let taken = self.queue.take(&mut entries);
            for entry in entries.drain(..) {
                self.append(&entry);
            }
            if taken.refused > 0 || taken.lost > 0 {
                let mut entry = control("recovered");
                entry.count = Some(taken.refused).filter(|count| *count > 0);
                entry.lost = Some(taken.lost).filter(|count| *count > 0);
                self.append(&entry);
            }
            if taken.is_last {
                let mut entry = control("stopped");
                entry.records = Some(self.records + 1);
                self.append(&entry);
            }
            self.write_batch()?;
            if taken.is_last {
                return self.sink.flush();
            }
            self.queue.rest(GATHER_PAUSE);
        }
    }

    /// Writes the batch, however often that must be tried; an error only when the log is being
    /// closed and its deadline is over.
    fn write_batch(&mut self) -> io::Result<()> {
        let mut sent = 0;
        let mut failing = false;
        while let Some(rest) = self.batch.get(sent..).filter(|rest| !rest.is_empty()) {
            let error = match self.sink.write(rest) {
                Ok(0) => io::Error::from(io::ErrorKind::WriteZero),
                Ok(count) => {
                    sent += count;
                    continue;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => error,
            };
            // A full pipe is a slow reader, not a failure; when it stays full the queue's length says so.
            if !failing && error.kind() != io::ErrorKind::WouldBlock {
                failing = true;
                self.queue.set_failing(true);
                tracing::error!(%error, "the audit log cannot be written: new requests are refused until it can");
            }
            if !self.queue.wait_before_retry(RETRY_PAUSE) {
                return Err(error);
            }
        }
        self.batch.clear();
        self.batch.shrink_to(IDLE_BUFFER);
        if failing {
            self.queue.set_failing(false);
            tracing::warn!("the audit log can be written again");
        }
        Ok(())
    }

    /// Puts an entry's line at the end of the batch.
    fn append(&mut self, entry: &Entry) {
        let start = self.batch.len();
        let line = Line {
            sequence: self.chain.next,
            previous: self.chain.previous.as_str(),
            instance: &self.identity.instance,
            generation: &self.identity.generation,
            entry,
        };
        if let Err(error) = serde_json::to_writer(&mut self.batch, &line) {
            // Text and numbers to memory: nothing in it can fail. Were it to, the chain stays whole.
            tracing::error!(%error, "an audit record could not be serialised");
            self.batch.truncate(start);
            return;
        }
        self.chain.advance(self.batch.get(start..).unwrap_or_default());
        self.batch.push(b'\n');
        self.records += 1;
    }
}

fn control(action: &'static str) -> Entry {
    let mut entry = Entry::new(Kind::Control);
    entry.action = Some(action);
    entry
}
