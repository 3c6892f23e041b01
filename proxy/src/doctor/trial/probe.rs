//! The workload of a trial: asks for what is allowed and what is not, and prints what came of it.
//!
//! It runs inside the sealed namespace, as `sluicegate doctor-probe`. Everything that it sends is addressed to
//! this machine itself, so that nothing leaves it even where the seal does not hold.

use std::io::{self, BufRead, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs, UdpSocket};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use clap::Args;
use rustix::net::{AddressFamily, SocketType, ipproto};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde::{Deserialize, Serialize};

use super::{ALLOWED, REFUSED};
use crate::exit;

/// How long one step may take; the gate answers in milliseconds.
const STEP_DEADLINE: Duration = Duration::from_secs(8);
/// How long an answer to a datagram is waited for; what would answer is this machine.
const DATAGRAM_DEADLINE: Duration = Duration::from_millis(500);
/// The longest response that is read, in bytes; a refusal has some hundred.
const RESPONSE_BYTES_MAX: u64 = 64 * 1024;
/// Headers of a response that are looked at; a refusal has ten.
const HEADERS_MAX: usize = 64;

/// What to probe.
#[derive(Args, Debug)]
pub struct ProbeOptions {
    /// An IPv4 address of this machine's
    #[arg(long)]
    pub(super) ipv4: Ipv4Addr,
    /// An IPv6 address of this machine's
    #[arg(long)]
    pub(super) ipv6: Ipv6Addr,
    /// The UDP port where somebody listens outside
    #[arg(long)]
    pub(super) port: u16,
    /// What the canary answers, and what datagrams carry
    #[arg(long)]
    pub(super) sign: String,
    /// Say `ready` first, and wait for a line
    #[arg(long)]
    pub(super) wait: bool,
}

/// What the probe saw.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::doctor) struct Seen {
    /// Whether the allowed name has an address.
    pub(super) names: Result<String, String>,
    pub(super) allowed: Asked,
    pub(super) allowed_ipv6: Asked,
    pub(super) https: Asked,
    pub(super) refused: Asked,
    pub(super) udp: Sent,
    pub(super) icmp: Sent,
}

/// An answer, or why there was none.
pub(super) type Asked = Result<Answer, String>;

/// A response, as far as it counts.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// Why the gate refused.
    pub(super) reason: Option<String>,
    /// Whether the canary answered.
    pub(super) canary: bool,
}

/// What became of a datagram.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Sent {
    /// There is no socket to be had for it.
    NoSocket,
    /// It was refused, with this error.
    Refused(String),
    /// Nothing came back.
    Silent,
    /// Somebody answered.
    Answered,
}

/// Probes, prints what it saw as one JSON line, and returns the exit code.
pub fn run_probe(options: &ProbeOptions) -> u8 {
    let printed = (|| {
        if options.wait {
            writeln!(io::stdout(), "ready")?;
            io::stdin().lock().take(16).read_until(b'\n', &mut Vec::new())?;
        }
        let line = serde_json::to_string(&look(options))?;
        writeln!(io::stdout(), "{line}")
    })();
    if printed.is_ok() { exit::OK } else { exit::IO }
}

fn look(options: &ProbeOptions) -> Seen {
    let (ipv4, ipv6) = (IpAddr::from(options.ipv4), IpAddr::from(options.ipv6));
    let plain = |address, host| in_words(connect(address, 80).and_then(|io| ask(io, host, &options.sign)));
    Seen {
        allowed: plain(ipv4, ALLOWED),
        allowed_ipv6: plain(ipv6, ALLOWED),
        https: in_words(https(ipv4).and_then(|io| ask(io, ALLOWED, &options.sign))),
        refused: plain(ipv4, REFUSED),
        udp: udp(SocketAddr::from((ipv4, options.port)), options.sign.as_bytes()),
        icmp: icmp(SocketAddr::from((ipv4, 0)), options.sign.as_bytes()),
        names: names(),
    }
}

fn in_words<T>(result: io::Result<T>) -> Result<T, String> {
    result.map_err(|error| error.to_string())
}

/// Dials as a workload does: what becomes of that is what is judged.
fn connect(address: IpAddr, port: u16) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&SocketAddr::from((address, port)), STEP_DEADLINE)?;
    stream.set_read_timeout(Some(STEP_DEADLINE))?;
    stream.set_write_timeout(Some(STEP_DEADLINE))?;
    Ok(stream)
}

/// TLS to the allowed host, which trusts what programs in here trust.
fn https(address: IpAddr) -> io::Result<StreamOwned<ClientConnection, TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from(ALLOWED).map_err(io::Error::other)?;
    let client = ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)?;
    Ok(StreamOwned::new(client, connect(address, 443)?))
}

fn ask(mut stream: impl Read + Write, host: &str, sign: &str) -> io::Result<Answer> {
    write!(stream, "GET / HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n")?;
    stream.flush()?;
    let mut bytes = Vec::new();
    // Who closes without a farewell after the response has said what there was to say.
    let is_the_end = |error: &io::Error| error.kind() == ErrorKind::UnexpectedEof;
    match stream.take(RESPONSE_BYTES_MAX).read_to_end(&mut bytes) {
        Err(error) if bytes.is_empty() || !is_the_end(&error) => return Err(error),
        _ => {}
    }
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut response = httparse::Response::new(&mut headers);
    let parsed = response.parse(&bytes).map_err(io::Error::other)?;
    let (httparse::Status::Complete(length), Some(status)) = (parsed, response.code) else {
        return Err(io::Error::new(ErrorKind::UnexpectedEof, "the response is cut off"));
    };
    let reason =
        response.headers.iter().find(|header| header.name.eq_ignore_ascii_case("x-sluicegate-reason"));
    let body = String::from_utf8_lossy(bytes.get(length..).unwrap_or_default()).into_owned();
    Ok(Answer {
        status,
        reason: reason.map(|header| String::from_utf8_lossy(header.value).into_owned()),
        canary: body.contains(sign),
    })
}

