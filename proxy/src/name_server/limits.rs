//! How many questions are answered: a bucket that fills with time and is emptied by questions.

use std::time::Instant;

/// Questions that may be answered at once, in seconds' worth: programs start with a burst.
const BURST_SECONDS: f64 = 2.0;

/// Room for questions, which comes back with time.
#[derive(Debug)]
pub(super) struct Bucket {
    questions: f64,
    filled: Instant,
}

impl Bucket {
    /// A full bucket for this many questions per second.
    pub(super) fn full(per_second: u32, now: Instant) -> Self {
        Self { questions: f64::from(per_second) * BURST_SECONDS, filled: now }
    }

    /// Takes one question, if there is room for it. The rate may be another one at each call, as a
    /// policy says.
    pub(super) fn take(&mut self, per_second: u32, now: Instant) -> bool {
        let (rate, passed) = (f64::from(per_second), now.saturating_duration_since(self.filled));
        self.questions = (self.questions + passed.as_secs_f64() * rate).min(rate * BURST_SECONDS);
        // Callers look at the clock before they wait for one another.
        self.filled = self.filled.max(now);
        let is_there = self.questions >= 1.0;
        if is_there {
            self.questions -= 1.0;
        }
        is_there
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_burst_is_answered_and_then_so_many_a_second() {
        let start = Instant::now();
        let mut bucket = Bucket::full(10, start);
        let taken = |bucket: &mut Bucket, rate, at| (0..1_000).filter(|_| bucket.take(rate, at)).count();
        assert_eq!(taken(&mut bucket, 10, start), 20);
        assert_eq!(taken(&mut bucket, 10, start + Duration::from_millis(50)), 0);
        assert_eq!(taken(&mut bucket, 10, start + Duration::from_millis(550)), 5);
        // Never more than a burst, however long it was quiet; and a clock that stands still gives none.
        let later = start + Duration::from_secs(3_600);
        assert_eq!(taken(&mut bucket, 10, later), 20);
        assert_eq!(taken(&mut bucket, 10, start), 0);
        // Another policy, another rate.
        assert_eq!(taken(&mut bucket, 100, later + Duration::from_secs(1)), 100);
    }
}
