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