/// Resolves the allowed name as programs do. On a thread of its own, since the C library sets no limit.
fn names() -> Result<String, String> {
    let (answer, answered) = mpsc::channel();
    let look_up = move || {
        let found = (ALLOWED, 80).to_socket_addrs().map(|mut found| found.next());
        drop(answer.send(found));
    };
    in_words(thread::Builder::new().spawn(look_up))?;
    match answered.recv_timeout(STEP_DEADLINE) {
        Ok(Ok(Some(address))) => Ok(address.ip().to_string()),
        Ok(Ok(None)) => Err("there is no address".into()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("there was no answer in time".into()),
    }
}

pub(super) fn udp(target: SocketAddr, payload: &[u8]) -> Sent {
    match UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)) {
        Ok(socket) => exchanged(&socket, target, payload, |_| true),
        Err(_) => Sent::NoSocket,
    }
}

/// An echo request, by the kind of socket that needs no capability or else by the one that does.
fn icmp(target: SocketAddr, payload: &[u8]) -> Sent {
    const ECHO_REPLY: u8 = 0;
    let request = echo_request(payload);
    let open =
        |kind| rustix::net::socket(AddressFamily::INET, kind, Some(ipproto::ICMP)).map(UdpSocket::from);
    if let Ok(socket) = open(SocketType::DGRAM) {
        return exchanged(&socket, target, &request, |answer| answer.first() == Some(&ECHO_REPLY));
    }
    match open(SocketType::RAW) {
        // What a raw socket gives begins with the IPv4 header, whose length is in its first byte.
        Ok(socket) => exchanged(&socket, target, &request, |answer| {
            let header = answer.first().map_or(0, |first| usize::from(first & 0x0f) * 4);
            answer.get(header) == Some(&ECHO_REPLY)
        }),
        Err(_) => Sent::NoSocket,
    }
}

/// Sends one datagram and waits for what comes back.
fn exchanged(
    socket: &UdpSocket,
    target: SocketAddr,
    payload: &[u8],
    is_answer: impl Fn(&[u8]) -> bool,
) -> Sent {
    let mut answer = [0; 1500];
    let received = (|| {
        socket.set_read_timeout(Some(DATAGRAM_DEADLINE))?;
        socket.connect(target)?;
        socket.send(payload)?;
        socket.recv(&mut answer)
    })();
    match received {
        Ok(count) if is_answer(answer.get(..count).unwrap_or_default()) => Sent::Answered,
        Ok(_) => Sent::Silent,
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Sent::Silent,
        Err(error) => Sent::Refused(error.to_string()),
    }
}

/// An ICMP echo request (RFC 792).
fn echo_request(payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![8, 0, 0, 0, 0, 1, 0, 1];
    packet.extend_from_slice(payload);
    let [high, low] = checksum(&packet).to_be_bytes();
    packet.splice(2..4, [high, low]);
    packet
}

/// The checksum of the internet (RFC 1071).
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| match pair {
        [high, low] => u32::from(u16::from_be_bytes([*high, *low])),
        [high] => u32::from(u16::from_be_bytes([*high, 0])),
        _ => 0,
    });
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    #[expect(clippy::cast_possible_truncation, reason = "the loop leaves 16 bits")]
    let sum = sum as u16;
    !sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_with_its_checksum_adds_up_to_nothing() {
        // The example of RFC 1071, section 3.
        assert_eq!(checksum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), !0xddf2);
        for payload in [&b""[..], b"a", b"ab", b"abc", &[0xff; 64]] {
            assert_eq!(checksum(&echo_request(payload)), 0, "{payload:?}");
        }
    }

    /// A stream that gives this, and takes everything.
    struct Recorded(io::Cursor<&'static [u8]>);

    impl Read for Recorded {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.0.read(buffer)
        }
    }

    impl Write for Recorded {
        fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
            Ok(buffer.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn asked(response: &'static str) -> io::Result<Answer> {
        ask(Recorded(io::Cursor::new(response.as_bytes())), ALLOWED, "5161")
    }

    #[test]
    fn an_answer_is_the_canarys_or_a_refusal() {
        let answer = asked("HTTP/1.1 200 OK\r\n\r\n5161").unwrap();
        assert_eq!(answer, Answer { status: 200, reason: None, canary: true });
        let answer = asked("HTTP/1.1 403 Forbidden\r\nX-Sluicegate-Reason: host_denied\r\n\r\nno").unwrap();
        assert_eq!(answer, Answer { status: 403, reason: Some("host_denied".into()), canary: false });
        for response in ["", "HTTP/1.1 200 OK\r\n", "SSH-2.0-x\r\n\r\n"] {
            assert!(asked(response).is_err(), "{response:?}");
        }
    }
}
