//! The clock that interrupts programs: it advances the epoch of every engine while a program runs.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::{self, Thread};
use std::time::Duration;

use wasmtime::Engine;

/// How often a running program is looked at.
const TICK: Duration = Duration::from_millis(1);
/// Ticks without a running program before the clock rests: waking it costs more than some ticks.
const LINGER: u32 = 50;

/// A thread that ticks while programs run. It ends when this is dropped.
pub(crate) struct Ticker(Arc<Shared>);

struct Shared {
    /// Programs that are on a processor now, and not waiting.
    running: AtomicUsize,
    resting: AtomicBool,
    ended: AtomicBool,
    thread: OnceLock<Thread>,
    engines: Mutex<Vec<Engine>>,
}

/// A program is on a processor while this lives.
pub(crate) struct Ticking<'ticker>(&'ticker Ticker);

impl Ticker {
    /// Starts the clock.
    ///
    /// # Errors
    /// No thread can be had.
    pub(crate) fn start() -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            running: AtomicUsize::new(0),
            resting: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            thread: OnceLock::new(),
            engines: Mutex::new(Vec::new()),
        });
        let ours = Arc::clone(&shared);
        let handle = thread::Builder::new().name("program-clock".to_owned()).spawn(move || ours.tick())?;
        shared.thread.get_or_init(|| handle.thread().clone());
        Ok(Self(shared))
    }

    /// Ticks for this engine too.
    pub(crate) fn add(&self, engine: &Engine) {
        self.0.engines.lock().unwrap_or_else(PoisonError::into_inner).push(engine.clone());
    }

    /// Ticks at least until what is returned is dropped.
    pub(crate) fn while_running(&self) -> Ticking<'_> {
        self.0.running.fetch_add(1, Ordering::SeqCst);
        if self.0.resting.load(Ordering::SeqCst) {
            self.0.wake();
        }
        Ticking(self)
    }
}

impl Drop for Ticking<'_> {
    fn drop(&mut self) {
        self.0.0.running.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.0.ended.store(true, Ordering::SeqCst);
        self.0.wake();
    }
}

impl Shared {
    fn wake(&self) {
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }

    fn tick(&self) {
        let mut idle = 0;
        while !self.ended.load(Ordering::SeqCst) {
            thread::sleep(TICK);
            for engine in self.engines.lock().unwrap_or_else(PoisonError::into_inner).iter() {
                engine.increment_epoch();
            }
            idle = if self.running.load(Ordering::SeqCst) == 0 { idle + 1 } else { 0 };
            if idle >= LINGER {
                self.rest();
                idle = 0;
            }
        }
    }

    /// Waits for a program to run. Whoever begins to run after `resting` is set wakes the clock, and
    /// whoever began before is seen here.
    fn rest(&self) {
        self.resting.store(true, Ordering::SeqCst);
        while self.running.load(Ordering::SeqCst) == 0 && !self.ended.load(Ordering::SeqCst) {
            thread::park();
        }
        self.resting.store(false, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_resting(ticker: &Ticker) -> bool {
        ticker.0.resting.load(Ordering::SeqCst)
    }

    #[test]
    fn it_rests_when_nothing_runs_and_wakes_when_something_does() {
        let ticker = Ticker::start().unwrap();
        let waited = std::time::Instant::now();
        while !is_resting(&ticker) {
            assert!(waited.elapsed() < Duration::from_secs(30), "the clock does not rest");
            thread::sleep(TICK);
        }
        let running = ticker.while_running();
        while is_resting(&ticker) {
            assert!(waited.elapsed() < Duration::from_secs(60), "the clock does not wake");
            thread::sleep(TICK);
        }
        // It does not rest again while something runs.
        thread::sleep(TICK * (LINGER + 50));
        assert!(!is_resting(&ticker));
        drop(running);
    }

    #[test]
    fn it_ends_with_its_owner() {
        let ticker = Ticker::start().unwrap();
        let shared = Arc::downgrade(&ticker.0);
        drop(ticker);
        let waited = std::time::Instant::now();
        while shared.strong_count() > 0 {
            assert!(waited.elapsed() < Duration::from_secs(30), "the thread does not end");
            thread::sleep(TICK);
        }
    }
}
