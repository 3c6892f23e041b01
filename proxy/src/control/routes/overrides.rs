//! Routes about changes that are kept apart from the document, each with its undo.

use std::collections::BTreeMap;

use axum::extract::{Path, State};
use axum::{Extension, Json};
use sluicegate_policy::{Change, Override};

use super::answers::{Invalid, Refused, TooLong, Unavailable};
use super::read::Sent;
use super::{Shared, apart};
use crate::control::api::{HandlerSetting, HostPatterns, Published};
use crate::control::problem::Problem;
use crate::controller::Actor;

type Changed = Result<Json<Published>, Problem>;

async fn change(shared: Shared, actor: Actor, change: Change) -> Changed {
    apart(&shared, move |controller| controller.change(actor, &change)).await.map(Json)
}

impl From<HandlerSetting> for Override {
    fn from(HandlerSetting { handler, params }: HandlerSetting) -> Self {
        Self { handler, params }
    }
}

/// Set the catch-all handler
///
/// It takes the place of the document's `outbound`, also after a restart.
#[utoipa::path(put, path = "/v1/outbound", tag = "overrides", request_body = HandlerSetting,
    responses((status = OK, description = "It is set", body = Published), Invalid, TooLong, Refused, Unavailable))]
pub(in crate::control) async fn put_outbound(
    State(shared): State<Shared>,
    Extension(actor): Extension<Actor>,
    Sent(handler): Sent<HandlerSetting>,
) -> Changed {
    change(shared, actor, Change::SetOutbound(handler.into())).await
}

/// Go back to the document's `outbound`
#[utoipa::path(delete, path = "/v1/outbound", tag = "overrides",
    responses((status = OK, description = "The document's is in force", body = Published), Refused, Unavailable))]
pub(in crate::control) async fn delete_outbound(
    State(shared): State<Shared>,
    Extension(actor): Extension<Actor>,
) -> Changed {
    change(shared, actor, Change::ClearOutbound).await
}

/// Set all handlers of hosts at once
///
/// What was set at run time before and is not among them is taken away. The document's own stay.
#[utoipa::path(put, path = "/v1/outbound-by-host", tag = "overrides",
    request_body(content = BTreeMap<String, HandlerSetting>, description = "By host pattern"),
    responses((status = OK, description = "They are set", body = Published), Invalid, TooLong, Refused, Unavailable))]
pub(in crate::control) async fn put_outbound_by_hosts(
    State(shared): State<Shared>,
    Extension(actor): Extension<Actor>,
    Sent(handlers): Sent<BTreeMap<String, HandlerSetting>>,
) -> Changed {
    let handlers = handlers.into_iter().map(|(pattern, handler)| (pattern, handler.into())).collect();
    change(shared, actor, Change::ReplaceOutboundByHost { handlers }).await
}

/// Set the handler of a host
#[utoipa::path(put, path = "/v1/outbound-by-host/{pattern}", tag = "overrides", request_body = HandlerSetting,
    params(("pattern" = String, Path, description = "A host pattern, percent-encoded")),
    responses((status = OK, description = "It is set", body = Published), Invalid, TooLong, Refused, Unavailable))]
pub(in crate::control) async fn put_outbound_by_host(
    State(shared): State<Shared>,
    Extension(actor): Extension<Actor>,
    Path(pattern): Path<String>,
    Sent(handler): Sent<HandlerSetting>,
) -> Changed {
    change(shared, actor, Change::SetOutboundByHost { pattern, handler: handler.into() }).await
}

/// Take the handler of a host away that was set at run time
#[utoipa::path(delete, path = "/v1/outbound-by-host/{pattern}", tag = "overrides",
    params(("pattern" = String, Path, description = "A host pattern, percent-encoded")),
    responses((status = OK, description = "It is away", body = Published), Invalid, Refused, Unavailable))]
pub(in crate::control) async fn delete_outbound_by_host(
    State(shared): State<Shared>,
    Extension(actor): Extension<Actor>,
    Path(pattern): Path<String>,
) -> Changed {
    change(shared, actor, Change::RemoveOutboundByHost { pattern }).await
}

