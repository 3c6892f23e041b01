//! `ask`: a person decides.

use std::time::Duration;

use sluicegate_policy::{Answer, Effect, HandlerFault};

use super::{Refused, invalid};
use crate::bindings::policy::approval::Host;
use crate::state::State;

/// The longest wait that a program can ask for, in seconds.
const SECONDS_MAX: u32 = 600;
/// The longest question, in bytes; what is longer is cut.
const REASON_BYTES_MAX: usize = 1024;

impl Host for State {
    async fn ask(&mut self, reason: String, seconds: u32) -> Result<(), Refused> {
        if !(1..=SECONDS_MAX).contains(&seconds) {
            return Err(invalid(format!("a request can wait 1 to {SECONDS_MAX} seconds for a person")));
        }
        let reason = self.shown(&reason, REASON_BYTES_MAX).into();
        let patience = Duration::from_secs(seconds.into());
        match Self::ask(self, Effect::Ask { reason, patience }).await? {
            Answer::Done => Ok(()),
            // Told of it, a program could go on without the yes.
            Answer::Failed(_) | Answer::TimedOut => {
                Err(self.stop(HandlerFault::Threw, "nobody could be asked".to_owned()).into())
            }
            _ => Err(self.wrong_answer().into()),
        }
    }
}
