//! SOCKS5 (RFC 1928) with user name and password (RFC 1929), as far as a client that connects needs it.
//!
//! Every message of the proxy is of a stated length, at most 262 bytes, so that nothing here grows.

use sluicegate_policy::Host;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use zeroize::Zeroizing;

use super::{Login, ProxyError, Target};
use crate::credentials::CredentialError;

const VERSION: u8 = 5;
const METHOD_NONE: u8 = 0;
const METHOD_PASSWORD: u8 = 2;
/// None of the methods that were offered.
const METHOD_REFUSED: u8 = 0xff;
const PASSWORD_VERSION: u8 = 1;
const CONNECT: u8 = 1;
const IPV4: u8 = 1;
const NAME: u8 = 3;
const IPV6: u8 = 4;

/// Says who asks, if there is something to say, and where to.
///
/// # Errors
/// [`ProxyError`].
pub(super) async fn ask<Io>(io: &mut Io, target: &Target, login: Option<&Login>) -> Result<(), ProxyError>
where
    Io: AsyncRead + AsyncWrite + Unpin,
{
    let method = if login.is_some() { METHOD_PASSWORD } else { METHOD_NONE };
    send(io, &[VERSION, 1, method]).await?;
    match receive(io).await? {
        [VERSION, chosen] if chosen == method => {}
        [VERSION, METHOD_REFUSED] => return Err(ProxyError::Authentication),
        _ => return Err(ProxyError::Protocol),
    }
    if let Some(login) = login {
        send(io, &password(login)?).await?;
        match receive(io).await? {
            [PASSWORD_VERSION, 0] => {}
            [PASSWORD_VERSION, _] => return Err(ProxyError::Authentication),
            _ => return Err(ProxyError::Protocol),
        }
    }
    send(io, &request(target)?).await?;
    let kind = match receive(io).await? {
        [VERSION, 0, 0, kind] => kind,
        [VERSION, reply, 0, _] => return Err(ProxyError::RefusedBySocks(reply)),
        _ => return Err(ProxyError::Protocol),
    };
    // From where the proxy dialled, and a port: of no use to us.
    let length = match kind {
        IPV4 => 4,
        IPV6 => 16,
        NAME => {
            let [length] = receive(io).await?;
            usize::from(length)
        }
        _ => return Err(ProxyError::Protocol),
    };
    let mut unused = vec![0; length + 2];
    io.read_exact(&mut unused).await.map_err(ProxyError::Broken)?;
    Ok(())
}

/// What a reply other than success means (RFC 1928 section 6).
pub(super) fn in_words(reply: u8) -> &'static str {
    match reply {
        1 => "general failure (1)",
        2 => "its rules do not allow it (2)",
        3 => "network unreachable (3)",
        4 => "host unreachable (4)",
        5 => "connection refused (5)",
        6 => "time to live expired (6)",
        7 => "it knows no CONNECT (7)",
        8 => "it does not know this kind of address (8)",
        _ => "for a reason that RFC 1928 does not know",
    }
}

/// RFC 1929 section 2.
fn password(login: &Login) -> Result<Zeroizing<Vec<u8>>, ProxyError> {
    let length = |value: &[u8]| match u8::try_from(value.len()) {
        Ok(length @ 1..) => Ok(length),
        _ => Err(ProxyError::Credentials(CredentialError::Slot)),
    };
    let Login { username, password } = login;
    let (of_username, of_password) = (length(username)?, length(password)?);
    let message =
        [&[PASSWORD_VERSION, of_username], username.as_slice(), &[of_password], password.as_slice()].concat();
    Ok(Zeroizing::new(message))
}

/// RFC 1928 section 4.
fn request(target: &Target) -> Result<Vec<u8>, ProxyError> {
    let mut message = vec![VERSION, CONNECT, 0];
    let port = match target {
        Target::Address(address) => {
            put_address(address.ip().into(), &mut message)?;
            address.port()
        }
        Target::Name(authority) => {
            put_address(authority.host.clone(), &mut message)?;
            authority.port
        }
    };
    message.extend_from_slice(&port.to_be_bytes());
    Ok(message)
}

fn put_address(host: Host, message: &mut Vec<u8>) -> Result<(), ProxyError> {
    match host {
        Host::Ip(std::net::IpAddr::V4(address)) => {
            message.push(IPV4);
            message.extend_from_slice(&address.octets());
        }
        Host::Ip(std::net::IpAddr::V6(address)) => {
            message.push(IPV6);
            message.extend_from_slice(&address.octets());
        }
        Host::Dns(name) => {
            // A host name has at most 253 octets.
            let length = u8::try_from(name.len()).map_err(|_| ProxyError::Protocol)?;
            message.extend_from_slice(&[NAME, length]);
            message.extend_from_slice(name.as_bytes());
        }
    }
    Ok(())
}

async fn send<Io: AsyncWrite + Unpin>(io: &mut Io, message: &[u8]) -> Result<(), ProxyError> {
    io.write_all(message).await.map_err(ProxyError::Broken)?;
    io.flush().await.map_err(ProxyError::Broken)
}

async fn receive<const BYTES: usize, Io: AsyncRead + Unpin>(io: &mut Io) -> Result<[u8; BYTES], ProxyError> {
    let mut message = [0; BYTES];
    io.read_exact(&mut message).await.map_err(ProxyError::Broken)?;
    Ok(message)
}

#[cfg(test)]
mod tests {
    use sluicegate_policy::Authority;
    use tokio::io::duplex;

