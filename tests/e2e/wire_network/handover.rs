//! One process of an instance after the other, under a service manager: what the workload sees of it.

use std::fs;
use std::time::Duration;

use e2e::{Namespace, Origin, Reply, World};
use serde_json::json;

use crate::support::{PYTHON, allowing_api};

#[test]
fn a_restart_is_not_seen_and_the_authority_stays_as_long_as_the_service() {
    let world = World::new("handover");
    let origin = Origin::start(&world, |request| match &*request.path {
        "/slow" => (0..10).fold(Reply::text("begun "), |reply, number| {
            reply.pause(Duration::from_millis(200)).then(number.to_string())
        }),
        _ => Reply::text("ok"),
    });
    let policy = world.file("policy.toml", allowing_api(&world, &origin));
    let namespace = Namespace::new(&format!("{}-box", world.gate_namespace().name()));
    let path = |path: &str| world.path(path).display().to_string();
    for folder in ["manager", "runtime"] {
        fs::create_dir(world.path(folder)).unwrap();
    }
    let script = world.file("handover.py", include_str!("handover.py")).display().to_string();
    let line = [
        PYTHON.to_owned(),
        script,
        namespace.name().to_owned(),
        world.program("sluicegate"),
        policy.display().to_string(),
        path("log/box.jsonl"),
        path("state"),
        path("box-ca.pem"),
        path("manager"),
    ];
    let job = world.root_job(world.gate_namespace(), line).env("XDG_RUNTIME_DIR", path("runtime"));
    let outcome = job.deadline(Duration::from_secs(90)).run();
    let found = outcome.assert_success().json();
    let expected = json!({
        "before": "ok",
        "exit": 0,
        // In flight when the first process was told to end, and ended by it in order.
        "slow": "begun 0123456789",
        "same authority": true,
        "new policy": "by the new policy",
        "nobody serves": "28:",
        "after a kill": "ok",
        "still the same": true,
        "others": "ok",
        "asked": true,
    });
    for (what, expected) in expected.as_object().unwrap() {
        assert_eq!(&found[what], expected, "{what}: {found:#}");
    }
    // Connections of the restart waited for the next process; at most the one that the kill met was cut.
    assert!(found["failed"].as_u64().unwrap() <= 1, "{found:#}");
    // It is stored once, when the namespace is captured.
    let stored = ["FDSTORE=1", "FDNAME=sluicegate", "FDPOLL=0"];
    assert_eq!(found["told"], json!([stored, ["READY=1"], ["READY=1"], ["READY=1"]]), "{found:#}");
}
