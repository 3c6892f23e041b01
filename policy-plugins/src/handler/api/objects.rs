//! Bindings of kind `objects`: streams by key.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use bytes::Bytes;
use rhai::{Array, Dynamic, ImmutableString, NativeCallContext};

use super::body::{Body, plain};
use super::kv::checked;
use super::{Registrar, entry, optional};
use crate::handler::failure::{Fallible, thrown};
use crate::handler::journal::{Question, Told};
use crate::handler::run::Run;
use crate::handler::value::{Blob, text_of};
use crate::handler::{Answer, BodySource, Effect, Object, ObjectsOperation};

/// The longest media type, in bytes.
const TYPE_BYTES_MAX: usize = 255;

/// A binding as a script holds it.
#[derive(Clone, Debug)]
pub(super) struct Objects(Arc<str>);

/// An object as a script holds it.
#[derive(Clone, Debug)]
struct Stored(Arc<Object>);

/// What of an operation tells it from another; the content is not looked at.
struct Asked<'operation>(&'operation ObjectsOperation);

impl Hash for Asked<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        match self.0 {
            ObjectsOperation::Get(key) => ("get", key).hash(state),
            ObjectsOperation::Head(key) => ("head", key).hash(state),
            ObjectsOperation::Put { key, content_type, .. } => ("put", key, content_type).hash(state),
            ObjectsOperation::Delete(key) => ("delete", key).hash(state),
            ObjectsOperation::List(prefix) => ("list", prefix).hash(state),
        }
    }
}

impl Objects {
    pub(super) fn new(name: &str) -> Self {
        Self(name.into())
    }

    fn perform(
        &self,
        context: &NativeCallContext<'_>,
        operation: ObjectsOperation,
    ) -> Fallible<(Run, Answer)> {
        let run = Run::of(context)?;
        let at = context.call_position();
        let question = Question::new("objects", (&self.0, Asked(&operation)));
        let effect = || Effect::Objects { binding: (&*self.0).into(), operation };
        match run.perform(at, question, effect)? {
            Told::Other(answer) => Ok((run, answer)),
            _ => Err(run.wrong_answer(at)),
        }
    }

    fn object(&self, context: &NativeCallContext<'_>, operation: ObjectsOperation) -> Fallible<Dynamic> {
        match self.perform(context, operation)? {
            (_, Answer::Object(object)) => Ok(Dynamic::from(Stored(Arc::new(object)))),
            (_, Answer::Nothing) => Ok(Dynamic::UNIT),
            (run, _) => Err(run.wrong_answer(context.call_position())),
        }
    }

    fn done(&self, context: &NativeCallContext<'_>, operation: ObjectsOperation) -> Fallible<()> {
        match self.perform(context, operation)? {
            (_, Answer::Done) => Ok(()),
            (run, _) => Err(run.wrong_answer(context.call_position())),
        }
    }

    fn put(
        &self,
        context: &NativeCallContext<'_>,
        key: &str,
        value: &Dynamic,
        content_type: Option<&str>,
    ) -> Fallible<()> {
        let fits =
            |text: &str| text.len() <= TYPE_BYTES_MAX && text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
        if !content_type.is_none_or(fits) {
            return Err(thrown("a media type is short printable ASCII, such as text/plain"));
        }
        let key = checked(key)?;
        let body = Run::of(context)?.send_body(&plain(value)?)?;
        self.done(context, ObjectsOperation::Put { key, body, content_type: content_type.map(Into::into) })
    }

    fn list(&self, context: &NativeCallContext<'_>, prefix: &str) -> Fallible<Array> {
        match self.perform(context, ObjectsOperation::List(prefix.into()))? {
            (_, Answer::Keys(keys)) => Ok(keys.iter().map(|key| Dynamic::from(key.to_string())).collect()),
            (run, _) => Err(run.wrong_answer(context.call_position())),
        }
    }
}

