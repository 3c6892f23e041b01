//! A body in motion: scrubbed, counted, tapped, and given up when nothing moves.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName};
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep};

use super::{BodyError, HeldBody};
use crate::scrub::{Scrubber, Scrubbing};
use crate::tap::Tap;

/// What a body gives out next; `None` is its end.
type Next = Option<Result<Frame<Bytes>, BodyError>>;

/// A body in motion: its bytes are counted, and its silences bounded.
#[derive(Debug)]
pub(super) struct Moving {
    held: HeldBody,
    bytes: Arc<AtomicU64>,
    idle: IdleDeadline,
    pub(super) tap: Option<Tap>,
    /// Fields that its trailers must not have.
    pub(super) barred: Vec<HeaderName>,
    scrub: Option<Box<Scrub>>,
}

#[derive(Debug)]
struct Scrub {
    scrubbing: Scrubbing,
    /// They follow what was held back.
    trailers: Option<HeaderMap>,
}

impl Moving {
    pub(super) fn new(held: HeldBody, bytes: Arc<AtomicU64>, idle: Duration) -> Self {
        let idle = IdleDeadline::new(idle);
        let mut moving = Self { held, bytes, idle, tap: None, barred: Vec::new(), scrub: None };
        moving.release_if_over();
        moving
    }

    /// Masks the values that `scrubber` knows from here on.
    pub(super) fn scrub(&mut self, scrubber: Scrubber) {
        self.scrub = Some(Box::new(Scrub { scrubbing: Scrubbing::new(scrubber), trailers: None }));
    }

    /// Whether all of its bytes have been given out; trailers may follow.
    pub(super) fn is_over(&self) -> bool {
        self.held.is_over() && self.scrub.as_ref().is_none_or(|scrub| scrub.is_done())
    }

    /// Whether something of it has come although nobody asked the workload for it.
    pub(super) fn has_come(&mut self, cx: &mut Context<'_>) -> bool {
        self.held.has_come(cx)
    }

    pub(super) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Next> {
        let frame = if self.scrub.is_none() { self.poll_held(cx) } else { self.poll_scrubbed(cx) };
        if let Poll::Ready(Some(Ok(frame))) = &frame
            && let Some(data) = frame.data_ref()
        {
            self.bytes.fetch_add(data.len() as u64, Ordering::Relaxed);
            if let Some(tap) = &self.tap {
                tap.take(data);
            }
        }
        if self.barred.is_empty() { frame } else { frame.map_ok(|frame| without(frame, &self.barred)) }
    }

    fn poll_held(&mut self, cx: &mut Context<'_>) -> Poll<Next> {
        let Poll::Ready(frame) = Pin::new(&mut self.held).poll_frame(cx) else {
            return self.idle.poll(cx).map(|error| Some(Err(error)));
        };
        self.idle.moved();
        if frame.is_none() {
            self.held.release();
            // A stream need not bear being asked again.
            self.held = HeldBody::Bytes(Bytes::new());
        }
        self.release_if_over();
        Poll::Ready(frame)
    }

    fn poll_scrubbed(&mut self, cx: &mut Context<'_>) -> Poll<Next> {
        loop {
            if let Some(trailers) = self.scrub.as_mut().and_then(|scrub| scrub.trailers.take()) {
                return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
            }
            let frame = match ready!(self.poll_held(cx)) {
                Some(Ok(frame)) => Some(frame),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => None,
            };
            let (is_end, is_over) = (frame.is_none(), self.held.is_over());
            let Some(scrub) = self.scrub.as_mut() else { return Poll::Ready(None) };
            let data = scrub.pass(frame, is_over);
            if !data.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(data))));
            }
            if is_end {
                return Poll::Ready(None);
            }
        }
    }

    fn release_if_over(&mut self) {
        if self.held.is_over() {
            self.held.release();
        }
    }

    pub(super) fn is_end_stream(&self) -> bool {
        self.held.is_end_stream() && self.scrub.as_ref().is_none_or(|scrub| scrub.is_done())
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        let mut hint = self.held.size_hint();
        if let Some(scrub) = &self.scrub {
            let held_back = scrub.scrubbing.held() as u64;
            let (lower, upper) = (hint.lower(), hint.upper());
            hint = SizeHint::new();
            hint.set_lower(lower.saturating_add(held_back));
            if let Some(upper) = upper {
                hint.set_upper(upper.saturating_add(held_back));
            }
        }
        hint
    }
}

/// A frame, without these fields where it has trailers.
fn without(frame: Frame<Bytes>, barred: &[HeaderName]) -> Frame<Bytes> {
    match frame.into_trailers() {
        Ok(mut trailers) => {
            for name in barred {
                trailers.remove(name);
            }
            Frame::trailers(trailers)
        }
        Err(frame) => frame,
    }
}

impl Scrub {
    /// Takes in a frame, or the end, and gives out the bytes that are decided.
    fn pass(&mut self, frame: Option<Frame<Bytes>>, is_over: bool) -> Bytes {
        match frame.map(Frame::into_data) {
            None => self.scrubbing.pass(Bytes::new(), true),
            Some(Ok(data)) => self.scrubbing.pass(data, is_over),
            Some(Err(frame)) => {
                if let Ok(mut trailers) = frame.into_trailers() {
                    self.scrubbing.trailers(&mut trailers);
                    self.trailers = Some(trailers);
                }
                self.scrubbing.pass(Bytes::new(), true)
            }
        }
    }

    fn is_done(&self) -> bool {
        self.scrubbing.held() == 0 && self.trailers.is_none()
    }
}

/// Ends a wait in which nothing moves. The timer is made at the first wait and moved only when it
/// fires, so that a body in full flow pays one reading of the clock a frame.
#[derive(Debug)]
pub(super) struct IdleDeadline {
    limit: Duration,
    last: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl IdleDeadline {
    pub(super) fn new(limit: Duration) -> Self {
        Self { limit, last: None, timer: None }
    }

    pub(super) fn moved(&mut self) {
        if self.timer.is_some() {
            self.last = Some(Instant::now());
        }
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<BodyError> {
        let limit = self.limit;
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        while timer.as_mut().poll(cx).is_ready() {
            let Some(last) = self.last.take() else {
                return Poll::Ready(BodyError::Idle(limit));
            };
            timer.as_mut().reset(last + limit);
        }
        Poll::Pending
    }
}
