//! What goes on on one connection of the workload: how many exchanges, and which one was refused
//! before it was a request.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::request_head::HeadFault;

/// Shared between a connection's reader and its exchanges.
#[derive(Debug, Default)]
pub struct Activity {
    fault: Mutex<Option<HeadFault>>,
    /// Number of the refused request on this connection, counted from 1; 0 is none.
    refused: AtomicU64,
    begun: AtomicU64,
    active: AtomicU32,
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
