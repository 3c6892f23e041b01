//! The worlds of `wit/`, as Rust: what a component imports and exports.
#![expect(clippy::error_impl_error, reason = "generated code")]

/// A handler that is a component. Its world is the wider one; a component of the world `handler` fits it.
pub(crate) mod component {
    wasmtime::component::bindgen!({
        path: "../wit/policy.wit",
        world: "revealing-handler",
        imports: {
            "sluicegate:policy/http.fetch": async | trappable,
            "sluicegate:policy/http.respond": async | trappable,
            "sluicegate:policy/http.[method]body.read": async | trappable,
            "sluicegate:policy/http.[method]body.peek": async | trappable,
            "sluicegate:policy/http.[method]body.next-chunk": async | trappable,
            "sluicegate:policy/http.[method]body.tee": async | trappable,
            "sluicegate:policy/secrets.hmac-sha256": async | trappable,
            "sluicegate:policy/reveal": async | trappable,
            "sluicegate:policy/kv": async | trappable,
            "sluicegate:policy/objects": async | trappable,
            "sluicegate:policy/approval": async | trappable,
            "sluicegate:policy/clock.sleep-ms": async | trappable,
            default: trappable,
        },
        exports: { default: async },
        with: {
            "sluicegate:policy/http.body": crate::host::Body,
            "sluicegate:policy/http.request": crate::host::Request,
            "sluicegate:policy/http.response": crate::host::Response,
        },
        trappable_error_type: {
            "sluicegate:policy/http.error" => crate::host::Refused,
        },
    });
}

/// The engine of JavaScript handlers, with the same imports.
pub(crate) mod engine {
    wasmtime::component::bindgen!({
        path: "../wit/javascript",
        world: "engine",
        imports: { default: trappable },
        exports: { default: async | store },
        with: { "sluicegate:policy": crate::bindings::component::sluicegate::policy },
    });
}

pub(crate) use component::sluicegate::policy;
