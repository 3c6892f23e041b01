//! What a handler does with a request: send it, refuse it, ask about it, answer it early.

use std::time::Duration;

use crate::bindings::sluicegate::policy::{approval, http};
use crate::{Error, Request, Response, Result};

/// Sends a request and waits for the head of its response; the body streams. Redirects are not
/// followed. The policy's lists, the checks of addresses and the bounds of secrets apply: what they
/// refuse ends the handler, and this does not return.
///
/// # Errors
/// There was no answer; or the request cannot be sent as it is.
pub fn fetch(request: Request) -> Result<Response> {
    http::fetch(request.into_host(), None).map(Response::from_host).map_err(Error::from_host)
}

/// As [`fetch`], and waits no longer than this, in whole milliseconds.
///
/// # Errors
/// As [`fetch`], and [`Error::TimedOut`].
pub fn fetch_within(request: Request, patience: Duration) -> Result<Response> {
    let milliseconds = u32::try_from(patience.as_millis()).unwrap_or(u32::MAX);
    http::fetch(request.into_host(), Some(milliseconds)).map(Response::from_host).map_err(Error::from_host)
}

/// Refuses: to be returned. The workload is told the reason.
///
/// ```
/// # use sluicegate_handler::{Request, Response, Result, deny, fetch};
/// fn outbound(request: Request) -> Result<Response> {
///     if request.method() == "DELETE" {
///         return deny("nothing is deleted here");
///     }
///     fetch(request)
/// }
/// ```
///
/// # Errors
/// Always: [`Error::Denied`].
pub fn deny<T>(reason: impl Into<String>) -> Result<T> {
    Err(Error::Denied(reason.into()))
}

/// Holds the request until a person agrees: 1 to 600 seconds, a fraction rounded up. Without a yes the
/// request is refused, and this does not return.
///
/// # Errors
/// The reason or the time is not allowed.
pub fn ask(reason: &str, patience: Duration) -> Result<()> {
    approval::ask(reason, whole_seconds(patience)).map_err(Error::from_host)
}

/// Answers the workload now, and lets the handler go on: to read a copy of the body that is being sent,
/// for one ([`Body::tee`](crate::Body::tee)). Once only. What it gives is to be returned at the end,
/// and counts for nothing.
///
/// ```
/// # use sluicegate_handler::{Request, Response, Result, fetch, log, respond};
/// fn outbound(request: Request) -> Result<Response> {
///     let mut response = fetch(request)?;
///     let Some(mut body) = response.take_body() else { return Ok(response) };
///     let mut copy = body.tee()?;
///     response.set_body(body);
///     let answered = respond(response)?;
///     let mut bytes = 0;
///     while let Some(chunk) = copy.next_chunk()? {
///         bytes += chunk.len();
///     }
///     log::info(&format!("{bytes} bytes"));
///     Ok(answered)
/// }
/// ```
///
/// # Errors
/// The response cannot be sent as it is; or there was an answer before.
pub fn respond(response: Response) -> Result<Response> {
    http::respond(response.into_host()).map_err(Error::from_host)?;
    Response::empty(200)
}

/// Seconds as the gate counts them, rounded up.
pub(crate) fn whole_seconds(duration: Duration) -> u32 {
    let seconds = duration.as_secs().saturating_add((duration.subsec_nanos() > 0).into());
    u32::try_from(seconds).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_keeps_its_reason() {
        assert_eq!(deny::<()>("not here"), Err(Error::Denied("not here".into())));
    }

    #[test]
    fn seconds_are_rounded_up_and_bounded() {
        let seconds = |milliseconds| whole_seconds(Duration::from_millis(milliseconds));
        assert_eq!([0, 1, 999, 1000, 1001].map(seconds), [0, 1, 1, 1, 2]);
        assert_eq!(whole_seconds(Duration::MAX), u32::MAX);
    }
}
