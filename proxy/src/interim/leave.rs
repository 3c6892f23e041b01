//! Leave to send a body, which an upstream gives with `100 Continue` (RFC 9110 section 10.1.1).

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::task::AtomicWaker;
use tokio::time::{Sleep, sleep};

/// How long a body waits for leave to be sent, where the upstream says nothing: what curl waits, so that
/// such an upstream costs what it costs without the gate.
const CONTINUE_TIMEOUT: Duration = Duration::from_secs(1);

/// Leave to send a body.
#[derive(Debug, Default)]
pub struct Leave {
    is_given: AtomicBool,
    body: AtomicWaker,
}

impl Leave {
    /// Gives it.
    pub fn give(&self) {
        self.is_given.store(true, Ordering::Release);
        self.body.wake();
    }

    /// Whether it was given, or nobody waits for it any more.
    pub fn is_given(&self) -> bool {
        self.is_given.load(Ordering::Acquire)
    }
}

/// A body that waits for leave.
#[derive(Debug)]
pub struct Waits {
    leave: Arc<Leave>,
    deadline: Pin<Box<Sleep>>,
}

impl Waits {
    /// Begins to wait, no longer than [`CONTINUE_TIMEOUT`].
    pub fn new() -> (Self, Arc<Leave>) {
        let leave = Arc::<Leave>::default();
        (Self { leave: Arc::clone(&leave), deadline: Box::pin(sleep(CONTINUE_TIMEOUT)) }, leave)
    }

    /// Ready when the body may be sent.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.leave.body.register(cx.waker());
        if self.leave.is_given() {
            return Poll::Ready(());
        }
        self.deadline.as_mut().poll(cx)
    }

    /// Notes that the body is sent, with leave or without.
    pub fn end(&self) {
        self.leave.is_given.store(true, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;

    #[tokio::test(start_paused = true)]
    async fn a_body_waits_for_leave_or_a_second() {
        let (mut waits, leave) = Waits::new();
        assert!(poll_fn(|cx| Poll::Ready(waits.poll(cx).is_pending())).await);
        assert!(!leave.is_given());
        leave.give();
        assert!(poll_fn(|cx| Poll::Ready(waits.poll(cx).is_ready())).await);
        let (mut waits, leave) = Waits::new();
        let began = tokio::time::Instant::now();
        poll_fn(|cx| waits.poll(cx)).await;
        assert!(began.elapsed() >= CONTINUE_TIMEOUT);
        waits.end();
        assert!(leave.is_given());
    }
}
