//! What a handler asks of the world, but for its fetches.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use sluicegate_policy::{Answer, BodySource, Effect, ObjectsOperation};

use super::bodies::BODIES_MAX;
use super::{Exchange, Handling, Held, Performed};
use crate::bindings::{BindingError, ObjectContent};
use crate::body::{BodyError, HeldBody, RequestBody};
use crate::causes::in_words;
use crate::credentials::CredentialError;
use crate::respond::Failure;
use crate::secrets::SecretError;

impl Handling {
    pub(super) async fn perform(&mut self, effect: Effect) -> Performed {
        let generation = Arc::clone(&self.exchange.generation);
        let answer = match effect {
            Effect::Fetch(outgoing) => return self.fetch(*outgoing).await,
            Effect::ReadBody { body, limit } => self.read_body(body, limit).await,
            Effect::PeekBody { body, limit } => self.peek_body(body, limit).await,
            Effect::NextChunk(body) => self.next_chunk(body).await,
            Effect::TeeBody(_) if self.bodies.len() >= BODIES_MAX => {
                Answer::Failed("the handler holds too many bodies".into())
            }
            Effect::TeeBody(body) => self.tee_body(body),
            Effect::DropBody(body) => self.drop_body(body),
            Effect::Respond(_) => Answer::Failed(self.nobody_to_answer().into()),
            Effect::Sleep(time) => {
                tokio::time::sleep(time).await;
                Answer::Done
            }
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

    /// Why no request waits for this handler.
    fn nobody_to_answer(&self) -> &'static str {
        if self.has_answered { "the workload was answered already" } else { "there is no request to answer" }
    }

    async fn ask(&mut self, reason: &str, patience: Duration) -> Performed {
        let Exchange { connection, authority, handler, .. } = &self.exchange;
        let Some(record) = &mut self.record else {
            return Performed::Answer(Answer::Failed(self.nobody_to_answer().into()));
        };
        let method = record.method.clone().unwrap_or_default();
        let question = crate::approvals::Question {
            reason: reason.into(),
            asked_by: handler.name.clone(),
            patience,
            ..connection.question(authority, &method, &self.uri, record)
        };
        match connection.approve(question, record).await {
            Ok(()) => Performed::Answer(Answer::Done),
            Err(failure) => Performed::End(failure),
        }
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
        let generation = Arc::clone(&self.exchange.generation);
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
    fn content(&mut self, mut held: Held) -> ObjectContent {
        let counter = self.counter(&mut held);
        RequestBody::held(held.body, counter, self.idle()).0.map_err(Into::into).boxed_unsync()
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