/// Set `allowed_hosts` as a whole
///
/// An empty list allows nothing.
#[utoipa::path(put, path = "/v1/allowed-hosts", tag = "overrides", request_body = HostPatterns,
    responses((status = OK, description = "It is set", body = Published), Invalid, TooLong, Refused, Unavailable))]
pub(in crate::control) async fn put_allowed_hosts(
    State(shared): State<Shared>,
    Extension(actor): Extension<Actor>,
    Sent(HostPatterns { patterns }): Sent<HostPatterns>,
) -> Changed {
    change(shared, actor, Change::ReplaceAllowedHosts { patterns }).await
}

/// Add to `allowed_hosts`
#[utoipa::path(put, path = "/v1/allowed-hosts/{pattern}", tag = "overrides",
    params(("pattern" = String, Path, description = "A host pattern, percent-encoded")),
    responses((status = OK, description = "It is there", body = Published), Invalid, Refused, Unavailable))]
pub(in crate::control) async fn put_allowed_host(
    State(shared): State<Shared>,
    Extension(actor): Extension<Actor>,
    Path(pattern): Path<String>,
) -> Changed {
    change(shared, actor, Change::AllowHost { pattern }).await
}

/// Take out of `allowed_hosts`, whoever put it there
#[utoipa::path(delete, path = "/v1/allowed-hosts/{pattern}", tag = "overrides",
    params(("pattern" = String, Path, description = "A host pattern, percent-encoded")),
    responses((status = OK, description = "It is out", body = Published), Invalid, Refused, Unavailable))]
pub(in crate::control) async fn delete_allowed_host(
    State(shared): State<Shared>,
    Extension(actor): Extension<Actor>,
    Path(pattern): Path<String>,
) -> Changed {
    change(shared, actor, Change::RemoveAllowedHost { pattern }).await
}

/// Set `denied_hosts` as a whole
#[utoipa::path(put, path = "/v1/denied-hosts", tag = "overrides", request_body = HostPatterns,
    responses((status = OK, description = "It is set", body = Published), Invalid, TooLong, Refused, Unavailable))]
pub(in crate::control) async fn put_denied_hosts(
    State(shared): State<Shared>,
    Extension(actor): Extension<Actor>,
    Sent(HostPatterns { patterns }): Sent<HostPatterns>,
) -> Changed {
    change(shared, actor, Change::ReplaceDeniedHosts { patterns }).await
}

/// Add to `denied_hosts`
#[utoipa::path(put, path = "/v1/denied-hosts/{pattern}", tag = "overrides",
    params(("pattern" = String, Path, description = "A host pattern, percent-encoded")),
    responses((status = OK, description = "It is there", body = Published), Invalid, Refused, Unavailable))]
pub(in crate::control) async fn put_denied_host(
    State(shared): State<Shared>,
    Extension(actor): Extension<Actor>,
    Path(pattern): Path<String>,
) -> Changed {
    change(shared, actor, Change::DenyHost { pattern }).await
}

/// Take out of `denied_hosts`, whoever put it there
#[utoipa::path(delete, path = "/v1/denied-hosts/{pattern}", tag = "overrides",
    params(("pattern" = String, Path, description = "A host pattern, percent-encoded")),
    responses((status = OK, description = "It is out", body = Published), Invalid, Refused, Unavailable))]
pub(in crate::control) async fn delete_denied_host(
    State(shared): State<Shared>,
    Extension(actor): Extension<Actor>,
    Path(pattern): Path<String>,
) -> Changed {
    change(shared, actor, Change::RemoveDeniedHost { pattern }).await
}

/// Forget every change at run time
///
/// An uploaded policy stays; `DELETE /v1/policy` takes it away.
#[utoipa::path(delete, path = "/v1/overrides", tag = "overrides",
    responses((status = OK, description = "Only the policy counts", body = Published), Refused, Unavailable))]
pub(in crate::control) async fn delete_overrides(
    State(shared): State<Shared>,
    Extension(actor): Extension<Actor>,
) -> Changed {
    change(shared, actor, Change::Reset).await
}
