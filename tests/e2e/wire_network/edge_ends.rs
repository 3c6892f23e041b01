//! What is under way when the gate ends: each is in the log, which is closed behind it.

use e2e::{Origin, Reply, TcpServer, World};
use nix::sys::signal::Signal;
use serde_json::json;
use std::io::{Read, Write};
use std::time::Duration;

use crate::support::{allowing, lines, script, until};

/// Opens a request that is not answered, one whose answer goes on, an upload that goes on, and a flow that is
/// passed on, and waits for their ends.
const UNDER_WAY: &str = "
import http.client, socket, ssl, threading, os
context = ssl.create_default_context(cafile=os.environ['SSL_CERT_FILE'])
def ask(path):
    connection = http.client.HTTPSConnection('api.test', context=context, timeout=40)
    try:
        connection.request('GET', path); answer = connection.getresponse(); answer.read(); end = 'whole'
    except (OSError, http.client.HTTPException) as error: end = 'broken'
    print(path, end, flush=True)
def upload():
    stream = context.wrap_socket(socket.create_connection(('api.test', 443), 40), server_hostname='api.test')
    stream.sendall(b'PUT /upload HTTP/1.1\\r\\nHost: api.test\\r\\nContent-Length: 100\\r\\n\\r\\nhalf')
    try: end = 'answered' if stream.recv(1) else 'broken'
    except OSError: end = 'broken'
    print('/upload', end, flush=True)
def flow():
    stream = socket.create_connection(('db.test', 5432), 40); stream.sendall(b'x'); stream.recv(1); print('flow is open', flush=True)
    try: end = 'answered' if stream.recv(1) else 'broken'
    except OSError: end = 'broken'
    print('flow', end, flush=True)
threads = [threading.Thread(target=ask, args=(path,)) for path in ('/hang', '/stream')] + [threading.Thread(target=upload), threading.Thread(target=flow)]
for thread in threads: thread.start()
for thread in threads: thread.join()
";

#[test]
fn n08_what_is_under_way_when_the_gate_ends_is_in_the_log() {
    let world = World::new("under-way");
    let origin = Origin::start(&world, |request| match request.path.as_str() {
        "/hang" => Reply::hang(),
        _ => Reply::text("begin").pause(Duration::from_secs(40)).then("end").chunked(),
    });
    let database = TcpServer::start(&world, |mut stream| {
        let mut byte = [0];
        while stream.read_exact(&mut byte).and_then(|()| stream.write_all(&byte)).is_ok() {}
    });
    let found = [("api.test:443", origin.address()), ("db.test:5432", database.address())];
    let policy = allowing(&world, &found).replace("\"db.test\"", "\"db.test:5432\"");
    let policy = policy.replace("[upstream]", "tcp = [\"db.test:5432\"]\n[upstream]");
    let gate = world.gate(&policy);
    let log = gate.log_file().display().to_string();
    let gate = gate.attach();
    let mut clients = gate.job(script(UNDER_WAY, &[])).spawn();
    clients.wait_for_output("flow is open");
    let seen = |what: &str| {
        let connections = origin.connections_seen();
        connections.iter().any(|bytes| String::from_utf8_lossy(bytes).contains(what))
    };
    until("all are under way", || ["GET /hang", "GET /stream", "half"].iter().all(|what| seen(what)));
    let (outcome, _namespace) = gate.end(Signal::SIGTERM);
    outcome.assert_success();
    let clients = clients.wait();
    for what in ["/hang", "/stream", "/upload", "flow"] {
        assert!(clients.stdout.contains(&format!("{what} broken\n")), "{clients:?}");
    }
    for path in ["/hang", "/stream", "/upload"] {
        let of_path = lines(&outcome.log, &[("path", json!(path)), ("kind", json!("exchange"))]);
        assert_eq!(of_path.len(), 1, "{path}: {outcome:?}");
        assert_ne!(of_path[0]["complete"], json!(true), "{path}: {outcome:?}");
    }
    let flows = lines(&outcome.log, &[("host", json!("db.test")), ("kind", json!("flow"))]);
    assert_eq!(flows.len(), 1, "{outcome:?}");
    let verify = [&world.program("sluicegate"), "log", "verify", "--closed", "--log", &log];
    world.root_job(world.gate_namespace(), verify).run().assert_success();
}
