//! What a gate keeps of making its engine.

use std::fs;

use e2e::{Site, World};

use crate::support::{NAME, assert_answer, catch_all, handler};

/// Resident memory that a gate with an idle handler may have, in KiB: the aim, and as much again of our
/// own code as a build without optimisation has more. A gate that compiles by itself has 40 MiB more.
const RESIDENT_KIB_MAX: u64 = 52 * 1024;

#[test]
fn the_memory_of_compiling_the_engine_is_given_back() {
    let world = World::new("compiled-apart");
    let site = Site::start(&world);
    handler(&world, "all", "return new Response('here');");
    // Nothing is lent to this gate: it compiles.
    let mut gate = world.gate(catch_all(&world, &site, "all", &["h.test"]).as_str()).named(NAME).attach();
    assert_answer(&gate, &["http://h.test/"], "here");
    let compiled = fs::read_to_string(world.path("root/state/programs/compiled.sha256")).unwrap();
    assert!(!compiled.is_empty());
    let status = fs::read_to_string(format!("/proc/{}/status", gate.running().pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let resident: u64 = line.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(resident < RESIDENT_KIB_MAX, "{resident} KiB");
}
