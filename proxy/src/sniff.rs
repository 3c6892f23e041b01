//! Tells by its first bytes what a captured connection speaks, on any port.
//!
//! **Invariant:** what cannot be classified within the limits is an error; nothing falls through
//! to "let it pass".

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use rustls::server::{Accepted as Hello, Acceptor};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use crate::accept::{Accepted, ClientAddress, OriginalDestination};
use crate::rewind::Rewind;

/// How long a workload may take until the first message is complete: a cold Java or Node process
/// takes a second between `connect` and its first byte, an attacker takes for ever.
const FIRST_MESSAGE_DEADLINE: Duration = Duration::from_secs(10);

/// The most bytes read before a protocol is known. A ClientHello with post-quantum key shares and
/// many extensions is a few KiB; rustls itself stops at 64 KiB.
const FIRST_MESSAGE_BYTES_MAX: usize = 64 * 1024;

/// One read while sniffing: most ClientHellos and request heads fit.
const READ_BYTES: usize = 4 * 1024;

/// A connection whose protocol is known and whose bytes are all still there.
pub struct Sniffed {
    /// The forgeable peer address.
    pub client: ClientAddress,
    /// Where the workload wanted to go.
    pub original_destination: OriginalDestination,
    /// What it speaks.
    pub protocol: Protocol,
}

/// What a connection speaks, with the stream to continue on.
pub enum Protocol {
    /// A TLS ClientHello, whole.
    Tls {
        /// The parsed hello; it holds the bytes it was made of.
        hello: Box<Hello>,
        /// All that was read, to the byte: what a spliced flow sends on.
        seen: Bytes,
        /// How much of `seen` is inside `hello`; early data may follow it.
        hello_bytes: usize,
        /// The connection, positioned after `seen`.
        io: TcpStream,
    },
    /// A request line that ends in an HTTP version.
    Http1(Rewind<TcpStream>),
    /// Something else, which nobody here reads.
    Opaque {
        /// What was read.
        seen: Bytes,
        /// The connection, positioned after `seen`.
        io: TcpStream,
    },
    /// The HTTP/2 connection preface without TLS (RFC 9113 section 3.3).
    Http2PriorKnowledge(Rewind<TcpStream>),
}

