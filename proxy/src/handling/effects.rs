//! What a handler asks of the world, but for its fetches.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use sluicegate_policy::{Answer, BodyHandle, BodySource, Effect, ObjectsOperation};

use super::{Exchange, Handling, Held, Performed};
use crate::bindings::{BindingError, ObjectContent};
use crate::body::{BodyError, HeldBody, RequestBody};
use crate::causes::in_words;
use crate::credentials::CredentialError;
use crate::gate::HANDLER_MEMORY_KIB_MAX;
use crate::respond::Failure;
use crate::secrets::SecretError;

impl Handling<'_> {
    pub(super) async fn perform(&mut self, effect: Effect) -> Performed {
        let generation = Arc::clone(self.exchange.generation);
        let answer = match effect {
            Effect::Fetch(outgoing) => return self.fetch(*outgoing).await,
            Effect::ReadBody { body, limit } => self.read_body(body, limit).await,
            Effect::Kv { binding, operation } => {
                generation.bindings.kv(&binding, operation).await.unwrap_or_else(|error| no_answer(&error))
            }
            Effect::Objects { binding, operation } => self.objects(&binding, operation).await,
            Effect::Hmac { secret, data } => match generation.secrets.reveal(&secret) {
                Ok(key) => Answer::Bytes(hmac(key.bytes(), &data)),
                Err(error) => return Performed::End(unavailable(error)),
            },
            Effect::Reveal(secret) => match generation.secrets.reveal(&secret) {
                Ok(value) => Answer::Bytes(Bytes::copy_from_slice(value.bytes())),
                Err(error) => return Performed::End(unavailable(error)),
            },
            Effect::Ask { reason, patience } => return self.ask(&reason, patience).await,
        };
        Performed::Answer(answer)
    }

    pub(super) async fn ask(&mut self, reason: &str, patience: Duration) -> Performed {
        let Exchange { connection, judged, handler, .. } = self.exchange;
        let method = self.record.method.clone().unwrap_or_default();
        let question = crate::approvals::Question {
            reason: reason.into(),
            asked_by: handler.name.clone(),
            patience,
            ..connection.question(&judged.authority, &method, &self.uri, &self.record)
        };
        match connection.approve(question, &mut self.record).await {
            Ok(()) => Performed::Answer(Answer::Done),
            Err(failure) => Performed::End(failure),
        }
    }

    async fn read_body(&mut self, handle: BodyHandle, limit: usize) -> Answer {
        let Some(mut held) = self.bodies.remove(&handle) else {
            return Answer::Failed("the body was sent or read already".into());
        };
        let kibibytes = u32::try_from(limit.div_ceil(1024)).unwrap_or(u32::MAX).min(HANDLER_MEMORY_KIB_MAX);
        let memory = Arc::clone(&self.exchange.connection.gate.handler_memory);
        let Ok(room) = memory.acquire_many_owned(kibibytes).await else {
            return Answer::Failed("there is no room for the body".into());
        };
        self.room.push(room);
        let idle = self.exchange.generation.policy.upstream().idle_timeout;
        let counter = match &mut held.record {
            Some(record) => record.response_bytes_counter(),
            None => self.record.request_bytes_counter(),
        };
        let bytes = match held.body.read(limit, idle, &counter).await {
            Ok(bytes) => bytes,
            Err(error) => return Answer::Failed(error.to_string().into()),
        };
        if let Some(record) = &mut held.record {
            record.complete = Some(true);
        }
        Answer::Bytes(match held.scrubber {
            Some(scrubber) => scrubber.whole(bytes),
            None => bytes,
        })
    }

    async fn objects(&mut self, binding: &str, operation: ObjectsOperation) -> Answer {
        let content = match &operation {
            ObjectsOperation::Put { body: BodySource::Handle(handle), .. } => {
                match self.bodies.remove(handle) {
                    Some(held) => Some(self.content(held)),
                    None => return Answer::Failed("the body was sent or read already".into()),
                }
            }
            _ => None,
        };
        let generation = self.exchange.generation;
        match generation.bindings.objects(binding, operation, content).await {
            Ok((Answer::Object(mut object), Some(stream))) => {
                let stream = stream.map_err(|fault| BodyError::Store(fault.into())).boxed_unsync();
                object.body = Some(self.hold(Held::new(HeldBody::Stream(stream))));
                Answer::Object(object)
            }
            Ok((answer, _)) => answer,
            Err(error) => no_answer(&error),
        }
    }

    /// A body on its way into a store, counted like one on its way to an upstream.
    fn content(&mut self, held: Held) -> ObjectContent {
        let idle = self.exchange.generation.policy.upstream().idle_timeout;
        let counter = match held.record {
            Some(mut record) => record.response_bytes_counter(),
            None => self.record.request_bytes_counter(),
        };
        RequestBody::held(held.body, counter, idle).0.map_err(Into::into).boxed_unsync()
    }
}

fn hmac(key: &[u8], data: &[u8]) -> Bytes {
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, key);
    Bytes::copy_from_slice(aws_lc_rs::hmac::sign(&key, data).as_ref())
}

fn no_answer(error: &BindingError) -> Answer {
    Answer::Failed(in_words(error).into())
}

fn unavailable(error: SecretError) -> Failure {
    CredentialError::Unavailable(error).into()
}
