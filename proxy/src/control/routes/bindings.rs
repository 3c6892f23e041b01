//! Routes about the key-value stores of handlers: an operator puts in what a handler is to find.

use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde::Deserialize;
use sluicegate_policy::{Answer, BindingKind, KvOperation};

use super::Shared;
use super::answers::{Invalid, NotFound, StoreFailed, TooLong, Unavailable};
use super::read::Raw;
use crate::control::api::Keys;
use crate::control::problem::Problem;
use crate::controller::Actor;

/// Which keys are listed.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::control) struct Listed {
    /// What the keys begin with.
    #[serde(default)]
    prefix: String,
}

/// How a value is kept.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::control) struct Kept {
    /// For how many seconds it is kept; for good if missing.
    ttl_seconds: Option<u64>,
}

/// List the keys of a store, as handlers see them
#[utoipa::path(get, path = "/v1/bindings/{name}", tag = "bindings",
    params(("name" = String, Path, description = "The binding's name, such as `kv`"),
        ("prefix" = Option<String>, Query, description = "What the keys begin with")),
    responses((status = OK, description = "In order", body = Keys), Invalid, NotFound, StoreFailed))]
pub(in crate::control) async fn get_keys(
    State(shared): State<Shared>,
    Extension(actor): Extension<Actor>,
    Path(name): Path<String>,
    Query(Listed { prefix }): Query<Listed>,
) -> Result<Json<Keys>, Problem> {
    match operate(&shared, actor, &name, KvOperation::List(prefix.into())).await? {
        Answer::Keys(keys) => Ok(Json(Keys { keys: keys.into_iter().map(String::from).collect() })),
        other => Err(unexpected(other)),
    }
}

/// Read a value
#[utoipa::path(get, path = "/v1/bindings/{name}/{key}", tag = "bindings",
    params(("name" = String, Path, description = "The binding's name, such as `kv`"),
        ("key" = String, Path, description = "The key, percent-encoded")),
    responses((status = OK, description = "The value", body = Vec<u8>, content_type = "application/octet-stream"),
        NotFound, StoreFailed))]
pub(in crate::control) async fn get_value(
    State(shared): State<Shared>,
    Extension(actor): Extension<Actor>,
    Path((name, key)): Path<(String, String)>,
) -> Result<Response, Problem> {
    match operate(&shared, actor, &name, KvOperation::Get(key.into())).await? {
        Answer::Bytes(value) => Ok(([(CONTENT_TYPE, "application/octet-stream")], value).into_response()),
        Answer::Nothing => Err(Problem::not_found("there is no value under this key")),
        other => Err(unexpected(other)),
    }
}

/// Write a value
#[utoipa::path(put, path = "/v1/bindings/{name}/{key}", tag = "bindings",
    params(("name" = String, Path, description = "The binding's name, such as `kv`"),
        ("key" = String, Path, description = "The key, percent-encoded"),
        ("ttl_seconds" = Option<u64>, Query, minimum = 1,
            description = "For how many seconds the value is kept; for good if missing")),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses((status = NO_CONTENT, description = "It is written"),
        Invalid, NotFound, TooLong, StoreFailed, Unavailable))]
pub(in crate::control) async fn put_value(
    State(shared): State<Shared>,
    Extension(actor): Extension<Actor>,
    Path((name, key)): Path<(String, String)>,
    Query(Kept { ttl_seconds }): Query<Kept>,
    Raw(value): Raw,
) -> Result<StatusCode, Problem> {
    if ttl_seconds == Some(0) {
        return Err(Problem::invalid(
            "`ttl_seconds` must be 1 or more; leave it out to keep the value for good",
        ));
    }
    let operation = put(key, value, ttl_seconds);
    match operate(&shared, actor, &name, operation).await? {
        Answer::Done => Ok(StatusCode::NO_CONTENT),
        other => Err(unexpected(other)),
    }
}

fn put(key: String, value: Bytes, ttl_seconds: Option<u64>) -> KvOperation {
    KvOperation::Put { key: key.into(), value, ttl: ttl_seconds.map(Duration::from_secs) }
}

/// Remove a value, there or not
#[utoipa::path(delete, path = "/v1/bindings/{name}/{key}", tag = "bindings",
    params(("name" = String, Path, description = "The binding's name, such as `kv`"),
        ("key" = String, Path, description = "The key, percent-encoded")),
    responses((status = NO_CONTENT, description = "It is not there"), NotFound, StoreFailed, Unavailable))]
pub(in crate::control) async fn delete_value(
    State(shared): State<Shared>,
    Extension(actor): Extension<Actor>,
    Path((name, key)): Path<(String, String)>,
) -> Result<StatusCode, Problem> {
    match operate(&shared, actor, &name, KvOperation::Delete(key.into())).await? {
        Answer::Done => Ok(StatusCode::NO_CONTENT),
        other => Err(unexpected(other)),
    }
}

async fn operate(
    shared: &Shared,
    actor: Actor,
    name: &str,
    operation: KvOperation,
) -> Result<Answer, Problem> {
    let generation = shared.controller.gate().generation();
    let declared = generation.policy.bindings().iter().find(|binding| *binding.name == *name);
    match declared.map(|binding| binding.kind) {
        Some(BindingKind::Kv) => Ok(shared.controller.kv(actor, name, operation).await?),
        Some(_) => {
            Err(Problem::invalid("this binding holds objects; only those of kind kv can be used here"))
        }
        None => Err(Problem::not_found("the policy has no binding of this name")),
    }
}

fn unexpected(answer: Answer) -> Problem {
    match answer {
        Answer::Failed(words) => Problem::store(words),
        _ => Problem::bug(),
    }
}