/// Why a connection's protocol could not be told; it is refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SniffError {
    /// Nothing, or not enough, came in time. Server-first protocols (SSH, SMTP) end here.
    #[error("no complete first message within {} s", FIRST_MESSAGE_DEADLINE.as_secs())]
    Silent,
    /// The workload closed before it had said anything that can be judged.
    #[error("closed before the first message was complete")]
    Closed,
    /// The first message goes on past the limit.
    #[error("the first message is longer than {FIRST_MESSAGE_BYTES_MAX} bytes")]
    TooLong,
    /// TLS 1.1 or older is all that the workload offers (RFC 8996 deprecates it).
    #[error("the workload offers nothing newer than TLS 1.1")]
    OldTls,
    /// A TLS record that holds no acceptable ClientHello.
    #[error("not an acceptable TLS ClientHello")]
    Hello(#[source] rustls::Error),
    /// The connection broke.
    #[error("reading the first message failed")]
    Io(#[source] io::Error),
}

/// Reads until the protocol is known, within a deadline and a size. What fails is reset, so that
/// the workload sees a refusal and not an end of data that it might take for an answer.
///
/// # Errors
/// [`SniffError`]; an alert has then been sent where TLS asks for one.
pub async fn sniff(accepted: Accepted) -> Result<Sniffed, SniffError> {
    let Accepted { client, original_destination, mut io } = accepted;
    let mut seen = BytesMut::with_capacity(READ_BYTES);
    let message = match first_message(&mut io, &mut seen).await {
        Ok(message) => message,
        Err(error) => {
            if !matches!(error, SniffError::Hello(_) | SniffError::OldTls) {
                reset(io);
            }
            return Err(error);
        }
    };
    let seen = seen.freeze();
    let protocol = match message {
        Message::Hello(hello, hello_bytes) => Protocol::Tls { hello, seen, hello_bytes, io },
        Message::Opaque => Protocol::Opaque { seen, io },
        Message::Http1 => Protocol::Http1(Rewind::new(io, seen)),
        Message::Http2Preface => Protocol::Http2PriorKnowledge(Rewind::new(io, seen)),
    };
    Ok(Sniffed { client, original_destination, protocol })
}

/// Closes with a reset instead of an end of data.
pub fn reset(io: TcpStream) {
    // Failing means that the connection is gone already.
    drop(io.set_zero_linger());
}

/// What a connection began with.
enum Message {
    /// A ClientHello and its length in bytes.
    Hello(Box<Hello>, usize),
    Http1,
    Http2Preface,
    Opaque,
}

async fn first_message(io: &mut TcpStream, seen: &mut BytesMut) -> Result<Message, SniffError> {
    let deadline = Instant::now() + FIRST_MESSAGE_DEADLINE;
    loop {
        read_more(io, seen, deadline).await?;
        match classify(seen) {
            Guess::NeedMore => {}
            Guess::Opaque => return Ok(Message::Opaque),
            Guess::Tls => return read_hello(io, seen, deadline).await,
            Guess::Http1 => return Ok(Message::Http1),
            Guess::Http2PriorKnowledge => return Ok(Message::Http2Preface),
        }
    }
}

/// The address a connection was captured on must not be one of the gate's own or the workload's
/// loopback: the rules never send those here, except Docker's resolver address.
pub fn is_capturable(address: SocketAddr) -> bool {
    let ip = address.ip().to_canonical();
    !ip.is_loopback() && !ip.is_unspecified()
}

async fn read_more(io: &mut TcpStream, seen: &mut BytesMut, deadline: Instant) -> Result<(), SniffError> {
    if seen.len() >= FIRST_MESSAGE_BYTES_MAX {
        return Err(SniffError::TooLong);
    }
    seen.reserve(READ_BYTES);
    match timeout_at(deadline, io.read_buf(seen)).await {
        Err(_) => Err(SniffError::Silent),
        Ok(Err(error)) => Err(SniffError::Io(error)),
        Ok(Ok(0)) => Err(SniffError::Closed),
        Ok(Ok(_)) => Ok(()),
    }
}

/// Feeds the hello to rustls, which reassembles it over segments and records.
async fn read_hello(
    io: &mut TcpStream,
    seen: &mut BytesMut,
    deadline: Instant,
) -> Result<Message, SniffError> {
    let mut acceptor = Acceptor::default();
    let mut fed = 0;
    loop {
        while let Some(mut rest) = seen.get(fed..).filter(|rest| !rest.is_empty()) {
            fed += acceptor.read_tls(&mut rest).map_err(SniffError::Io)?;
            match acceptor.accept() {
                Ok(None) => {}
                Ok(Some(hello)) => return Ok(Message::Hello(Box::new(hello), fed)),
                Err((error, mut alert)) => {
                    let mut bytes = Vec::new();
                    if is_older_than_tls12(seen) {
                        send_alert(io, &PROTOCOL_VERSION_ALERT).await;
                        return Err(SniffError::OldTls);
                    }
                    if alert.write_all(&mut bytes).is_err() {
                        bytes.clear();
                    }
                    send_alert(io, &bytes).await;
                    return Err(SniffError::Hello(error));
                }
            }
        }
        read_more(io, seen, deadline).await?;
    }
}

/// A record with the fatal alert `protocol_version` (RFC 8446 section 6.2). rustls looks for
/// `signature_algorithms` before the version, which TLS 1.1 clients do not send, and would answer
/// `handshake_failure`, from which nobody learns what to change.
const PROTOCOL_VERSION_ALERT: [u8; 7] = [0x15, 0x03, 0x01, 0x00, 0x02, 0x02, 70];

/// Whether a hello's `legacy_version` is below TLS 1.2: it stands behind five bytes of record and
/// four of handshake header (RFC 8446 sections 5.1, 4, 4.1.2).
fn is_older_than_tls12(seen: &[u8]) -> bool {
    matches!(seen.get(9..11), Some([3, 0..=2]))
}

/// Tells the workload why, if it listens: the connection is over either way.
async fn send_alert(io: &mut TcpStream, bytes: &[u8]) {
    let sent = tokio::time::timeout(Duration::from_secs(1), tokio::io::AsyncWriteExt::write_all(io, bytes));
    drop(sent.await);
}

/// What the bytes so far look like.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
enum Guess {
    NeedMore,
    Tls,
    Http1,
    Http2PriorKnowledge,
    Opaque,
}

/// RFC 9113 section 3.4.
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// TLS record type "handshake" (RFC 8446 section 5.1).
const TLS_HANDSHAKE: u8 = 0x16;

/// Classifies a prefix of what the workload sent; every shorter prefix of a message gives the same
/// answer or `NeedMore`, so that cutting it into segments changes nothing.
fn classify(seen: &[u8]) -> Guess {
    match seen.first() {
        None => return Guess::NeedMore,
        Some(&TLS_HANDSHAKE) => return Guess::Tls,
        Some(_) => {}
    }
    if seen.len() < HTTP2_PREFACE.len() && HTTP2_PREFACE.starts_with(seen) {
        return Guess::NeedMore;
    }
    if seen.starts_with(HTTP2_PREFACE) {
        return Guess::Http2PriorKnowledge;
    }
    let line_end = seen.iter().position(|&byte| byte == b'\n');
    let line = line_end.map_or(seen, |end| seen.get(..end).unwrap_or(seen));
    let method = line.iter().take_while(|&&byte| is_token(byte)).count();
    match (line.get(method), line_end) {
        // RFC 9110 section 9.1: a method is a token, followed by one space.
        _ if method == 0 => Guess::Opaque,
        (None, None) => Guess::NeedMore,
        (Some(b' '), None) => Guess::NeedMore,
        (Some(b' '), Some(_)) if ends_in_http_version(line) => Guess::Http1,
        _ => Guess::Opaque,
    }
}

/// Whether a request line ends in `HTTP/1.x`; a banner such as `SSH-2.0-name comment` does not.
fn ends_in_http_version(line: &[u8]) -> bool {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let last = line.rsplit(|&byte| byte == b' ').next().unwrap_or_default();
    last.starts_with(b"HTTP/1.")
}

/// RFC 9110 section 5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_bytes_tell_the_protocol() {
        let cases: &[(&[u8], Guess)] = &[
            (b"", Guess::NeedMore),
            (b"\x16", Guess::Tls),
            (b"\x16\x03\x01\x02\x00", Guess::Tls),
            (b"G", Guess::NeedMore),
            (b"GET / HTTP/1.1\r\n", Guess::Http1),
            (b"GET / HTTP/1.1\n", Guess::Http1),
            (b"propfind /x HTTP/1.0\r\n", Guess::Http1),
            (b"QUERY http://a/ HTTP/1.1\r\nHost: b\r\n", Guess::Http1),
            (HTTP2_PREFACE, Guess::Http2PriorKnowledge),
            (b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n", Guess::Opaque),
            (b"GET /\r\n", Guess::Opaque),
            (b"SSH-2.0-OpenSSH_9.2 Debian\r\n", Guess::Opaque),
            (b"\x15\x03\x01", Guess::Opaque),
            (b"\0\0\0\x08", Guess::Opaque),
            (b" GET / HTTP/1.1\r\n", Guess::Opaque),
            (b"EHLO\r\n", Guess::Opaque),
        ];
        for (seen, guess) in cases {
            assert_eq!(classify(seen), *guess, "{}", seen.escape_ascii());
        }
    }

    #[test]
    fn every_prefix_gives_the_same_answer_or_asks_for_more() {
        for whole in [
            &b"DELETE /a/b?c=d HTTP/1.1\r\nhost: x\r\n\r\n"[..],
            HTTP2_PREFACE,
            b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00",
        ] {
            let last = classify(whole);
            for end in 0..whole.len() {
                let guess = classify(&whole[..end]);
                assert!(guess == last || guess == Guess::NeedMore, "{end}: {guess:?}");
            }
        }
    }
}
