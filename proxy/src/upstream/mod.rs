//! Everything on the far side of a verdict: resolve, check, connect, verify, send.
//!
//! **Invariant:** nothing else in this program opens a connection or asks a name server.

mod connect;
mod datagrams;
mod error;
mod forbidden;
mod http2;
mod pool;
mod proxy;
mod race;
mod records;
mod resolve;
mod shape;
mod tls;
mod upgrade;
mod way;

use std::error::Error as _;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::TryFutureExt;
use http::{Request, Response};
use http_body::Body as _;
use hyper::client::conn::{TrySendError, http1};
use sluicegate_policy::{Authority, Policy};
use tokio::time::Instant;

use crate::body::{Arriving, Progress, RequestBody};
use crate::interim;
use crate::secrets::Secrets;
use crate::upgrade::Granted;
use connect::Sender;
pub use error::UpstreamError;
pub(crate) use http2::{CONNECTION_WINDOW, STREAM_WINDOW};
pub use pool::Origin;
use pool::{Pool, Slot};
pub use proxy::ProxyError;
pub use records::Records;
use records::Silence;
use resolve::{ChosenBy, Names};
use tls::Tls;
pub(crate) use tls::certificates;
pub use tls::{ClientIdentity, IdentityError, TlsMaterial};
pub use way::Wire;

/// The way out, for one policy.
#[derive(Debug)]
pub struct Upstream {
    policy: Arc<Policy>,
    secrets: Arc<Secrets>,
    names: Names,
    silence: Silence,
    tls: Arc<Tls>,
    pool: Pool,
    connect_timeout: Duration,
    response_timeout: Duration,
}

/// An answer, and how it was come by.
#[derive(Debug)]
pub struct Answered {
    /// The upstream's response, its body unread.
    pub response: Response<Arriving>,
    /// Gives the connection back when the body has ended; `None` where it is shared.
    pub lease: Option<Lease>,
    /// The address dialled.
    pub address: SocketAddr,
    /// How long the connection took; zero for one that was there.
    pub connect: Duration,
    /// How often the request was sent again.
    pub retries: u32,
    /// The upgrade that it grants.
    pub granted: Option<Granted>,
}

/// An HTTP/1.1 connection during its exchange.
#[derive(Debug)]
pub struct Lease {
    slot: Arc<Slot>,
    sender: http1::SendRequest<RequestBody>,
    address: SocketAddr,
}

impl Lease {
    /// Returns the connection to the pool as soon as it is ready for another request.
    pub fn give_back(self) {
        let Self { slot, mut sender, address } = self;
        if sender.is_ready() {
            slot.give_http1(sender, address);
        } else if !sender.is_closed() {
            // The request's body may still be going out behind an early response.
            tokio::spawn(async move {
                let ready = tokio::time::timeout(Duration::from_secs(30), sender.ready()).await;
                if matches!(ready, Ok(Ok(()))) {
                    slot.give_http1(sender, address);
                }
            });
        }
    }
}

impl Upstream {
    /// The way out that `policy` describes; `material` is what the files hold that it names, and
    /// `secrets` what a proxy may be told.
    pub fn new(policy: Arc<Policy>, material: TlsMaterial, secrets: Arc<Secrets>) -> Self {
        let settings = policy.upstream();
        let connect_timeout = settings.connect_timeout;
        let response_timeout = settings.response_timeout;
        let tls = Arc::new(Tls::new(material));
        Self {
            names: Names::new(Arc::clone(&policy), Arc::clone(&tls)),
            silence: Silence::default(),
            policy,
            secrets,
            tls,
            pool: Pool::default(),
            connect_timeout,
            response_timeout,
        }
    }

    /// Whether exactly these certificates are trusted and shown.
    pub fn is_of(&self, material: &TlsMaterial) -> bool {
        self.tls.is_of(material)
    }

    /// Sends a request whose secrets are on, and waits for the response's head.
    ///
    /// # Errors
    /// [`UpstreamError`]; the request may or may not have reached the upstream.
    pub async fn send(
        &self,
        origin: &Origin,
        request: Request<RequestBody>,
        progress: &Progress,
    ) -> Result<Answered, UpstreamError> {
        let slot = self.pool.slot(origin);
        let (mut connection, mut connect) = (self.checkout(&slot), Duration::ZERO);
        let mut request = request;
        let mut retries = 0;
        loop {
            let (sender, address, reused) = match connection.take() {
                Some((sender, address)) => (sender, address, true),
                None => {
                    let began = Instant::now();
                    let (sender, address) = self.open(origin, &slot).await?;
                    connect = began.elapsed();
                    (sender, address, false)
                }
            };
            let (head, body) = request.into_parts();
            let spare = (reused && head.method.is_safe() && body.is_end_stream()).then(|| head.clone());
            match self.exchange(sender, Request::from_parts(head, body), origin, progress).await {
                Ok((response, sender)) => {
                    let lease = sender.map(|sender| Lease { slot, sender, address });
                    return Ok(Answered { response, lease, address, connect, retries, granted: None });
                }
                // What hyper hands back unsent is sent again, and what may be repeated (RFC 9110 section
                // 9.2.2): servers close connections that were kept, and it is us who kept this one. Only
                // once, since the next connection is new.
                Err(Failed::Unsent(again)) if reused => (request, retries) = (*again, 1),
                Err(failed) => match spare.filter(|_| failed.is_unanswered()) {
                    Some(head) => (request, retries) = (Request::from_parts(head, RequestBody::empty()), 1),
                    None => return Err(failed.into_error()),
                },
            }
        }
    }

