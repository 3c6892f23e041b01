//! `env`: secrets, bindings and constants.

use std::sync::Arc;

use rhai::{Dynamic, NativeCallContext};

use super::kv::Kv;
use super::objects::Objects;
use super::secret::Secret;
use super::{Registrar, entry};
use crate::handler::failure::{Fallible, thrown};
use crate::handler::value::from_json;
use crate::handler::{BindingKind, Environment};

/// `env` as a script holds it.
#[derive(Clone, Debug)]
pub(in crate::handler) struct Env(Arc<Environment>);

/// `env.secrets`.
#[derive(Clone, Debug)]
struct Secrets(Arc<Environment>);

impl Env {
    pub(in crate::handler) fn new(environment: &Arc<Environment>) -> Self {
        Self(Arc::clone(environment))
    }

    fn get(&self, name: &str) -> Fallible<Dynamic> {
        if let Some(kind) = self.0.bindings.get(name) {
            return Ok(match kind {
                BindingKind::Kv => Dynamic::from(Kv::new(name)),
                BindingKind::Objects => Dynamic::from(Objects::new(name)),
            });
        }
        match self.0.constants.get(name) {
            Some(value) => Ok(from_json(value)),
            None => Err(thrown(format!(
                "env has no {name}: say [bindings.{name}] or put it under [env] in the document"
            ))),
        }
    }
}

impl Secrets {
    fn get(&self, name: &str) -> Fallible<Secret> {
        let found = self.0.secrets.iter().find(|secret| secret.as_str() == name);
        found
            .map(|name| Secret::new(name.clone()))
            .ok_or_else(|| thrown(format!("there is no secret {name}: say [secrets.{name}] in the document")))
    }
}

pub(super) fn register(api: &mut Registrar<'_>) {
    api.engine.register_type_with_name::<Env>("env").register_type_with_name::<Secrets>("secrets");
    api.section("The environment");
    api.engine.register_get("secrets", |env: &mut Env| Secrets(Arc::clone(&env.0)));
    api.engine.register_indexer_get(|env: &mut Env, name: &str| env.get(name));
    api.engine.register_indexer_get(|secrets: &mut Secrets, name: &str| secrets.get(name));
    api.describe(entry(
        "env.NAME",
        "A constant of the document's `[env]`, or a binding: `kv` and `objects` are always there",
        "let team = env.TEAM;",
    ));
    for name in ["to_string", "to_debug"] {
        api.also(name, |_: NativeCallContext<'_>, _: &mut Env| "<env>".to_owned());
        api.also(name, |_: NativeCallContext<'_>, _: &mut Secrets| "<secrets>".to_owned());
    }
}
