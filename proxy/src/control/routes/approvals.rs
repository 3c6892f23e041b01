//! Routes about requests that wait for a person.

use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::{Extension, Json};

use super::answers::{Conflict, Invalid, NotFound, TooLong, Unavailable};
use super::read::Sent;
use super::{Shared, apart};
use crate::approvals::Remember;
use crate::control::api::{ApprovalAnswer, PendingApprovals, RememberedAnswers};
use crate::control::problem::Problem;
use crate::controller::Actor;

/// The longest time for which an answer is remembered, in seconds: a year.
const REMEMBER_SECONDS_MAX: u64 = 31_536_000;

impl ApprovalAnswer {
    /// For how long it counts.
    ///
    /// # Errors
    /// What is wrong, in words, where it says two things or too long a time.
    fn remember(&self) -> Result<Remember, &'static str> {
        match (self.remember_seconds, self.always) {
            (None, false) => Ok(Remember::Once),
            (None, true) => Ok(Remember::Always),
            (Some(seconds @ 1..=REMEMBER_SECONDS_MAX), false) => {
                Ok(Remember::For(Duration::from_secs(seconds)))
            }
            (Some(_), false) => Err("`remember_seconds` must be 1 to 31536000; `always` has no end"),
            (Some(_), true) => Err("`always` and `remember_seconds` exclude each other; leave one out"),
        }
    }
}

/// What waits for an answer
#[utoipa::path(get, path = "/v1/approvals", tag = "approvals",
    responses((status = OK, description = "In the order in which it was asked", body = PendingApprovals)))]
pub(in crate::control) async fn get_approvals(State(shared): State<Shared>) -> Json<PendingApprovals> {
    Json(PendingApprovals { pending: shared.controller.approvals().pending() })
}

/// Answer
///
/// All requests that wait under this id go on, or are refused. What is remembered counts for exactly the
/// same question: instance, method, scheme, authority, path, query and reason.
#[utoipa::path(post, path = "/v1/approvals/{id}", tag = "approvals", request_body = ApprovalAnswer,
    params(("id" = String, Path, description = "The question's id")),
    responses((status = NO_CONTENT, description = "It counts"),
        Invalid, NotFound, Conflict, TooLong, Unavailable))]
pub(in crate::control) async fn post_approval(
    State(shared): State<Shared>,
    Extension(actor): Extension<Actor>,
    Path(id): Path<String>,
    Sent(answer): Sent<ApprovalAnswer>,
) -> Result<StatusCode, Problem> {
    let remember = answer.remember().map_err(Problem::invalid)?;
    apart(&shared, move |controller| controller.decide(actor, &id, answer.allow, remember)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The answers that count again
#[utoipa::path(get, path = "/v1/approvals/remembered", tag = "approvals",
    responses((status = OK, description = "In the order in which they were given", body = RememberedAnswers)))]
pub(in crate::control) async fn get_remembered(State(shared): State<Shared>) -> Json<RememberedAnswers> {
    Json(RememberedAnswers { remembered: shared.controller.approvals().remembered() })
}

/// Forget an answer
#[utoipa::path(delete, path = "/v1/approvals/remembered/{id}", tag = "approvals",
    params(("id" = String, Path, description = "The answer's id")),
    responses((status = NO_CONTENT, description = "It is forgotten"), NotFound, Unavailable))]
pub(in crate::control) async fn delete_remembered(
    State(shared): State<Shared>,
    Extension(actor): Extension<Actor>,
    Path(id): Path<String>,
) -> Result<StatusCode, Problem> {
    if apart(&shared, move |controller| controller.forget(actor, &id)).await? {
        return Ok(StatusCode::NO_CONTENT);
    }
    Err(Problem::not_found("no answer is remembered under this id"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_says_one_thing_about_how_long_it_counts() {
        let answer = |remember_seconds, always| ApprovalAnswer { allow: true, remember_seconds, always };
        assert_eq!(answer(None, false).remember(), Ok(Remember::Once));
        assert_eq!(answer(None, true).remember(), Ok(Remember::Always));
        assert_eq!(answer(Some(60), false).remember(), Ok(Remember::For(Duration::from_secs(60))));
        for bad in [answer(Some(0), false), answer(Some(31_536_001), false), answer(Some(60), true)] {
            assert!(bad.remember().is_err(), "{bad:?}");
        }
    }
}
