//! A peer that is gone without a word: found by a ping that nothing comes back for.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use h2::{Ping, PingPong};
use tokio::io::AsyncRead;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::io::InspectReader;

/// What is known of the peer of one connection.
#[derive(Debug)]
pub struct Peer {
    since: Instant,
    /// When it was heard last, in milliseconds from `since`.
    heard: AtomicU64,
    users: AtomicUsize,
    begun: Notify,
}

/// How long a silent peer is waited for.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// How long it may be silent before it is asked.
    pub interval: Duration,
    /// How long it then has to send anything at all.
    pub timeout: Duration,
}

/// As long as it lives, somebody waits for the peer.
#[derive(Debug)]
pub struct InUse(Arc<Peer>);

impl Peer {
    /// A peer that has just connected.
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            since: Instant::now(),
            heard: AtomicU64::new(0),
            users: AtomicUsize::new(0),
            begun: Notify::new(),
        })
    }

    /// Notes all that is read from it.
    pub fn listen<Io: AsyncRead>(
        self: &Arc<Self>,
        io: Io,
    ) -> InspectReader<Io, impl FnMut(&[u8]) + Send + Unpin + use<Io>> {
        let peer = Arc::clone(self);
        InspectReader::new(io, move |bytes: &[u8]| {
            if !bytes.is_empty() {
                let elapsed = u64::try_from(peer.since.elapsed().as_millis()).unwrap_or(u64::MAX);
                peer.heard.store(elapsed, Ordering::Relaxed);
            }
        })
    }

    /// Begins to wait for it.
    pub fn wait_for(self: &Arc<Self>) -> InUse {
        if self.users.fetch_add(1, Ordering::AcqRel) == 0 {
            self.begun.notify_one();
        }
        InUse(Arc::clone(self))
    }

    /// Ends when nothing was heard of it for an interval while somebody waits, and nothing either after a
    /// ping. Who nobody waits for is left alone.
    pub async fn gone(&self, mut pings: PingPong, patience: Patience) {
        loop {
            while self.users.load(Ordering::Acquire) == 0 {
                self.begun.notified().await;
            }
            let heard = self.heard.load(Ordering::Relaxed);
            let due = self.since + Duration::from_millis(heard) + patience.interval;
            if Instant::now() < due {
                sleep_until(due).await;
                continue;
            }
            // The answer to the one before makes place for another.
            poll_fn(|cx| Poll::Ready(pings.poll_pong(cx).is_ready())).await;
            // It fails where one is under way still, or where the connection has ended, which others see.
            drop(pings.send_ping(Ping::opaque()));
            sleep(patience.timeout).await;
            if self.heard.load(Ordering::Relaxed) == heard {
                return;
            }
        }
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        self.0.users.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
    use tokio::time::timeout;

    const PATIENCE: Patience =
        Patience { interval: Duration::from_secs(30), timeout: Duration::from_secs(10) };

    /// A connection as a client, what drives it, and the other end of its pipe.
    async fn connected(peer: &Arc<Peer>) -> (PingPong, tokio::task::JoinHandle<()>, DuplexStream) {
        let (io, other) = duplex(64 * 1024);
        let (requests, mut connection) = h2::client::handshake(peer.listen(io)).await.unwrap();
        let pings = connection.ping_pong().unwrap();
        let driven = tokio::spawn(async move {
            let _requests = requests;
            drop(connection.await);
        });
        (pings, driven, other)
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_peer_is_gone_after_a_ping() {
        let peer = Peer::new();
        let (pings, _driven, _other) = connected(&peer).await;
        let began = Instant::now();
        let _in_use = peer.wait_for();
        peer.gone(pings, PATIENCE).await;
        let took = began.elapsed();
        assert!((PATIENCE.interval + PATIENCE.timeout..Duration::from_secs(41)).contains(&took), "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_nobody_waits_for_is_left_alone_until_somebody_does() {
        let peer = Peer::new();
        let (pings, _driven, mut other) = connected(&peer).await;
        let gone = peer.gone(pings, PATIENCE);
        tokio::pin!(gone);
        assert!(timeout(Duration::from_secs(3600), gone.as_mut()).await.is_err());
        let began = Instant::now();
        let in_use = peer.wait_for();
        drop(in_use);
        let in_use = peer.wait_for();
        gone.await;
        assert!(began.elapsed() < Duration::from_secs(11), "asked at once: it had been silent for long");
        drop(in_use);
        let mut sent = vec![0; 1024];
        let length = other.read(&mut sent).await.unwrap();
        // A PING frame (RFC 9113 section 6.7): eight bytes, type 6.
        assert!(sent[..length].windows(4).any(|bytes| bytes == [0, 0, 8, 6]));
    }

    #[tokio::test(start_paused = true)]
    async fn whatever_it_sends_keeps_it() {
        let peer = Peer::new();
        let (pings, _driven, mut other) = connected(&peer).await;
        let _in_use = peer.wait_for();
        let sends = async {
            // SETTINGS, and then WINDOW_UPDATE frames, but no answer to a ping.
            other.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.unwrap();
            for _ in 0..20 {
                sleep(PATIENCE.interval + PATIENCE.timeout / 2).await;
                other.write_all(&[0, 0, 4, 8, 0, 0, 0, 0, 0, 0, 0, 0, 1]).await.unwrap();
            }
        };
        tokio::select! {
            () = peer.gone(pings, PATIENCE) => panic!("it was heard of"),
            () = sends => {}
        }
    }
}
