//! The unit `sluicegate@.service`: as systemd reads it, a gate with no more than it leaves, and one that systemd runs.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

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

/// A machine of its own: systemd, started by systemd-nspawn on what this machine has installed, whose files it
/// cannot change. What it mounts goes with it.
struct Machine {
    container: Child,
    init: u32,
}

impl Machine {
    const BOOT_DEADLINE: Duration = Duration::from_secs(60);

    /// Starts one that sees this folder.
    fn boot(folder: &Path) -> Self {
        let script = r#"
            mkdir "$1/machine" "$1/root" && mount -t tmpfs -o size=1g tmpfs "$1/machine" && cd "$1/machine" &&
            mkdir upper work && mount -t overlay -o lowerdir=/,upperdir=upper,workdir=work overlay "$1/root" &&
            rm -rf "$1"/root/etc/systemd/system/*.wants &&
            exec systemd-nspawn --quiet --register=no --keep-unit --private-network --directory="$1/root" \
                --bind-ro="$1/made" --boot systemd.unit=basic.target"#;
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-c", script, "sh"]).arg(folder);
        let container = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
        let mut machine = Self { container, init: 0 };
        let deadline = Instant::now() + Self::BOOT_DEADLINE;
        while !machine.has_booted() {
            assert!(Instant::now() < deadline && machine.container.try_wait().unwrap().is_none(), "no boot");
            thread::sleep(Duration::from_millis(100));
        }
        machine
    }

    fn has_booted(&mut self) -> bool {
        let container = self.container.id();
        let children = fs::read_to_string(format!("/proc/{container}/task/{container}/children"));
        let Some(init) = children.unwrap_or_default().split(' ').find_map(|child| child.parse::<u32>().ok())
        else {
            return false;
        };
        // What sets the machine up is none of its processes.
        let processes = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
        if processes(&init.to_string()) == processes("self") {
            return false;
        }
        self.init = init;
        let state = self.inside(&["systemctl", "is-system-running"]).output().unwrap();
        ["running", "degraded"].contains(&String::from_utf8_lossy(&state.stdout).trim())
    }

    fn inside(&self, line: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.init.to_string(), "--all", "--"]).args(line).stdin(Stdio::null());
        command
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // With its first process all others end, and then what started it.
        let first = if self.init == 0 { self.container.id() } else { self.init };
        drop(Command::new("kill").args(["-KILL", &first.to_string()]).status());
        drop(self.container.wait());
    }
}

#[test]
fn the_package_serves_under_systemd_through_restarts_and_crashes() {
    let shop = Shop::new();
    let made = shop.make("scripts/deb", &shop.programs(), "made");
    let mut files = fs::read_dir(&made).unwrap().map(|entry| entry.unwrap().path());
    let package = files.find(|path| path.extension().is_some_and(|end| end == "deb")).unwrap();
    fs::write(made.join("booted.sh"), include_str!("booted.sh")).unwrap();
    let machine = Machine::boot(&shop.path(""));
    let script = made.join("booted.sh");
    let line = ["timeout", "180", "sh", script.to_str().unwrap(), package.to_str().unwrap()];
    let outcome = machine.inside(&line).output().unwrap();
    let (said, failed) = (String::from_utf8_lossy(&outcome.stdout), String::from_utf8_lossy(&outcome.stderr));
    let journal = machine.inside(&["journalctl", "--no-pager", "--unit", "sluicegate@*"]).output().unwrap();
    let expected = "\
        started: fixed\n\
        in flight at the restart: begun ended\n\
        restarted: fixed, same authority: yes\n\
        killed: fixed, same authority: yes\n\
        stopped: failed\n\
        started again: fixed, same authority: no\n\
        with a broken policy: failed, failed\n\
        trusting: fixed, 1 added, 2 lists\n\
        restarted: fixed, 1 added, 2 lists, same authority: yes\n\
        killed: fixed, 1 added, 2 lists, same authority: yes\n\
        stopped: 0 mounted\n\
        started again: fixed, 1 added, 2 lists, same authority: no\n\
        removed: gone\n";
    assert_eq!(said, expected, "{failed}\n{}", String::from_utf8_lossy(&journal.stdout));
}
