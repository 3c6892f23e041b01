//! UDP: refused at once, or passed where a list names it.

use std::net::{SocketAddr, UdpSocket};
use std::thread;
use std::time::Duration;

use e2e::{Arrivals, ORIGIN_IPV4, ORIGIN_IPV6, World, wait_until};
use serde_json::{Value, json};

use crate::support::{flow, policy, python, python_job};

/// Answers every datagram with itself, for a minute; one that says `from elsewhere` is answered from
/// another port.
fn echo(world: &World, address: SocketAddr) -> SocketAddr {
    let (socket, other) = world.origin_namespace().enter(|| {
        let other = SocketAddr::new(address.ip(), 0);
        (UdpSocket::bind(address).unwrap(), UdpSocket::bind(other).unwrap())
    });
    socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let address = socket.local_addr().unwrap();
    thread::spawn(move || {
        let mut buffer = vec![0; 65_536];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            let by = if buffer.starts_with(b"from elsewhere") { &other } else { &socket };
            by.send_to(&buffer[..length], from).unwrap();
        }
    });
    address
}

const ASK: &str = "
import json, socket
def ask(host, port, say, family=socket.AF_INET):
    s = socket.socket(family, socket.SOCK_DGRAM)
    s.settimeout(15)
    s.connect((host, port))
    try:
        s.send(say)
        return s.recv(65536).decode()
    except OSError as error: return type(error).__name__
";

#[test]
fn e12_a_datagram_that_no_list_names_is_refused_at_once() {
    let world = World::new("e12-udp");
    let server = echo(&world, (ORIGIN_IPV4, 0).into());
    let text = "udp = [\"time.internal:123\"]";
    let found = [("time.internal:123", server), ("time.internal:124", server)];
    let mut gate = world.gate(&policy(&world, text, &found)).attach();
    let script = format!(
        "{ASK}\nimport time\nbegan = time.monotonic()\n\
         said = [ask('time.internal', 124, b'x'), ask('192.0.2.1', 123, b'x'), ask('192.0.2.1', 51820, b'x')]\n\
         print(json.dumps([said, time.monotonic() - began]))"
    );
    let answer = python(&gate, &script);
    let refused = "ConnectionRefusedError";
    assert_eq!(answer[0], json!([refused, refused, refused]));
    assert!(answer[1].as_f64().unwrap() < 5.0, "{answer}");
    let line = gate.wait_for_log(|line| line["kind"] == "flow" && line["protocol"] == "udp");
    assert_eq!((&line["verdict"], &line["reason"]), (&json!("refused"), &json!("udp_flow")));
    assert_eq!(world.arrivals(), Arrivals::default());
}

#[test]
fn udp_flows_pass_by_name_in_both_families_and_to_the_longest_datagram() {
    let world = World::new("udp-pass");
    let server = echo(&world, (ORIGIN_IPV4, 0).into());
    let server_v6 = echo(&world, (ORIGIN_IPV6, 0).into());
    let text = "udp = [\"time.internal:123\", \"six.internal:*\"]";
    let found = [("time.internal:123", server), ("six.internal:9000", server_v6)];
    let mut gate = world.gate(&policy(&world, text, &found)).named("udp").attach();
    let script = format!(
        "{ASK}\nprint(json.dumps([ask('time.internal', 123, b'what time is it'), \
         len(ask('time.internal', 123, b'y' * 9000)), \
         ask('six.internal', 9000, b'six', socket.AF_INET6), \
         ask('six.internal', 9000, b'four'), ask('six.internal', 9001, b'nowhere')]))"
    );
    let answer = python(&gate, &script);
    // Nobody resolves the last one.
    let refused = "ConnectionRefusedError";
    assert_eq!(answer, json!(["what time is it", 9000, "six", "four", refused]));
    // The flows are open until nothing came for minutes; a policy without them ends them now.
    let closed = world.file("closed.toml", "version = 1\n").display().to_string();
    gate.operator(["policy", "set", &closed]).run().assert_success();
    let line = flow(&mut gate, "time.internal", 123);
    assert_eq!((&line["verdict"], &line["rule"]), (&json!("allowed"), &json!("udp: time.internal:123")));
    assert_eq!((&line["protocol"], &line["upstream"]), (&json!("udp"), &json!(server.to_string())));
    assert_eq!(line["request_bytes"], line["response_bytes"], "{line}");
}

#[test]
fn only_the_address_that_was_dialled_is_heard() {
    let world = World::new("udp-elsewhere");
    let server = echo(&world, (ORIGIN_IPV4, 0).into());
    let text = "udp = [\"time.internal:123\"]";
    let gate = world.gate(&policy(&world, text, &[("time.internal:123", server)])).attach();
    let script = "
import json, socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(15)
address = (socket.gethostbyname('time.internal'), 123)
s.sendto(b'from elsewhere', address)
s.sendto(b'in order', address)
said, by = s.recvfrom(100)
print(json.dumps([said.decode(), by == address]))
";
    assert_eq!(python(&gate, script), json!(["in order", true]));
}

#[test]
fn a_closed_port_upstream_is_told() {
    let world = World::new("udp-closed");
    let closed: SocketAddr = (ORIGIN_IPV4, 9).into();
    let text = "udp = [\"time.internal:123\"]";
    let gate = world.gate(&policy(&world, text, &[("time.internal:123", closed)])).attach();
    let script = format!("{ASK}\nprint(json.dumps(ask('time.internal', 123, b'x')))");
    assert_eq!(python_job(&gate, &script).run().assert_success().json(), "ConnectionRefusedError");
}

#[test]
fn flows_beyond_the_most_are_refused_and_counted() {
    let world = World::new("udp-many");
    let server = echo(&world, (ORIGIN_IPV4, 0).into());
    let text = "udp = [\"time.internal:123\"]";
    let gate = world.gate(&policy(&world, text, &[("time.internal:123", server)])).attach();
    let script = format!(
        "{ASK}
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (2048, 2048))
flows = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(1024)]
for flow in flows:
    flow.settimeout(15)
    flow.connect((ADDRESS, 123))
    flow.send(b'x')
    assert flow.recv(10) == b'x'
print(json.dumps([ask(ADDRESS, 123, b'x') for _ in range(100)]))"
    )
    .replace("import resource", "import resource\nADDRESS = socket.gethostbyname('time.internal')");
    assert_eq!(python(&gate, &script), json!(vec!["ConnectionRefusedError"; 100]));
    let lines = || {
        let mut lines = gate.log();
        lines.retain(|line| line["reason"] == "too_many_flows");
        lines
    };
    let count = |lines: &[Value]| lines.iter().map(|line| line["count"].as_u64().unwrap()).sum::<u64>();
    wait_until("the rest is counted", Duration::from_secs(30), || count(&lines()) == 100);
    let lines = lines();
    assert!(lines.len() <= 4, "{lines:#?}");
    assert!(lines.iter().all(|line| line["verdict"] == "refused"), "{lines:#?}");
}
