//! Counts the processor time of one program, and tells when it is used up.

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::ticker::Ticker;

/// The processor time of one program. Time in which it waits, or in which its thread does something
/// else, does not count.
pub(crate) struct Meter {
    ticker: Arc<Ticker>,
    /// Nanoseconds that it may use.
    allowed: u64,
    /// Nanoseconds that it has used, up to its last rest.
    spent: AtomicU64,
    /// What the clock of the thread showed when the program went on, in nanoseconds.
    since: AtomicU64,
}

impl fmt::Debug for Meter {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Meter({:?} of {:?})", self.spent(), self.allowed())
    }
}

impl Meter {
    /// For a program that may use this much.
    pub(crate) fn new(ticker: &Arc<Ticker>, allowed: Duration) -> Self {
        Self {
            ticker: Arc::clone(ticker),
            allowed: nanoseconds(allowed),
            spent: AtomicU64::new(0),
            since: AtomicU64::new(0),
        }
    }

    /// Runs a program, and counts.
    pub(crate) async fn run<Program: Future>(&self, program: Program) -> Program::Output {
        let mut program = pin!(program);
        poll_fn(|context| {
            let _ticking = self.ticker.while_running();
            self.since.store(thread_time(), Ordering::Relaxed);
            let polled = program.as_mut().poll(context);
            self.spent.fetch_add(self.lap(), Ordering::Relaxed);
            polled
        })
        .await
    }

    /// Whether everything is used up. To be asked by the program's own thread, while it runs.
    pub(crate) fn is_used_up(&self) -> bool {
        self.spent.load(Ordering::Relaxed).saturating_add(self.lap()) > self.allowed
    }

    /// What the program has used, up to its last rest.
    pub(crate) fn spent(&self) -> Duration {
        Duration::from_nanos(self.spent.load(Ordering::Relaxed))
    }

    /// Begins to count anew. To be called while the program waits.
    pub(crate) fn renew(&self) {
        self.spent.store(0, Ordering::Relaxed);
    }

    /// What the program may use.
    pub(crate) fn allowed(&self) -> Duration {
        Duration::from_nanos(self.allowed)
    }

    fn lap(&self) -> u64 {
        thread_time().saturating_sub(self.since.load(Ordering::Relaxed))
    }
}

/// Processor time of this thread, in nanoseconds.
fn thread_time() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let nanoseconds = u64::try_from(time.tv_nsec).unwrap_or_default();
    u64::try_from(time.tv_sec).unwrap_or_default().saturating_mul(1_000_000_000).saturating_add(nanoseconds)
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meter(allowed: Duration) -> Meter {
        Meter::new(&Arc::new(Ticker::start().unwrap()), allowed)
    }

    #[tokio::test]
    async fn waiting_costs_nothing_and_work_does() {
        let meter = meter(Duration::from_millis(20));
        meter.run(tokio::time::sleep(Duration::from_millis(60))).await;
        assert!(meter.spent() < Duration::from_millis(20), "{:?}", meter.spent());
        assert!(!meter.is_used_up() || meter.spent() < meter.allowed());
        meter
            .run(async {
                assert!(!meter.is_used_up());
                while !meter.is_used_up() {
                    std::hint::spin_loop();
                }
            })
            .await;
        assert!(meter.spent() >= Duration::from_millis(20), "{:?}", meter.spent());
    }
}
