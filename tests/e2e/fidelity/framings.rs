//! Requests of HTTP/1 that readers read differently: refused with one line of the log, and nothing at the origin; or
//! the origin gets what all readers read alike, and that is what was sent.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};

use e2e::{TcpServer, World, wait_until};
use serde_json::Value;

use crate::framing_cases::End::{self, Body, Cut, Refused};
use crate::framing_cases::{cases, path};
use crate::strict::{self, Request};
use crate::support::{DEADLINE, ask, dial};

/// Keeps what came, connection by connection, and answers each request that is one to the strict reader.
struct Recorder {
    server: TcpServer,
    came: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Recorder {
    fn start(world: &World) -> Self {
        let came = Arc::<Mutex<Vec<Vec<u8>>>>::default();
        let keep = Arc::clone(&came);
        let server = TcpServer::start(world, move |io| keep.lock().unwrap().push(record(io)));
        Self { server, came }
    }

    /// What came on all connections, once they have ended.
    fn finish(self) -> Vec<Vec<u8>> {
        let opened = self.server.connections();
        wait_until("the end of all connections", DEADLINE, || self.came.lock().unwrap().len() == opened);
        std::mem::take(&mut self.came.lock().unwrap())
    }
}

/// One request for each connection, so that what is behind one belongs to it.
fn record(mut io: TcpStream) -> Vec<u8> {
    let (mut bytes, mut piece) = (Vec::new(), [0; 4096]);
    let mut is_answered = false;
    while let Ok(count @ 1..) = io.read(&mut piece) {
        bytes.extend_from_slice(&piece[..count]);
        if !is_answered && let Ok(Some(_)) = strict::request(&bytes) {
            is_answered = true;
            drop(io.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"));
        }
    }
    bytes
}

/// The one request in what came of a case.
#[track_caller]
fn only_request(what: &str, came: &[&Vec<u8>]) -> Request {
    let [bytes] = came else { panic!("{what}: {} connections", came.len()) };
    let shown = String::from_utf8_lossy(bytes);
    let (request, length) = strict::request(bytes)
        .unwrap_or_else(|error| panic!("{what}: {error} in {shown:?}"))
        .unwrap_or_else(|| panic!("{what}: it is not whole in {shown:?}"));
    assert_eq!(length, bytes.len(), "{what}: more than one request in {shown:?}");
    request
}

#[test]
fn what_readers_read_differently_is_refused_or_arrives_as_one_request() {
    let world = World::new("framings");
    let recorder = Recorder::start(&world);
    let found = world.upstream(&[("api.test:80", recorder.server.address())]);
    let mut gate =
        world.gate(&format!("version = 1\nallowed_hosts = [\"http://api.test\"]\n{found}")).attach();
    let cases = cases();
    assert!(cases.len() > 150, "{}", cases.len());
    let mut wrong = Vec::new();
    for (what, sent, end) in &cases {
        let answer = ask(dial(&gate), sent.as_bytes());
        let answer = String::from_utf8_lossy(&answer);
        let statuses: Vec<&str> = answer.split("HTTP/1.").skip(1).filter_map(|one| one.get(2..5)).collect();
        let is_right = match (end, &statuses[..]) {
            (Body(_), statuses) => statuses == ["200"],
            // Where even the protocol cannot be told it is a reset.
            (Refused | Cut, []) => true,
            // Of those that are cut the request is on its way by then.
            (Refused | Cut, [status]) => status.starts_with('4'),
            _ => false,
        };
        if !is_right {
            wrong.push(format!("{what}: {end:?} answered {statuses:?}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");

    let last = ask(dial(&gate), b"GET /last HTTP/1.1\r\nHost: api.test\r\n\r\n");
    assert!(last.starts_with(b"HTTP/1.1 200 "), "{last:?}");
    gate.wait_for_log(|line| line["path"] == "/last");
    // One line each: most heads that are refused have no path that could be written.
    let log = gate.log();
    let told =
        log.iter().filter(|line| ["exchange", "flow"].map(Value::from).contains(&line["kind"])).count();
    assert_eq!(told, cases.len() + 1, "{log:#?}");
    let of = |verdict: &str| log.iter().filter(|line| line["verdict"] == verdict).count();
    let refused = cases.iter().filter(|(_, _, end)| *end == Refused).count();
    assert_eq!(of("refused"), refused, "{log:#?}");
    drop(gate);

    let came = recorder.finish();
    let hidden = came.iter().filter(|bytes| bytes.starts_with(b"GET /hidden")).count();
    assert_eq!(hidden, 0);
    for (number, (what, _, end)) in cases.iter().enumerate() {
        let path = path(number);
        let has_path = |bytes: &&Vec<u8>| bytes.windows(path.len()).any(|window| window == path.as_bytes());
        let mine: Vec<_> = came.iter().filter(has_path).collect();
        assert_came(what, *end, &path, &mine);
    }
}

/// What came at the origin on the connections that have the path of a case.
#[track_caller]
fn assert_came(what: &str, end: End, path: &str, mine: &[&Vec<u8>]) {
    let shown = || mine.iter().map(|bytes| String::from_utf8_lossy(bytes)).collect::<Vec<_>>();
    match end {
        Refused => assert!(mine.is_empty(), "{what}: {:?}", shown()),
        Body(body) => {
            let request = only_request(what, mine);
            assert_eq!((request.target.as_str(), request.body.as_slice()), (path, body.as_bytes()), "{what}");
            let of = |name: &str| request.fields.iter().find(|(one, _)| one == name).map(|(_, value)| value);
            let host = of("host").unwrap().to_ascii_lowercase();
            assert!([&b"api.test"[..], b"api.test:80"].contains(&host.as_slice()), "{what}: {:?}", shown());
            let of_framing = ["content-length", "transfer-encoding", "host"];
            let trailer = request.trailers.iter().find(|(name, _)| of_framing.contains(&name.as_str()));
            assert_eq!(trailer, None, "{what}: {:?}", shown());
        }
        Cut => {
            let is_cut = mine.iter().all(|bytes| matches!(strict::request(bytes), Ok(None)));
            assert!(is_cut, "{what}: {:?}", shown());
        }
    }
}
