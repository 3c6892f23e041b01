//! A body that a handler takes piece by piece.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use bytes::Bytes;

use super::moving::Moving;
use super::{BodyError, HeldBody};
use crate::scrub::Scrubber;

/// A body that is given out in pieces, counted and scrubbed like one that passes.
#[derive(Debug)]
pub struct Chunks(Moving);

impl Chunks {
    /// The pieces of `body`, counted into `bytes`.
    pub fn new(body: HeldBody, bytes: Arc<AtomicU64>, idle: Duration, scrubber: Option<Scrubber>) -> Self {
        let mut moving = Moving::new(body, bytes, idle);
        if let Some(scrubber) = scrubber {
            moving.scrub(scrubber);
        }
        Self(moving)
    }

    /// The next piece, or `None` at the end. Trailers are dropped.
    ///
    /// # Errors
    /// What cut the body short, and where nothing of it came for too long.
    pub async fn next(&mut self) -> Result<Option<Bytes>, BodyError> {
        loop {
            let Some(frame) = poll_fn(|cx| self.0.poll_frame(cx)).await else { return Ok(None) };
            match frame?.into_data() {
                Ok(data) if data.is_empty() => {}
                Ok(data) => return Ok(Some(data)),
                Err(_) => return Ok(None),
            }
        }
    }
}
