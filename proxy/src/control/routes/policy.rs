//! Routes about the policy as a whole.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::{Extension, Json};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use sluicegate_policy::{Effective, Explanation};

use super::answers::{Invalid, Refused, TooLong, Unavailable};
use super::read::Sent;
use super::{Shared, apart};
use crate::control::api::{EffectivePolicy, Explained, Handlers, Published, TestQuestion, UploadedPolicy};
use crate::control::problem::Problem;
use crate::controller::Actor;
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
/// force, or none.
#[utoipa::path(put, path = "/v1/policy", tag = "policy", request_body = UploadedPolicy,
    responses((status = OK, description = "It is in force", body = Published),
        Invalid, TooLong, Refused, Unavailable))]
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
    for (path, content) in components {
        let Ok(content) = BASE64.decode(content) else {
            return Err(Problem::invalid("`components` holds something that is not base64"));
        };
        scripts.insert(path, content.into());
    }
    let bundle = Bundle { file, document, scripts };
    apart(&shared, move |controller| controller.upload(actor, &bundle)).await.map(Json)
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