impl Stored {
    fn body(&self) -> BodySource {
        self.0.body.map_or(BodySource::Empty, BodySource::Handle)
    }

    fn read(&self, context: &NativeCallContext<'_>, limit: i64) -> Fallible<Bytes> {
        Run::of(context)?.read_body(context.call_position(), &self.body(), limit)
    }
}

pub(super) fn register(api: &mut Registrar<'_>) {
    api.engine.register_type_with_name::<Objects>("objects").register_type_with_name::<Stored>("object");
    api.section("Stored objects (`env.objects` and other bindings of kind `objects`)");
    register_reading(api);
    register_writing(api);
    register_object(api);
    for name in ["to_string", "to_debug"] {
        api.also(name, |objects: &mut Objects| format!("<objects {}>", objects.0));
        api.also(name, |object: &mut Stored| format!("<object of {} bytes>", object.0.length));
    }
}

fn register_reading(api: &mut Registrar<'_>) {
    api.function(
        entry("env.objects.get(key)", "An object, or `()`", "let object = env.objects.get(request.path);"),
        |context: NativeCallContext<'_>, objects: &mut Objects, key: &str| {
            objects.object(&context, ObjectsOperation::Get(checked(key)?))
        },
    );
    api.function(
        entry("env.objects.head(key)", "What is known of an object, without its content, or `()`", ""),
        |context: NativeCallContext<'_>, objects: &mut Objects, key: &str| {
            objects.object(&context, ObjectsOperation::Head(checked(key)?))
        },
    );
    api.function(
        entry("env.objects.list(prefix)", "The keys that begin with a text, in order", ""),
        |context: NativeCallContext<'_>, objects: &mut Objects, prefix: &str| objects.list(&context, prefix),
    );
}

fn register_writing(api: &mut Registrar<'_>) {
    api.function(
        entry(
            "env.objects.put(key, value, content_type)",
            "Stores a text, a blob or a body, which streams; the media type may be left out",
            "env.objects.put(request.path, request.body, \"text/plain\");",
        ),
        |context: NativeCallContext<'_>,
         objects: &mut Objects,
         key: &str,
         value: Dynamic,
         content_type: &str| { objects.put(&context, key, &value, Some(content_type)) },
    );
    api.also("put", |context: NativeCallContext<'_>, objects: &mut Objects, key: &str, value: Dynamic| {
        objects.put(&context, key, &value, None)
    });
    api.function(
        entry("env.objects.delete(key)", "Removes an object, there or not", ""),
        |context: NativeCallContext<'_>, objects: &mut Objects, key: &str| {
            objects.done(&context, ObjectsOperation::Delete(checked(key)?))
        },
    );
}

fn register_object(api: &mut Registrar<'_>) {
    api.property(
        entry("object.body", "Its content, unread", "return reply(200, env.objects.get(\"a\").body);"),
        |object: &mut Stored| Body(object.body()),
    );
    api.property(entry("object.length", "Its length in bytes", ""), |object: &mut Stored| {
        i64::try_from(object.0.length).unwrap_or(i64::MAX)
    });
    api.property(entry("object.content_type", "Its media type, or `()`", ""), |object: &mut Stored| {
        optional(object.0.content_type.as_deref().map(str::to_owned))
    });
    api.property(entry("object.etag", "Its entity tag, or `()`", ""), |object: &mut Stored| {
        optional(object.0.etag.as_deref().map(str::to_owned))
    });
    api.function(
        entry("object.read_body(limit)", "Its content as a blob of at most so many bytes", ""),
        |context: NativeCallContext<'_>, object: &mut Stored, limit: i64| {
            object.read(&context, limit).map(Blob)
        },
    );
    api.function(
        entry("object.read_text(limit)", "The same as text", ""),
        |context: NativeCallContext<'_>, object: &mut Stored, limit: i64| -> Fallible<ImmutableString> {
            let bytes = object.read(&context, limit)?;
            text_of(&bytes, Run::of(&context)?.environment().limits.string_bytes)
        },
    );
}
