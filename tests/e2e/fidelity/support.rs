//! An origin and a client that speak HTTP/1 byte by byte, and messages taken apart to be compared.

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use e2e::{Attached, TcpServer, World};

/// Longer than anything waits in these tests.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);
/// What clients dial: it is no origin's, since the gate dials by name.
pub(crate) const ANYWHERE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);
/// Fields that belong to one hop: its framing, and whether it is kept.
const OF_THE_HOP: [&str; 4] = ["connection", "keep-alive", "proxy-connection", "transfer-encoding"];

/// What an origin sends when it is asked for this path.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    bytes: Vec<u8>,
    closes: bool,
}

impl Answer {
    /// These bytes, after which the next request is read.
    pub(crate) fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self { bytes: bytes.into(), closes: false }
    }

    /// The same bytes, after which the connection ends.
    pub(crate) fn closing(self) -> Self {
        Self { closes: true, ..self }
    }
}

/// A server without TLS that sends fixed bytes, and keeps the requests as they came.
pub(crate) struct RawOrigin {
    server: TcpServer,
    received: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl RawOrigin {
    /// Answers the path of each of `answers` with it, and everything else with `200` and `ok`.
    pub(crate) fn start(world: &World, answers: &[(&str, Answer)]) -> Self {
        let answers: HashMap<String, Answer> =
            answers.iter().map(|(path, answer)| ((*path).to_owned(), answer.clone())).collect();
        let received = Arc::<Mutex<Vec<Vec<u8>>>>::default();
        let kept = Arc::clone(&received);
        let other = Answer::new("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        let server = TcpServer::start(world, move |mut io| {
            while let Some(request) = read_message(&mut io) {
                let target = request.split(|byte| *byte == b' ').nth(1).unwrap_or_default();
                let target = String::from_utf8_lossy(target).into_owned();
                kept.lock().unwrap().push(request);
                let answer = answers.get(&target).unwrap_or(&other);
                if io.write_all(&answer.bytes).is_err() || answer.closes {
                    break;
                }
            }
        });
        Self { server, received }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// The requests since this was asked last.
    pub(crate) fn take(&self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.received.lock().unwrap())
    }

    /// A document that allows `api.test` on port 80, and finds it here.
    pub(crate) fn policy(&self, world: &World) -> String {
        let found = world.upstream(&[("api.test:80", self.address())]);
        format!("version = 1\nallowed_hosts = [\"http://api.test\"]\n{found}")
    }
}

/// One request with its body; `None` at the end of the connection.
fn read_message(io: &mut impl Read) -> Option<Vec<u8>> {
    let mut message = read_until(io, Vec::new(), b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&message).to_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    if head.contains("transfer-encoding: chunked") {
        let body = read_until(io, Vec::new(), b"0\r\n")?;
        let last = if body == b"0\r\n" { body } else { read_rest_of_chunks(io, body)? };
        let end = read_until(io, last, b"\r\n\r\n")?;
        message.extend(end);
    } else if let Some(length) = length {
        let mut body = vec![0; length.trim().parse().unwrap()];
        io.read_exact(&mut body).ok()?;
        message.extend(body);
    }
    Some(message)
}

/// One head, as text; `None` at the end of the connection.
pub(crate) fn read_head(io: &mut impl Read) -> Option<String> {
    let head = read_until(io, Vec::new(), b"\r\n\r\n")?;
    Some(String::from_utf8_lossy(&head).into_owned())
}

/// Bodies of these tests have no `0` before a line's end but in the last chunk's size.
fn read_rest_of_chunks(io: &mut impl Read, read: Vec<u8>) -> Option<Vec<u8>> {
    if read.ends_with(b"\r\n0\r\n") { Some(read) } else { read_until(io, read, b"\r\n0\r\n") }
}

fn read_until(io: &mut impl Read, mut read: Vec<u8>, end: &[u8]) -> Option<Vec<u8>> {
    let mut byte = [0];
    while read.is_empty() || !read.ends_with(end) {
        if io.read(&mut byte).ok()? == 0 {
            return None;
        }
        read.push(byte[0]);
    }
    Some(read)
}

