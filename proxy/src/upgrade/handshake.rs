//! What of a request's and a response's head makes an upgrade (RFC 9110 section 7.8, RFC 6455 section 4,
//! RFC 8441). Pure, but for the random key.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use aws_lc_rs::rand;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use h2::ext::Protocol;
use http::header::{
    CONNECTION, CONTENT_LENGTH, HeaderMap, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::{Method, StatusCode, Version, request, response};
use sluicegate_policy::{DenyReason, Refusal};

use crate::hop;

/// What is hashed with the key (RFC 6455 section 1.3).
const KEY_SUFFIX: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

const WEBSOCKET: HeaderValue = HeaderValue::from_static("websocket");

/// That a request came as an extended CONNECT: what the upstream must answer to the key that we made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Extended {
    accept: HeaderValue,
}

/// Makes the GET of RFC 6455 out of an extended CONNECT for a WebSocket; leaves everything else as it is.
pub(super) fn translate(head: &mut request::Parts) {
    let is_extended = head.version == Version::HTTP_2
        && head.method == Method::CONNECT
        && head.extensions.get::<Protocol>().is_some_and(|protocol| protocol.as_ref() == b"websocket");
    // Failing means that there is no randomness: it stays the CONNECT that is refused.
    let mut key = [0; 16];
    if !is_extended || rand::fill(&mut key).is_err() {
        return;
    }
    let key = BASE64.encode(key);
    let (Ok(accept), Ok(key)) = (accept(&key), HeaderValue::try_from(key)) else { return };
    head.extensions.remove::<Protocol>();
    head.extensions.insert(Extended { accept });
    head.method = Method::GET;
    head.headers.insert(SEC_WEBSOCKET_KEY, key);
    head.headers.entry(SEC_WEBSOCKET_VERSION).or_insert(const { HeaderValue::from_static("13") });
}

/// Makes an extended CONNECT out of the GET of RFC 6455, and returns what answers its key.
pub(super) fn into_connect(head: &mut request::Parts) -> Option<HeaderValue> {
    head.method = Method::CONNECT;
    head.extensions.insert(Protocol::from_static("websocket"));
    for name in [CONNECTION, UPGRADE] {
        head.headers.remove(name);
    }
    let key = head.headers.remove(SEC_WEBSOCKET_KEY)?;
    accept(key.to_str().ok()?).ok()
}

/// Makes the 101 of RFC 6455 out of the 200 that agrees to an extended CONNECT.
///
/// # Errors
/// Why it cannot, in words.
pub(super) fn out_of_connect(
    head: &mut response::Parts,
    agreement: Option<HeaderValue>,
) -> Result<(), &'static str> {
    if head.status != StatusCode::OK {
        let is_refusal = !head.status.is_success() && !head.status.is_informational();
        return if is_refusal { Ok(()) } else { Err("its status is not 200") };
    }
    head.status = StatusCode::SWITCHING_PROTOCOLS;
    put_hop(&mut head.headers, &WEBSOCKET);
    // A workload that sent no key has no use for the answer to it.
    if let Some(agreement) = agreement {
        head.headers.insert(SEC_WEBSOCKET_ACCEPT, agreement);
    }
    Ok(())
}

/// The protocol that a request asks for, if it asks for one, as the workload wrote it.
///
/// # Errors
/// What it asks for cannot be passed on.
pub(super) fn protocol(head: &request::Parts) -> Result<Option<HeaderValue>, Refusal> {
    if head.extensions.get::<Extended>().is_some() {
        return Ok(Some(WEBSOCKET));
    }
    let of_name = |name| head.headers.get_all(name).iter().map(HeaderValue::as_bytes);
    if head.version != Version::HTTP_11 || !hop::asks_for_upgrade(of_name(CONNECTION), of_name(UPGRADE)) {
        return Ok(None);
    }
    let refused =
        |detail: &str| Refusal { reason: DenyReason::UpgradeNotSupported, detail: String::from(detail) };
    let mut protocols = of_name(UPGRADE).flat_map(hop::tokens).filter(|token| !hop::is_h2c(token));
    match (protocols.next(), protocols.next()) {
        (Some(protocol), None) if leads_back(protocol) => {
            Err(refused("requests within the protocol that it asks for could not be judged"))
        }
        (Some(protocol), None) => HeaderValue::from_bytes(protocol)
            .map(Some)
            .map_err(|_| refused("it asks for a protocol whose name cannot be read")),
        _ => Err(refused("it asks for more than one protocol at once")),
    }
}