    /// Connects without TLS or HTTP of ours, for a flow that passes as it is.
    ///
    /// # Errors
    /// [`UpstreamError`] of resolving, checking and connecting.
    pub async fn connect_raw(&self, authority: &Authority) -> Result<(Wire, SocketAddr), UpstreamError> {
        let way = self.way(authority, ChosenBy::Workload).await?;
        self.dial(&way, Instant::now() + self.connect_timeout).await
    }

    /// Closes connections that nobody used for a while; to be called every half minute or so.
    pub fn sweep(&self) {
        self.pool.sweep();
    }

    fn checkout(&self, slot: &Slot) -> Option<(Sender, SocketAddr)> {
        slot.take_http1()
            .map(|(sender, address)| (Sender::Http1(sender), address))
            .or_else(|| slot.http2().map(|(sender, address)| (Sender::Http2(sender), address)))
    }

    async fn open(&self, origin: &Origin, slot: &Slot) -> Result<(Sender, SocketAddr), UpstreamError> {
        let speaks_http1 = || !origin.multiplexed || slot.speaks_http1.load(Ordering::Relaxed);
        let _first = if speaks_http1() {
            None
        } else {
            let first = slot.first.lock().await;
            if let Some((sender, address)) = slot.http2() {
                return Ok((Sender::Http2(sender), address));
            }
            (!speaks_http1()).then_some(first)
        };
        let way = self.way(&origin.authority, ChosenBy::Workload).await?;
        let (sender, address) = self.connect(origin, &way).await?;
        match &sender {
            Sender::Http1(_) => slot.speaks_http1.store(true, Ordering::Relaxed),
            Sender::Http2(sender) => slot.share_http2(sender.clone(), address),
        }
        Ok((sender, address))
    }

    async fn exchange(
        &self,
        sender: Sender,
        request: Request<RequestBody>,
        origin: &Origin,
        progress: &Progress,
    ) -> Result<(Response<Arriving>, Option<http1::SendRequest<RequestBody>>), Failed> {
        match sender {
            Sender::Http1(mut sender) => {
                let request = shape::for_http1(request, origin);
                let sent = sender.try_send_request(interim::attend(request, progress.passing.as_ref()));
                let response = self.answer(sent.map_err(Failed::from), progress).await?;
                Ok((response.map(Arriving::Http1), Some(sender)))
            }
            Sender::Http2(sender) => {
                let sent = sender.send(shape::for_http2(request, origin), progress.passing.as_ref());
                Ok((self.answer(sent, progress).await?, None))
            }
        }
    }

    /// Waits for a response head as long as the request's body moves, and then the stated time.
    async fn answer<B>(
        &self,
        sent: impl Future<Output = Result<Response<B>, Failed>>,
        progress: &Progress,
    ) -> Result<Response<B>, Failed> {
        let mut sent = std::pin::pin!(sent);
        let mut moved = progress.bytes();
        loop {
            match tokio::time::timeout(self.response_timeout, &mut sent).await {
                Ok(Err(_)) if progress.is_cut() => return Err(Failed::Error(UpstreamError::RequestCut)),
                Ok(answered) => return answered,
                Err(_) if progress.bytes() != moved => moved = progress.bytes(),
                Err(_) => return Err(Failed::Error(UpstreamError::ResponseTimeout)),
            }
        }
    }
}

/// How an exchange failed.
#[derive(Debug)]
enum Failed {
    /// Not one byte of the request went out; here it is.
    Unsent(Box<Request<RequestBody>>),
    Error(UpstreamError),
}

impl From<TrySendError<Request<RequestBody>>> for Failed {
    fn from(mut error: TrySendError<Request<RequestBody>>) -> Self {
        match error.take_message() {
            Some(request) => Self::Unsent(Box::new(request)),
            None => Self::Error(UpstreamError::Http(error.into_error())),
        }
    }
}

impl Failed {
    /// Whether the connection ended while the answer was waited for.
    fn is_unanswered(&self) -> bool {
        match self {
            Self::Error(UpstreamError::Http(error)) => {
                error.is_incomplete_message() || error.source().is_some_and(|source| source.is::<io::Error>())
            }
            // Those that a GOAWAY without an error ends were not looked at (RFC 9113 section 6.8).
            Self::Error(UpstreamError::Http2(error)) => {
                let is_left_out = error.is_go_away() && error.reason() == Some(h2::Reason::NO_ERROR);
                error.is_io() || (is_left_out && error.is_remote())
            }
            _ => false,
        }
    }

    fn into_error(self) -> UpstreamError {
        match self {
            Self::Unsent(_) => UpstreamError::Closed,
            Self::Error(error) => error,
        }
    }
}
