//! Bindings of kind `objects`: streams by key.

use bytes::Bytes;
use sluicegate_policy::{Answer, BindingKind, BodySource, Effect, Object, ObjectsOperation};
use wasmtime::component::Resource;

use super::{Body, Refused, invalid};
use crate::bindings::policy::objects::{Host, Metadata};
use crate::state::State;

/// The longest media type, in bytes.
const TYPE_BYTES_MAX: usize = 255;

impl State {
    async fn ask_objects(&mut self, binding: String, operation: ObjectsOperation) -> Result<Answer, Refused> {
        Ok(self.ask(Effect::Objects { binding: binding.into(), operation }).await?)
    }

    /// What an object is written from.
    fn content(&self, body: Body) -> Result<BodySource, Refused> {
        let source = body.source()?;
        if matches!(&source, BodySource::Bytes(bytes) if self.holds_secret(bytes)) {
            return Err(invalid("a secret cannot be put into a stored object"));
        }
        Ok(source)
    }

    fn put_operation(
        &self,
        key: String,
        body: Body,
        content_type: Option<String>,
    ) -> Result<ObjectsOperation, Refused> {
        let fits = |text: &String| {
            text.len() <= TYPE_BYTES_MAX
                && text.bytes().all(|byte| matches!(byte, b' '..=b'~'))
                && !self.holds_secret(text.as_bytes())
        };
        if !content_type.as_ref().is_none_or(fits) {
            return Err(invalid("a media type is short printable ASCII, such as text/plain"));
        }
        let key = self.checked_key(key)?;
        Ok(ObjectsOperation::Put {
            key,
            body: self.content(body)?,
            content_type: content_type.map(Into::into),
        })
    }
}

impl Host for State {
    async fn get(
        &mut self,
        binding: String,
        key: String,
    ) -> Result<Option<(Metadata, Resource<Body>)>, Refused> {
        self.check_binding(&binding, BindingKind::Objects)?;
        let key = self.checked_key(key)?;
        match self.ask_objects(binding, ObjectsOperation::Get(key)).await? {
            Answer::Object(object) => {
                let body = object.body.map_or(Body::Bytes(Bytes::new()), Body::held);
                Ok(Some((metadata(object), self.push(body)?)))
            }
            Answer::Nothing => Ok(None),
            other => Err(self.unanswered(other)),
        }
    }

    async fn head(&mut self, binding: String, key: String) -> Result<Option<Metadata>, Refused> {
        self.check_binding(&binding, BindingKind::Objects)?;
        let key = self.checked_key(key)?;
        match self.ask_objects(binding, ObjectsOperation::Head(key)).await? {
            Answer::Object(object) => Ok(Some(metadata(object))),
            Answer::Nothing => Ok(None),
            other => Err(self.unanswered(other)),
        }
    }

    async fn put(
        &mut self,
        binding: String,
        key: String,
        content: Resource<Body>,
        content_type: Option<String>,
    ) -> Result<(), Refused> {
        let body = self.take(content)?;
        let unwanted = body.to_drop();
        let operation = self
            .check_binding(&binding, BindingKind::Objects)
            .and_then(|()| self.put_operation(key, body, content_type));
        match operation {
            Ok(operation) => {
                let answer = self.ask_objects(binding, operation).await?;
                self.done(answer)
            }
            Err(refused) => {
                self.drop_later(unwanted);
                Err(refused)
            }
        }
    }

    async fn delete(&mut self, binding: String, key: String) -> Result<(), Refused> {
        self.check_binding(&binding, BindingKind::Objects)?;
        let key = self.checked_key(key)?;
        let answer = self.ask_objects(binding, ObjectsOperation::Delete(key)).await?;
        self.done(answer)
    }

    async fn list_keys(&mut self, binding: String, prefix: String) -> Result<Vec<String>, Refused> {
        self.check_binding(&binding, BindingKind::Objects)?;
        let prefix = self.checked_prefix(prefix)?;
        let answer = self.ask_objects(binding, ObjectsOperation::List(prefix)).await?;
        self.keys(answer)
    }
}

fn metadata(object: Object) -> Metadata {
    Metadata {
        length: object.length,
        content_type: object.content_type.map(String::from),
        etag: object.etag.map(String::from),
    }
}
