//! What happens, told to front ends as it happens: server-sent events (WHATWG HTML section 9.2).

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Extension;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use http_body::Frame;
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::sync::mpsc;

use super::api::{Event, ProblemAnswer};
use super::peer::Peer;
use super::problem::Problem;
use super::routes::Shared;

/// How often a line is sent when nothing happens, so that both ends see when the other is gone.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// A comment, which readers skip.
const NOTHING: Bytes = Bytes::from_static(b":\n\n");

/// Follow what happens
///
/// One event for each thing that happens, its name and JSON in `event` and `data`; a comment at the
/// beginning and every 15 seconds. Whoever reads too slowly is told `lagged` and goes on. What waits
/// already is not told: follow first, then ask `GET /v1/approvals`.
#[utoipa::path(get, path = "/v1/events", tag = "instance",
    responses((status = OK, description = "Server-sent events", body = Event, content_type = "text/event-stream"),
        (status = SERVICE_UNAVAILABLE, description = "Too many follow already", body = ProblemAnswer,
            content_type = "application/problem+json")))]
pub(super) async fn get_events(
    State(shared): State<Shared>,
    Extension(peer): Extension<Peer>,
) -> Result<Response, Problem> {
    let Ok(place) = Arc::clone(&shared.followers).try_acquire_owned() else {
        return Err(Problem::unavailable("as many follow the events as can").hint("close another follower"));
    };
    peer.follow();
    let events = shared.controller.subscribe();
    let (lines, told) = mpsc::channel(1);
    tokio::spawn(async move {
        tell(events, lines).await;
        drop(place);
    });
    let headers = [(CONTENT_TYPE, "text/event-stream"), (CACHE_CONTROL, "no-store")];
    Ok((headers, Body::new(Lines(told))).into_response())
}

/// Tells what happens until nobody reads any more, or nothing more can happen.
async fn tell(mut events: broadcast::Receiver<Event>, lines: mpsc::Sender<Bytes>) {
    let mut line = NOTHING;
    loop {
        // Waits for a reader that is slow; meanwhile what happens is kept, or counted as missed.
        if lines.send(line).await.is_err() {
            return;
        }
        line = tokio::select! {
            event = events.recv() => match event {
                Ok(event) => written(&event),
                Err(RecvError::Lagged(missed)) => written(&Event::Lagged { missed }),
                Err(RecvError::Closed) => return,
            },
            () = tokio::time::sleep(HEARTBEAT) => NOTHING,
            () = lines.closed() => return,
        };
    }
}

/// JSON has no line breaks, so that an event is always one line of data.
fn written(event: &Event) -> Bytes {
    serde_json::to_string(event)
        .map_or(NOTHING, |data| format!("event: {}\ndata: {data}\n\n", event.name()).into())
}

/// A body that ends with its sender.
struct Lines(mpsc::Receiver<Bytes>);

impl http_body::Body for Lines {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(cx).map(|line| line.map(|line| Ok(Frame::data(line))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(number: usize) -> Event {
        Event::PolicyRefused { error: format!("line {number}\nis wrong") }
    }

    #[tokio::test]
    async fn events_are_told_in_order_and_a_slow_reader_is_told_what_it_missed() {
        let (events, receiver) = broadcast::channel(2);
        let (lines, mut told) = mpsc::channel(1);
        let teller = tokio::spawn(tell(receiver, lines));
        assert_eq!(told.recv().await.unwrap(), NOTHING);
        events.send(refused(1)).unwrap();
        let expected =
            "event: policy_refused\ndata: {\"event\":\"policy_refused\",\"error\":\"line 1\\nis wrong\"}\n\n";
        assert_eq!(told.recv().await.unwrap(), expected);
        // On one thread the teller does not run between these.
        for number in 2..=5 {
            events.send(refused(number)).unwrap();
        }
        assert_eq!(
            told.recv().await.unwrap(),
            "event: lagged\ndata: {\"event\":\"lagged\",\"missed\":2}\n\n"
        );
        assert_eq!(told.recv().await.unwrap(), written(&refused(4)));
        assert_eq!(told.recv().await.unwrap(), written(&refused(5)));
        drop(told);
        tokio::time::timeout(Duration::from_secs(5), teller).await.unwrap().unwrap();
    }
}
