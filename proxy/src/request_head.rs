//! Whether an HTTP/1 request head is one that every reader understands alike, and how its body is
//! framed. Pure.
//!
//! RFC 9112 lets a server repair much of this; a gate in front of other people's servers refuses
//! it, because each repair is a way to make two readers disagree (request smuggling).

use http::Uri;
use http::uri::PathAndQuery;

use crate::hop;

/// The longest head accepted, in bytes: what nginx (4 x 8 KiB) and common clouds (16-64 KiB) take.
pub const HEAD_BYTES_MAX: usize = 64 * 1024;

/// The most header lines accepted. Browsers send about 30.
pub const HEADERS_MAX: usize = 256;

/// How many bytes of body follow a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyFraming {
    /// None.
    None,
    /// That many (never 0).
    Length(u64),
    /// Until the last chunk (RFC 9112 section 7.1).
    Chunked,
    /// None; whether what follows is HTTP at all is known once the request is answered, since it asks
    /// for an upgrade.
    Upgrade,
}

/// Why a head is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HeadFault {
    /// Both framings: the classical smuggling request (RFC 9112 section 6.1).
    #[error("both Transfer-Encoding and Content-Length")]
    BothFramings,
    /// More than one Content-Length, or one that is not a plain number.
    #[error("Content-Length is repeated or not a plain number")]
    ContentLength,
    /// More than one Host, or none in HTTP/1.1.
    #[error("there must be exactly one Host header")]
    Host,
    /// The workload ended its side within the head.
    #[error("the connection ended within the request head")]
    Incomplete,
    /// A line that ends in LF alone.
    #[error("a line ends in a bare line feed")]
    LineFeed,
    /// The head did not come in time.
    #[error("the request head was not complete in time")]
    Slow,
    /// Not a request head.
    #[error("not a well-formed request head")]
    Syntax,
    /// The request target is no URI reference that may stand there.
    #[error("the request target is not well-formed")]
    Target,
    /// Longer than [`HEAD_BYTES_MAX`] or more than [`HEADERS_MAX`] headers.
    #[error("the request head is larger than 64 KiB or has more than 256 headers")]
    TooLarge,
    /// Anything but one `chunked`, or in HTTP/1.0.
    #[error("Transfer-Encoding is not exactly \"chunked\"")]
    TransferEncoding,
    /// An upgrade with a body: readers differ on where the other protocol begins.
    #[error("a request that asks for an upgrade has no body")]
    UpgradeBody,
}

impl HeadFault {
    /// The status that tells the workload (RFC 6585 for 431).
    pub fn status(self) -> http::StatusCode {
        match self {
            Self::Slow => http::StatusCode::REQUEST_TIMEOUT,
            Self::TooLarge => http::StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            _ => http::StatusCode::BAD_REQUEST,
        }
    }
}

/// How far the search for a head's end got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadEnd {
    /// It is not there yet.
    Missing,
    /// The empty line is there: [`check`] has all it needs.
    Found,
    /// A line ends in LF alone, which other readers may take for the end.
    BareLineFeed,
}

/// Looks for the end of a head in `bytes`, of which the first `seen` were looked at before: a head
/// that comes byte by byte is looked at once, not once a byte.
pub fn find_end(bytes: &[u8], seen: usize) -> HeadEnd {
    let from = seen.saturating_sub(3);
    let fresh = bytes.get(from..).unwrap_or_default();
    for (index, _) in fresh.iter().enumerate().filter(|(_, byte)| **byte == b'\n') {
        let line = bytes.get(..=from + index).unwrap_or_default();
        if line.ends_with(b"\r\n\r\n") {
            return HeadEnd::Found;
        }
        if !line.ends_with(b"\r\n") {
            return HeadEnd::BareLineFeed;
        }
    }
    HeadEnd::Missing
}

/// Checks the head at the start of `bytes`: `None` while it is incomplete, else its length in bytes
/// and what follows it.
///
/// # Errors
/// [`HeadFault`] as soon as one is certain.
pub fn check(bytes: &[u8]) -> Result<Option<(usize, BodyFraming)>, HeadFault> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    let length = match request.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err(HeadFault::TooLarge),
        Err(_) => return Err(HeadFault::Syntax),
    };
    if length > HEAD_BYTES_MAX {
        return Err(HeadFault::TooLarge);
    }
    if has_bare_line_feed(bytes.get(..length).unwrap_or_default()) {
        return Err(HeadFault::LineFeed);
    }
    check_target(request.method.unwrap_or_default(), request.path.unwrap_or_default())?;
    let http_11 = request.version == Some(1);
    let framing = framing(request.headers, http_11)?;
    Ok(Some((length, framing)))
}

