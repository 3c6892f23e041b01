//! What wit-bindgen makes of the world in `../wit/policy.wit`: the gate's functions as they are.

#[cfg(not(feature = "reveal"))]
wit_bindgen::generate!({
    path: "../wit/policy.wit",
    world: "handler",
    pub_export_macro: true,
    export_macro_name: "export_guest",
    default_bindings_module: "sluicegate_handler::bindings",
});

#[cfg(feature = "reveal")]
wit_bindgen::generate!({
    path: "../wit/policy.wit",
    world: "revealing-handler",
    pub_export_macro: true,
    export_macro_name: "export_guest",
    default_bindings_module: "sluicegate_handler::bindings",
});

/// The same of the world for connections.
#[expect(clippy::too_many_arguments, reason = "generated code: a function gets the parts of a record")]
pub mod connection {
    wit_bindgen::generate!({
        path: "../wit/policy.wit",
        world: "connection-handler",
        pub_export_macro: true,
        export_macro_name: "export_connection_guest",
        default_bindings_module: "sluicegate_handler::bindings::connection",
        with: {
            "sluicegate:policy/http@0.1.0": crate::bindings::sluicegate::policy::http,
            "sluicegate:policy/context@0.1.0": crate::bindings::sluicegate::policy::context,
            "sluicegate:policy/secrets@0.1.0": crate::bindings::sluicegate::policy::secrets,
            "sluicegate:policy/kv@0.1.0": crate::bindings::sluicegate::policy::kv,
            "sluicegate:policy/objects@0.1.0": crate::bindings::sluicegate::policy::objects,
            "sluicegate:policy/approval@0.1.0": crate::bindings::sluicegate::policy::approval,
            "sluicegate:policy/log@0.1.0": crate::bindings::sluicegate::policy::log,
            "sluicegate:policy/clock@0.1.0": crate::bindings::sluicegate::policy::clock,
            "sluicegate:policy/random@0.1.0": crate::bindings::sluicegate::policy::random,
            "sluicegate:policy/digest@0.1.0": crate::bindings::sluicegate::policy::digest,
        },
    });
}

/// The same of the world for messages.
#[expect(clippy::too_many_arguments, reason = "generated code: a function gets the parts of a record")]
pub mod message {
    wit_bindgen::generate!({
        path: "../wit/policy.wit",
        world: "message-handler",
        pub_export_macro: true,
        export_macro_name: "export_message_guest",
        default_bindings_module: "sluicegate_handler::bindings::message",
        with: {
            "sluicegate:policy/http@0.1.0": crate::bindings::sluicegate::policy::http,
            "sluicegate:policy/context@0.1.0": crate::bindings::sluicegate::policy::context,
            "sluicegate:policy/secrets@0.1.0": crate::bindings::sluicegate::policy::secrets,
            "sluicegate:policy/kv@0.1.0": crate::bindings::sluicegate::policy::kv,
            "sluicegate:policy/objects@0.1.0": crate::bindings::sluicegate::policy::objects,
            "sluicegate:policy/approval@0.1.0": crate::bindings::sluicegate::policy::approval,
            "sluicegate:policy/log@0.1.0": crate::bindings::sluicegate::policy::log,
            "sluicegate:policy/clock@0.1.0": crate::bindings::sluicegate::policy::clock,
            "sluicegate:policy/random@0.1.0": crate::bindings::sluicegate::policy::random,
            "sluicegate:policy/digest@0.1.0": crate::bindings::sluicegate::policy::digest,
        },
    });
}
