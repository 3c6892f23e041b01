//! Bytes both ways between a workload and an upstream that have left HTTP, until either ends it, nothing
//! moves, or a policy comes that does not let them go on.
//!
//! **Invariant:** what passes is not changed. Only a WebSocket that is ended from here gets a frame of
//! ours, between two others, and nothing after it.

use std::future::pending;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aws_lc_rs::rand;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::watch;

use super::frames::{Frames, close_frame};
use super::messages::Stop;

/// What is in flight each way, in bytes: a TLS record.
pub(super) const BUFFER_BYTES: usize = 16 * 1024;

/// How long both sides have to see the Close frame of a WebSocket that is ended from here, and to answer
/// it: what is left of a frame on its way is sent within it too.
pub(super) const FAREWELL_DEADLINE: Duration = Duration::from_secs(1);

/// Why it ended.
#[derive(Debug)]
pub(super) enum Ending {
    /// Both sides have ended.
    Done,
    /// Either side broke off.
    Broken(io::Error),
    /// Nothing moved for too long.
    Idle,
    /// A newer policy does not let it go on.
    Refused,
    /// A message was refused, could not be judged, or was none.
    Stopped(Box<Stop>),
}

impl Ending {
    /// The code of the Close frame that ends a WebSocket so (RFC 6455 section 7.4.1 and IANA's registry): going
    /// away; or service restart, which has clients connect again and be judged anew; or what the message came
    /// to.
    pub(super) fn code(&self) -> u16 {
        match self {
            Self::Idle => 1001,
            Self::Done | Self::Broken(_) | Self::Refused => 1012,
            Self::Stopped(stop) => stop.code,
        }
    }
}

/// On what terms bytes pass.
#[derive(Debug)]
pub(super) struct Terms {
    /// Counts what the workload sent.
    pub(super) sent: Arc<AtomicU64>,
    /// Counts what it was sent.
    pub(super) received: Arc<AtomicU64>,
    /// How long nothing may move.
    pub(super) idle: Duration,
    /// Whether there are frames, so that it can be ended with one.
    pub(super) is_websocket: bool,
}

/// Passes bytes until the end; `refused` ends when they may no longer pass. Half-closes are passed on.
pub(super) async fn pass<W, U>(
    workload: &mut W,
    upstream: &mut U,
    terms: &Terms,
    refused: impl Future<Output = ()>,
) -> Ending
where
    W: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
{
    let (farewell, told) = watch::channel(None);
    let (from_workload, to_workload) = tokio::io::split(workload);
    let (from_upstream, to_upstream) = tokio::io::split(upstream);
    let there = Way::new(from_workload, to_upstream, (&terms.sent, told.clone()), true);
    let back = Way::new(from_upstream, to_workload, (&terms.received, told), false);
    let both = async { tokio::try_join!(there.pass(), back.pass()) };
    let mut both = std::pin::pin!(both);
    let refused = async {
        refused.await;
        Ending::Refused
    };
    let ending = until_ended(both.as_mut(), terms, refused).await;
    if terms.is_websocket && !matches!(ending, Ending::Done | Ending::Broken(_)) {
        farewell.send_replace(Some(ending.code()));
        // Who does not answer in time has had the frame, or does not read.
        drop(tokio::time::timeout(FAREWELL_DEADLINE, both).await);
    }
    ending
}

/// Waits until both directions have ended, nothing has moved for too long, or `ended` says how it is to end.
pub(super) async fn until_ended<T>(
    mut both: Pin<&mut impl Future<Output = io::Result<T>>>,
    terms: &Terms,
    ended: impl Future<Output = Ending>,
) -> Ending {
    let mut ended = std::pin::pin!(ended);
    let total = || terms.sent.load(Ordering::Relaxed).wrapping_add(terms.received.load(Ordering::Relaxed));
    loop {
        let before = total();
        tokio::select! {
            done = both.as_mut() => return done.map_or_else(Ending::Broken, |_| Ending::Done),
            ending = ended.as_mut() => return ending,
            () = tokio::time::sleep(terms.idle) => {
                if total() == before {
                    return Ending::Idle;
                }
            }
        }
    }
}

