//! A client of the workload's that asks one host over one connection, without TLS.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use e2e::Attached;

const DEADLINE: Duration = Duration::from_secs(60);

/// A connection that stays open.
pub(crate) struct Connection {
    host: &'static str,
    sending: TcpStream,
    answers: BufReader<TcpStream>,
}

impl Connection {
    /// Dials out of the sealed namespace, to an address that nobody has: the host is what counts.
    pub(crate) fn open(gate: &Attached<'_>, host: &'static str) -> Self {
        let address = SocketAddr::from(([198, 51, 100, 9], 80));
        let sending = gate.namespace().enter(|| TcpStream::connect_timeout(&address, DEADLINE)).unwrap();
        sending.set_read_timeout(Some(DEADLINE)).unwrap();
        sending.set_nodelay(true).unwrap();
        let answers = BufReader::new(sending.try_clone().unwrap());
        Self { host, sending, answers }
    }

    /// Asks for a path; the status and the body. Fails where the connection is closed.
    #[track_caller]
    pub(crate) fn ask(&mut self, path: &str) -> (u16, String) {
        self.send(path);
        self.receive()
    }

    /// The first half of [`Self::ask`].
    #[track_caller]
    pub(crate) fn send(&mut self, path: &str) {
        let request = format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", self.host);
        self.sending.write_all(request.as_bytes()).unwrap();
    }

    /// The second half of [`Self::ask`].
    #[track_caller]
    pub(crate) fn receive(&mut self) -> (u16, String) {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let length = self.answers.read_until(b'\n', &mut head).unwrap();
            assert!(length > 0, "the connection was closed: {}", String::from_utf8_lossy(&head));
        }
        let head = String::from_utf8(head).unwrap().to_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
        let mut body = vec![0; length.parse().unwrap()];
        self.answers.read_exact(&mut body).unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), String::from_utf8(body).unwrap())
    }

    /// The `greeting` that the conformance handler was bound with.
    #[track_caller]
    pub(crate) fn greeting(&mut self) -> serde_json::Value {
        let (status, body) = self.ask("/json");
        assert_eq!(status, 200, "{body}");
        serde_json::from_str::<serde_json::Value>(&body).unwrap()["greeting"].clone()
    }
}
