//! Time.

use std::time::{Duration, SystemTime};

use sluicegate_policy::{Answer, Effect, HandlerFault};

use crate::bindings::policy::clock::Host;
use crate::state::State;

impl Host for State {
    fn now_ms(&mut self) -> wasmtime::Result<u64> {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Ok(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    fn elapsed_ns(&mut self) -> wasmtime::Result<u64> {
        Ok(u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    async fn sleep_ms(&mut self, duration: u32) -> wasmtime::Result<()> {
        match self.ask(Effect::Sleep(Duration::from_millis(duration.into()))).await? {
            Answer::Done => Ok(()),
            Answer::Failed(why) => Err(self.stop(HandlerFault::Threw, why.into())),
            _ => Err(self.wrong_answer()),
        }
    }
}
