//! HTTP CONNECT (RFC 9110 section 9.3.6) with Basic credentials (RFC 7617): what is sent, and how the
//! reply is read without one byte of what comes after it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use zeroize::Zeroizing;

use super::{Login, ProxyError, Target};

/// The longest head of a proxy's reply, in bytes: some send a page of headers with their name.
const REPLY_BYTES_MAX: usize = 16 * 1024;

/// The most header lines of a reply; none of them is used.
const REPLY_HEADERS_MAX: usize = 64;

/// Sends CONNECT and waits for its 2xx.
///
/// # Errors
/// [`ProxyError`].
pub(super) async fn ask<Io>(io: &mut Io, target: &Target, login: Option<&Login>) -> Result<(), ProxyError>
where
    Io: AsyncRead + AsyncWrite + Unpin,
{
    io.write_all(&request(target, login)).await.map_err(ProxyError::Broken)?;
    io.flush().await.map_err(ProxyError::Broken)?;
    match reply(io).await? {
        200..=299 => Ok(()),
        // The first is tinyproxy's for a wrong password. It cannot be the upstream's: there is no tunnel.
        401 | 407 => Err(ProxyError::Authentication),
        status => Err(ProxyError::Refused(status)),
    }
}

/// The head of the request, which has no body.
fn request(target: &Target, login: Option<&Login>) -> Zeroizing<Vec<u8>> {
    let mut head = Zeroizing::new(format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n").into_bytes());
    if let Some(Login { username, password }) = login {
        let pair = Zeroizing::new([username.as_slice(), b":", password.as_slice()].concat());
        let encoded = Zeroizing::new(BASE64.encode(&*pair));
        // Filled in one go, so that no copy that a growing buffer leaves behind holds the password.
        *head = [&head[..], b"Proxy-Authorization: Basic ", encoded.as_bytes(), b"\r\n\r\n"].concat();
    } else {
        head.extend_from_slice(b"\r\n");
    }
    head
}

/// Reads the head of a reply, byte by byte: what follows it is the upstream's, and is for others to
/// read. A header that states a length means nothing in a 2xx (RFC 9110 section 9.3.6).
async fn reply<Io: AsyncRead + Unpin>(io: &mut Io) -> Result<u16, ProxyError> {
    let mut head = Vec::with_capacity(256);
    while head.len() < REPLY_BYTES_MAX {
        let byte = io.read_u8().await.map_err(ProxyError::Broken)?;
        head.push(byte);
        if byte == b'\n'
            && let Some(status) = status(&head)?
        {
            return Ok(status);
        }
    }
    Err(ProxyError::Protocol)
}

/// The status of a head that is whole; `None` of one that is not yet. Pure.
fn status(head: &[u8]) -> Result<Option<u16>, ProxyError> {
    let mut headers = [httparse::EMPTY_HEADER; REPLY_HEADERS_MAX];
    let mut reply = httparse::Response::new(&mut headers);
    match reply.parse(head) {
        Ok(httparse::Status::Complete(_)) => reply.code.map(Some).ok_or(ProxyError::Protocol),
        Ok(httparse::Status::Partial) => Ok(None),
        Err(_) => Err(ProxyError::Protocol),
    }
}

#[cfg(test)]
mod tests {
    use sluicegate_policy::Authority;
    use tokio::io::duplex;

    use super::*;

    const REPLY: &[u8] =
        b"HTTP/1.1 200 Connection established\r\nProxy-agent: tinyproxy/1.11.1\r\nContent-Length: 3\r\n\r\n";

    fn target(text: &str) -> Target {
        text.parse().map_or_else(|_| Target::Name(Authority::parse(text, 443).unwrap()), Target::Address)
    }

    fn login() -> Login {
        Login { username: Zeroizing::new(b"gate".to_vec()), password: Zeroizing::new(b"t:ger".to_vec()) }
    }

    #[test]
    fn a_request_names_the_target_twice_and_the_credentials_once() {
        assert_eq!(
            *request(&target("192.0.2.1:443"), None),
            b"CONNECT 192.0.2.1:443 HTTP/1.1\r\nHost: 192.0.2.1:443\r\n\r\n"
        );
        assert_eq!(
            *request(&target("[2001:db8::1]:80"), Some(&login())),
            b"CONNECT [2001:db8::1]:80 HTTP/1.1\r\nHost: [2001:db8::1]:80\r\n\
              Proxy-Authorization: Basic Z2F0ZTp0Omdlcg==\r\n\r\n"
        );
        assert!(request(&target("a.test:22"), None).starts_with(b"CONNECT a.test:22 HTTP/1.1\r\n"));
    }

    /// What `ask` makes of these bytes, and what it leaves of them.
    async fn answered(reply: &[u8]) -> (Result<(), ProxyError>, Vec<u8>) {
        let (mut ours, mut theirs) = duplex(64 * 1024);
        theirs.write_all(reply).await.unwrap();
        theirs.shutdown().await.unwrap();
        let asked = ask(&mut ours, &target("192.0.2.1:443"), None).await;
        let mut rest = Vec::new();
        ours.read_to_end(&mut rest).await.unwrap();
        (asked, rest)
    }

    #[tokio::test]
    async fn not_one_byte_after_the_reply_is_taken() {
        for head in [REPLY, b"HTTP/1.0 200 OK\r\n\r\n", b"HTTP/1.1 204\n\n"] {
            let (asked, rest) = answered(&[head, b"220 mail.test ESMTP\r\n"].concat()).await;
            asked.unwrap();
            assert_eq!(rest, b"220 mail.test ESMTP\r\n");
        }
    }

    #[tokio::test]
    async fn a_refusal_says_its_status() {
        let table = [
            (
                "HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\n\r\n<html>",
                "proxy_authentication",
            ),
            ("HTTP/1.0 401 Unauthorized\r\n\r\n", "proxy_authentication"),
            ("HTTP/1.1 403 Filtered\r\n\r\n", "proxy_refused"),
            ("HTTP/1.1 302 Found\r\nLocation: http://login.test/\r\n\r\n", "proxy_refused"),
            ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", "proxy_refused"),
            ("HTTP/1.1 099 Low\r\n\r\n", "proxy_refused"),
            ("SSH-2.0-OpenSSH_9.2\r\n", "proxy_protocol_error"),
            ("\x05\x00", "proxy_protocol_error"),
            ("", "proxy_protocol_error"),
        ];
        for (reply, code) in table {
            assert_eq!(answered(reply.as_bytes()).await.0.unwrap_err().code(), code, "{reply}");
        }
        assert!(answered(b"HTTP/1.1 403 Filtered\r\n\r\n").await.0.unwrap_err().to_string().contains("403"));
    }

    #[tokio::test]
    async fn a_head_without_an_end_is_not_read_for_ever() {
        let long_line = [&b"HTTP/1.1 200 OK\r\nx: "[..], &[b'a'; REPLY_BYTES_MAX]].concat();
        let many_lines =
            [&b"HTTP/1.1 200 OK\r\n"[..], &b"a: b\r\n".repeat(REPLY_HEADERS_MAX + 1), b"\r\n"].concat();
        for reply in [long_line, many_lines] {
            assert!(matches!(answered(&reply).await.0, Err(ProxyError::Protocol)));
        }
    }

    #[test]
    fn no_prefix_of_a_reply_is_one_and_no_mutation_is_a_panic() {
        for end in 0..REPLY.len() {
            assert!(matches!(status(&REPLY[..end]), Ok(None)), "{end}");
        }
        assert!(matches!(status(REPLY), Ok(Some(200))));
        for at in 0..REPLY.len() {
            for byte in 0..=u8::MAX {
                let mut mutated = REPLY.to_vec();
                mutated[at] = byte;
                if let Ok(Some(found)) = status(&mutated) {
                    assert!(found < 1000, "{found}");
                }
            }
        }
    }
}
