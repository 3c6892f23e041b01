//! Secrets, usable and not readable.

use sluicegate_policy::{Answer, Effect, SecretName};

use super::{Refused, invalid};
use crate::bindings::policy::secrets::Host;
use crate::state::State;

impl State {
    /// The secret of this name.
    ///
    /// # Errors
    /// The document has none.
    pub(super) fn secret(&self, name: &str) -> Result<SecretName, Refused> {
        let known = self.environment.secrets.iter().find(|secret| secret.as_str() == name);
        known.cloned().ok_or_else(|| {
            let name = self.shown(name, 64);
            invalid(format!("there is no secret {name}: say [secrets.{name}] in the document"))
        })
    }
}

impl Host for State {
    fn placeholder(&mut self, name: String) -> Result<String, Refused> {
        let name = self.secret(&name)?;
        Ok(self.placeholders_mut()?.of(&name))
    }

    async fn hmac_sha256(&mut self, name: String, data: Vec<u8>) -> Result<Vec<u8>, Refused> {
        let secret = self.secret(&name)?;
        if self.holds_secret(&data) {
            return Err(invalid("what is signed cannot hold a secret: it is not the text that is sent"));
        }
        match self.ask(Effect::Hmac { secret, data: data.into() }).await? {
            Answer::Bytes(signature) => Ok(signature.into()),
            other => Err(self.unanswered(other)),
        }
    }
}
