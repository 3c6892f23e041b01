//! Chance, from the operating system.

use sluicegate_policy::HandlerFault;

use crate::bindings::policy::random::Host;
use crate::state::State;

/// The most random bytes of one call.
const BYTES_MAX: usize = 65_536;

impl Host for State {
    fn bytes(&mut self, count: u32) -> wasmtime::Result<Vec<u8>> {
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        if count > BYTES_MAX {
            let message = format!("more than {BYTES_MAX} random bytes at a time");
            return Err(self.stop(HandlerFault::Limit, message));
        }
        let mut bytes = vec![0; count];
        match aws_lc_rs::rand::fill(&mut bytes) {
            Ok(()) => Ok(bytes),
            Err(_) => Err(self.stop(HandlerFault::Threw, "no random bytes to be had".to_owned())),
        }
    }
}
