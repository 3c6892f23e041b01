//! Messages both ways between a workload and an upstream, each of which a handler is asked about.
//!
//! **Invariant:** nothing passes but whole messages that were let pass, or what stands in their place, and control
//! frames; in their order, and one at a time in each direction. What cannot be read or judged ends the WebSocket.

mod assembler;

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use aws_lc_rs::rand;
use sluicegate_policy::{DenyReason, MessageContent, MessageDirection, MessageVerdict, Refusal};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{mpsc, watch};

use super::both_ways::{BUFFER_BYTES, Ending, FAREWELL_DEADLINE, Terms, farewell, until_ended};
use super::judge::{Judge, Room};
use crate::causes::in_words;
use crate::respond::Failure;
use assembler::{Assembler, Event, Opcode, Violation, frame};

/// The longest reason in a Close frame, in bytes: what a control frame holds besides the code.
const CLOSE_REASON_BYTES_MAX: usize = 123;

/// Why a WebSocket is ended because of a message.
#[derive(Debug)]
pub(super) struct Stop {
    /// What it is closed with (RFC 6455 section 7.4.1).
    pub(super) code: u16,
    /// What the log says.
    pub(super) failure: Failure,
    direction: MessageDirection,
}

/// What both sides are told last.
#[derive(Clone, Debug)]
struct Farewell {
    code: u16,
    /// For the workload alone.
    reason: Box<str>,
}

/// Passes messages until the end; `refused` ends when they may no longer pass.
pub(super) async fn pass<W, U>(
    (workload, upstream): (&mut W, &mut U),
    (terms, judge): (&Terms, &Judge),
    refused: impl Future<Output = ()>,
) -> Ending
where
    W: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
{
    let (last, told) = watch::channel(None);
    let (stops, mut stopped) = mpsc::channel(2);
    let (from_workload, to_workload) = tokio::io::split(workload);
    let (from_upstream, to_upstream) = tokio::io::split(upstream);
    let line = Line { told, stops, judge };
    let there = Way::new((from_workload, to_upstream), &terms.sent, line.clone(), MessageDirection::Sent);
    let back = Way::new((from_upstream, to_workload), &terms.received, line, MessageDirection::Received);
    let both = async { tokio::try_join!(there.pass(), back.pass()) };
    let mut both = std::pin::pin!(both);
    let ended = async {
        tokio::select! {
            Some(stop) = stopped.recv() => Ending::Stopped(Box::new(stop)),
            () = refused => Ending::Refused,
        }
    };
    let ending = until_ended(both.as_mut(), terms, ended).await;
    if !matches!(ending, Ending::Done | Ending::Broken(_)) {
        let reason = match &ending {
            Ending::Stopped(stop) => stop.told(),
            _ => Box::default(),
        };
        last.send_replace(Some(Farewell { code: ending.code(), reason }));
        // Who does not answer in time has had the frame, or does not read.
        drop(tokio::time::timeout(FAREWELL_DEADLINE, both).await);
    }
    ending
}

/// What the two directions have in common.
#[derive(Clone)]
struct Line<'a> {
    told: watch::Receiver<Option<Farewell>>,
    stops: mpsc::Sender<Stop>,
    judge: &'a Judge,
}

/// One direction.
struct Way<'a, R, W> {
    from: R,
    to: W,
    moved: &'a AtomicU64,
    line: Line<'a>,
    direction: MessageDirection,
    assembler: Assembler,
    room: Room,
    /// Whether a Close frame has passed, after which no other may (RFC 6455 section 5.5.1).
    has_closed: bool,
}

/// Why a direction does not go on by itself.
enum Halt {
    Broken(io::Error),
    Stop(Stop),
    Left(Farewell),
}

impl From<io::Error> for Halt {
    fn from(error: io::Error) -> Self {
        Self::Broken(error)
    }
}

impl<'a, R: AsyncRead + Unpin, W: AsyncWrite + Unpin> Way<'a, R, W> {
    fn new((from, to): (R, W), moved: &'a AtomicU64, line: Line<'a>, direction: MessageDirection) -> Self {
        let is_masked = direction == MessageDirection::Sent;
        let assembler = Assembler::new(is_masked, line.judge.message_bytes_max());
        Self { from, to, moved, line, direction, assembler, room: Room::default(), has_closed: false }
    }

    /// Passes messages to the end of this direction.
    async fn pass(mut self) -> io::Result<()> {
        let mut buffer: Box<[u8]> = vec![0; BUFFER_BYTES].into();
        let last = match self.pass_on(&mut buffer).await {
            Ok(()) => return self.end().await,
            Err(Halt::Broken(error)) => return Err(error),
            Err(Halt::Left(last)) => last,
            Err(Halt::Stop(stop)) => {
                // There is room for one of each direction, and each says so once.
                drop(self.line.stops.try_send(stop));
                farewell(&mut self.line.told).await
            }
        };
        self.leave(last, &mut buffer).await
    }

