//! The bytes of secrets, for handlers that the document grants them to.

use sluicegate_policy::{Answer, Effect};

use super::{Refused, invalid};
use crate::bindings::policy::reveal::Host;
use crate::state::State;

impl Host for State {
    async fn reveal(&mut self, name: String) -> Result<Vec<u8>, Refused> {
        let secret = self.secret(&name)?;
        if !self.bound.reveal.contains(&secret) {
            return Err(invalid(format!(
                "this handler may not have the value of secret {secret}: say `reveal = [\"{secret}\"]` where \
                 the document names the handler"
            )));
        }
        match self.ask(Effect::Reveal(secret)).await? {
            Answer::Bytes(value) => Ok(value.into()),
            other => Err(self.unanswered(other)),
        }
    }
}
