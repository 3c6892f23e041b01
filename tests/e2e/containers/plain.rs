//! Sandboxes without an engine: a namespace with a name, systemd-nspawn, bubblewrap, unshare.

use e2e::World;

use crate::support::{HOST, Yard, shown};

/// A namespace of `ip netns` that goes with the test.
struct Named(String);

impl Drop for Named {
    fn drop(&mut self) {
        drop(std::process::Command::new("ip").args(["netns", "delete", &self.0]).output());
    }
}

/// Runs the commands below this heading as they stand, and what follows; the workload's answer is all that they
/// print.
fn assert_guided(heading: &str, name: &str) {
    let world = World::new(name);
    let yard = Yard::new(&world);
    let named = Named(format!("{}-jail", world.gate_namespace().name()));
    let commands = yard
        .documented(heading)
        .replace("jail-net", &named.0)
        .replace("/srv/jail-root", &shown(&yard.files()));
    let outcome = yard.shell(&commands).run();
    outcome.assert_success();
    assert_eq!(outcome.stdout, "hello from the origin", "{outcome:?}");
    yard.log_with("jail", 1, |line| line["host"] == HOST && line["verdict"] == "allowed");
    // Its request, and nothing else.
    let arrivals = yard.world.arrivals();
    assert_eq!((arrivals.tcp_connections, arrivals.udp, arrivals.icmp, arrivals.other), (1, 0, 0, 0));
    assert_eq!(yard.site.requests().len(), 1);
}

#[test]
fn the_commands_of_the_guide_seal_a_named_namespace() {
    assert_guided("A namespace with a name", "plain-netns");
}

#[test]
fn the_commands_of_the_guide_seal_systemd_nspawn() {
    assert_guided("systemd-nspawn", "plain-nspawn");
}

#[test]
fn the_commands_of_the_guide_judge_bubblewrap_from_its_first_packet() {
    assert_guided("Bubblewrap", "plain-bwrap");
}

#[test]
fn the_commands_of_the_guide_judge_unshare_from_its_first_packet() {
    assert_guided("unshare", "plain-unshare");
}
