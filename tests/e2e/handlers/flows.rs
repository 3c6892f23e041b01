//! Connections that are passed on unopened, when the policy that allowed them changes.

use e2e::{Attached, Running, Site, World};
use serde_json::json;

use crate::support::{PYTHON, assert_line};

/// Opens one TLS connection that nobody in between can read, and asks whenever it is told to. Tells
/// when the connection ends, also while nobody asks.
const TUNNEL: &str = r#"
import select, socket, ssl, sys
context = ssl.create_default_context(cafile=sys.argv[2])
connection = context.wrap_socket(socket.create_connection((sys.argv[1], 443), 20), server_hostname=sys.argv[1])
def ended(why):
    print("ended", why, flush=True)
    sys.exit(0)
while True:
    ready, _, _ = select.select([sys.stdin, connection], [], [], 50)
    assert ready, "nothing happens"
    try:
        if connection in ready:
            connection.settimeout(0)
            try:
                if not connection.recv(1): ended("at its end")
            except ssl.SSLWantReadError:
                pass  # a session ticket
        if sys.stdin in ready:
            if not sys.stdin.readline(): sys.exit(0)
            connection.settimeout(20)
            connection.sendall(f"GET / HTTP/1.1\r\nHost: {sys.argv[1]}\r\n\r\n".encode())
            answer = b""
            while b"origin: " not in answer:
                piece = connection.recv(65536)
                if not piece: ended("before the answer")
                answer += piece
            print("answered", flush=True)
    except OSError as error: ended(error)
"#;

fn tunnel<'world>(world: &World, gate: &Attached<'world>) -> Running<'world> {
    let ca = world.origin_ca_file().display().to_string();
    let mut client = gate.job([PYTHON, "-c", TUNNEL, "pinned.test", &ca]).spawn();
    ask(&mut client, 1);
    client
}

fn ask(client: &mut Running<'_>, times: usize) {
    client.write("\n");
    client.wait_for_output(&"answered\n".repeat(times));
}

const PINNED: &str = "[[rules]]\nname = \"pinned\"\nhost = \"pinned.test\"\nintercept = false";

#[test]
fn h05_a_policy_that_no_longer_allows_an_open_flow_closes_it() {
    let world = World::new("h05-judge");
    let site = Site::start(&world);
    let mut gate = world.gate(&site.policy(&world, PINNED, &["pinned.test"])).named("box").attach();
    let mut client = tunnel(&world, &gate);

    // One that allows it still, changes nothing for it.
    let same = format!("allowed_hosts = [\"pinned.test\", \"other.test\"]\n{PINNED}");
    let same = world.file("same.toml", site.policy(&world, &same, &["pinned.test"]));
    gate.operator(["policy", "set", same.to_str().unwrap()]).run().assert_success();
    ask(&mut client, 2);

    gate.operator(["host", "deny", "pinned.test"]).run().assert_success();
    client.wait_for_output("ended");
    client.wait().assert_success();
    let line = gate.wait_for_log(|line| line["kind"] == "flow" && line["host"] == "pinned.test");
    assert_line(&line, &json!({"rule": "pinned", "verdict": "allowed", "complete": false}));
    assert!(line["detail"].as_str().unwrap().contains("newer policy"), "{line}");
    assert_eq!(site.requests().len(), 2);
}

#[test]
fn h05_a_policy_keeps_open_flows_where_it_says_so() {
    let world = World::new("h05-keep");
    let site = Site::start(&world);
    let kept =
        |text: &str| format!("{}flows_on_publish = \"keep\"\n", site.policy(&world, text, &["pinned.test"]));
    let gate = world.gate(&kept(PINNED)).named("box").attach();
    let mut client = tunnel(&world, &gate);
    let closed = world.file("closed.toml", kept("denied_hosts = [\"pinned.test\"]"));
    gate.operator(["policy", "set", closed.to_str().unwrap()]).run().assert_success();
    ask(&mut client, 2);
    // For what begins now, the new policy counts.
    let refused = gate.run(["curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", "https://pinned.test/"]);
    refused.assert_success().assert_stdout("403");
    ask(&mut client, 3);
    client.close_stdin();
    client.wait().assert_success();
    assert_eq!(site.requests().len(), 3);
}
