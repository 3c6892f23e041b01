//! A gibibyte each way: nothing lost, nothing kept in memory.

use std::fs;
use std::time::Duration;

use e2e::{
    Origin, Received, Reply, Running, World, assert_token_absent, new_token, pseudo_random_chunks,
    pseudo_random_sha256, with_token_scan,
};

const GIBIBYTE: u64 = 1 << 30;
/// What the gate may need more while a body streams than before.
const GROWTH_LIMIT_KIB: u64 = 64 * 1024;
const DEADLINE: Duration = Duration::from_secs(300);

const POLICY: &str = r#"
version = 1

[secrets.API_TOKEN]
source = "env://API_TOKEN"
hosts = ["api.test"]

[[rules]]
host = "api.test"
set_headers = { authorization = "Bearer ${secret:API_TOKEN}" }

"#;

#[test]
fn w06_gibibyte_down_arrives_whole_in_flat_memory() {
    let (world, token) = (World::new("down"), new_token());
    let origin = Origin::start(&world, |request| match request.path.as_str() {
        "/big" => Reply::pseudo_random(GIBIBYTE),
        _ => Reply::text("warm\n"),
    });
    let policy = format!("{POLICY}{}", world.upstream(&[("api.test:443", origin.address())]));
    let script = "curl -sS https://api.test/ && read go && curl -sS https://api.test/big | sha256sum";
    let command = with_token_scan(&world, &[&token], ["sh", "-c", script]);
    let mut running = world.gate(&policy).env("API_TOKEN", &token).job(command).deadline(DEADLINE).spawn();
    running.wait_for_output("warm\n");
    let mut memory = Memory::watch(&running);
    running.write("go\n");
    while running.stdout().lines().count() < 2 {
        memory.look();
        running.wait_a_little();
    }
    let outcome = running.wait();
    outcome.assert_success().assert_stdout(&format!("warm\n{}  -\n", pseudo_random_sha256(GIBIBYTE)));
    memory.assert_flat();
    assert_token_absent(&world, &outcome, &[&token]);
    assert_credentials(&origin.requests(), &token);
    let line = outcome.lines("exchange")[1];
    assert_eq!((&line["response_bytes"], &line["complete"]), (&GIBIBYTE.into(), &true.into()), "{line}");
}

#[test]
fn w06_gibibyte_up_arrives_whole_in_flat_memory() {
    let (world, token) = (World::new("up"), new_token());
    let origin = Origin::start(&world, |_| Reply::text("warm\n"));
    let policy = format!("{POLICY}{}", world.upstream(&[("api.test:443", origin.address())]));
    // From a pipe, hence chunked: its length is not known ahead.
    let script = "curl -sS https://api.test/ && curl -sS -T - https://api.test/big";
    let command = with_token_scan(&world, &[&token], ["sh", "-c", script]);
    let mut running = world.gate(&policy).env("API_TOKEN", &token).job(command).deadline(DEADLINE).spawn();
    running.wait_for_output("warm\n");
    let mut memory = Memory::watch(&running);
    for (number, chunk) in pseudo_random_chunks(GIBIBYTE).enumerate() {
        running.write(chunk);
        if number % 64 == 0 {
            memory.look();
        }
    }
    let outcome = running.wait();
    outcome.assert_success().assert_stdout("warm\nwarm\n");
    memory.assert_flat();
    assert_token_absent(&world, &outcome, &[&token]);
    let requests = origin.requests();
    assert_credentials(&requests, &token);
    assert_eq!((requests[1].method.as_str(), requests[1].body_length), ("PUT", GIBIBYTE));
    assert_eq!(requests[1].body_sha256, pseudo_random_sha256(GIBIBYTE));
    let line = outcome.lines("exchange")[1];
    assert_eq!((&line["request_bytes"], &line["complete"]), (&GIBIBYTE.into(), &true.into()), "{line}");
}

fn assert_credentials(requests: &[Received], token: &str) {
    assert_eq!(requests.len(), 2, "{requests:#?}");
    for request in requests {
        assert_eq!(request.header("authorization"), [format!("Bearer {token}")], "{request:#?}");
    }
}

/// The resident memory of a gate, looked at while it works.
struct Memory {
    status: String,
    before_kib: u64,
    peak_kib: u64,
    looks: u32,
}

impl Memory {
    fn watch(gate: &Running<'_>) -> Self {
        let program = fs::read_link(format!("/proc/{}/exe", gate.pid())).unwrap();
        assert!(program.ends_with("sluicegate"), "{program:?} is not the gate");
        let status = format!("/proc/{}/status", gate.pid());
        let before_kib = resident_kib(&status);
        Self { status, before_kib, peak_kib: before_kib, looks: 0 }
    }

    fn look(&mut self) {
        self.peak_kib = self.peak_kib.max(resident_kib(&self.status));
        self.looks += 1;
    }

    fn assert_flat(&self) {
        let Self { before_kib, peak_kib, looks, .. } = self;
        assert!(*looks > 20, "looked {looks} times only");
        assert!(peak_kib - before_kib < GROWTH_LIMIT_KIB, "from {before_kib} KiB to {peak_kib} KiB");
    }
}

fn resident_kib(status: &str) -> u64 {
    let text = fs::read_to_string(status).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
