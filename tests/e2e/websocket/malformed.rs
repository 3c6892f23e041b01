//! Handshakes that are broken off or damaged: each ends its own connection, and the gate goes on.

use e2e::World;
use serde_json::json;

use crate::support::{Server, said};

/// Every prefix of a handshake, and mutations of it from a fixed seed, each on a connection of its own.
const ATTACK: &str = r#"
import random, socket as sockets
HEAD = (b"GET /attack HTTP/1.1\r\nHost: echo.test\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
FRAME = bytes([0x88, 0x82, 1, 2, 3, 4, 0x02, 0xea])
def send(bytes):
    with sockets.create_connection(("echo.test", 80), 20) as s:
        s.settimeout(30)
        seen = b""
        try:
            s.sendall(bytes)
            s.shutdown(sockets.SHUT_WR)
            while piece := s.recv(65536): seen += piece
        except OSError: pass # It was reset.
        return seen[9:12].decode(errors="replace")
seen = {}
def count(bytes):
    status = send(bytes)
    seen[status] = seen.get(status, 0) + 1
for end in range(1, len(HEAD)): count(HEAD[:end])
draw = random.Random(7)
for _ in range(300):
    damaged = bytearray(HEAD)
    for _ in range(draw.randint(1, 4)):
        at = draw.randrange(len(damaged))
        match draw.randrange(3):
            case 0: damaged[at] = draw.randrange(256)
            case 1: del damaged[at]
            case 2: damaged.insert(at, draw.randrange(256))
    count(bytes(damaged))
whole = send(HEAD + FRAME)
say(sorted(seen), len(HEAD) - 1 + 300 == sum(seen.values()), whole, len(HEAD) + 300)
"#;

#[test]
fn a_broken_handshake_ends_its_own_connection_and_no_other() {
    let world = World::new("ws-malformed");
    let server = Server::start(&world);
    let mut gate = world.gate(&server.policy("allowed_hosts = [\"echo.test\"]")).attach();
    let script = format!(
        "with ws('ws://echo.test/beside') as beside:\n    beside.send('before'); beside.recv(timeout=20)\n\
         {}\n    beside.send('after'); say(beside.recv(timeout=20))",
        ATTACK.replace('\n', "\n    ")
    );
    let job = crate::support::python(&world, &gate, &script);
    let outcome = job.deadline(std::time::Duration::from_secs(120)).run();
    outcome.assert_success();
    let lines: Vec<_> = outcome.stdout.lines().collect();
    assert_eq!(lines.len(), 2, "{outcome:?}");
    let told: serde_json::Value = serde_json::from_str(lines[0]).unwrap();
    assert_eq!((&told[1], &told[2], lines[1]), (&json!(true), &json!("101"), "\"after\""));
    for status in told[0].as_array().unwrap() {
        // Nothing at all, the upgrade, a refusal of the gate's or the origin's, or (502) an origin that
        // closes without an answer.
        let known = ["", "101", "400", "403", "426", "500", "501", "502"];
        assert!(known.contains(&status.as_str().unwrap()), "{told}");
    }
    let beside = gate.wait_for_log(|line| line["kind"] == "exchange" && line["path"] == "/beside");
    assert_eq!(beside["complete"], true, "{beside}");
    // Each connection has left one line, and so has the one beside.
    let is_about_one = |line: &&serde_json::Value| line["kind"] == "exchange" || line["kind"] == "flow";
    let count = gate.log().iter().filter(is_about_one).count() as u64;
    assert_eq!(count, told[3].as_u64().unwrap() + 1);
    assert_eq!(
        said(&world, &gate, "with ws('ws://echo.test/at-last') as s: say(s.response.status_code)"),
        101
    );
}
