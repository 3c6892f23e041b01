//! Counts what a run uses up, and stops it.
//!
//! Rhai's progress hook is told a number and nothing of the run, and an engine serves runs on
//! several threads at once; so the count of the run on this thread stands in a thread-local cell,
//! from [`Watch::begin`] until the watch is dropped.

use std::cell::Cell;
use std::time::{Duration, Instant};

/// How many operations pass between two looks at the clock.
const STRIDE: u32 = 32;
/// What one stride counts for at most: where more passed, the thread was not running.
const STRIDE_MAX: Duration = Duration::from_millis(1);

thread_local! {
    static RUNNING: Cell<Option<State>> = const { Cell::new(None) };
}

/// What a run may use up.
#[derive(Clone, Copy, Debug)]
pub(super) struct Allowance {
    /// Steps of the interpreter.
    pub(super) operations: u64,
    /// Processor time.
    pub(super) cpu: Duration,
    /// Time by the clock, whoever used it.
    pub(super) elapsed: Duration,
}

/// What a run used up.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spent {
    pub(super) operations: u64,
    pub(super) cpu: Duration,
    /// What stopped it, if one of its bounds did.
    pub(super) stopped_by: Option<Bound>,
}

/// A bound that a run reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bound {
    Operations,
    Cpu,
    Elapsed,
}

#[derive(Clone, Copy)]
struct State {
    allowance: Allowance,
    begun: Instant,
    looked: Instant,
    until_look: u32,
    operations: u64,
    cpu: Duration,
    stopped_by: Option<Bound>,
    halted: bool,
}

/// The watch over the run on this thread. There is one at a time.
pub(super) struct Watch(());

impl Watch {
    /// Begins to count.
    pub(super) fn begin(allowance: Allowance) -> Self {
        let now = Instant::now();
        RUNNING.set(Some(State {
            allowance,
            begun: now,
            looked: now,
            until_look: STRIDE,
            operations: 0,
            cpu: Duration::ZERO,
            stopped_by: None,
            halted: false,
        }));
        Self(())
    }

    /// Ends the count.
    pub(super) fn end(self) -> Spent {
        let Some(mut state) = RUNNING.take() else {
            // Nobody else takes it; if somebody did, the run counts as one without bound.
            return Spent { operations: u64::MAX, cpu: Duration::MAX, stopped_by: Some(Bound::Cpu) };
        };
        state.look();
        Spent { operations: state.operations, cpu: state.cpu, stopped_by: state.stopped_by }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        RUNNING.set(None);
    }
}

impl State {
    fn look(&mut self) {
        let now = Instant::now();
        self.cpu += now.saturating_duration_since(self.looked).min(STRIDE_MAX);
        self.looked = now;
        self.until_look = STRIDE;
    }

    fn bound(&self) -> Option<Bound> {
        if self.operations > self.allowance.operations {
            Some(Bound::Operations)
        } else if self.cpu > self.allowance.cpu {
            Some(Bound::Cpu)
        } else if self.looked.saturating_duration_since(self.begun) > self.allowance.elapsed {
            Some(Bound::Elapsed)
        } else {
            None
        }
    }
}

/// Counts one operation; whether the run goes on.
pub(super) fn goes_on() -> bool {
    let Some(mut state) = RUNNING.get() else {
        return false;
    };
    state.operations += 1;
    state.until_look = state.until_look.saturating_sub(1);
    if state.until_look == 0 {
        state.look();
    }
    if state.stopped_by.is_none() && !state.halted {
        state.stopped_by = state.bound();
    }
    RUNNING.set(Some(state));
    state.stopped_by.is_none() && !state.halted
}

/// Lets no further operation of the run on this thread happen, whatever the script catches.
pub(super) fn halt() {
    if let Some(mut state) = RUNNING.get() {
        state.halted = true;
        RUNNING.set(Some(state));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AMPLE: Allowance =
        Allowance { operations: 1_000, cpu: Duration::from_secs(10), elapsed: Duration::from_secs(10) };

    #[test]
    fn operations_are_counted_and_bounded() {
        let watch = Watch::begin(Allowance { operations: 3, ..AMPLE });
        assert_eq!([goes_on(), goes_on(), goes_on(), goes_on(), goes_on()], [true, true, true, false, false]);
        let spent = watch.end();
        assert_eq!((spent.operations, spent.stopped_by), (5, Some(Bound::Operations)));
    }

    #[test]
    fn a_stretch_without_operations_counts_for_little() {
        let watch = Watch::begin(AMPLE);
        std::thread::sleep(Duration::from_millis(20));
        let spent = watch.end();
        assert!(spent.cpu <= STRIDE_MAX, "{spent:?}");
    }

    #[test]
    fn time_by_the_clock_is_bounded_within_a_stride() {
        let watch = Watch::begin(Allowance { elapsed: Duration::from_millis(1), ..AMPLE });
        std::thread::sleep(Duration::from_millis(2));
        let passed = (0..2 * STRIDE).take_while(|_| goes_on()).count();
        assert!(passed < STRIDE as usize, "{passed}");
        assert_eq!(watch.end().stopped_by, Some(Bound::Elapsed));
    }

    #[test]
    fn nothing_runs_halted_or_unwatched() {
        assert!(!goes_on());
        let watch = Watch::begin(AMPLE);
        assert!(goes_on());
        halt();
        assert!(!goes_on());
        assert_eq!(watch.end().stopped_by, None);
        assert!(!goes_on());
    }
}
