//! A mixed load for as long as is asked for, and what a gate holds meanwhile: none of it may grow without an end.
#![cfg(test)]

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use e2e::{Attached, Nginx, ORIGIN_IPV4, PythonServer, World, wait_until};

const CLIENT: &str = include_str!("client.py");
/// The WebSocket server is the one of those tests.
const WEBSOCKET_ORIGIN: &str = include_str!("../websocket/origin.py");

/// How long it takes unless `SLUICEGATE_SOAK_SECONDS` says more: `scripts/soak`.
const SECONDS: u64 = 30;
/// Between two looks; a run of any length has about so many.
const LOOKS: u32 = 100;
/// Between two changes of the policy.
const SWAP_INTERVAL: Duration = Duration::from_secs(2);

const WEBSOCKET_PLAIN: SocketAddr = SocketAddr::new(IpAddr::V4(ORIGIN_IPV4), 8081);
const WEBSOCKET_TLS: SocketAddr = SocketAddr::new(IpAddr::V4(ORIGIN_IPV4), 8444);

/// Something that a gate holds some of, how it is counted, and how much more is no growth: what allocators and pools
/// keep from one moment to another.
struct Measure {
    what: &'static str,
    count: fn(&Place<'_>) -> u64,
    slack: u64,
}

/// Where it is counted.
struct Place<'world> {
    process: String,
    world: &'world World,
    gate: &'world Attached<'world>,
}

const MEASURES: [Measure; 5] = [
    Measure { what: "resident memory in KiB", count: |place| status(place, "VmRSS:"), slack: 12 * 1024 },
    Measure { what: "threads", count: |place| status(place, "Threads:"), slack: 4 },
    Measure { what: "open descriptors", count: descriptors, slack: 40 },
    Measure {
        what: "flows that the kernel tracks in the sealed namespace",
        count: |place| place.gate.namespace().enter(tracked),
        slack: 10,
    },
    Measure {
        what: "flows that the kernel tracks where the gate dials",
        count: |place| place.world.gate_namespace().enter(tracked),
        slack: 200,
    },
];

fn status(place: &Place<'_>, field: &str) -> u64 {
    let status = fs::read_to_string(format!("{}/status", place.process)).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

fn descriptors(place: &Place<'_>) -> u64 {
    fs::read_dir(format!("{}/fd", place.process)).unwrap().count() as u64
}

/// Of the namespace that this thread is in. A kernel that has never tracked anything has no such file.
fn tracked() -> u64 {
    let count = fs::read_to_string("/proc/sys/net/netfilter/nf_conntrack_count");
    count.map_or(0, |count| count.trim().parse().unwrap())
}

/// The middle one of these.
fn median(counts: &[u64]) -> u64 {
    let mut counts = counts.to_vec();
    counts.sort_unstable();
    counts[counts.len() / 2]
}

/// After a third of the time everything that is ever needed is there. What is held in the last third is not more
/// than in the one before, but for a tenth and some slack.
fn growth(Measure { what, slack, .. }: &Measure, counts: &[u64]) -> Result<String, String> {
    let third = counts.len() / 3;
    let thirds = [&counts[..third], &counts[third..2 * third], &counts[2 * third..]].map(median);
    let [first, middle, last] = thirds;
    let said = format!("{what}: {first}, then {middle}, then {last}");
    if last <= middle + middle / 10 + slack { Ok(said) } else { Err(said) }
}

/// A policy that is not the other one.
fn policy(world: &World, nginx: &Nginx<'_>, number: usize) -> String {
    let found = [
        ("api.test:443", nginx.address()),
        ("echo.test:80", WEBSOCKET_PLAIN),
        ("echo.test:443", WEBSOCKET_TLS),
    ];
    let hosts = ["api.test", "echo.test", ["one.test", "two.test"][number % 2]];
    format!("version = 1\nallowed_hosts = {hosts:?}\n{}", world.upstream(&found))
}

/// How long the run takes, in seconds.
#[expect(clippy::disallowed_methods, reason = "how long this test takes is for who runs it")]
fn seconds() -> u64 {
    env::var("SLUICEGATE_SOAK_SECONDS").map_or(SECONDS, |text| text.parse().unwrap())
}

fn set_policy(gate: &Attached<'_>, file: &Path) {
    let outcome = gate.operator(["policy", "set", &file.display().to_string()]).run();
    outcome.assert_success();
}

#[test]
fn what_a_gate_holds_does_not_grow_under_a_mixed_load() {
    let seconds = seconds();
    let world = World::new("soak");
    let nginx = Nginx::start(&world, "api.test", 443, "location / { return 200 ok; }");
    let _echo = PythonServer::start(&world, WEBSOCKET_ORIGIN, "echo.test", [WEBSOCKET_PLAIN, WEBSOCKET_TLS]);
    let policies = [0, 1].map(|number| {
        let text = policy(&world, &nginx, number);
        (world.file(&format!("policy-{number}.toml"), &text), text)
    });
    let mut gate = world.gate(&policies[0].1).named("soak").attach();
    let process = format!("/proc/{}", gate.running().pid());
    let gate = gate;
    let place = Place { process, world: &world, gate: &gate };
    let before = descriptors(&place);

    let client = world.file("soak.py", CLIENT).display().to_string();
    let line = [world.test_dependency("py/bin/python3"), client, seconds.to_string()];
    let client = world.root_job(gate.namespace(), line).env("SSL_CERT_FILE", gate.ca_file());
    let client = client.deadline(Duration::from_secs(seconds + 120)).spawn();
    let (began, mut swapped) = (Instant::now(), Instant::now());
    let mut counts: Vec<Vec<u64>> = MEASURES.iter().map(|_| Vec::new()).collect();
    let mut swaps = 0;
    while began.elapsed() < Duration::from_secs(seconds) {
        for (measure, counts) in MEASURES.iter().zip(&mut counts) {
            counts.push((measure.count)(&place));
        }
        if swapped.elapsed() > SWAP_INTERVAL {
            swaps += 1;
            set_policy(&gate, &policies[swaps % 2].0);
            swapped = Instant::now();
        }
        thread::sleep(Duration::from_secs(seconds) / LOOKS);
    }
    let outcome = client.wait();
    let said = outcome.assert_success().json();
    eprintln!("{swaps} policies, {}", said["done"]);
    assert_eq!(said["failed"], serde_json::json!([]), "{said:#}");
    for (kind, count) in said["done"].as_object().unwrap() {
        assert!(count.as_u64().unwrap() >= 3, "{kind}: {said:#}");
    }
    assert!(swaps >= 3, "{swaps}");

    let (held, grown): (Vec<_>, Vec<_>) = MEASURES
        .iter()
        .zip(&counts)
        .map(|(measure, counts)| growth(measure, counts))
        .partition(Result::is_ok);
    held.into_iter().flatten().for_each(|line| eprintln!("{line}"));
    assert!(grown.is_empty(), "{grown:#?}");
    // What was opened for the load goes with it, but for connections that are kept for the next request.
    wait_until("the end of what was opened", Duration::from_secs(60), || descriptors(&place) <= before + 20);
}
