//! The bounded queue between the request path and the writer thread, and the health that hangs on it.
//!
//! **Invariant:** `healthy` is true exactly while no write is failing, the queue is below
//! [`HIGH_WATER`] and nobody is closing the log; it changes under the lock only.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::entry::{AUDIT_UNAVAILABLE, Entry};

/// Records that can wait: some seconds of work at the highest rate, 40 MiB if all bounds are reached.
pub(super) const CAPACITY: usize = 8192;

/// From this length on new requests are refused; the rest is for the exchanges under way.
pub(super) const HIGH_WATER: usize = CAPACITY / 4 * 3;

/// Records that the writer takes at once, so that what is taken is bounded as well.
const BATCH: usize = 256;

/// Bytes of taps and handlers' fields that wait at most; a record that comes on top is queued without.
pub(super) const BULK_MAX: usize = 16 * 1024 * 1024;

/// Bytes of them that the writer takes at once, the record that goes beyond included.
const BULK_BATCH: usize = 1024 * 1024;

/// Slots that an empty queue keeps after a burst.
const IDLE_CAPACITY: usize = 256;

/// Hands records from many threads to one.
#[derive(Debug)]
pub(super) struct Queue {
    state: Mutex<State>,
    /// The writer waits here for records, for the next try, and for the end.
    wake: Condvar,
    /// The closer waits here for the writer.
    finished: Condvar,
    healthy: AtomicBool,
}

/// What the writer gets from one [`Queue::take`], besides the records.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Taken {
    /// Refusals for [`AUDIT_UNAVAILABLE`] that were counted instead of queued.
    pub(super) refused: u64,
    /// Records that found the queue full, or came after the end.
    pub(super) lost: u64,
    /// Nothing will follow.
    pub(super) is_last: bool,
}

#[derive(Debug, Default)]
struct State {
    entries: VecDeque<Entry>,
    /// Bytes of taps and fields in them.
    bulk: usize,
    refused: u64,
    lost: u64,
    writer_waits: bool,
    failing: bool,
    close_by: Option<Instant>,
    outcome: Option<io::Result<()>>,
}

impl Queue {
    pub(super) fn new() -> Self {
        Self {
            state: Mutex::default(),
            wake: Condvar::new(),
            finished: Condvar::new(),
            healthy: AtomicBool::new(true),
        }
    }

    pub(super) fn is_healthy(&self) -> bool {
        self.healthy.load(Ordering::Relaxed)
    }

    /// Queues a record. Never waits for the disk.
    pub(super) fn push(&self, mut entry: Entry) {
        let mut state = self.lock();
        let is_own_refusal = entry.reason == Some(AUDIT_UNAVAILABLE) && !self.is_healthy();
        if state.close_by.is_some() || state.entries.len() >= CAPACITY {
            state.lost += 1;
        } else if is_own_refusal {
            state.refused += 1;
        } else {
            if state.bulk + entry.bulk > BULK_MAX {
                entry.shed_bulk();
            }
            state.bulk += entry.bulk;
            state.entries.push_back(entry);
        }
        self.set_health(&state);
        // Waking is a system call even when nobody waits, so it is done only when somebody does.
        if state.writer_waits && !state.failing {
            state.writer_waits = false;
            drop(state);
            self.wake.notify_one();
        }
    }

    /// Moves the records that wait, at most [`BATCH`], to `entries`; waits until there is something
    /// to write.
    pub(super) fn take(&self, entries: &mut Vec<Entry>) -> Taken {
        let mut state = self.lock();
        while state.has_nothing_to_write() {
            state.writer_waits = true;
            state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.writer_waits = false;
        state.move_batch(entries);
        if state.entries.is_empty() && state.entries.capacity() > IDLE_CAPACITY {
            state.entries.shrink_to(IDLE_CAPACITY);
        }
        self.set_health(&state);
        let is_last = state.close_by.is_some() && state.entries.is_empty();
        Taken { refused: std::mem::take(&mut state.refused), lost: std::mem::take(&mut state.lost), is_last }
    }

    /// Lets records gather for a while, unless a whole batch waits or the queue is being closed.
    pub(super) fn rest(&self, pause: Duration) {
        let state = self.lock();
        let gathers = |state: &mut State| state.close_by.is_none() && state.entries.len() < BATCH;
        drop(self.wake.wait_timeout_while(state, pause, gathers));
    }

    /// Says that a write failed, or that the batch which failed is written now.
    pub(super) fn set_failing(&self, failing: bool) {
        let mut state = self.lock();
        state.failing = failing;
        self.set_health(&state);
    }

    /// Waits until it is time to try a failed write again. False when the log is being closed and
    /// its deadline is over.
    pub(super) fn wait_before_retry(&self, pause: Duration) -> bool {
        let retry_at = Instant::now() + pause;
        let mut state = self.lock();
        loop {
            let now = Instant::now();
            if state.close_by.is_some_and(|deadline| deadline <= now) {
                return false;
            }
            let until = state.close_by.map_or(retry_at, |deadline| deadline.min(retry_at));
            if retry_at <= now {
                return true;
            }
            let pause = until.saturating_duration_since(now);
            state = self.wake.wait_timeout(state, pause).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Ends the queue: what waits is still written, what comes is lost.
    pub(super) fn close(&self, deadline: Instant) {
        let mut state = self.lock();
        state.close_by.get_or_insert(deadline);
        self.set_health(&state);
        drop(state);
        self.wake.notify_one();
    }

    /// The writer's last word.
    pub(super) fn finish(&self, outcome: io::Result<()>) {
        self.lock().outcome = Some(outcome);
        self.finished.notify_all();
    }

    /// Waits for the writer's last word; `None` when it did not come until `deadline`.
    pub(super) fn wait_until_finished(&self, deadline: Instant) -> Option<io::Result<()>> {
        let mut state = self.lock();
        loop {
            if let Some(outcome) = state.outcome.take() {
                return Some(outcome);
            }
            let left = deadline.checked_duration_since(Instant::now())?;
            state = self.finished.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing in here panics half way through a change, so a poisoned state is a whole one.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_health(&self, state: &State) {
        let healthy = !state.failing && state.close_by.is_none() && state.entries.len() < HIGH_WATER;
        self.healthy.store(healthy, Ordering::Relaxed);
    }
}

impl State {
    fn move_batch(&mut self, entries: &mut Vec<Entry>) {
        let mut bulk = 0;
        for _ in 0..BATCH {
            let Some(entry) = self.entries.pop_front() else { break };
            bulk += entry.bulk;
            entries.push(entry);
            if bulk >= BULK_BATCH {
                break;
            }
        }
        self.bulk -= bulk;
    }

    fn has_nothing_to_write(&self) -> bool {
        self.entries.is_empty() && self.refused == 0 && self.lost == 0 && self.close_by.is_none()
    }
}
