//! Bindings of kind `kv`: values by key.

use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rhai::{Array, Dynamic, NativeCallContext};

use super::{Registrar, entry};
use crate::handler::failure::{Fallible, thrown};
use crate::handler::journal::{Question, Told};
use crate::handler::run::Run;
use crate::handler::value::{Blob, bytes_of, parse_json, text_of, to_json};
use crate::handler::{Answer, Effect, KvOperation};

/// The longest time that a value is kept for, in seconds: ten years.
const TTL_SECONDS_MAX: i64 = 10 * 365 * 86_400;

/// A binding as a script holds it.
#[derive(Clone, Debug)]
pub(super) struct Kv(Arc<str>);

/// What of an operation tells it from another; a value is not looked at.
struct Asked<'operation>(&'operation KvOperation);

impl Hash for Asked<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        match self.0 {
            KvOperation::Get(key) => ("get", key).hash(state),
            KvOperation::Put { key, value, ttl } => ("put", key, value.len(), ttl).hash(state),
            KvOperation::Delete(key) => ("delete", key).hash(state),
            KvOperation::List(prefix) => ("list", prefix).hash(state),
            KvOperation::Increment { key, by, ttl } => ("increment", key, by, ttl).hash(state),
        }
    }
}

impl Kv {
    pub(super) fn new(name: &str) -> Self {
        Self(name.into())
    }

    fn perform(&self, context: &NativeCallContext<'_>, operation: KvOperation) -> Fallible<(Run, Answer)> {
        let run = Run::of(context)?;
        let at = context.call_position();
        let question = Question::new("kv", (&self.0, Asked(&operation)));
        let effect = || Effect::Kv { binding: (&*self.0).into(), operation };
        match run.perform(at, question, effect)? {
            Told::Other(answer) => Ok((run, answer)),
            _ => Err(run.wrong_answer(at)),
        }
    }

    fn get(&self, context: &NativeCallContext<'_>, key: &str) -> Fallible<Option<Bytes>> {
        match self.perform(context, KvOperation::Get(checked(key)?))? {
            (_, Answer::Bytes(value)) => Ok(Some(value)),
            (_, Answer::Nothing) => Ok(None),
            (run, _) => Err(run.wrong_answer(context.call_position())),
        }
    }

    fn put(
        &self,
        context: &NativeCallContext<'_>,
        key: &str,
        value: &Dynamic,
        ttl: Option<i64>,
    ) -> Fallible<()> {
        let value = stored(value)?;
        let operation = KvOperation::Put { key: checked(key)?, value, ttl: ttl.map(seconds).transpose()? };
        self.done(context, operation)
    }

    fn done(&self, context: &NativeCallContext<'_>, operation: KvOperation) -> Fallible<()> {
        match self.perform(context, operation)? {
            (_, Answer::Done) => Ok(()),
            (run, _) => Err(run.wrong_answer(context.call_position())),
        }
    }

    fn list(&self, context: &NativeCallContext<'_>, prefix: &str) -> Fallible<Array> {
        match self.perform(context, KvOperation::List(prefix.into()))? {
            (_, Answer::Keys(keys)) => Ok(keys.iter().map(|key| Dynamic::from(key.to_string())).collect()),
            (run, _) => Err(run.wrong_answer(context.call_position())),
        }
    }

    fn increment(
        &self,
        context: &NativeCallContext<'_>,
        key: &str,
        by: i64,
        ttl: Option<i64>,
    ) -> Fallible<i64> {
        let operation = KvOperation::Increment { key: checked(key)?, by, ttl: ttl.map(seconds).transpose()? };
        match self.perform(context, operation)? {
            (_, Answer::Number(number)) => Ok(number),
            (run, _) => Err(run.wrong_answer(context.call_position())),
        }
    }
}

/// A key that is not empty; the store bounds its length.
pub(super) fn checked(key: &str) -> Fallible<Box<str>> {
    if key.is_empty() { Err(thrown("a key is not empty")) } else { Ok(key.into()) }
}

fn seconds(seconds: i64) -> Fallible<Duration> {
    if !(1..=TTL_SECONDS_MAX).contains(&seconds) {
        return Err(thrown(format!("a value is kept for 1 to {TTL_SECONDS_MAX} seconds")));
    }
    Ok(Duration::from_secs(seconds.unsigned_abs()))
}

/// A value as the store has it: text and blobs as they are, numbers in decimal, maps and arrays as JSON.
fn stored(value: &Dynamic) -> Fallible<Bytes> {
    if value.is_map() || value.is_array() || value.is_int() {
        return Ok(to_json(value)?.to_string().into());
    }
    bytes_of(value)
}

