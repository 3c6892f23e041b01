//! Bindings of kind `kv`: values by key.

use std::time::Duration;

use sluicegate_policy::{Answer, BindingKind, Effect, KvOperation};

use super::{Refused, invalid};
use crate::bindings::policy::kv::Host;
use crate::state::State;

/// The longest time that a value is kept for, in seconds: ten years.
const TTL_SECONDS_MAX: u32 = 10 * 365 * 86_400;

impl State {
    async fn ask_kv(&mut self, binding: String, operation: KvOperation) -> Result<Answer, Refused> {
        Ok(self.ask(Effect::Kv { binding: binding.into(), operation }).await?)
    }
}

impl Host for State {
    async fn get(&mut self, binding: String, key: String) -> Result<Option<Vec<u8>>, Refused> {
        self.check_binding(&binding, BindingKind::Kv)?;
        let key = self.checked_key(key)?;
        match self.ask_kv(binding, KvOperation::Get(key)).await? {
            Answer::Bytes(value) => Ok(Some(value.into())),
            Answer::Nothing => Ok(None),
            other => Err(self.unanswered(other)),
        }
    }

    async fn put(
        &mut self,
        binding: String,
        key: String,
        value: Vec<u8>,
        ttl_seconds: Option<u32>,
    ) -> Result<(), Refused> {
        self.check_binding(&binding, BindingKind::Kv)?;
        let key = self.checked_key(key)?;
        let most = self.environment.limits.body_bytes;
        if value.len() > most {
            let message = format!("the value is longer than {most} bytes (body_bytes of [handler_limits])");
            return Err(invalid(message));
        }
        if self.holds_secret(&value) {
            return Err(invalid("a secret cannot be put into a stored value"));
        }
        let operation = KvOperation::Put { key, value: value.into(), ttl: seconds(ttl_seconds)? };
        let answer = self.ask_kv(binding, operation).await?;
        self.done(answer)
    }

    async fn delete(&mut self, binding: String, key: String) -> Result<(), Refused> {
        self.check_binding(&binding, BindingKind::Kv)?;
        let key = self.checked_key(key)?;
        let answer = self.ask_kv(binding, KvOperation::Delete(key)).await?;
        self.done(answer)
    }

    async fn list_keys(&mut self, binding: String, prefix: String) -> Result<Vec<String>, Refused> {
        self.check_binding(&binding, BindingKind::Kv)?;
        let prefix = self.checked_prefix(prefix)?;
        let answer = self.ask_kv(binding, KvOperation::List(prefix)).await?;
        self.keys(answer)
    }

    async fn increment(
        &mut self,
        binding: String,
        key: String,
        by: i64,
        ttl_seconds: Option<u32>,
    ) -> Result<i64, Refused> {
        self.check_binding(&binding, BindingKind::Kv)?;
        let key = self.checked_key(key)?;
        let operation = KvOperation::Increment { key, by, ttl: seconds(ttl_seconds)? };
        match self.ask_kv(binding, operation).await? {
            Answer::Number(sum) => Ok(sum),
            other => Err(self.unanswered(other)),
        }
    }
}

fn seconds(seconds: Option<u32>) -> Result<Option<Duration>, Refused> {
    match seconds {
        Some(seconds) if !(1..=TTL_SECONDS_MAX).contains(&seconds) => {
            Err(invalid(format!("a value is kept for 1 to {TTL_SECONDS_MAX} seconds")))
        }
        seconds => Ok(seconds.map(|seconds| Duration::from_secs(seconds.into()))),
    }
}
