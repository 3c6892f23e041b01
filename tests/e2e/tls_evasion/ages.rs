//! What time and a new gate do to trust: leaves that grow old, and an authority that is another one.

use std::fs;
use std::os::unix::fs::MetadataExt;

use e2e::{Attached, Outcome, World};
use nix::sys::signal::Signal;

use crate::support::{PYTHON, curl, document, end, hello, verdicts};

/// The library of Debian's `libfaketime` for programs with threads.
const FAKETIME: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1";

/// The leaf that the gate shows for `api.test`, taken by who verifies it.
fn leaf(gate: &Attached<'_>) -> Outcome {
    let outcome = gate.run(["openssl", "s_client", "-verify_return_error", "-connect", "api.test:443"]);
    outcome.assert_success();
    assert!(outcome.stdout.contains("Verify return code: 0 (ok)"), "{outcome:#?}");
    outcome
}

fn x509(world: &World, leaf: &Outcome, arguments: &[&str]) -> Outcome {
    let line = [&["openssl", "x509", "-noout"], arguments].concat();
    world.job(world.gate_namespace(), line).stdin(leaf.stdout_bytes.clone()).run()
}

fn serial(world: &World, leaf: &Outcome) -> String {
    x509(world, leaf, &["-serial"]).assert_success().stdout.clone()
}

/// Whether it is still valid in so many hours from now, by the clock of the workload.
fn outlives(world: &World, leaf: &Outcome, hours: u32) -> bool {
    x509(world, leaf, &["-checkend", &(hours * 3600).to_string()]).status.success()
}

#[test]
fn t16_a_leaf_of_yesterday_is_replaced_while_the_gate_runs() {
    let world = World::new("t16");
    let origin = hello(&world);
    let policy = document(&world, "allowed_hosts = [\"api.test\"]", &[("api.test:443", origin.address())]);
    assert!(fs::exists(FAKETIME).unwrap(), "{FAKETIME} is missing: run ./scripts/setup --tests");
    // The gate's clock is what this file says; that of the workload stays right.
    let clock = world.file("clock", "+0");
    let gate = world
        .gate(&policy)
        .env("LD_PRELOAD", FAKETIME)
        .env("FAKETIME_TIMESTAMP_FILE", clock.to_str().unwrap())
        .env("FAKETIME_NO_CACHE", "1")
        .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
        .attach();
    let first = leaf(&gate);
    assert!(outlives(&world, &first, 23) && !outlives(&world, &first, 25));
    assert_eq!(serial(&world, &leaf(&gate)), serial(&world, &first), "a leaf is kept while it is fresh");

    // A connection that is open goes on.
    let text = "
import http.client, ssl, sys
connection = http.client.HTTPSConnection('api.test', context=ssl.create_default_context(), timeout=30)
for _ in range(2):
    connection.request('GET', '/'); print(connection.getresponse().read().decode(), flush=True)
    sys.stdin.readline()
";
    let mut open = gate.job([PYTHON, "-c", text]).spawn();
    open.wait_for_output("hello\n");
    world.file("clock", "+25h");
    open.write("\n");
    open.wait_for_output("hello\nhello\n");
    open.close_stdin();
    open.wait().assert_success();

    let second = leaf(&gate);
    assert_ne!(serial(&world, &second), serial(&world, &first));
    assert!(outlives(&world, &second, 48) && !outlives(&world, &second, 50));
    curl(&gate, &["https://api.test/"]).assert_success().assert_stdout("hello");

    // Past the end of its authority there is no leaf any more.
    world.file("clock", "+31d");
    let outcome = curl(&gate, &["https://api.test/"]);
    assert_eq!(outcome.code(), 35, "{outcome:#?}");
    let log = end(gate);
    assert_eq!(verdicts(&log).iter().filter(|verdict| *verdict == "allowed").count(), 3, "{log:#?}");
    let last = log.iter().rfind(|line| line["kind"] == "flow").unwrap();
    assert_eq!((&last["verdict"], &last["reason"]), (&"refused".into(), &"tls_handshake_failed".into()));
    assert!(last["detail"].as_str().unwrap().contains("expired"), "{last}");
}

/// A program that asks once for each line that it is given: with the authorities that it read when it
/// started, and with those of the file as it is now.
const RUNNING: &str = "
import os, socket, ssl, sys
def ask(context):
    try:
        with context.wrap_socket(socket.create_connection(('api.test', 443), 20), server_hostname='api.test') as tls:
            tls.sendall(b'GET / HTTP/1.1\\r\\nHost: api.test\\r\\nConnection: close\\r\\n\\r\\n')
            return b''.join(iter(lambda: tls.recv(4096), b'')).split(b'\\r\\n\\r\\n')[1].decode()
    except ssl.SSLCertVerificationError as error: return error.verify_message
read = lambda: ssl.create_default_context(cafile=os.environ['SSL_CERT_FILE'])
kept = read()
for number, _ in enumerate(sys.stdin):
    print(number, 'kept:', ask(kept), flush=True)
    print(number, 'read again:', ask(read()), flush=True)
";

#[test]
fn t17_a_running_program_trusts_a_new_gate_once_it_reads_the_authority_again() {
    let world = World::new("t17");
    let origin = hello(&world);
    let policy = document(&world, "allowed_hosts = [\"api.test\"]", &[("api.test:443", origin.address())]);
    let mut gate = world.gate(&policy).attach();
    let ca = gate.ca_file().to_owned();
    let inode = fs::metadata(&ca).unwrap().ino();
    let mut program = gate.job([PYTHON, "-c", RUNNING]).spawn();
    program.write("\n");
    program.wait_for_output("0 kept: hello\n0 read again: hello\n");
    for (number, signal) in [(1, Signal::SIGTERM), (2, Signal::SIGKILL)] {
        let before = fs::read_to_string(&ca).unwrap();
        let (_, namespace) = gate.end(signal);
        gate = world.gate(&policy).attach_to(namespace);
        assert_eq!(gate.ca_file(), ca);
        let now = fs::read_to_string(&ca).unwrap();
        assert!(now != before && now.matches("BEGIN CERTIFICATE").count() == 1, "{now}");
        // Written in place: who has the file itself mounted, and not its folder, sees the new one too.
        assert_eq!(fs::metadata(&ca).unwrap().ino(), inode);
        program.write("\n");
        program.wait_for_output(&format!("{number} read again: hello\n"));
        let told = program.stdout();
        let kept = told.lines().find(|line| line.starts_with(&format!("{number} kept:"))).unwrap();
        assert!(kept.contains("unable to get local issuer certificate"), "{told}");
        // What the operator finds in the log says why.
        let line = gate.wait_for_log(|line| line["reason"] == "tls_handshake_failed");
        assert!(line["detail"].as_str().unwrap().contains("UnknownCA"), "{line}");
        curl(&gate, &["https://api.test/"]).assert_success().assert_stdout("hello");
    }
    program.close_stdin();
    program.wait().assert_success();
    assert_eq!(origin.requests().len(), 2 + 2 * 2);
}
