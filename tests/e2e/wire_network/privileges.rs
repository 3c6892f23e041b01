//! What a gate that serves may not do any more, on all of its threads.

use std::fs;

use e2e::{Origin, Reply, World};

use crate::support::{allowing_api, curl};

#[test]
fn no_thread_of_a_gate_keeps_a_privilege_and_its_key_is_not_swapped_out() {
    let world = World::new("privileges");
    let origin = Origin::start(&world, |_| Reply::text("ok"));
    // Programs are tried when they are loaded, on threads of their own, before anything is captured.
    world.file("pass.js", "export const outbound = (request) => fetch(request);");
    let policy = allowing_api(&world, &origin).replacen('\n', "\noutbound = \"pass.js\"\n", 1);
    let mut gate = world.gate(&policy).attach();
    assert_eq!(curl(&gate, &["https://api.test/"]).assert_success().stdout, "ok");

    let process = format!("/proc/{}", gate.running().pid());
    let mut names = Vec::new();
    for task in fs::read_dir(format!("{process}/task")).unwrap() {
        let status = fs::read_to_string(task.unwrap().path().join("status")).unwrap();
        let found = |line: &str| status.lines().any(|one| one == line);
        for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            assert!(found(&format!("{set}:\t0000000000000000")), "{set} in {status}");
        }
        assert!(found("NoNewPrivs:\t1") && found("Seccomp:\t2"), "{status}");
        names.push(status.lines().next().unwrap().to_owned());
    }
    for name in ["sluicegate", "audit", "gate", "program", "program-clock"] {
        assert!(names.contains(&format!("Name:\t{name}")), "{name} in {names:?}");
    }
    let status = fs::read_to_string(format!("{process}/status")).unwrap();
    let locked = status.lines().find_map(|line| line.strip_prefix("VmLck:")).unwrap();
    assert_ne!(locked.trim(), "0 kB");
}
