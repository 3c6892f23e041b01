//! Sockets that were there before the gate: to Docker's resolver, with what the kernel remembers of where their
//! packets were led.

use e2e::{Namespace, World};

use crate::support::{PYTHON, api_origin};

/// What Docker puts into a container's namespace: its resolver is on two ports of its own.
const DOCKERS: &str = "
table ip nat {
  chain OUTPUT {
    type nat hook output priority -100; policy accept;
    ip daddr 127.0.0.11 udp dport 53 dnat to 127.0.0.11:41234
    ip daddr 127.0.0.11 tcp dport 53 dnat to 127.0.0.11:41235
  }
  chain POSTROUTING {
    type nat hook postrouting priority 100; policy accept;
    ip saddr 127.0.0.11 udp sport 41234 snat to :53
    ip saddr 127.0.0.11 tcp sport 41235 snat to :53
  }
}
";

/// That resolver: everything is at 192.0.2.1. It says what it was asked.
const RESOLVER: &str = "
import socket, threading
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); udp.bind(('127.0.0.11', 41234))
tcp = socket.create_server(('127.0.0.11', 41235))
def answer(question, way):
    labels, at = [], 12
    while question[at]: labels.append(question[at + 1:at + 1 + question[at]].decode()); at += 1 + question[at]
    print(way, '.'.join(labels), flush=True)
    return question[:2] + b'\\x81\\x80\\0\\1\\0\\1\\0\\0\\0\\0' + question[12:at + 5] + b'\\xc0\\x0c\\0\\1\\0\\1\\0\\0\\0\\x3c\\0\\4\\xc0\\0\\2\\1'
def stream():
    there, _ = tcp.accept()
    while (head := there.recv(2)):
        said = answer(there.recv(int.from_bytes(head, 'big')), 'tcp'); there.sendall(len(said).to_bytes(2, 'big') + said)
threading.Thread(target=stream, daemon=True).start()
print('ready', flush=True)
while True:
    question, peer = udp.recvfrom(512); udp.sendto(answer(question, 'udp'), peer)
";

/// Connects three sockets, and asks for the name on each line by each of them.
const ASKING: &str = "
import socket, sys
def question(name):
    return b'\\0\\7\\1\\0\\0\\1\\0\\0\\0\\0\\0\\0' + b''.join(bytes([len(part)]) + part.encode() for part in name.split('.')) + b'\\0\\0\\1\\0\\1'
connected, free = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
connected.connect(('127.0.0.11', 53)); free.bind(('127.0.0.1', 0))
stream = socket.create_connection(('127.0.0.11', 53))
for s in (connected, free, stream): s.settimeout(3)
def by_connected(asked): connected.send(asked); return connected.recv(512)
def by_free(asked): free.sendto(asked, ('127.0.0.11', 53)); return free.recvfrom(512)[0]
def by_stream(asked):
    stream.sendall(len(asked).to_bytes(2, 'big') + asked)
    return stream.recv(512)[2:] or b'ended'
print('ready', flush=True)
for line in sys.stdin:
    for way, ask in (('connected', by_connected), ('free', by_free), ('stream', by_stream)):
        try: said = ask(question(line.strip())); end = socket.inet_ntoa(said[-4:]) if len(said) > 12 else said.decode()
        except OSError as error: end = type(error).__name__
        print(line.strip(), way, end, flush=True)
";

#[test]
fn sockets_to_dockers_resolver_that_were_there_before_are_the_gates() {
    let world = World::new("stale-sockets");
    let (_origin, policy) = api_origin(&world);
    let namespace = Namespace::new(&format!("{}-stale", world.gate_namespace().name()));
    namespace.nft(&[DOCKERS]);
    let mut resolver = world.root_job(&namespace, [PYTHON, "-c", RESOLVER]).spawn();
    resolver.wait_for_output("ready");
    let mut asking = world.job(&namespace, [PYTHON, "-c", ASKING]).spawn();
    asking.wait_for_output("ready");
    asking.write("before.test\n");
    for way in ["connected", "free", "stream"] {
        asking.wait_for_output(&format!("before.test {way} 192.0.2.1\n"));
    }
    let asked = "ready\nudp before.test\nudp before.test\ntcp before.test\n";
    resolver.wait_for_output(asked);
    assert_eq!(resolver.stdout(), asked);

    let gate = world.gate(&policy).attach_to(namespace);
    for name in ["api.test", "other.test"] {
        asking.write(format!("{name}\n"));
        asking.wait_for_output(&format!("{name} stream "));
    }
    let said = asking.stdout();
    for way in ["connected", "free"] {
        assert!(said.contains(&format!("api.test {way} 198.18.")), "{said}");
        assert!(!said.contains(&format!("other.test {way} 192.0.2.1")), "{said}");
    }
    // A connection of TCP has its other end with that resolver, and gets nowhere.
    assert!(!said.contains("api.test stream 192.0.2.1"), "{said}");
    assert_eq!(resolver.stdout(), asked, "{said}");
    asking.close_stdin();
    asking.wait().assert_success();
    drop(gate);
}