fn framing(headers: &[httparse::Header<'_>], http_11: bool) -> Result<BodyFraming, HeadFault> {
    let mut hosts = 0;
    let mut content_length = None;
    let mut chunked = false;
    for header in headers {
        let is = |name: &str| header.name.eq_ignore_ascii_case(name);
        if is("host") {
            hosts += 1;
        } else if is("content-length") {
            if content_length.is_some() {
                return Err(HeadFault::ContentLength);
            }
            content_length = Some(plain_number(header.value)?);
        } else if is("transfer-encoding") {
            if chunked || !http_11 || !header.value.eq_ignore_ascii_case(b"chunked") {
                return Err(HeadFault::TransferEncoding);
            }
            chunked = true;
        }
    }
    if hosts > 1 || (http_11 && hosts == 0) {
        return Err(HeadFault::Host);
    }
    let of_name = |name: &'static str| {
        headers.iter().filter(move |header| header.name.eq_ignore_ascii_case(name)).map(|header| header.value)
    };
    let asks = http_11 && hop::asks_for_upgrade(of_name("connection"), of_name("upgrade"));
    match (chunked, content_length) {
        (true, Some(_)) => Err(HeadFault::BothFramings),
        (false, None | Some(0)) if asks => Ok(BodyFraming::Upgrade),
        _ if asks => Err(HeadFault::UpgradeBody),
        (true, None) => Ok(BodyFraming::Chunked),
        (false, None | Some(0)) => Ok(BodyFraming::None),
        (false, Some(length)) => Ok(BodyFraming::Length(length)),
    }
}

/// RFC 9110 section 8.6: digits only; `+1`, `1,1` and an empty value are somebody's bug or attack.
fn plain_number(value: &[u8]) -> Result<u64, HeadFault> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return Err(HeadFault::ContentLength);
    }
    std::str::from_utf8(value).ok().and_then(|digits| digits.parse().ok()).ok_or(HeadFault::ContentLength)
}

fn has_bare_line_feed(head: &[u8]) -> bool {
    let mut before = 0;
    head.iter().any(|&byte| {
        let bare = byte == b'\n' && before != b'\r';
        before = byte;
        bare
    })
}

/// The same parsers that hyper applies, so that what it would refuse unlogged is refused here.
fn check_target(method: &str, target: &str) -> Result<(), HeadFault> {
    let well_formed = if target.starts_with('/') || (target == "*" && method == "OPTIONS") {
        PathAndQuery::try_from(target).is_ok() && !target.contains('#')
    } else if method == "CONNECT" {
        target.parse::<http::uri::Authority>().is_ok()
    } else {
        // Absolute form (RFC 9112 section 3.2.2).
        target.parse::<Uri>().is_ok_and(|uri| uri.scheme().is_some() && uri.authority().is_some())
            && !target.contains('#')
    };
    well_formed.then_some(()).ok_or(HeadFault::Target)
}

/// Hexadecimal digits of a chunk's size: as many as 64 bits have. Zeros before it would go on for ever, with
/// not one byte for anybody.
const CHUNK_SIZE_DIGITS_MAX: u8 = 16;

/// Finds the end of a chunked body without keeping any of it.
#[derive(Clone, Copy, Debug, Default)]
pub struct ChunkedBody(Chunk);

#[derive(Clone, Copy, Debug, Default)]
enum Chunk {
    #[default]
    SizeStart,
    /// What it is so far, and of how many digits.
    Size(u64, u8),
    Extension(u64),
    SizeLineFeed(u64),
    Data(u64),
    DataReturn,
    DataLineFeed,
    TrailerStart,
    Trailer,
    TrailerLineFeed,
    LastLineFeed,
}

