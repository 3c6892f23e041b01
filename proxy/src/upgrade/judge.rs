//! Who is asked about each message of a WebSocket: the handler that let it through, as the policy in force binds
//! it.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use sluicegate_policy::{
    HandlerInput, HandlerLimits, MessageContent, MessageDirection, MessageVerdict, SocketMessage, Subject,
};
use tokio::sync::OwnedSemaphorePermit;

use super::Ground;
use crate::audit::MessageTally;
use crate::gate::HANDLER_MEMORY_KIB_MAX;
use crate::handling::Exchange;
use crate::respond::{Failure, HandlerFailure};

/// What one WebSocket's messages are judged by.
#[derive(Debug)]
pub(super) struct Judge {
    /// Of the handshake; with the newest generation that binds the same handler to it.
    exchange: Mutex<Exchange>,
    /// What the handler is told besides the message.
    input: HandlerInput,
    subprotocol: Option<Box<str>>,
    ground: Arc<Ground>,
    tally: Arc<MessageTally>,
}

/// Room for a message in the memory that all handlers have; gone with this.
#[derive(Debug, Default)]
pub(super) struct Room {
    permits: Option<OwnedSemaphorePermit>,
}

impl Judge {
    pub(super) fn new(
        exchange: Exchange,
        (input, subprotocol): (HandlerInput, Option<Box<str>>),
        ground: Arc<Ground>,
    ) -> Self {
        Self { exchange: Mutex::new(exchange), input, subprotocol, ground, tally: Arc::default() }
    }

    /// What has become of the messages so far.
    pub(super) fn tally(&self) -> Arc<MessageTally> {
        Arc::clone(&self.tally)
    }

    /// The longest message, in bytes.
    pub(super) fn message_bytes_max(&self) -> usize {
        self.limits().body_bytes
    }

    /// Asks the handler about a message.
    ///
    /// # Errors
    /// It refuses the message, or has not come to a decision; or it would have a longer one go on than may.
    pub(super) async fn judge(
        &self,
        direction: MessageDirection,
        content: MessageContent,
    ) -> Result<MessageVerdict, Failure> {
        let subprotocol = self.subprotocol.clone();
        let subject = Subject::Message(SocketMessage { direction, content, subprotocol });
        let input = HandlerInput { subject, now: SystemTime::now(), ..self.input.clone() };
        self.tally.judged.fetch_add(1, Ordering::Relaxed);
        let verdict = self.exchange().ask_about_message(input).await?;
        match &verdict {
            MessageVerdict::Pass => {}
            MessageVerdict::Drop => drop(self.tally.dropped.fetch_add(1, Ordering::Relaxed)),
            MessageVerdict::Replace(content) => {
                let most = self.message_bytes_max();
                if content.bytes().len() > most {
                    let detail = format!(
                        "it made a message longer than {most} bytes (body_bytes of [handler_limits])"
                    );
                    return Err(Failure::Handler(HandlerFailure { timed_out: false, detail }));
                }
                self.tally.changed.fetch_add(1, Ordering::Relaxed);
            }
        }
        Ok(verdict)
    }

    /// Waits until there is room for so many bytes of a message, as long as a handler may take.
    ///
    /// # Errors
    /// There was none.
    pub(super) async fn make_room(&self, bytes: usize, room: &mut Room) -> Result<(), Failure> {
        let wanted = u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX).min(HANDLER_MEMORY_KIB_MAX);
        let has = room.permits.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let more = wanted.saturating_sub(u32::try_from(has).unwrap_or(u32::MAX));
        if more == 0 {
            return Ok(());
        }
        let memory = Arc::clone(&self.lock().connection.gate.handler_memory);
        match tokio::time::timeout(self.wait(), memory.acquire_many_owned(more)).await {
            Ok(Ok(permits)) => {
                match &mut room.permits {
                    Some(kept) => kept.merge(permits),
                    none => *none = Some(permits),
                }
                Ok(())
            }
            _ => {
                let detail = String::from("there was no room in memory for the message");
                Err(Failure::Handler(HandlerFailure { timed_out: true, detail }))
            }
        }
    }

    /// The exchange of the handshake, under the policy in force where that has the same handler in charge.
    fn exchange(&self) -> Exchange {
        let mut exchange = self.lock();
        let current = exchange.connection.gate.generation();
        if !Arc::ptr_eq(&current, &exchange.generation)
            && let Some(handler) = self.ground.handler_in(&current.policy)
        {
            exchange.handler = Arc::clone(handler);
            exchange.generation = current;
        }
        exchange.clone()
    }

    fn limits(&self) -> HandlerLimits {
        self.lock().generation.policy.environment().limits.clone()
    }

    fn wait(&self) -> Duration {
        self.limits().wall
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Exchange> {
        self.exchange.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