    use super::*;

    fn login(username: &[u8], password: &[u8]) -> Login {
        Login { username: Zeroizing::new(username.to_vec()), password: Zeroizing::new(password.to_vec()) }
    }

    fn address(text: &str) -> Target {
        Target::Address(text.parse().unwrap())
    }

    /// What `ask` makes of these bytes of a proxy's, what it said, and what it left unread.
    async fn answered(said: &[u8], login: Option<&Login>) -> (Result<(), ProxyError>, Vec<u8>, Vec<u8>) {
        let (mut ours, mut theirs) = duplex(4096);
        theirs.write_all(said).await.unwrap();
        theirs.shutdown().await.unwrap();
        let asked = ask(&mut ours, &address("192.0.2.1:443"), login).await;
        let mut rest = Vec::new();
        ours.read_to_end(&mut rest).await.unwrap();
        drop(ours);
        let mut sent = Vec::new();
        theirs.read_to_end(&mut sent).await.unwrap();
        (asked, sent, rest)
    }

    #[test]
    fn targets_are_written_as_rfc_1928_says() {
        assert_eq!(request(&address("192.0.2.1:443")).unwrap(), [5, 1, 0, 1, 192, 0, 2, 1, 1, 187]);
        let ipv6 = request(&address("[2001:db8::1]:80")).unwrap();
        assert_eq!((&ipv6[..6], &ipv6[19..]), (&[5, 1, 0, 4, 0x20, 0x01][..], &[1, 0, 80][..]));
        let name = Target::Name(Authority::parse("a.test:22", 443).unwrap());
        assert_eq!(request(&name).unwrap(), [&[5, 1, 0, 3, 6][..], b"a.test", &[0, 22]].concat());
    }

    #[tokio::test]
    async fn a_tunnel_comes_about_and_what_follows_is_left() {
        let said = [5, 0, 5, 0, 0, 1, 10, 0, 0, 1, 0, 9];
        let (asked, sent, rest) = answered(&[&said[..], b"banner"].concat(), None).await;
        asked.unwrap();
        assert_eq!(sent, [&[5, 1, 0][..], &[5, 1, 0, 1, 192, 0, 2, 1, 1, 187]].concat());
        assert_eq!(rest, b"banner");
        let said = [&[5, 2, 1, 0, 5, 0, 0, 3, 2][..], b"me", &[0, 9], b"banner"].concat();
        let (asked, sent, rest) = answered(&said, Some(&login(b"gate", b"tiger"))).await;
        asked.unwrap();
        assert!(sent.starts_with(&[&[5, 1, 2, 1, 4][..], b"gate", &[5], b"tiger", &[5, 1, 0]].concat()));
        assert_eq!(rest, b"banner");
    }

    #[tokio::test]
    async fn refusals_are_told_apart() {
        let asks = login(b"gate", b"tiger");
        let table: [(&[u8], Option<&Login>, &str); 9] = [
            (&[5, 0xff], None, "proxy_authentication"),
            (&[5, 2], None, "proxy_protocol_error"),
            // Who has a password is not let in without being asked for it: another proxy answers.
            (&[5, 0, 5, 0, 0, 1, 0, 0, 0, 0, 0, 0], Some(&asks), "proxy_protocol_error"),
            (&[5, 2, 1, 1], Some(&asks), "proxy_authentication"),
            (&[5, 0, 5, 2, 0, 1, 0, 0, 0, 0, 0, 0], None, "proxy_refused"),
            (&[5, 0, 5, 77, 0, 1, 0, 0, 0, 0, 0, 0], None, "proxy_refused"),
            (&[4, 90, 0, 0], None, "proxy_protocol_error"),
            (b"HTTP/1.1 400 Bad Request\r\n\r\n", None, "proxy_protocol_error"),
            (&[5, 0, 5, 0, 0, 9, 0, 0], None, "proxy_protocol_error"),
        ];
        for (said, login, code) in table {
            assert_eq!(answered(said, login).await.0.unwrap_err().code(), code, "{said:?}");
        }
    }

    #[tokio::test]
    async fn credentials_that_do_not_fit_are_not_cut() {
        let long = [b'a'; 256];
        for login in [login(&long, b"b"), login(b"a", &long), login(b"", b"b"), login(b"a", b"")] {
            let (asked, sent, _) = answered(&[5, 2, 1, 0], Some(&login)).await;
            assert!(matches!(asked, Err(ProxyError::Credentials(_))));
            assert_eq!(sent, [5, 1, 2], "nothing of them is sent");
        }
    }

    #[tokio::test]
    async fn no_prefix_of_what_a_proxy_says_is_enough_and_no_mutation_is_a_panic() {
        let said = [&[5, 2, 1, 0, 5, 0, 0, 3, 2][..], b"me", &[0, 9]].concat();
        let login = login(b"gate", b"tiger");
        for end in 0..said.len() {
            let asked = answered(&said[..end], Some(&login)).await.0;
            assert!(matches!(asked, Err(ProxyError::Broken(_))), "{end}");
        }
        for at in 0..said.len() {
            for byte in 0..=u8::MAX {
                let mut mutated = said.clone();
                mutated[at] = byte;
                let asked = answered(&mutated, Some(&login)).await.0;
                // The address and its length are not looked at, so that some mutations change nothing.
                assert!(asked.is_err() || at >= 7 || mutated == said, "{mutated:?}");
            }
        }
    }
}
