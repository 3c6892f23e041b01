//! The unit `sluicegate@.service`: as systemd reads it, and a gate with no more than it leaves.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::time::Duration;

use e2e::{Namespace, Site, World};

use crate::shop::{Shop, root};

fn unit() -> String {
    fs::read_to_string(root().join("packaging/systemd/sluicegate@.service")).unwrap()
}

/// The value of a setting of the unit.
fn setting(name: &str) -> String {
    let unit = unit();
    let line = unit.lines().find_map(|line| line.strip_prefix(&format!("{name}=")));
    line.unwrap_or_else(|| panic!("no {name}")).to_owned()
}

#[test]
fn systemd_understands_the_unit() {
    let shop = Shop::new();
    // systemd wants the program to be there.
    let program = shop.programs().join("sluicegate");
    let copy = shop.path("sluicegate@jail.service");
    fs::write(&copy, unit().replace("ExecStart=sluicegate ", &format!("ExecStart={} ", program.display())))
        .unwrap();
    let mut analyze = Command::new("systemd-analyze");
    analyze.args(["verify", "--man=no", "--generators=no", "--recursive-errors=no"]).arg(&copy);
    let verified = analyze.output().expect("./scripts/setup --tests installs systemd");
    let said = String::from_utf8_lossy(&verified.stderr);
    // What other units of this machine lack is not this one's.
    let about_it: Vec<_> = said.lines().filter(|line| line.contains("sluicegate")).collect();
    assert!(verified.status.success() && about_it.is_empty(), "{said}");
}

#[test]
fn a_gate_serves_with_the_privileges_that_the_unit_leaves_and_says_so() {
    let (world, shop) = (World::new("unit"), Shop::new());
    let site = Site::start(&world);
    let policy = site.policy(&world, "allowed_hosts = [\"api.example.com\"]", &["api.example.com"]);
    world.file("etc/jail.toml", policy);
    let namespace = Namespace::new(&format!("sg-unit-{}", std::process::id()));
    let socket = UnixDatagram::bind(world.path("notify")).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let capabilities = setting("CapabilityBoundingSet").to_lowercase().replace("cap_", "+").replace(' ', ",");
    let bounding = format!("-all,{capabilities}");
    let line = setting("ExecStart")
        .replace("/run/netns/%i", namespace.path().to_str().unwrap())
        .replace("/etc/sluicegate/", &format!("{}/", world.path("etc").display()))
        .replace("/var/lib/sluicegate", world.path("state").to_str().unwrap())
        .replace("/run/sluicegate/", &format!("{}/", world.path("root").display()))
        .replace("%i", "jail")
        .replace(" $SLUICEGATE_OPTIONS", "");
    let mut words: Vec<_> = line.split(' ').map(str::to_owned).collect();
    words[0] = shop.programs().join("sluicegate").to_str().unwrap().to_owned();
    let confined = ["setpriv", "--bounding-set", &bounding, "--no-new-privs", "--"].map(str::to_owned);
    let running = world
        .root_job(world.gate_namespace(), [&confined[..], &words].concat())
        .env("NOTIFY_SOCKET", world.path("notify"))
        .env("XDG_RUNTIME_DIR", world.path("root"))
        .spawn();
    let mut said = [0; 1024];
    // What it leaves with systemd for the next gate comes first.
    while !said.starts_with(b"READY=1\n") {
        socket.recv(&mut said).unwrap_or_else(|error| panic!("{error}: {}", running.stderr()));
    }
    let ca = world.path("root/jail.pem");
    let ask = ["curl", "-sS", "--cacert", ca.to_str().unwrap(), "https://api.example.com/"];
    world.root_job(&namespace, ask).run().assert_success().assert_stdout("origin: api.example.com");
    // Nothing of what the unit leaves is left while it serves.
    let status = fs::read_to_string(format!("/proc/{}/status", running.pid())).unwrap();
    for line in ["CapEff:\t0000000000000000", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1"] {
        assert!(status.contains(line), "{line} in {status}");
    }
}
