//! What goes on on one connection of the workload: how many exchanges, and which one was refused
//! before it was a request.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use futures_util::task::AtomicWaker;
use tokio::sync::Notify;

use crate::interim::Interim;
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
    has_left_http: AtomicBool,
    /// Of the reader that waits for an upgrade's answer.
    reader: AtomicWaker,
    idle: Notify,
    /// What upstreams say before they answer, on its way to the workload.
    pub interim: Interim,
}

/// What became of a request that asked for an upgrade.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answered {
    /// The connection is no longer HTTP.
    LeftHttp,
    /// It is, and the next request may follow.
    Stayed,
}

impl Activity {
    /// Begins an exchange, which lasts until the returned guard is dropped. Exchanges begin in the
    /// order of their requests; the one whose head was refused is told why.
    pub fn begin(self: &Arc<Self>) -> (Active, Option<HeadFault>) {
        self.active.fetch_add(1, Ordering::Relaxed);
        // Whoever sees that this one has begun sees too that it goes on.
        let number = self.begun.fetch_add(1, Ordering::Release) + 1;
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

    /// Notes that what follows on this connection is no longer HTTP.
    pub fn leave_http(&self) {
        self.has_left_http.store(true, Ordering::Release);
        self.reader.wake();
    }

    /// Waits for the answer of request `number`, the last one so far, which asked for an upgrade.
    pub fn poll_answered(&self, number: u64, cx: &mut Context<'_>) -> Poll<Answered> {
        self.reader.register(cx.waker());
        if self.has_left_http.load(Ordering::Acquire) {
            Poll::Ready(Answered::LeftHttp)
        } else if self.begun() >= number && !self.is_active() {
            Poll::Ready(Answered::Stayed)
        } else {
            Poll::Pending
        }
    }

    /// Ends when no exchange is going on.
    pub async fn until_idle(&self) {
        let mut idle = std::pin::pin!(self.idle.notified());
        loop {
            // Before the look, so that none is missed between the two.
            idle.as_mut().enable();
            if !self.is_active() {
                return;
            }
            idle.as_mut().await;
            idle.set(self.idle.notified());
        }
    }

    /// Whether an exchange is going on.
    pub fn is_active(&self) -> bool {
        self.active.load(Ordering::Relaxed) > 0
    }

    /// Exchanges begun so far.
    pub fn begun(&self) -> u64 {
        self.begun.load(Ordering::Acquire)
    }
}

/// An exchange that is going on: keeps its connection from being closed as idle.
#[derive(Debug)]
pub struct Active(Arc<Activity>);

impl Drop for Active {
    fn drop(&mut self) {
        if self.0.active.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.idle.notify_waiters();
            self.0.reader.wake();
        }
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