/// Whether a protocol carries requests, which would pass by the policy: HTTP itself (RFC 9110 section
/// 7.8), and TLS with HTTP in it (RFC 2817).
fn leads_back(protocol: &[u8]) -> bool {
    let name = protocol.split(|byte| *byte == b'/').next().unwrap_or_default();
    [&b"http"[..], b"https", b"tls", b"h2", b"h3"].iter().any(|known| name.eq_ignore_ascii_case(known))
}

/// Puts what belongs to the hop on a head that asks for, or agrees to, an upgrade.
pub(super) fn put_hop(headers: &mut HeaderMap, protocol: &HeaderValue) {
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, protocol.clone());
}

/// Whether a 101 agrees to `protocol`, and to nothing else.
///
/// # Errors
/// Why not, in words.
pub(super) fn check(
    head: &response::Parts,
    protocol: &HeaderValue,
    extended: Option<&Extended>,
) -> Result<(), &'static str> {
    let of_name = |name| head.headers.get_all(name).iter().map(HeaderValue::as_bytes).flat_map(hop::tokens);
    let mut protocols = of_name(UPGRADE);
    let is_same = protocols.next().is_some_and(|token| token.eq_ignore_ascii_case(protocol.as_bytes()));
    if !is_same || protocols.next().is_some() {
        return Err("it does not change to the protocol that was asked for");
    }
    if !of_name(CONNECTION).any(|token| token.eq_ignore_ascii_case(b"upgrade")) {
        return Err("its Connection header does not say Upgrade");
    }
    // On HTTP/1.1 the workload has its own key, and checks by itself.
    if extended.is_some_and(|extended| head.headers.get(SEC_WEBSOCKET_ACCEPT) != Some(&extended.accept)) {
        return Err("its Sec-WebSocket-Accept is not that of the key");
    }
    Ok(())
}

/// Makes a 101 of the upstream's into what the workload gets: the same, or 200 on HTTP/2 (RFC 8441
/// section 5).
pub(super) fn for_workload(head: &mut response::Parts, protocol: &HeaderValue, is_extended: bool) {
    head.headers.remove(CONTENT_LENGTH);
    if is_extended {
        head.status = StatusCode::OK;
        head.headers.remove(SEC_WEBSOCKET_ACCEPT);
    } else {
        put_hop(&mut head.headers, protocol);
    }
}

/// The answer to a key (RFC 6455 section 4.2.2).
fn accept(key: &str) -> Result<HeaderValue, http::header::InvalidHeaderValue> {
    let hash = digest(&SHA1_FOR_LEGACY_USE_ONLY, format!("{key}{KEY_SUFFIX}").as_bytes());
    HeaderValue::try_from(BASE64.encode(hash))
}

