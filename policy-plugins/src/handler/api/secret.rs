//! Secrets by name: they go into slots, and everything else that is tried with one is refused.

use rhai::{Dynamic, EvalAltResult, ImmutableString, NativeCallContext};

use super::{Registrar, entry};
use crate::handler::failure::{Fallible, thrown};
use crate::handler::journal::{Question, Told};
use crate::handler::run::Run;
use crate::handler::value::text_of;
use crate::handler::{Answer, Effect, HandlerFault};
use crate::secret::SecretName;
use crate::template::{Template, TemplatePart};

/// A secret as a script holds it: its name, never its value.
#[derive(Clone, Debug)]
pub(in crate::handler) struct Secret(SecretName);

impl Secret {
    pub(in crate::handler) fn new(name: SecretName) -> Self {
        Self(name)
    }

    pub(in crate::handler) fn name(&self) -> &SecretName {
        &self.0
    }

    /// The error for whatever is no slot.
    pub(in crate::handler) fn misused(&self) -> Box<EvalAltResult> {
        thrown(self.misuse())
    }

    fn misuse(&self) -> String {
        format!(
            "secret {} can only be put into a slot: use request.set_header(name, \"Bearer \", secret), \
             request.set_bearer(secret), request.set_basic_auth(user, secret) or \
             request.set_query(name, secret)",
            self.0
        )
    }

    /// The slot's content: the secret between two texts.
    ///
    /// # Errors
    /// A text holds what a header or a query cannot.
    pub(super) fn between(&self, prefix: &str, suffix: &str) -> Fallible<Template> {
        if let Some(odd) = prefix.chars().chain(suffix.chars()).find(|c| !matches!(c, ' '..='~')) {
            return Err(thrown(format!("{odd:?} cannot stand beside a secret: write printable ASCII")));
        }
        let literal = |text: &str| TemplatePart::Literal(text.into());
        Ok(Template::from_parts(vec![literal(prefix), TemplatePart::Secret(self.0.clone()), literal(suffix)]))
    }
}

/// What stands for a secret where a script reads a slot.
pub(super) fn shown(name: &SecretName) -> String {
    format!("<secret {name}>")
}

pub(super) fn register(api: &mut Registrar<'_>) {
    api.engine.register_type_with_name::<Secret>("secret");
    api.section("Secrets");
    api.describe(entry(
        "env.secrets.NAME",
        "A secret of the document, by name: it goes into a slot of a request and nowhere else; joining, \
         comparing, printing or storing it is an error",
        "request.set_bearer(env.secrets.API_TOKEN);",
    ));
    api.function(
        entry(
            "reveal(secret)",
            "The value as text, for a handler whose entry in the document says `reveal = [\"NAME\"]`",
            "let token = reveal(env.secrets.API_TOKEN);",
        ),
        reveal,
    );
    refuse_operators(api);
}

/// Interpolation and printing swallow errors, so a secret in them ends the run.
fn refuse_operators(api: &mut Registrar<'_>) {
    for name in ["to_string", "to_debug"] {
        api.also(name, |context: NativeCallContext<'_>, secret: &mut Secret| -> Fallible<ImmutableString> {
            match Run::of(&context) {
                Ok(run) => Err(run.fail(HandlerFault::Threw, context.call_position(), &secret.misuse())),
                Err(_) => Err(secret.misused()),
            }
        });
    }
    for name in ["+", "==", "!=", "<", ">", "<=", ">=", "contains"] {
        api.also(name, |left: Secret, _: &str| -> Fallible<Dynamic> { Err(left.misused()) });
        api.also(name, |_: &str, right: Secret| -> Fallible<Dynamic> { Err(right.misused()) });
        api.also(name, |left: Secret, _: Secret| -> Fallible<Dynamic> { Err(left.misused()) });
    }
    api.also("+=", |_: &mut ImmutableString, right: Secret| -> Fallible<()> { Err(right.misused()) });
    api.also("append", |_: &mut ImmutableString, right: Secret| -> Fallible<()> { Err(right.misused()) });
}

fn reveal(context: NativeCallContext<'_>, secret: Secret) -> Fallible<ImmutableString> {
    let run = Run::of(&context)?;
    let at = context.call_position();
    let name = secret.name();
    if !run.bound().reveal.contains(name) {
        return Err(thrown(format!(
            "this handler may not have the value of secret {name}: say `reveal = [\"{name}\"]` where the \
             document names the handler"
        )));
    }
    let told = run.perform(at, Question::new("reveal", name), || Effect::Reveal(name.clone()))?;
    match told {
        Told::Other(Answer::Bytes(value)) => text_of(&value, run.environment().limits.string_bytes)
            .map_err(|_| thrown(format!("the value of secret {name} is no text"))),
        _ => Err(run.wrong_answer(at)),
    }
}
