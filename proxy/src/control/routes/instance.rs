//! Routes about the instance itself.

use axum::Json;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;

use super::{Shared, apart};
use crate::control::api::Status;
use crate::control::problem::Problem;

/// How the instance is
#[utoipa::path(get, path = "/v1/status", tag = "instance",
    responses((status = OK, description = "How it is", body = Status)))]
pub(in crate::control) async fn get_status(State(shared): State<Shared>) -> Result<Json<Status>, Problem> {
    apart(&shared, |controller| Ok(controller.status())).await.map(Json)
}

/// The certificate that the workload is to trust
#[utoipa::path(get, path = "/v1/ca", tag = "instance",
    responses((status = OK, description = "One certificate, PEM", body = String,
        content_type = "application/x-pem-file")))]
pub(in crate::control) async fn get_ca(State(shared): State<Shared>) -> impl IntoResponse {
    let headers = [(CONTENT_TYPE, "application/x-pem-file")];
    (headers, shared.controller.authority_pem().to_owned())
}

/// This description
#[utoipa::path(get, path = "/v1/openapi.json", tag = "instance",
    responses((status = OK, description = "OpenAPI 3.1", body = Object)))]
pub(in crate::control) async fn get_openapi(State(shared): State<Shared>) -> impl IntoResponse {
    ([(CONTENT_TYPE, "application/json")], shared.description.to_string())
}
