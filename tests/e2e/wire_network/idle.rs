//! What a gate holds in memory while nothing happens.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use e2e::{Origin, Reply, World};

use crate::support::{allowing_api, curl};

/// Twice as long as it may be until a gate that has nothing to do looks what it needs.
const DEADLINE: Duration = Duration::from_secs(60);

/// How much of a program's code is in its memory, in KiB.
fn resident_code(pid: i32) -> u64 {
    let maps = fs::read_to_string(format!("/proc/{pid}/smaps")).unwrap();
    let mut lines =
        maps.lines().skip_while(|line| !(line.contains(" r-xp ") && line.ends_with("/sluicegate")));
    let resident = lines.find_map(|line| line.strip_prefix("Rss:")).unwrap();
    resident.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn the_code_that_starting_needed_is_let_go_and_what_is_used_comes_back() {
    let world = World::new("idle-memory");
    let origin = Origin::start(&world, |_| Reply::text("ok"));
    let mut gate = world.gate(&allowing_api(&world, &origin)).attach();
    let pid = gate.running().pid();
    let ask = |gate| assert_eq!(curl(gate, &["https://api.test/"]).assert_success().stdout, "ok");
    let started = resident_code(pid);
    ask(&gate);
    // It may look as soon as it has answered.
    let busy = resident_code(pid).max(started);
    let deadline = Instant::now() + DEADLINE;
    while resident_code(pid) * 2 > busy {
        assert!(Instant::now() < deadline, "{} of {busy} KiB are there still", resident_code(pid));
        thread::sleep(Duration::from_millis(50));
    }
    let idle = resident_code(pid);
    ask(&gate);
    assert!(resident_code(pid) > idle);
}