impl ChunkedBody {
    /// Takes the next bytes of the body: how many of them belong to it, and whether it has ended.
    ///
    /// # Errors
    /// [`HeadFault::Syntax`] when this is not a chunked body.
    pub fn advance(&mut self, bytes: &[u8]) -> Result<(usize, bool), HeadFault> {
        let mut at = 0;
        while let Some(&byte) = bytes.get(at) {
            if let Chunk::Data(rest) = self.0 {
                let here = usize::try_from(rest).map_or(bytes.len() - at, |r| r.min(bytes.len() - at));
                at += here;
                let rest = rest - here as u64;
                self.0 = if rest == 0 { Chunk::DataReturn } else { Chunk::Data(rest) };
                continue;
            }
            at += 1;
            if matches!((self.0, byte), (Chunk::LastLineFeed, b'\n')) {
                return Ok((at, true));
            }
            self.0 = self.0.next(byte).ok_or(HeadFault::Syntax)?;
        }
        Ok((at, false))
    }
}

impl Chunk {
    /// The state after one byte of framing.
    fn next(self, byte: u8) -> Option<Self> {
        let digit = char::from(byte).to_digit(16).map(u64::from);
        Some(match (self, byte) {
            (Self::SizeStart, _) => Self::Size(digit?, 1),
            (Self::Size(size, _), b'\r') => Self::SizeLineFeed(size),
            (Self::Size(size, _), b';' | b' ' | b'\t') => Self::Extension(size),
            (Self::Size(_, CHUNK_SIZE_DIGITS_MAX), _) => return None,
            (Self::Size(size, digits), _) => {
                Self::Size(size.checked_mul(16)?.checked_add(digit?)?, digits + 1)
            }
            (Self::Extension(size), b'\r') => Self::SizeLineFeed(size),
            (Self::Extension(_), b'\n') => return None,
            (Self::Extension(size), _) => Self::Extension(size),
            (Self::SizeLineFeed(0), b'\n') => Self::TrailerStart,
            (Self::SizeLineFeed(size), b'\n') => Self::Data(size),
            (Self::DataReturn, b'\r') => Self::DataLineFeed,
            (Self::DataLineFeed, b'\n') => Self::SizeStart,
            (Self::TrailerStart, b'\r') => Self::LastLineFeed,
            (Self::Trailer, b'\r') => Self::TrailerLineFeed,
            (Self::TrailerStart | Self::Trailer, b'\n') => return None,
            (Self::TrailerStart | Self::Trailer, _) => Self::Trailer,
            (Self::TrailerLineFeed, b'\n') => Self::TrailerStart,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_text(text: &str) -> Result<Option<(usize, BodyFraming)>, HeadFault> {
        check(text.as_bytes())
    }

    #[test]
    fn plain_heads_pass_with_their_framing() {
        let cases = [
            ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", BodyFraming::None),
            ("GET http://a/b HTTP/1.1\r\nHost: a\r\n\r\nGET", BodyFraming::None),
            ("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", BodyFraming::None),
            ("CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", BodyFraming::None),
            ("GET / HTTP/1.0\r\n\r\n", BodyFraming::None),
            ("PUT / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nabc", BodyFraming::Length(3)),
            ("PUT / HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n", BodyFraming::None),
            ("PUT / HTTP/1.1\r\nhost: a\r\nTransfer-Encoding: Chunked\r\n\r\n", BodyFraming::Chunked),
            ("GET / HTTP/1.1\r\nHost: a\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", BodyFraming::Upgrade),
            ("GET / HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n", BodyFraming::None),
            ("GET / HTTP/1.1\r\nHost: a\r\nUpgrade: x\r\n\r\n", BodyFraming::None),
            ("GET / HTTP/1.0\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", BodyFraming::None),
        ];
        for (text, framing) in cases {
            let end = text.find("\r\n\r\n").unwrap() + 4;
            assert_eq!(check_text(text), Ok(Some((end, framing))), "{text:?}");
            for cut in 0..end {
                assert_eq!(check(&text.as_bytes()[..cut]), Ok(None), "{text:?} cut at {cut}");
            }
        }
    }

    #[test]
    fn ambiguous_heads_are_refused() {
        let h = "POST / HTTP/1.1\r\nHost: a\r\n";
        let cases = [
            (format!("{h}Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n"), HeadFault::BothFramings),
            (format!("{h}Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n"), HeadFault::BothFramings),
            (format!("{h}Content-Length: 3\r\nContent-Length: 3\r\n\r\n"), HeadFault::ContentLength),
            (format!("{h}Content-Length: +3\r\n\r\n"), HeadFault::ContentLength),
            (format!("{h}Content-Length: 3,3\r\n\r\n"), HeadFault::ContentLength),
            (format!("{h}Content-Length: 99999999999999999999\r\n\r\n"), HeadFault::ContentLength),
            (format!("{h}Transfer-Encoding: gzip, chunked\r\n\r\n"), HeadFault::TransferEncoding),
            (format!("{h}Transfer-Encoding: xchunked\r\n\r\n"), HeadFault::TransferEncoding),
            (
                format!("{h}Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n"),
                HeadFault::TransferEncoding,
            ),
            (format!("{h}Host: b\r\n\r\n"), HeadFault::Host),
            (
                format!("{h}Upgrade: x\r\nConnection: upgrade\r\nContent-Length: 1\r\n\r\n"),
                HeadFault::UpgradeBody,
            ),
            (
                format!("{h}Upgrade: x\r\nConnection: upgrade\r\nTransfer-Encoding: chunked\r\n\r\n"),
                HeadFault::UpgradeBody,
            ),
            ("GET / HTTP/1.1\r\n\r\n".into(), HeadFault::Host),
            ("GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n".into(), HeadFault::TransferEncoding),
            (format!("{h}X: a\nY: b\r\n\r\n"), HeadFault::LineFeed),
            ("GET / HTTP/1.1\nHost: a\n\n".into(), HeadFault::LineFeed),
            (format!("{h}X: a\r\n folded\r\n\r\n"), HeadFault::Syntax),
            (format!("{h}X : a\r\n\r\n"), HeadFault::Syntax),
            (format!("{h}X: a\0b\r\n\r\n"), HeadFault::Syntax),
            (format!("{h}X: a\rb\r\n\r\n"), HeadFault::Syntax),
            ("GET / HTTP/2.0\r\nHost: a\r\n\r\n".into(), HeadFault::Syntax),
            ("GET a HTTP/1.1\r\nHost: a\r\n\r\n".into(), HeadFault::Target),
            ("GET * HTTP/1.1\r\nHost: a\r\n\r\n".into(), HeadFault::Target),
            ("GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n".into(), HeadFault::Target),
            (format!("{h}{}\r\n", "x: y\r\n".repeat(HEADERS_MAX)), HeadFault::TooLarge),
        ];
        for (text, fault) in cases {
            assert_eq!(check_text(&text), Err(fault), "{text:?}");
        }
    }

    #[test]
    fn the_end_of_a_head_is_found_however_it_is_cut() {
        let head = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        for cut in 0..head.len() {
            assert_eq!(find_end(&head[..cut], 0), HeadEnd::Missing, "{cut}");
            assert_eq!(find_end(head, cut), HeadEnd::Found, "{cut}");
        }
        assert_eq!(find_end(b"GET / HTTP/1.1\nHost", 0), HeadEnd::BareLineFeed);
        assert_eq!(find_end(b"GET / HTTP/1.1\r\n\n", 16), HeadEnd::BareLineFeed);
    }

    #[test]
    fn a_chunked_body_ends_where_it_ends_however_it_is_cut() {
        let body = b"3\r\nabc\r\nA;x=y\r\n0123456789\r\n0\r\nT: v\r\n\r\n";
        let rest = b"GET / HTTP/1.1\r\n";
        let all = [&body[..], rest].concat();
        for step in 1..all.len() {
            let (mut chunked, mut at, mut ended) = (ChunkedBody::default(), 0, false);
            while !ended {
                let end = (at + step).min(all.len());
                let (here, over) = chunked.advance(&all[at..end]).unwrap();
                at += here;
                ended = over;
            }
            assert_eq!(at, body.len(), "step {step}");
        }
    }

    #[test]
    fn broken_chunks_are_found() {
        for bad in [
            "\r\n",
            "g\r\n",
            "1\nab",
            "1\r\nabc\r\n",
            "fffffffffffffffff\r\n",
            "00000000000000001\r\n",
            "0\r\nx\n",
        ] {
            assert!(ChunkedBody::default().advance(bad.as_bytes()).is_err(), "{bad:?}");
        }
    }
}
