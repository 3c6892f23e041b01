//! What the control socket can be asked, and the description of it.

mod answers;
mod approvals;
mod bindings;
mod instance;
mod overrides;
mod policy;
mod read;

use std::sync::Arc;

use axum::Router;
use tokio::sync::Semaphore;
use utoipa::OpenApi;
use utoipa::openapi::OpenApi as Description;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::events;
use super::problem::Problem;
use crate::controller::{ControlError, Controller};

/// Connections that follow events at once: half of all, so that a command always finds a place.
const FOLLOWERS_MAX: usize = 16;

/// What every route can use.
#[derive(Clone, Debug)]
pub(super) struct Shared {
    pub(super) controller: Arc<Controller>,
    pub(super) followers: Arc<Semaphore>,
    description: Arc<str>,
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Sluicegate control socket",
        description = "Asks and changes one instance while it runs, over the UNIX socket NAME.sock in the \
            runtime folder. Every refusal is a problem of RFC 9457. Whoever is not the owner of the \
            instance or root, comes from another network namespace or sends an Origin header is answered \
            with 403."
    ),
    tags(
        (name = "instance", description = "The instance itself"),
        (name = "policy", description = "The policy as a whole"),
        (name = "overrides", description = "Changes that are kept apart from the document"),
        (name = "approvals", description = "Requests that wait for a person"),
        (name = "bindings", description = "The key-value stores of handlers"),
    )
)]
struct Described;

/// Every route, and a description of exactly these.
pub(super) fn described() -> (Router<Shared>, Description) {
    OpenApiRouter::with_openapi(Described::openapi())
        .routes(routes!(instance::get_status))
        .routes(routes!(instance::get_ca))
        .routes(routes!(instance::get_openapi))
        .routes(routes!(events::get_events))
        .routes(routes!(policy::get_policy, policy::put_policy, policy::delete_policy))
        .routes(routes!(policy::put_component))
        .routes(routes!(policy::post_policy_test))
        .routes(routes!(policy::get_handlers))
        .routes(routes!(overrides::put_outbound, overrides::delete_outbound))
        .routes(routes!(overrides::put_outbound_by_hosts))
        .routes(routes!(overrides::put_outbound_by_host, overrides::delete_outbound_by_host))
        .routes(routes!(overrides::put_allowed_hosts))
        .routes(routes!(overrides::put_allowed_host, overrides::delete_allowed_host))
        .routes(routes!(overrides::put_denied_hosts))
        .routes(routes!(overrides::put_denied_host, overrides::delete_denied_host))
        .routes(routes!(overrides::delete_overrides))
        .routes(routes!(approvals::get_approvals))
        .routes(routes!(approvals::post_approval))
        .routes(routes!(approvals::get_remembered))
        .routes(routes!(approvals::delete_remembered))
        .routes(routes!(bindings::get_keys))
        .routes(routes!(bindings::get_value, bindings::put_value, bindings::delete_value))
        .split_for_parts()
}

/// Every route, for one instance.
pub(super) fn router(controller: Arc<Controller>) -> Router {
    let (router, description) = described();
    // Fails for what has no JSON, and a description is made of JSON.
    let description = description.to_json().unwrap_or_default().into();
    let followers = Arc::new(Semaphore::new(FOLLOWERS_MAX));
    router.with_state(Shared { controller, followers, description })
}

/// Does what takes long, or writes to disk, where it holds up nobody's bytes.
async fn apart<T: Send + 'static>(
    shared: &Shared,
    work: impl FnOnce(&Controller) -> Result<T, ControlError> + Send + 'static,
) -> Result<T, Problem> {
    let controller = Arc::clone(&shared.controller);
    let done = tokio::task::spawn_blocking(move || work(&controller)).await;
    done.unwrap_or_else(|error| {
        tracing::error!(%error, "a control request could not be answered");
        Err(ControlError::Unkept(String::from("the gate failed; its own messages say more")))
    })
    .map_err(Problem::from)
}
