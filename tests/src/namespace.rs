//! A network namespace of the test's own, and the packets that were seen to arrive in it.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::thread;

use nix::fcntl::{Flock, FlockArg};
use nix::sched::{CloneFlags, setns};
use serde_json::Value;

use crate::world::SEARCH_PATH;

/// Counts what comes in by the veth. Neighbour discovery and multicast membership are the kernel's
/// own talk and are not counted.
const WITNESS: &str = "
table inet witness {
  counter seen_tcp_connections {}
  counter seen_udp {}
  counter seen_icmp {}
  counter seen_other {}
  chain arrive {
    type filter hook prerouting priority -400; policy accept;
    iifname lo accept
    tcp flags & (syn | ack) == syn counter name seen_tcp_connections accept
    meta l4proto tcp accept
    meta l4proto udp counter name seen_udp accept
    icmpv6 type { nd-router-solicit, nd-router-advert, nd-neighbor-solicit, nd-neighbor-advert, mld-listener-report, mld2-listener-report } accept
    meta l4proto { icmp, ipv6-icmp } counter name seen_icmp accept
    ip protocol igmp accept
    counter name seen_other
  }
}
";

/// A network namespace under `/run/netns`, with `lo` up; removed when dropped.
#[derive(Debug)]
pub struct Namespace {
    name: String,
}

/// How many packets of each sort a namespace saw arrive from outside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Arrivals {
    /// TCP connection attempts (SYN without ACK, retransmissions included).
    pub tcp_connections: u64,
    /// UDP datagrams.
    pub udp: u64,
    /// ICMP and ICMPv6, without neighbour discovery.
    pub icmp: u64,
    /// Everything else: SCTP, raw IP, …
    pub other: u64,
}

impl Namespace {
    /// Makes it. The name must be new on this machine.
    pub fn new(name: &str) -> Self {
        // `ip netns add` prepares /run/netns on first use, which two of them must not do at once.
        let lock = File::create("/run/sluicegate-e2e.lock").expect("end-to-end tests run as root: ./test");
        let lock = Flock::lock(lock, FlockArg::LockExclusive).expect("lock /run/sluicegate-e2e.lock");
        execute(Command::new("ip").args(["netns", "add", name]));
        drop(lock);
        let namespace = Self { name: name.to_owned() };
        namespace.ip(&["link", "set", "lo", "up"]);
        namespace
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The file that stands for it.
    pub fn path(&self) -> PathBuf {
        PathBuf::from("/run/netns").join(&self.name)
    }

    /// Runs `ip` with these arguments inside.
    pub fn ip(&self, arguments: &[&str]) {
        execute(Command::new("ip").args(["-n", &self.name]).args(arguments));
    }

    /// Runs `nft` with these arguments inside and returns what it printed.
    pub fn nft(&self, arguments: &[&str]) -> String {
        let output = execute(
            Command::new("nsenter")
                .arg(format!("--net={}", self.path().display()))
                .arg("nft")
                .args(arguments),
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Runs a function on a thread that is inside. A socket made there stays there, whichever thread
    /// uses it later.
    pub fn enter<T: Send>(&self, function: impl FnOnce() -> T + Send) -> T {
        let file = File::open(self.path()).expect("open the namespace");
        thread::scope(|scope| {
            let inside = scope.spawn(move || {
                setns(file.as_fd(), CloneFlags::CLONE_NEWNET).expect("enter the namespace");
                function()
            });
            inside.join().expect("the function inside the namespace panicked")
        })
    }

    /// Starts to count what arrives; see [`Self::arrivals`].
    pub(crate) fn watch(&self) {
        self.nft(&[WITNESS]);
    }

    /// What arrived since [`Self::watch`].
    pub fn arrivals(&self) -> Arrivals {
        let listing: Value =
            serde_json::from_str(&self.nft(&["-j", "list", "counters", "table", "inet", "witness"]))
                .expect("nft's JSON");
        let counters = listing.get("nftables").and_then(Value::as_array).expect("nft's list");
        let packets = |name: &str| {
            let counter = counters
                .iter()
                .filter_map(|entry| entry.get("counter"))
                .find(|counter| counter["name"] == format!("seen_{name}"));
            counter.and_then(|counter| counter["packets"].as_u64()).expect("a counter of the witness table")
        };
        Arrivals {
            tcp_connections: packets("tcp_connections"),
            udp: packets("udp"),
            icmp: packets("icmp"),
            other: packets("other"),
        }
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // Removing the name is not enough while a process or socket holds the namespace; the world
        // has ended its processes by now.
        let _ = Command::new("ip").args(["netns", "delete", &self.name]).output();
        debug_assert!(fs::metadata(self.path()).is_err(), "{} is still there", self.name);
    }
}

/// Runs a set-up command to its end, which must be a good one.
pub(crate) fn execute(command: &mut Command) -> Output {
    let output = command.env("PATH", SEARCH_PATH).output().unwrap_or_else(|error| {
        panic!(
            "{command:?}: {error}; ./scripts/setup --tests installs what the tests need, and they run as root"
        )
    });
    assert!(
        output.status.success(),
        "{command:?}: {}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    output
}