pub(super) fn register(api: &mut Registrar<'_>) {
    api.engine.register_type_with_name::<Kv>("kv");
    api.section("Stored values (`env.kv` and other bindings of kind `kv`)");
    register_reading(api);
    register_writing(api);
    register_increment(api);
    for name in ["to_string", "to_debug"] {
        api.also(name, |kv: &mut Kv| format!("<kv {}>", kv.0));
    }
}

fn register_reading(api: &mut Registrar<'_>) {
    api.function(
        entry("env.kv.get(key)", "The value as text, or `()`", "let key = env.kv.get(ctx.container_id);"),
        |context: NativeCallContext<'_>, kv: &mut Kv, key: &str| -> Fallible<Dynamic> {
            let Some(value) = kv.get(&context, key)? else {
                return Ok(Dynamic::UNIT);
            };
            let most = Run::of(&context)?.environment().limits.string_bytes;
            text_of(&value, most).map(Dynamic::from).map_err(|_| {
                thrown(format!("the value of {key} is no text of at most {most} bytes: use get_blob"))
            })
        },
    );
    api.function(
        entry("env.kv.get_blob(key)", "The value as a blob, or `()`", ""),
        |context: NativeCallContext<'_>, kv: &mut Kv, key: &str| -> Fallible<Dynamic> {
            Ok(kv.get(&context, key)?.map_or(Dynamic::UNIT, |value| Dynamic::from(Blob(value))))
        },
    );
    api.function(
        entry("env.kv.get_json(key)", "The value that its JSON stands for, or `()`", ""),
        |context: NativeCallContext<'_>, kv: &mut Kv, key: &str| -> Fallible<Dynamic> {
            kv.get(&context, key)?.map_or(Ok(Dynamic::UNIT), |value| parse_json(&value))
        },
    );
    api.function(
        entry(
            "env.kv.list(prefix)",
            "The keys that begin with a text, in order",
            "let keys = env.kv.list(\"\");",
        ),
        |context: NativeCallContext<'_>, kv: &mut Kv, prefix: &str| kv.list(&context, prefix),
    );
}

fn register_writing(api: &mut Registrar<'_>) {
    api.function(
        entry(
            "env.kv.put(key, value, seconds)",
            "Stores a text, a blob, or a map, an array or a number as JSON; for so many seconds, or for good if \
             they are left out",
            "env.kv.put(\"seen\", #{ at: now() }, 3600);",
        ),
        |context: NativeCallContext<'_>, kv: &mut Kv, key: &str, value: Dynamic, ttl: i64| {
            kv.put(&context, key, &value, Some(ttl))
        },
    );
    api.also("put", |context: NativeCallContext<'_>, kv: &mut Kv, key: &str, value: Dynamic| {
        kv.put(&context, key, &value, None)
    });
    api.function(
        entry("env.kv.delete(key)", "Removes a value, there or not", ""),
        |context: NativeCallContext<'_>, kv: &mut Kv, key: &str| {
            kv.done(&context, KvOperation::Delete(checked(key)?))
        },
    );
}

fn register_increment(api: &mut Registrar<'_>) {
    api.function(
        entry(
            "env.kv.increment(key, by, seconds)",
            "Adds to a number that begins at 0, and gives the sum; nothing comes between. `by` is 1 if left out; \
             with seconds the number is kept that long from its first increment",
            "if env.kv.increment(\"requests\", 1, 3600) > 100 { return reply(429); }",
        ),
        |context: NativeCallContext<'_>, kv: &mut Kv, key: &str, by: i64, ttl: i64| {
            kv.increment(&context, key, by, Some(ttl))
        },
    );
    api.also("increment", |context: NativeCallContext<'_>, kv: &mut Kv, key: &str, by: i64| {
        kv.increment(&context, key, by, None)
    });
    api.also("increment", |context: NativeCallContext<'_>, kv: &mut Kv, key: &str| {
        kv.increment(&context, key, 1, None)
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_stored_as_other_programs_read_them() {
        let map = parse_json(br#"{"a":[1]}"#).unwrap();
        let table: [(Dynamic, &[u8]); 4] = [
            ("text".into(), b"text"),
            (5_i64.into(), b"5"),
            (map, br#"{"a":[1]}"#),
            (Dynamic::from(Blob(Bytes::from_static(&[0, 255]))), &[0, 255]),
        ];
        for (value, bytes) in table {
            assert_eq!(stored(&value).unwrap(), bytes);
        }
        assert!(stored(&Dynamic::UNIT).is_err());
    }
}