/// Whether this is the protocol of RFC 6455, whose frames we know.
pub(super) fn is_websocket(protocol: &HeaderValue) -> bool {
    protocol.as_bytes().eq_ignore_ascii_case(b"websocket")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(version: Version, headers: &[(&str, &str)]) -> request::Parts {
        let mut request = http::Request::builder().version(version);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    fn asked(headers: &[(&str, &str)]) -> Result<Option<String>, DenyReason> {
        protocol(&request(Version::HTTP_11, headers))
            .map(|protocol| protocol.map(|protocol| protocol.to_str().unwrap().to_owned()))
            .map_err(|refusal| refusal.reason)
    }

    #[test]
    fn one_protocol_is_asked_for_or_none() {
        let upgrade = ("connection", "keep-alive, Upgrade");
        assert_eq!(asked(&[upgrade, ("upgrade", "WebSocket")]), Ok(Some("WebSocket".into())));
        assert_eq!(asked(&[upgrade, ("upgrade", "h2c, websocket")]), Ok(Some("websocket".into())));
        assert_eq!(asked(&[upgrade, ("upgrade", "tcp")]), Ok(Some("tcp".into())));
        assert_eq!(asked(&[upgrade, ("upgrade", "h2c")]), Ok(None));
        assert_eq!(asked(&[upgrade]), Ok(None));
        // RFC 9110 section 7.8: without the connection option it is not meant for us.
        assert_eq!(asked(&[("upgrade", "websocket")]), Ok(None));
        let old = request(Version::HTTP_10, &[upgrade, ("upgrade", "websocket")]);
        assert_eq!(protocol(&old).unwrap(), None);
    }

    #[test]
    fn what_leads_back_to_http_and_what_is_ambiguous_is_refused() {
        for upgrade in ["TLS/1.0", "HTTP/2.0", "h2", "h3", "http", "websocket, tcp", "h2c, a, b"] {
            let asked = asked(&[("connection", "upgrade"), ("upgrade", upgrade)]);
            assert_eq!(asked, Err(DenyReason::UpgradeNotSupported), "{upgrade}");
        }
    }

    #[test]
    fn the_key_of_the_rfc_has_its_answer() {
        assert_eq!(accept("dGhlIHNhbXBsZSBub25jZQ==").unwrap(), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn an_extended_connect_becomes_the_get_of_rfc_6455() {
        let mut head = request(Version::HTTP_2, &[("sec-websocket-protocol", "chat")]);
        head.method = Method::CONNECT;
        head.extensions.insert(Protocol::from_static("websocket"));
        translate(&mut head);
        assert_eq!(head.method, Method::GET);
        assert_eq!(head.headers.get(SEC_WEBSOCKET_VERSION).unwrap(), "13");
        let key = head.headers.get(SEC_WEBSOCKET_KEY).unwrap().to_str().unwrap();
        assert_eq!(BASE64.decode(key).unwrap().len(), 16);
        assert_eq!(head.extensions.get::<Extended>().unwrap().accept, accept(key).unwrap());
        assert_eq!(protocol(&head).unwrap(), Some(WEBSOCKET));

        for other in [None, Some("connect-udp"), Some("WebSocket"), Some("bytestream")] {
            let mut head = request(Version::HTTP_2, &[]);
            head.method = Method::CONNECT;
            if let Some(other) = other {
                head.extensions.insert(Protocol::from(other));
            }
            translate(&mut head);
            assert_eq!(head.method, Method::CONNECT, "{other:?}");
        }
    }

    #[test]
    fn what_goes_by_http2_comes_back_as_if_it_had_not() {
        let key = ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
        let mut head = request(Version::HTTP_2, &[key, ("connection", "Upgrade"), ("upgrade", "websocket")]);
        let agreement = into_connect(&mut head);
        assert_eq!((head.method, head.headers.len()), (Method::CONNECT, 0));
        assert_eq!(head.extensions.get::<Protocol>().unwrap().as_ref(), b"websocket");
        for (status, becomes) in [(200, Ok(101)), (403, Ok(403)), (302, Ok(302)), (201, Err(()))] {
            let mut answer = http::Response::builder().status(status).body(()).unwrap().into_parts().0;
            let made = out_of_connect(&mut answer, agreement.clone());
            assert_eq!(made.map(|()| answer.status.as_u16()).map_err(drop), becomes, "{status}");
            let extended = Extended { accept: agreement.clone().unwrap() };
            assert_eq!(check(&answer, &WEBSOCKET, Some(&extended)).is_ok(), status == 200);
        }
    }

    #[test]
    fn a_101_is_believed_only_for_what_was_asked() {
        let answer = |headers: &[(&str, &str)]| {
            let mut response = http::Response::builder().status(101);
            for (name, value) in headers {
                response = response.header(*name, *value);
            }
            response.body(()).unwrap().into_parts().0
        };
        let websocket = [("connection", "Upgrade"), ("upgrade", "WebSocket")];
        assert_eq!(check(&answer(&websocket), &WEBSOCKET, None), Ok(()));
        for wrong in [
            &[][..],
            &[("connection", "upgrade")],
            &[("upgrade", "websocket")],
            &[("connection", "upgrade"), ("upgrade", "h2c")],
            &[("connection", "upgrade"), ("upgrade", "websocket, h2c")],
            &[("connection", "upgrade"), ("upgrade", "websocket"), ("upgrade", "tcp")],
        ] {
            assert!(check(&answer(wrong), &WEBSOCKET, None).is_err(), "{wrong:?}");
        }
        let extended = Extended { accept: accept("a key").unwrap() };
        assert!(check(&answer(&websocket), &WEBSOCKET, Some(&extended)).is_err());
        let mut accepted = answer(&websocket);
        accepted.headers.insert(SEC_WEBSOCKET_ACCEPT, accept("another").unwrap());
        assert!(check(&accepted, &WEBSOCKET, Some(&extended)).is_err());
        accepted.headers.insert(SEC_WEBSOCKET_ACCEPT, accept("a key").unwrap());
        assert_eq!(check(&accepted, &WEBSOCKET, Some(&extended)), Ok(()));
    }
}
