//! Routes about the policy as a whole.

use std::collections::BTreeMap;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use sluicegate_policy::{Content, Effective, Explanation};

use super::answers::{Conflict, Invalid, Refused, TooLong, Unavailable};
use super::read::{Binary, Sent};
use super::{Shared, apart};
use crate::control::api::{EffectivePolicy, Explained, Handlers, Published, TestQuestion, UploadedPolicy};
use crate::control::problem::Problem;
use crate::controller::{Actor, ControlError};
use crate::document::Bundle;

/// The policy in force, line by line
///
/// Each line says where it comes from: the document, a change at run time, or what holds where nobody
/// says anything.
#[utoipa::path(get, path = "/v1/policy", tag = "policy",
    responses((status = OK, description = "All of it", body = EffectivePolicy)))]
pub(in crate::control) async fn get_policy(State(shared): State<Shared>) -> Result<Json<Effective>, Problem> {
    apart(&shared, |controller| Ok(controller.effective())).await.map(Json)
}

/// Put another policy in force
///
/// It stands in the place of the document until it is taken away, also after a restart. All of it is in
/// force, or none. Its components are sent before, by `PUT /v1/components/{sha256}`; where some are not there it is
/// refused with 409, and the answer has them as `missing`.
#[utoipa::path(put, path = "/v1/policy", tag = "policy", request_body = UploadedPolicy,
    responses((status = OK, description = "It is in force", body = Published),
        Invalid, Conflict, TooLong, Refused, Unavailable))]
pub(in crate::control) async fn put_policy(
    State(shared): State<Shared>,
    Extension(actor): Extension<Actor>,
    Sent(uploaded): Sent<UploadedPolicy>,
) -> Result<Json<Published>, Problem> {
    let UploadedPolicy { file, document, scripts, components } = uploaded;
    if !file.is_absolute() {
        return Err(Problem::invalid(
            "`file` must be an absolute path; relative paths in the policy begin there",
        ));
    }
    let mut scripts: BTreeMap<_, _> = scripts.into_iter().map(|(path, text)| (path, text.into())).collect();
    apart(&shared, move |controller| {
        scripts.extend(controller.components(components)?);
        controller.upload(actor, Bundle { file, document, scripts })
    })
    .await
    .map(Json)
}

/// Send a component for the next policy
///
/// It is compiled and kept for ten minutes, so that putting a policy with it in force takes no time. What is wrong with
/// it as a handler is said of the policy.
#[utoipa::path(put, path = "/v1/components/{sha256}", tag = "policy",
    params(("sha256" = String, Path, description = "The SHA-256 of the bytes, 64 lowercase hexadecimal digits")),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses((status = NO_CONTENT, description = "The gate has it"), Invalid, TooLong, Unavailable))]
pub(in crate::control) async fn put_component(
    State(shared): State<Shared>,
    Path(sha256): Path<String>,
    Binary(bytes): Binary,
) -> Result<StatusCode, Problem> {
    apart(&shared, move |controller| {
        let content = Content::from(Vec::from(bytes));
        if content.sha256_hex() != sha256 {
            let why = format!("the SHA-256 of these bytes is {}", content.sha256_hex());
            return Err(ControlError::Invalid(why));
        }
        controller.take_component(content)
    })
    .await
    .map(|()| StatusCode::NO_CONTENT)
}

/// Go back to the document of the start, read anew
///
/// Changes at run time stay; `DELETE /v1/overrides` takes them away.
#[utoipa::path(delete, path = "/v1/policy", tag = "policy",
    responses((status = OK, description = "The document is in force", body = Published), Refused, Unavailable))]
pub(in crate::control) async fn delete_policy(
    State(shared): State<Shared>,
    Extension(actor): Extension<Actor>,
) -> Result<Json<Published>, Problem> {
    apart(&shared, move |controller| controller.reset(actor)).await.map(Json)
}

/// Judge a request that is not made
#[utoipa::path(post, path = "/v1/policy/test", tag = "policy", request_body = TestQuestion,
    responses((status = OK, description = "What would happen, and why", body = Explained), Invalid))]
pub(in crate::control) async fn post_policy_test(
    State(shared): State<Shared>,
    Sent(question): Sent<TestQuestion>,
) -> Result<Json<Explanation>, Problem> {
    Ok(Json(shared.controller.explain(&question.method, &question.url)?))
}

/// The handlers that can be set, and those that are
#[utoipa::path(get, path = "/v1/handlers", tag = "policy",
    responses((status = OK, description = "Both", body = Handlers)))]
pub(in crate::control) async fn get_handlers(
    State(shared): State<Shared>,
) -> Result<Json<Handlers>, Problem> {
    apart(&shared, |controller| Ok(Handlers::of(controller.effective()))).await.map(Json)
}
