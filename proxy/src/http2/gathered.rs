//! A connection whose frames are gathered before they are written.

use std::pin::Pin;
use std::task::{Context, Poll};

/// Lets all run first that could run when a connection was woken: whoever of them has something to send adds
/// it, and one write takes it all. Without, the runtime would have a connection run right behind each that
/// wakes it.
#[derive(Debug)]
pub struct Gathered<F> {
    connection: F,
    has_let_run: bool,
}

impl<F> Gathered<F> {
    /// Gathers for what drives a connection.
    pub fn new(connection: F) -> Self {
        Self { connection, has_let_run: false }
    }
}

impl<F: Future + Unpin> Future for Gathered<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.get_mut();
        this.has_let_run = !this.has_let_run;
        if this.has_let_run {
            // To the end of the runtime's queue.
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Pin::new(&mut this.connection).poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tokio::sync::Notify;

    #[tokio::test]
    async fn those_that_can_run_do_so_before() {
        let (wake, count) = (Arc::new(Notify::new()), Arc::new(AtomicUsize::new(0)));
        let (woken, counted) = (Arc::clone(&wake), Arc::clone(&count));
        let connection = tokio::spawn(Gathered::new(Box::pin(async move {
            woken.notified().await;
            counted.load(Ordering::Relaxed)
        })));
        tokio::task::yield_now().await;
        for _ in 0..10 {
            let (wake, count) = (Arc::clone(&wake), Arc::clone(&count));
            tokio::spawn(async move {
                count.fetch_add(1, Ordering::Relaxed);
                wake.notify_one();
            });
        }
        assert_eq!(connection.await.unwrap(), 10);
    }
}
