//! Bodies: what a message carries, held by the gate until a program reads it.

use bytes::Bytes;
use sluicegate_policy::{Answer, BodyHandle, BodySource, Effect, HandlerFault};
use wasmtime::component::Resource;

use super::{Refused, invalid};
use crate::bindings::policy::http::HostBody;
use crate::state::State;

/// A body as a program holds it.
#[derive(Debug)]
pub enum Body {
    /// It is in memory.
    Bytes(Bytes),
    /// The gate holds all of it.
    Held {
        /// Which.
        handle: BodyHandle,
        /// Whether another handle gets the same bytes, and may wait for this one.
        is_shared: bool,
    },
    /// It is read chunk by chunk.
    Begun(BodyHandle),
    /// It was read chunk by chunk, to its end.
    Ended,
    /// Reading it failed.
    Lost,
}

impl Body {
    /// A body of the gate's, unread.
    pub(crate) fn held(handle: BodyHandle) -> Self {
        Self::Held { handle, is_shared: false }
    }

    /// The body to be dropped where nobody wants this one any more.
    pub(crate) fn to_drop(&self) -> Option<BodyHandle> {
        match self {
            Self::Held { handle, is_shared: true } | Self::Begun(handle) => Some(*handle),
            _ => None,
        }
    }

    /// What is sent of it.
    ///
    /// # Errors
    /// It is not whole.
    pub(super) fn source(self) -> Result<BodySource, Refused> {
        match self {
            Self::Bytes(bytes) => Ok(BodySource::Bytes(bytes)),
            Self::Held { handle, .. } => Ok(BodySource::Handle(handle)),
            spent => Err(spent.spent()),
        }
    }

    /// Why it cannot be used whole.
    pub(super) fn spent(&self) -> Refused {
        invalid(match self {
            Self::Lost => "this body could not be read, and is gone",
            _ => "this body was begun chunk by chunk: it can be neither sent nor read whole",
        })
    }
}

impl State {
    /// The bytes that a handler may take of a body at once: `limit`, or what the document allows.
    fn limited(&self, limit: u32) -> usize {
        usize::try_from(limit).unwrap_or(usize::MAX).min(self.environment.limits.body_bytes)
    }

    /// Asks for bytes of a body, which is lost where they do not come.
    async fn ask_bytes(&mut self, body: &Resource<Body>, effect: Effect) -> Result<Bytes, Refused> {
        match self.ask(effect).await? {
            Answer::Bytes(bytes) => Ok(bytes),
            other => {
                *self.get_mut(body)? = Body::Lost;
                Err(self.unanswered(other))
            }
        }
    }

    fn too_long(&self, limit: usize) -> Refused {
        let hint = if limit == self.environment.limits.body_bytes {
            " (body_bytes of [handler_limits])"
        } else {
            ""
        };
        invalid(format!("the body is longer than {limit} bytes{hint}"))
    }
}

impl HostBody for State {
    fn new(&mut self, content: Vec<u8>) -> wasmtime::Result<Resource<Body>> {
        let most = self.environment.limits.body_bytes;
        if content.len() > most {
            let message = format!("a body is longer than {most} bytes (body_bytes of [handler_limits])");
            return Err(self.stop(HandlerFault::Limit, message));
        }
        self.keep(content.len())?;
        self.push(Body::Bytes(content.into()))
    }

    async fn read(&mut self, body: Resource<Body>, limit: u32) -> Result<Vec<u8>, Refused> {
        let limit = self.limited(limit);
        let bytes = match self.get(&body)? {
            Body::Bytes(bytes) => bytes.clone(),
            Body::Held { handle, .. } => {
                let effect = Effect::ReadBody { body: *handle, limit };
                let bytes = self.ask_bytes(&body, effect).await?;
                self.keep(bytes.len())?;
                *self.get_mut(&body)? = Body::Bytes(bytes.clone());
                bytes
            }
            other => return Err(other.spent()),
        };
        if bytes.len() > limit {
            return Err(self.too_long(limit));
        }
        Ok(bytes.into())
    }

    async fn peek(&mut self, body: Resource<Body>, limit: u32) -> Result<Vec<u8>, Refused> {
        let limit = self.limited(limit);
        let bytes = match self.get(&body)? {
            Body::Bytes(bytes) => bytes.slice(..limit.min(bytes.len())),
            Body::Held { handle, .. } => {
                let effect = Effect::PeekBody { body: *handle, limit };
                self.ask_bytes(&body, effect).await?
            }
            other => return Err(other.spent()),
        };
        Ok(bytes.into())
    }

    async fn next_chunk(&mut self, body: Resource<Body>) -> Result<Option<Vec<u8>>, Refused> {
        let held = self.get_mut(&body)?;
        let handle = match held {
            Body::Bytes(bytes) => {
                let bytes = std::mem::take(bytes);
                *held = Body::Ended;
                return Ok((!bytes.is_empty()).then(|| bytes.into()));
            }
            Body::Held { handle, .. } | Body::Begun(handle) => *handle,
            Body::Ended => return Ok(None),
            Body::Lost => return Err(held.spent()),
        };
        *held = Body::Begun(handle);
        match self.ask(Effect::NextChunk(handle)).await? {
            Answer::Bytes(bytes) => Ok(Some(bytes.into())),
            Answer::Nothing => {
                *self.get_mut(&body)? = Body::Ended;
                Ok(None)
            }
            other => {
                *self.get_mut(&body)? = Body::Lost;
                Err(self.unanswered(other))
            }
        }
    }

    async fn tee(&mut self, body: Resource<Body>) -> Result<Resource<Body>, Refused> {
        let handle = match self.get(&body)? {
            Body::Bytes(bytes) => {
                let copy = Body::Bytes(bytes.clone());
                return Ok(self.push(copy)?);
            }
            Body::Held { handle, .. } => *handle,
            other => return Err(other.spent()),
        };
        match self.ask(Effect::TeeBody(handle)).await? {
            Answer::Body(copy) => {
                *self.get_mut(&body)? = Body::Held { handle, is_shared: true };
                Ok(self.push(Body::Held { handle: copy, is_shared: true })?)
            }
            other => Err(self.unanswered(other)),
        }
    }

    fn drop(&mut self, body: Resource<Body>) -> wasmtime::Result<()> {
        let body = self.take(body)?;
        self.discard(Some(body));
        Ok(())
    }
}
