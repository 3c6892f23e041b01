//! Each operation of the control socket with its method and path. What they say and want is in docs/control.md.

use std::borrow::Cow;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

/// A method and a path; the parts of the path in braces are percent-encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// Such as `PUT`.
    pub method: &'static str,
    /// Such as `/v1/outbound-by-host/{pattern}`.
    pub path: &'static str,
}

impl Route {
    const fn get(path: &'static str) -> Self {
        Self { method: "GET", path }
    }

    const fn put(path: &'static str) -> Self {
        Self { method: "PUT", path }
    }

    const fn post(path: &'static str) -> Self {
        Self { method: "POST", path }
    }

    const fn delete(path: &'static str) -> Self {
        Self { method: "DELETE", path }
    }

    /// The path with these parts in the places of the braces, in order, and this query.
    pub(crate) fn target(self, parts: &[&str], query: Option<(&str, &str)>) -> String {
        let mut parts = parts.iter();
        let mut target = String::new();
        for segment in self.path.split('/').skip(1) {
            target.push('/');
            let is_part = segment.starts_with('{');
            target.push_str(&if is_part { escaped(parts.next().unwrap_or(&"")) } else { segment.into() });
        }
        if let Some((name, value)) = query {
            target.push_str(&format!("?{name}={}", escaped(value)));
        }
        target
    }
}

/// The text with everything escaped that could end a segment or a query.
fn escaped(text: &str) -> Cow<'_, str> {
    utf8_percent_encode(text, NON_ALPHANUMERIC).into()
}

pub(crate) const STATUS: Route = Route::get("/v1/status");
pub(crate) const CA: Route = Route::get("/v1/ca");
pub(crate) const EVENTS: Route = Route::get("/v1/events");
pub(crate) const OPENAPI: Route = Route::get("/v1/openapi.json");
pub(crate) const POLICY: Route = Route::get("/v1/policy");
pub(crate) const SET_POLICY: Route = Route::put("/v1/policy");
pub(crate) const RESET_POLICY: Route = Route::delete("/v1/policy");
pub(crate) const PUT_COMPONENT: Route = Route::put("/v1/components/{sha256}");
pub(crate) const TEST: Route = Route::post("/v1/policy/test");
pub(crate) const HANDLERS: Route = Route::get("/v1/handlers");
pub(crate) const SET_OUTBOUND_HANDLER: Route = Route::put("/v1/outbound");
pub(crate) const REMOVE_OUTBOUND_HANDLER: Route = Route::delete("/v1/outbound");
pub(crate) const SET_OUTBOUND_BY_HOSTS: Route = Route::put("/v1/outbound-by-host");
pub(crate) const SET_OUTBOUND_BY_HOST: Route = Route::put("/v1/outbound-by-host/{pattern}");
pub(crate) const REMOVE_OUTBOUND_BY_HOST: Route = Route::delete("/v1/outbound-by-host/{pattern}");
pub(crate) const SET_ALLOWED_HOSTS: Route = Route::put("/v1/allowed-hosts");
pub(crate) const ALLOW_HOST: Route = Route::put("/v1/allowed-hosts/{pattern}");
pub(crate) const REMOVE_ALLOWED_HOST: Route = Route::delete("/v1/allowed-hosts/{pattern}");
pub(crate) const SET_DENIED_HOSTS: Route = Route::put("/v1/denied-hosts");
pub(crate) const DENY_HOST: Route = Route::put("/v1/denied-hosts/{pattern}");
pub(crate) const REMOVE_DENIED_HOST: Route = Route::delete("/v1/denied-hosts/{pattern}");
pub(crate) const RESET_OVERRIDES: Route = Route::delete("/v1/overrides");
pub(crate) const APPROVALS: Route = Route::get("/v1/approvals");
pub(crate) const ANSWER: Route = Route::post("/v1/approvals/{id}");
pub(crate) const REMEMBERED: Route = Route::get("/v1/approvals/remembered");
pub(crate) const FORGET: Route = Route::delete("/v1/approvals/remembered/{id}");
pub(crate) const KEYS: Route = Route::get("/v1/bindings/{name}");
pub(crate) const GET: Route = Route::get("/v1/bindings/{name}/{key}");
pub(crate) const PUT: Route = Route::put("/v1/bindings/{name}/{key}");
pub(crate) const DELETE: Route = Route::delete("/v1/bindings/{name}/{key}");

/// Every route that there is. A test compares them with the gate's own OpenAPI document.
pub const ROUTES: [Route; 30] = [
    STATUS,
    CA,
    EVENTS,
    OPENAPI,
    POLICY,
    SET_POLICY,
    RESET_POLICY,
    PUT_COMPONENT,
    TEST,
    HANDLERS,
    SET_OUTBOUND_HANDLER,
    REMOVE_OUTBOUND_HANDLER,
    SET_OUTBOUND_BY_HOSTS,
    SET_OUTBOUND_BY_HOST,
    REMOVE_OUTBOUND_BY_HOST,
    SET_ALLOWED_HOSTS,
    ALLOW_HOST,
    REMOVE_ALLOWED_HOST,
    SET_DENIED_HOSTS,
    DENY_HOST,
    REMOVE_DENIED_HOST,
    RESET_OVERRIDES,
    APPROVALS,
    ANSWER,
    REMEMBERED,
    FORGET,
    KEYS,
    GET,
    PUT,
    DELETE,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_cannot_leave_its_place() {
        assert_eq!(DENY_HOST.target(&["10.0.0.0/8"], None), "/v1/denied-hosts/10%2E0%2E0%2E0%2F8");
        assert_eq!(GET.target(&["kv", "../ü?#"], None), "/v1/bindings/kv/%2E%2E%2F%C3%BC%3F%23");
        assert_eq!(KEYS.target(&["kv"], Some(("prefix", "a&b="))), "/v1/bindings/kv?prefix=a%26b%3D");
        assert_eq!(STATUS.target(&[], None), "/v1/status");
    }
}
