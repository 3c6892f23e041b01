//! What handlers do with bodies that the gate holds.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use bytes::Bytes;
use sluicegate_policy::{Answer, BodyHandle};
use tokio::sync::OwnedSemaphorePermit;

use super::{Handling, Held};
use crate::audit::AuditRecord;
use crate::body::{Chunks, HeldBody};
use crate::gate::HANDLER_MEMORY_KIB_MAX;
use crate::scrub::Scrubber;

/// Bodies that one handler holds at once.
pub(super) const BODIES_MAX: usize = 256;

/// A body that a handler has begun to take piece by piece.
pub(super) struct Begun {
    chunks: Chunks,
    /// Of the fetch that it answers.
    record: Option<AuditRecord>,
}

impl Handling {
    pub(super) async fn read_body(&mut self, handle: BodyHandle, limit: usize) -> Answer {
        let Some(mut held) = self.bodies.remove(&handle) else { return sent() };
        if !self.make_room(limit).await {
            return Answer::Failed("there is no room for the body".into());
        }
        let idle = self.idle();
        let counter = self.counter(&mut held);
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

    pub(super) async fn peek_body(&mut self, handle: BodyHandle, limit: usize) -> Answer {
        if !self.make_room(limit).await {
            return Answer::Failed("there is no room for the body".into());
        }
        let idle = self.idle();
        let Some(held) = self.bodies.get_mut(&handle) else { return sent() };
        match held.body.peek(limit, idle).await {
            Ok(bytes) => Answer::Bytes(match &held.scrubber {
                Some(scrubber) => seen(scrubber, &bytes),
                None => bytes,
            }),
            Err(error) => Answer::Failed(error.to_string().into()),
        }
    }

    /// The next piece of a body. It is bounded by the body's own silence, since it may take as long as
    /// the body does.
    pub(super) async fn next_chunk(&mut self, handle: BodyHandle) -> Answer {
        if let Some(mut held) = self.bodies.remove(&handle) {
            let counter = self.counter(&mut held);
            let Held { body, record, scrubber, .. } = held;
            let chunks = Chunks::new(body, counter, self.idle(), scrubber);
            self.begun.insert(handle, Begun { chunks, record });
        }
        let Some(begun) = self.begun.get_mut(&handle) else { return sent() };
        match begun.chunks.next().await {
            Ok(Some(bytes)) => Answer::Bytes(bytes),
            Ok(None) => {
                if let Some(record) = &mut begun.record {
                    record.complete = Some(true);
                }
                Answer::Nothing
            }
            Err(error) => Answer::Failed(error.to_string().into()),
        }
    }

    pub(super) fn tee_body(&mut self, handle: BodyHandle) -> Answer {
        let Some(mut held) = self.bodies.remove(&handle) else { return sent() };
        let (first, second) = held.body.tee();
        held.body = first;
        let second = Held { scrubber: held.scrubber.clone(), is_copy: true, ..Held::new(second) };
        self.bodies.insert(handle, held);
        Answer::Body(self.hold(second))
    }

    pub(super) fn drop_body(&mut self, handle: BodyHandle) -> Answer {
        self.begun.remove(&handle);
        if let Some(held) = self.bodies.remove(&handle) {
            held.body.finish();
        }
        Answer::Done
    }

    /// A handle for a body.
    pub(super) fn hold(&mut self, held: Held) -> BodyHandle {
        let handle = BodyHandle(self.next_body);
        self.next_body += 1;
        self.bodies.insert(handle, held);
        handle
    }

    /// Takes room for a body in memory, which is given back when the handler is done.
    async fn make_room(&mut self, bytes: usize) -> bool {
        let kibibytes = u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX).min(HANDLER_MEMORY_KIB_MAX);
        let memory = Arc::clone(&self.exchange.connection.gate.handler_memory);
        let room: Option<OwnedSemaphorePermit> = memory.acquire_many_owned(kibibytes).await.ok();
        let made = room.is_some();
        self.room.extend(room);
        made
    }

    /// Where the bytes of a body are counted.
    pub(super) fn counter(&mut self, held: &mut Held) -> Arc<AtomicU64> {
        match &mut held.record {
            _ if held.is_copy => Arc::default(),
            Some(record) => record.response_bytes_counter(),
            None => self.entry().request_bytes_counter(),
        }
    }

    pub(super) fn idle(&self) -> Duration {
        self.exchange.generation.policy.upstream().idle_timeout
    }
}

impl Held {
    pub(super) fn new(body: HeldBody) -> Self {
        Self { body, record: None, scrubber: None, extensions: http::Extensions::new(), is_copy: false }
    }
}

/// The first bytes of a body with the values masked, one that is cut at the end too.
fn seen(scrubber: &Scrubber, bytes: &Bytes) -> Bytes {
    let mut bytes = bytes.to_vec();
    scrubber.start(&mut bytes);
    bytes.into()
}

fn sent() -> Answer {
    Answer::Failed("the body was sent or read already".into())
}
