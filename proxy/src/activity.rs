//! What goes on on one connection of the workload: how many exchanges, and which one was refused
//! before it was a request.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

use crate::request_head::HeadFault;

/// Shared between a connection's reader and its exchanges.
#[derive(Debug, Default)]
pub struct Activity {
    fault: Mutex<Option<HeadFault>>,
    /// Number of the refused request on this connection, counted from 1; 0 is none.
    refused: AtomicU64,
    begun: AtomicU64,
    active: AtomicU32,
    watched: AtomicBool,
    left: Notify,
}

impl Activity {
    /// Begins an exchange, which lasts until the returned guard is dropped. Exchanges begin in the
    /// order of their requests; the one whose head was refused is told why.
    pub fn begin(self: &Arc<Self>) -> (Active, Option<HeadFault>) {
        self.active.fetch_add(1, Ordering::Relaxed);
        let number = self.begun.fetch_add(1, Ordering::Relaxed) + 1;
        let fault = if self.refused.load(Ordering::Acquire) == number {
            self.fault.lock().unwrap_or_else(PoisonError::into_inner).take()
        } else {
            None
        };
        (Active(Arc::clone(self)), fault)
    }

    /// Notes that request `number` is not one.
    pub fn refuse(&self, number: u64, fault: HeadFault) {
        *self.fault.lock().unwrap_or_else(PoisonError::into_inner) = Some(fault);
        self.refused.store(number, Ordering::Release);
    }

    /// Ends when the workload has closed its side of an HTTP/1 connection, which nobody else looks
    /// for while its request waits for a person. On HTTP/2 the exchange itself is ended.
    pub async fn left(&self) {
        let _watch = Watch::begin(&self.watched);
        self.left.notified().await;
    }

    /// Whether somebody waits for the workload to leave.
    pub fn is_watched(&self) -> bool {
        self.watched.load(Ordering::Relaxed)
    }

    /// Notes that the workload has closed its side.
    pub fn leave(&self) {
        self.left.notify_one();
    }

    /// Whether an exchange is going on.
    pub fn is_active(&self) -> bool {
        self.active.load(Ordering::Relaxed) > 0
    }

    /// Exchanges begun so far.
    pub fn begun(&self) -> u64 {
        self.begun.load(Ordering::Relaxed)
    }
}

/// An exchange that is going on: keeps its connection from being closed as idle.
#[derive(Debug)]
pub struct Active(Arc<Activity>);

impl Drop for Active {
    fn drop(&mut self) {
        self.0.active.fetch_sub(1, Ordering::Relaxed);
    }
}

/// As long as it lives, somebody waits for the workload to leave.
struct Watch<'activity>(&'activity AtomicBool);

impl<'activity> Watch<'activity> {
    fn begin(watched: &'activity AtomicBool) -> Self {
        watched.store(true, Ordering::Relaxed);
        Self(watched)
    }
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}
