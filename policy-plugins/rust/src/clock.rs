//! Time. The clocks of `std::time` panic in a component.

use std::time::Duration;

use crate::bindings::sluicegate::policy::clock;

/// The time since the beginning of 1970, in milliseconds.
#[must_use]
pub fn now_ms() -> u64 {
    clock::now_ms()
}

/// The time since the handler began.
#[must_use]
pub fn elapsed() -> Duration {
    Duration::from_nanos(clock::elapsed_ns())
}

/// Waits, for whole milliseconds.
pub fn sleep(time: Duration) {
    clock::sleep_ms(u32::try_from(time.as_millis()).unwrap_or(u32::MAX));
}
