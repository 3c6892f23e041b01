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

/// A handler of connections that is a component, with the same imports.
pub(crate) mod connection {
    wasmtime::component::bindgen!({
        path: "../wit/policy.wit",
        world: "connection-handler",
        imports: { default: trappable },
        exports: { default: async },
        with: {
            "sluicegate:policy/http": crate::bindings::component::sluicegate::policy::http,
            "sluicegate:policy/context": crate::bindings::component::sluicegate::policy::context,
            "sluicegate:policy/secrets": crate::bindings::component::sluicegate::policy::secrets,
            "sluicegate:policy/kv": crate::bindings::component::sluicegate::policy::kv,
            "sluicegate:policy/objects": crate::bindings::component::sluicegate::policy::objects,
            "sluicegate:policy/approval": crate::bindings::component::sluicegate::policy::approval,
            "sluicegate:policy/log": crate::bindings::component::sluicegate::policy::log,
            "sluicegate:policy/clock": crate::bindings::component::sluicegate::policy::clock,
            "sluicegate:policy/random": crate::bindings::component::sluicegate::policy::random,
            "sluicegate:policy/digest": crate::bindings::component::sluicegate::policy::digest,
        },
    });
}

/// A handler of messages that is a component, with the same imports.
pub(crate) mod message {
    wasmtime::component::bindgen!({
        path: "../wit/policy.wit",
        world: "message-handler",
        imports: { default: trappable },
        exports: { default: async },
        with: {
            "sluicegate:policy/http": crate::bindings::component::sluicegate::policy::http,
            "sluicegate:policy/context": crate::bindings::component::sluicegate::policy::context,
            "sluicegate:policy/secrets": crate::bindings::component::sluicegate::policy::secrets,
            "sluicegate:policy/kv": crate::bindings::component::sluicegate::policy::kv,
            "sluicegate:policy/objects": crate::bindings::component::sluicegate::policy::objects,
            "sluicegate:policy/approval": crate::bindings::component::sluicegate::policy::approval,
            "sluicegate:policy/log": crate::bindings::component::sluicegate::policy::log,
            "sluicegate:policy/clock": crate::bindings::component::sluicegate::policy::clock,
            "sluicegate:policy/random": crate::bindings::component::sluicegate::policy::random,
            "sluicegate:policy/digest": crate::bindings::component::sluicegate::policy::digest,
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
        with: {
            "sluicegate:policy/connection": crate::bindings::connection::sluicegate::policy::connection,
            "sluicegate:policy/websocket": crate::bindings::message::sluicegate::policy::websocket,
            "sluicegate:policy": crate::bindings::component::sluicegate::policy,
        },
    });
}

pub(crate) use component::sluicegate::policy;
