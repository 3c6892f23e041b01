//! Connections of the gate's own: to the stores that the policy document names in `[bindings]`.
//!
//! They are resolved, verified and timed as those of workloads are. The one difference: an address
//! that the public has no business at may be dialled, as with `[upstream] resolve`. That check is
//! about where a workload's choice of name leads; these names the operator chose. `denied_hosts`
//! is asked all the same.

use std::sync::Arc;

use http::Request;
use sluicegate_policy::{Authority, Scheme};
use tokio::time::{Instant, timeout_at};
use tokio_rustls::client::TlsStream;
use tokio_util::either::Either;

use crate::body::{Progress, RequestBody};
use crate::upstream::resolve::ChosenBy;
use crate::upstream::tls::handshake;
use crate::upstream::{Answered, Failed, Lease, Origin, Sender, Upstream, UpstreamError, Wire};

impl Upstream {
    /// Connects to a store that speaks a protocol of its own, over TLS if `scheme` says so.
    ///
    /// # Errors
    /// [`UpstreamError`] of resolving, connecting and verifying.
    pub(crate) async fn dial_store(
        &self,
        scheme: Scheme,
        authority: &Authority,
    ) -> Result<Either<Wire, Box<TlsStream<Wire>>>, UpstreamError> {
        let way = self.way(authority, ChosenBy::Document).await?;
        let deadline = Instant::now() + self.connect_timeout;
        let (io, _) = self.dial(&way, deadline).await?;
        if scheme == Scheme::Http {
            return Ok(Either::Left(io));
        }
        let mut config = (*self.configuration_for(authority)?.http1).clone();
        // It is not HTTP that is spoken.
        config.alpn_protocols.clear();
        let io = timeout_at(deadline, handshake(&Arc::new(config), authority, io))
            .await
            .map_err(|_| UpstreamError::ConnectTimeout)??;
        Ok(Either::Right(io))
    }

    /// Sends a request to a store that speaks HTTP, and waits for the response's head.
    ///
    /// # Errors
    /// [`UpstreamError`]; the request may or may not have reached the store.
    pub(crate) async fn send_to_store(
        &self,
        origin: &Origin,
        request: Request<RequestBody>,
        progress: &Progress,
    ) -> Result<Answered, UpstreamError> {
        let slot = self.pool.slot(origin);
        let mut request = request;
        let answered = |response, sender: Option<_>, address, connect| {
            let lease = sender.map(|sender| Lease { slot: Arc::clone(&slot), sender, address });
            Answered { response, lease, address, connect, retries: 0, granted: None }
        };
        if let Some((sender, address)) = self.checkout(&slot) {
            match self.exchange(sender, request, origin, progress).await {
                Ok((response, sender)) => {
                    return Ok(answered(response, sender, address, std::time::Duration::ZERO));
                }
                Err(Failed::Unsent(again)) => request = *again,
                Err(failed) => return Err(failed.into_error()),
            }
        }
        let began = Instant::now();
        let way = self.way(&origin.authority, ChosenBy::Document).await?;
        let (sender, address) = self.connect(origin, &way).await?;
        if let Sender::Http2(sender) = &sender {
            slot.share_http2(sender.clone(), address);
        }
        let connect = began.elapsed();
        let sent = self.exchange(sender, request, origin, progress).await;
        let (response, sender) = sent.map_err(Failed::into_error)?;
        Ok(answered(response, sender, address, connect))
    }
}