    async fn pass_on(&mut self, buffer: &mut [u8]) -> Result<(), Halt> {
        loop {
            let read = tokio::select! {
                biased;
                last = farewell(&mut self.line.told) => return Err(Halt::Left(last)),
                read = self.from.read(buffer) => read,
            };
            let read = match read {
                // TLS that ends without saying so, or a reset: after a Close there was nothing more to
                // come.
                Err(_) if self.has_closed => 0,
                read => read?,
            };
            if read == 0 {
                return Ok(());
            }
            self.moved.fetch_add(read as u64, Ordering::Relaxed);
            self.take(buffer.get(..read).unwrap_or_default()).await?;
        }
    }

    /// Takes what came, and lets go on what may. What follows a Close is nothing.
    async fn take(&mut self, mut bytes: &[u8]) -> Result<(), Halt> {
        while !bytes.is_empty() && !self.has_closed {
            let taken = self.assembler.take(bytes);
            let (taken, event) = taken.map_err(|violation| self.malformed(&violation))?;
            bytes = bytes.get(taken..).unwrap_or_default();
            match event {
                None => {
                    let made = self.line.judge.make_room(self.assembler.held(), &mut self.room).await;
                    made.map_err(|failure| self.stop(failure))?;
                }
                Some(Event::Control(opcode, payload)) => {
                    self.has_closed = opcode == Opcode::Close;
                    self.send(opcode, &payload).await?;
                }
                Some(Event::Message(content)) => {
                    self.judge(content).await?;
                    self.room = Room::default();
                }
            }
        }
        Ok(())
    }

    async fn judge(&mut self, content: MessageContent) -> Result<(), Halt> {
        let verdict = tokio::select! {
            biased;
            last = farewell(&mut self.line.told) => return Err(Halt::Left(last)),
            verdict = self.line.judge.judge(self.direction, content.clone()) => verdict,
        };
        match verdict.map_err(|failure| self.stop(failure))? {
            MessageVerdict::Pass => self.send(Opcode::of(&content), content.bytes()).await?,
            MessageVerdict::Replace(other) => self.send(Opcode::of(&other), other.bytes()).await?,
            MessageVerdict::Drop => {}
        }
        // A buffer has thousands of the shortest messages: others get their turn between two.
        tokio::task::yield_now().await;
        Ok(())
    }

    async fn send(&mut self, opcode: Opcode, payload: &[u8]) -> io::Result<()> {
        let mask = match self.direction {
            MessageDirection::Received => None,
            MessageDirection::Sent => {
                let mut mask = [0; 4];
                rand::fill(&mut mask).map_err(io::Error::other)?;
                Some(mask)
            }
        };
        self.to.write_all(&frame(opcode, payload, mask)).await?;
        self.to.flush().await
    }

    /// Ends it with a frame of ours, and takes in what its sender still sends: a connection that is closed with
    /// bytes unread is reset, which may cost it the frame.
    async fn leave(mut self, Farewell { code, reason }: Farewell, buffer: &mut [u8]) -> io::Result<()> {
        if !self.has_closed {
            let mut payload = code.to_be_bytes().to_vec();
            if self.direction == MessageDirection::Received {
                payload.extend(reason.as_bytes());
            }
            self.send(Opcode::Close, &payload).await?;
        }
        self.end().await?;
        while self.from.read(buffer).await? > 0 {}
        Ok(())
    }

    /// Says to the receiver that nothing more comes. One that is gone need not be told; whether it went
    /// in order is seen in the other direction.
    async fn end(&mut self) -> io::Result<()> {
        drop(self.to.shutdown().await);
        Ok(())
    }

    fn malformed(&self, violation: &Violation) -> Halt {
        let refusal = Refusal { reason: DenyReason::MalformedMessage, detail: violation.to_string() };
        let (code, direction) = (violation.code(), self.direction);
        Halt::Stop(Stop { code, failure: Failure::Refused(refusal), direction })
    }

    fn stop(&self, failure: Failure) -> Halt {
        // Policy violation, or what the server could not do.
        let code = if matches!(failure, Failure::Refused(_)) { 1008 } else { 1011 };
        Halt::Stop(Stop { code, failure, direction: self.direction })
    }
}

impl Stop {
    /// What the workload is told: why it was refused, and nothing of what a handler is made of.
    fn told(&self) -> Box<str> {
        let Failure::Refused(refusal) = &self.failure else { return Box::default() };
        let told = if refusal.detail.is_empty() { refusal.reason.as_str() } else { &refusal.detail };
        told.get(..told.floor_char_boundary(CLOSE_REASON_BYTES_MAX)).unwrap_or_default().into()
    }
}

impl fmt::Display for Stop {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whose = match self.direction {
            MessageDirection::Sent => "a message of the workload's",
            MessageDirection::Received => "a message of the upstream's",
        };
        match &self.failure {
            Failure::Refused(refusal) => write!(formatter, "{whose}: {}", refusal.detail),
            Failure::Handler(failure) => write!(formatter, "{whose}: {}", failure.detail),
            Failure::Upstream(error) => write!(formatter, "{whose}: {}", in_words(error)),
            Failure::Malformed(fault) => write!(formatter, "{whose}: {fault}"),
        }
    }
}
