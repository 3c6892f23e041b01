//! The clients for other languages, each through the same scenario, which starts an instance of its own.

use std::fs;

use e2e::{Namespace, Site, World};
use serde_json::{Value, json};

use crate::support::{PYTHON, named_handlers};

/// What the scenario prints, in whatever language.
fn expected() -> Value {
    json!([
        ["status", "box", true],
        ["routes", []],
        ["refused", "403"],
        ["changed", true],
        ["outbound", "one {\"a\":1} 200"],
        ["by host", "two {} 200"],
        ["by hosts", "one {\"b\":[2]} 200", "two {} 200"],
        ["removed", "one {\"a\":1} 200"],
        ["judged", "handle"],
        ["unknown", [400, "sluicegate:invalid", true]],
        ["broken", [422, "sluicegate:policy-refused", true]],
        ["component", [409, "sluicegate:components-missing", true], [422, "sluicegate:policy-refused", true]],
        ["denied", "403"],
        ["kv", ["a/b ü?"], ["a/b ü?"], "value", null],
        ["deleted", []],
        ["event", "may it?"],
        ["answered", 1, "one {\"a\":1} 200"],
        ["remembered", 1, []],
        ["reset", "403"],
        ["closed", " 000"],
    ])
}

/// Runs a scenario that an interpreter reads, which stands in a file with this extension.
fn interpreted(name: &str, interpreter: &str, (extension, text): (&str, &str)) {
    scenario(name, |world| {
        let script = world.file(&format!("scenario.{extension}"), text).display().to_string();
        vec![interpreter.to_owned(), script]
    });
}

/// Runs the scenario as root beside the gate, with the client for node as its last argument.
fn scenario(name: &str, program: impl FnOnce(&World) -> Vec<String>) {
    let world = World::new(name);
    let site = Site::start(&world);
    let text_of_policy = format!(
        "{}[bindings.kv]\nurl = \"file:kv\"\n\
         [[rules]]\nname = \"ask\"\nhost = \"ask.test\"\nask = \"may it?\"\nask_seconds = 60\n",
        named_handlers(&world, &["one", "two"])
    );
    let policy = world.file("policy.toml", site.policy(&world, &text_of_policy, &["ask.test"]));
    let namespace = Namespace::new(&format!("{}-box", world.gate_namespace().name()));
    let clients = concat!(env!("CARGO_MANIFEST_DIR"), "/../clients");
    let path = |path: &str| world.path(path).display().to_string();
    let arguments = [
        namespace.name().to_owned(),
        world.program("sluicegate"),
        policy.display().to_string(),
        path("log/box.jsonl"),
        path("state"),
        path("ca.pem"),
    ];
    let client = format!("{clients}/typescript/sluicegate.mjs");
    let line = program(&world).into_iter().chain(arguments).chain([client]);
    let job = world.root_job(world.gate_namespace(), line);
    let runtime = world.path("runtime");
    fs::create_dir(&runtime).unwrap();
    let job = job.env("XDG_RUNTIME_DIR", runtime);
    let outcome =
        job.env("PYTHONPATH", format!("{clients}/python")).env("PYTHONDONTWRITEBYTECODE", "1").run();
    outcome.assert_success();
    let (told, expected) = (outcome.json(), expected());
    for (told, expected) in told.as_array().unwrap().iter().zip(expected.as_array().unwrap()) {
        assert_eq!(told, expected, "{outcome:#?}");
    }
    assert_eq!(told, expected);
}

#[test]
fn the_client_for_python_does_what_a_platform_needs() {
    interpreted("client-python", PYTHON, ("py", include_str!("clients/scenario.py")));
}

#[test]
fn the_client_for_node_does_what_a_platform_needs() {
    interpreted("client-node", "node", ("mjs", include_str!("clients/scenario.mjs")));
}

#[test]
fn the_client_for_rust_does_what_a_platform_needs() {
    scenario("client-rust", |_| vec![env!("CARGO_BIN_EXE_client-scenario").to_owned()]);
}
