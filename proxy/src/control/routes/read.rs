//! Bodies of control requests, read whole, bounded in length and time.

use std::error::Error;
use std::time::Duration;

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{FromRequest, Request};
use axum::http::StatusCode;
use http_body_util::LengthLimitError;
use serde::de::DeserializeOwned;
use sluicegate_policy::ProgramKind;

use crate::control::problem::Problem;

/// A policy with its scripts, of which each has 1 MiB at most.
const JSON_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The longest value of a key-value store.
const VALUE_BYTES_MAX: usize = 1024 * 1024;

/// How long a body may take.
const BODY_DEADLINE: Duration = Duration::from_secs(10);

/// A body that is JSON.
pub(super) struct Sent<T>(pub(super) T);

/// A body as it is, to be stored.
pub(super) struct Raw(pub(super) Bytes);

/// A body as it is, as long as a component may be.
pub(super) struct Binary(pub(super) Bytes);

impl<S: Sync, T: DeserializeOwned> FromRequest<S> for Sent<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _state: &S) -> Result<Self, Problem> {
        let bytes = read(request.into_body(), JSON_BYTES_MAX).await?;
        serde_json::from_slice(&bytes).map(Self).map_err(|error| {
            Problem::invalid(format!("the body is not the JSON that is meant here: {error}"))
        })
    }
}

impl<S: Sync> FromRequest<S> for Raw {
    type Rejection = Problem;

    async fn from_request(request: Request, _state: &S) -> Result<Self, Problem> {
        read(request.into_body(), VALUE_BYTES_MAX).await.map(Self)
    }
}

impl<S: Sync> FromRequest<S> for Binary {
    type Rejection = Problem;

    async fn from_request(request: Request, _state: &S) -> Result<Self, Problem> {
        read(request.into_body(), ProgramKind::Component.bytes_max()).await.map(Self)
    }
}

async fn read(body: Body, limit: usize) -> Result<Bytes, Problem> {
    match tokio::time::timeout(BODY_DEADLINE, to_bytes(body, limit)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(error)) if error.source().is_some_and(|cause| cause.is::<LengthLimitError>()) => {
            let detail = format!("the body is longer than {limit} bytes");
            Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too-long", detail))
        }
        Ok(Err(_)) => Err(Problem::invalid("the body is cut off")),
        Err(_) => Err(Problem::new(StatusCode::REQUEST_TIMEOUT, "too-slow", "the body took too long")),
    }
}

#[cfg(test)]
mod tests {
    use axum::response::IntoResponse;

    use super::*;

    async fn status<T: FromRequest<(), Rejection = Problem>>(body: Vec<u8>) -> u16 {
        match T::from_request(Request::new(body.into()), &()).await {
            Ok(_) => 200,
            Err(problem) => problem.into_response().status().as_u16(),
        }
    }

    #[tokio::test]
    async fn bodies_are_bounded_and_must_be_what_is_meant() {
        assert_eq!(status::<Sent<Vec<u8>>>(b"[1]".to_vec()).await, 200);
        assert_eq!(status::<Sent<Vec<u8>>>(b"".to_vec()).await, 400);
        assert_eq!(status::<Sent<Vec<u8>>>(b"{\"a\":1}".to_vec()).await, 400);
        assert_eq!(status::<Sent<Vec<u8>>>(vec![b' '; JSON_BYTES_MAX + 1]).await, 413);
        assert_eq!(status::<Raw>(vec![0; VALUE_BYTES_MAX]).await, 200);
        assert_eq!(status::<Raw>(vec![0; VALUE_BYTES_MAX + 1]).await, 413);
        let longest = ProgramKind::Component.bytes_max();
        assert_eq!(status::<Binary>(vec![0; longest]).await, 200);
        assert_eq!(status::<Binary>(vec![0; longest + 1]).await, 413);
    }
}
