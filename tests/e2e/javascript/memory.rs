//! What a gate keeps of making its engine.

use std::fs;

use e2e::{Attached, Site, World};

use crate::support::{NAME, assert_answer, catch_all, document, handler, operator};

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
    assert_compiled_apart(&world, &mut gate);
}

#[test]
fn a_gate_without_privileges_has_a_later_handler_compiled_apart() {
    let world = World::new("compiled-later");
    let site = Site::start(&world);
    // This gate has nothing to compile before it gives up its privileges.
    let closed = document(&world, &site, "internet = false", &["h.test"]);
    let mut gate = world.gate(closed.as_str()).named(NAME).attach();
    assert!(!world.path("root/state/programs").exists());
    handler(&world, "later", "return new Response('later');");
    let file = world.file("later.toml", catch_all(&world, &site, "later", &["h.test"]));
    operator(&gate, &["policy", "set", &file.display().to_string()]);
    assert_answer(&gate, &["http://h.test/"], "later");
    assert_compiled_apart(&world, &mut gate);
}

/// Fails unless something is kept compiled, and the gate has no more memory than without a compiler.
#[track_caller]
fn assert_compiled_apart(world: &World, gate: &mut Attached<'_>) {
    let compiled = fs::read_to_string(world.path("root/state/programs/compiled.sha256")).unwrap();
    assert!(!compiled.is_empty());
    let status = fs::read_to_string(format!("/proc/{}/status", gate.running().pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let resident: u64 = line.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(resident < RESIDENT_KIB_MAX, "{resident} KiB");
}