/// One direction.
struct Way<'a, R, W> {
    from: R,
    to: W,
    moved: &'a AtomicU64,
    told: watch::Receiver<Option<u16>>,
    frames: Frames,
    is_to_server: bool,
    buffer: Box<[u8]>,
}

impl<'a, R: AsyncRead + Unpin, W: AsyncWrite + Unpin> Way<'a, R, W> {
    fn new(
        from: R,
        to: W,
        (moved, told): (&'a AtomicU64, watch::Receiver<Option<u16>>),
        is_to_server: bool,
    ) -> Self {
        let buffer = vec![0; BUFFER_BYTES].into();
        Self { from, to, moved, told, frames: Frames::default(), is_to_server, buffer }
    }

    /// Passes bytes to the end of this direction.
    async fn pass(mut self) -> io::Result<()> {
        loop {
            let read = tokio::select! {
                biased;
                code = farewell(&mut self.told) => return self.leave(code).await,
                read = self.from.read(&mut self.buffer) => read,
            };
            let read = match read {
                // TLS that ends without saying so, or a reset: after a Close there was nothing more to
                // come.
                Err(_) if self.frames.has_closed() => 0,
                read => read?,
            };
            if read == 0 {
                return self.end().await;
            }
            let bytes = self.buffer.get(..read).unwrap_or_default();
            self.frames.pass(bytes);
            self.to.write_all(bytes).await?;
            self.to.flush().await?;
            self.moved.fetch_add(read as u64, Ordering::Relaxed);
        }
    }

    /// Ends a WebSocket with a frame of ours, as soon as one may stand there, and takes in what its sender
    /// still sends: a connection that is closed with bytes unread is reset, which may cost it the frame.
    async fn leave(mut self, code: u16) -> io::Result<()> {
        while !self.frames.is_between() && !self.frames.is_lost() {
            let read = self.from.read(&mut self.buffer).await?;
            if read == 0 {
                return self.end().await;
            }
            let taken = self.frames.advance(self.buffer.get(..read).unwrap_or_default());
            self.to.write_all(self.buffer.get(..taken).unwrap_or_default()).await?;
            self.moved.fetch_add(taken as u64, Ordering::Relaxed);
        }
        if self.frames.is_between() && !self.frames.has_closed() {
            let mut mask = [0; 4];
            rand::fill(&mut mask).map_err(io::Error::other)?;
            self.to.write_all(&close_frame(code, self.is_to_server.then_some(mask))).await?;
        }
        self.end().await?;
        while self.from.read(&mut self.buffer).await? > 0 {}
        Ok(())
    }

    /// Says to the receiver that nothing more comes. One that is gone need not be told; whether it went
    /// in order is seen in the other direction.
    async fn end(&mut self) -> io::Result<()> {
        drop(self.to.shutdown().await);
        Ok(())
    }
}

/// What to end with, once that is known.
pub(super) async fn farewell<T: Clone>(told: &mut watch::Receiver<Option<T>>) -> T {
    let last = told.wait_for(Option::is_some).await.ok().and_then(|last| last.clone());
    match last {
        Some(last) => last,
        None => pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{DuplexStream, duplex};

    fn terms(idle: Duration, is_websocket: bool) -> Terms {
        Terms { sent: Arc::default(), received: Arc::default(), idle, is_websocket }
    }

    /// A pipe between the two ends that are returned, which ends when the sender is used.
    fn piped(
        is_websocket: bool,
        idle: Duration,
    ) -> (DuplexStream, DuplexStream, tokio::sync::oneshot::Sender<()>, tokio::task::JoinHandle<Ending>) {
        let ((workload, mut near), (upstream, mut far)) = (duplex(1 << 20), duplex(1 << 20));
        let (refuse, refused) = tokio::sync::oneshot::channel::<()>();
        let task = tokio::spawn(async move {
            let refused = async {
                if refused.await.is_err() {
                    pending::<()>().await;
                }
            };
            pass(&mut near, &mut far, &terms(idle, is_websocket), refused).await
        });
        (workload, upstream, refuse, task)
    }

    const LONG: Duration = Duration::from_secs(3600);

    #[tokio::test]
    async fn half_closes_pass_and_the_other_half_goes_on() {
        let (mut workload, mut upstream, _refuse, task) = piped(false, LONG);
        workload.write_all(b"question").await.unwrap();
        workload.shutdown().await.unwrap();
        let mut read = Vec::new();
        upstream.read_to_end(&mut read).await.unwrap();
        assert_eq!(read, b"question");
        upstream.write_all(b"answer").await.unwrap();
        upstream.shutdown().await.unwrap();
        read.clear();
        workload.read_to_end(&mut read).await.unwrap();
        assert_eq!(read, b"answer");
        assert!(matches!(task.await.unwrap(), Ending::Done));
    }

    #[tokio::test(start_paused = true)]
    async fn a_refused_websocket_is_closed_between_two_frames() {
        let (mut workload, mut upstream, refuse, task) = piped(true, LONG);
        // A whole frame from the workload, and half of one from the upstream.
        workload.write_all(&[0x81, 0x81, 0, 0, 0, 0, b'a']).await.unwrap();
        upstream.write_all(&[0x82, 4, 1, 2]).await.unwrap();
        let mut seen = [0; 7];
        upstream.read_exact(&mut seen).await.unwrap();
        workload.read_exact(&mut seen[..4]).await.unwrap();
        refuse.send(()).unwrap();
        let mut close = [0; 8];
        upstream.read_exact(&mut close).await.unwrap();
        let unmasked = [close[6] ^ close[2], close[7] ^ close[3]];
        assert_eq!((close[0], close[1], unmasked), (0x88, 0x82, 1012_u16.to_be_bytes()));
        // The rest of its frame comes through, and nothing behind it.
        upstream.write_all(&[3, 4, 0x82, 1, 9]).await.unwrap();
        upstream.shutdown().await.unwrap();
        workload.shutdown().await.unwrap();
        let mut rest = Vec::new();
        workload.read_to_end(&mut rest).await.unwrap();
        assert_eq!(rest, [3, 4, 0x88, 2, 0x03, 0xf4]);
        assert!(matches!(task.await.unwrap(), Ending::Refused));
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_is_closed_twice() {
        let (mut workload, mut upstream, refuse, task) = piped(true, LONG);
        upstream.write_all(&[0x88, 2, 0x0f, 0xa1]).await.unwrap();
        let mut close = [0; 4];
        workload.read_exact(&mut close).await.unwrap();
        refuse.send(()).unwrap();
        let mut rest = Vec::new();
        workload.read_to_end(&mut rest).await.unwrap();
        assert!(rest.is_empty(), "{rest:?}");
        upstream.shutdown().await.unwrap();
        workload.shutdown().await.unwrap();
        assert!(matches!(task.await.unwrap(), Ending::Refused));
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_answer_a_close_is_waited_for_a_second() {
        let (_workload, _upstream, refuse, task) = piped(true, LONG);
        let began = tokio::time::Instant::now();
        refuse.send(()).unwrap();
        assert!(matches!(task.await.unwrap(), Ending::Refused));
        assert_eq!(began.elapsed().as_secs(), FAREWELL_DEADLINE.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn silence_ends_it_and_bytes_put_that_off() {
        let idle = Duration::from_secs(10);
        let (mut workload, mut upstream, _refuse, task) = piped(false, idle);
        let began = tokio::time::Instant::now();
        for _ in 0..5 {
            tokio::time::sleep(idle * 3 / 4).await;
            workload.write_all(b"x").await.unwrap();
            upstream.read_exact(&mut [0]).await.unwrap();
        }
        assert!(matches!(task.await.unwrap(), Ending::Idle));
        assert!(began.elapsed() > 4 * idle && began.elapsed() < 6 * idle);
    }

    #[tokio::test]
    async fn what_is_not_a_websocket_gets_no_frame() {
        let (mut workload, mut upstream, refuse, task) = piped(false, LONG);
        refuse.send(()).unwrap();
        assert!(matches!(task.await.unwrap(), Ending::Refused));
        let mut rest = Vec::new();
        workload.read_to_end(&mut rest).await.unwrap();
        upstream.read_to_end(&mut rest).await.unwrap();
        assert!(rest.is_empty(), "{rest:?}");
    }
}