pub(crate) fn dial(gate: &Attached<'_>) -> TcpStream {
    let address = SocketAddr::new(ANYWHERE.into(), 80);
    gate.namespace().enter(|| connect(address))
}

pub(crate) fn dial_directly(world: &World, origin: &RawOrigin) -> TcpStream {
    world.gate_namespace().enter(|| connect(origin.address()))
}

fn connect(address: SocketAddr) -> TcpStream {
    let io = TcpStream::connect_timeout(&address, DEADLINE).unwrap();
    io.set_read_timeout(Some(DEADLINE)).unwrap();
    io.set_nodelay(true).unwrap();
    io
}

/// Sends bytes, says that no more come, and reads to the end.
pub(crate) fn ask(mut io: TcpStream, request: &[u8]) -> Vec<u8> {
    // Who has been refused may find the connection ended already.
    drop(io.write_all(request).and_then(|()| io.shutdown(Shutdown::Write)));
    let mut answer = Vec::new();
    match io.read_to_end(&mut answer) {
        Ok(_) => {}
        // Who closes with unread bytes resets; what came before is what counts.
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        Err(error) => panic!("{error} after {:?}", String::from_utf8_lossy(&answer)),
    }
    answer
}

/// A message taken apart: what must not depend on the hop.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) interim: Vec<String>,
    /// The request line or the status line.
    pub(crate) start: String,
    /// Field lines as they stand, in their order, without those of the hop.
    pub(crate) fields: Vec<String>,
    /// Without its framing.
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Vec<String>,
}

impl Message {
    /// Takes the first message of `bytes` apart. Latin-1, so that every byte is one character.
    pub(crate) fn parse(bytes: &[u8]) -> Self {
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n");
        let end = end.unwrap_or_else(|| panic!("no head in {:?}", String::from_utf8_lossy(bytes)));
        let head: String = bytes[..end].iter().map(|byte| char::from(*byte)).collect();
        let rest = &bytes[end + 4..];
        let mut lines = head.split("\r\n").map(str::to_owned);
        let start = lines.next().unwrap();
        if start.split(' ').nth(1).is_some_and(|status| status.starts_with('1') && status.len() == 3) {
            let mut message = Self::parse(rest);
            // hyper does not tell how their names were written.
            message.interim.insert(0, head.replace("Link: ", "link: "));
            return message;
        }
        let fields: Vec<String> = lines.collect();
        let is_chunked = fields.iter().any(|field| field.eq_ignore_ascii_case("transfer-encoding: chunked"));
        let (body, trailers) =
            if is_chunked && !rest.is_empty() { unchunk(rest) } else { (rest.to_vec(), Vec::new()) };
        let of_the_message = |field: &String| {
            let name = field.split(':').next().unwrap_or_default();
            !OF_THE_HOP.iter().any(|hop| name.eq_ignore_ascii_case(hop))
        };
        let fields = fields.into_iter().filter(of_the_message).map(without_padding).collect();
        Self { interim: Vec::new(), start, fields, body, trailers }
    }
}

/// Spaces around a value say nothing (RFC 9112 section 5).
fn without_padding(field: String) -> String {
    match field.split_once(':') {
        Some((name, value)) => format!("{name}: {}", value.trim_matches([' ', '\t'])),
        None => field,
    }
}

fn unchunk(mut bytes: &[u8]) -> (Vec<u8>, Vec<String>) {
    let mut body = Vec::new();
    loop {
        let line = bytes.windows(2).position(|window| window == b"\r\n").expect("a chunk's size");
        let size = String::from_utf8_lossy(&bytes[..line]).into_owned();
        let size = usize::from_str_radix(size.split(';').next().unwrap().trim(), 16).unwrap();
        bytes = &bytes[line + 2..];
        if size == 0 {
            let trailers = String::from_utf8_lossy(bytes).into_owned();
            return (
                body,
                trailers.split("\r\n").filter(|line| !line.is_empty()).map(str::to_owned).collect(),
            );
        }
        body.extend_from_slice(&bytes[..size]);
        bytes = &bytes[size + 2..];
    }
}
