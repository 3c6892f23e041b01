//! Requests that ask their connection to leave HTTP: WebSockets, and whatever else an upstream agrees to.
//!
//! **Invariant:** bytes pass only after the upstream's 101 to the protocol that was asked for. What the
//! workload sends before waits, and is then either bytes of that protocol or the next request, never
//! both. Where the handler in charge judges messages, only whole messages pass that it lets pass.

mod both_ways;
mod frames;
mod ground;
mod handshake;
mod judge;
mod leaving;
mod messages;
mod pipe;
mod reset;

use std::sync::Arc;

use http::header::SEC_WEBSOCKET_PROTOCOL;
use http::{HeaderMap, HeaderValue, Response, StatusCode, request, response};
use sluicegate_policy::{Authority, DenyReason, HandlerInput, Refusal, Scheme};

use crate::activity::Active;
use crate::audit::AuditRecord;
use crate::body::ResponseBody;
use crate::exchange::Connection;
use crate::generation::Generation;
use crate::handling::Exchange;
use crate::hop;
use crate::upstream::UpstreamError;

pub use ground::Ground;
use handshake::Extended;
use judge::Judge;
use leaving::Leaving;
use pipe::Pipe;

/// What a request asks for. It goes with the request's head, as an extension, through a handler too.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The protocol as the workload wrote it.
    protocol: HeaderValue,
    workload: Leaving,
    extended: Option<Extended>,
    ground: Arc<Ground>,
}

/// What an upstream has agreed to. It takes the place of the response's body.
#[derive(Clone, Debug)]
pub struct Granted {
    asked: Asked,
    upstream: Leaving,
    /// Who has.
    to: (Scheme, Authority),
    /// Who is asked about each message, if anybody is.
    judge: Option<Arc<Judge>>,
}

/// Makes a request out of an extended CONNECT for a WebSocket (RFC 8441 section 5); to be done before
/// the head is judged.
pub fn translate(head: &mut request::Parts) {
    handshake::translate(head);
}

/// Makes an extended CONNECT out of a request for a WebSocket, for an upstream of HTTP/2. What is returned
/// is for [`out_of_connect`].
pub fn into_connect(head: &mut request::Parts) -> Option<HeaderValue> {
    handshake::into_connect(head)
}

/// Makes the 101 of RFC 6455 out of what such an upstream agrees with; everything else stays.
///
/// # Errors
/// It agrees in a way that is not one.
pub fn out_of_connect(
    head: &mut response::Parts,
    agreement: Option<HeaderValue>,
) -> Result<(), UpstreamError> {
    handshake::out_of_connect(head, agreement).map_err(UpstreamError::Upgrade)
}

/// Takes the headers of the hop off a request that was let through, and notes what it asks for.
///
/// # Errors
/// It asks for something that is not passed on.
pub fn strip(head: &mut request::Parts, ground: Ground) -> Result<(), Refusal> {
    let protocol = handshake::protocol(head)?;
    hop::strip_request(&mut head.headers);
    let extended = head.extensions.remove::<Extended>();
    if let (Some(protocol), Some(workload)) = (protocol, Leaving::take(&mut head.extensions)) {
        // For handlers to see; the one that is sent is made anew.
        head.headers.insert(http::header::UPGRADE, protocol.clone());
        let ground = Arc::new(ground);
        head.extensions.insert(Asked { protocol, workload, extended, ground });
    }
    Ok(())
}

/// Refuses an answer that was not made by an upstream's 101, where the workload would take it for one: on
/// HTTP/2 that is each with a status of 2xx.
///
/// # Errors
/// It is such a one.
pub fn check_answer(asks: &http::Extensions, status: StatusCode) -> Result<(), Refusal> {
    let is_extended =
        asks.get::<Extended>().is_some() || asks.get::<Asked>().is_some_and(|asked| asked.extended.is_some());
    if is_extended && status.is_success() {
        let detail = format!("status {} would open a WebSocket to nobody", status.as_u16());
        return Err(Refusal { reason: DenyReason::UpgradeNotSupported, detail });
    }
    Ok(())
}

impl Asked {
    /// Whether it is a WebSocket.
    pub fn is_websocket(&self) -> bool {
        handshake::is_websocket(&self.protocol)
    }

    /// Puts what asks for it on the head that is sent.
    pub fn put_on(&self, headers: &mut HeaderMap) {
        handshake::put_hop(headers, &self.protocol);
    }

    /// What a response grants of it; `None` where that is a response like any other. What was not asked
    /// for is never granted.
    ///
    /// # Errors
    /// The upstream has changed the connection to something else, or the workload would believe that it
    /// has.
    pub fn granted(
        asked: Option<Self>,
        response: &mut response::Parts,
        to: (Scheme, Authority),
    ) -> Result<Option<Granted>, UpstreamError> {
        let Some(asked) = asked else {
            return match response.status {
                StatusCode::SWITCHING_PROTOCOLS => Err(UpstreamError::Upgrade("nobody asked for it")),
                _ => Ok(None),
            };
        };
        if response.status != StatusCode::SWITCHING_PROTOCOLS {
            if asked.extended.is_some() && response.status.is_success() {
                return Err(UpstreamError::Upgrade("its status is not 101"));
            }
            return Ok(None);
        }
        handshake::check(response, &asked.protocol, asked.extended.as_ref())
            .map_err(UpstreamError::Upgrade)?;
        let upstream = Leaving::take(&mut response.extensions);
        let upstream = upstream.ok_or(UpstreamError::Upgrade("its connection cannot be taken over"))?;
        Ok(Some(Granted { asked, upstream, to, judge: None }))
    }
}

impl Granted {
    /// Has the handler of this exchange asked about each message. `input` is what it is told besides; the
    /// subprotocol is that of the answer.
    #[must_use]
    pub fn judged(self, exchange: Exchange, input: HandlerInput, answer: &HeaderMap) -> Self {
        let subprotocol = answer.get(SEC_WEBSOCKET_PROTOCOL).and_then(|value| value.to_str().ok());
        let ground = Arc::clone(&self.asked.ground);
        let judge = Judge::new(exchange, (input, subprotocol.map(Box::from)), ground);
        Self { judge: Some(Arc::new(judge)), ..self }
    }

    /// The answer to the workload. Once that is with it, bytes pass, and the records are written when
    /// they have.
    pub fn pass(
        self,
        mut head: response::Parts,
        (connection, generation): (&Arc<Connection>, &Generation),
        (mut record, mut fetch): (AuditRecord, Option<AuditRecord>),
        active: Active,
    ) -> Response<ResponseBody> {
        handshake::for_workload(&mut head, &self.asked.protocol, self.asked.extended.is_some());
        record.status = Some(head.status.as_u16());
        record.messages = self.judge.as_ref().map(|judge| judge.tally());
        for record in fetch.iter_mut().chain([&mut record]) {
            record.complete = Some(false);
        }
        let (connection, idle) = (Arc::clone(connection), generation.policy.upstream().idle_timeout);
        tokio::spawn(Pipe { connection, idle, granted: self, record, fetch, _active: active }.run());
        Response::from_parts(head, ResponseBody::Own(None))
    }
}
