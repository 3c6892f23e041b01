//! Headers that belong to one hop and are never passed on. Pure.

use http::header::{CONNECTION, EXPECT, HeaderMap, HeaderName, HeaderValue, TE, TRANSFER_ENCODING, UPGRADE};

/// RFC 9110 section 7.6.1, with the older names that are still sent.
const HOP_BY_HOP: [HeaderName; 7] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("proxy-authorization"),
    HeaderName::from_static("http2-settings"),
    TRANSFER_ENCODING,
    UPGRADE,
];

/// Takes a request's hop-by-hop headers off, those that `Connection` names included. Done before
/// any edit, so that `Connection: authorization` cannot take a credential off again.
///
/// `Expect` is ours to answer: hyper sends 100 when the body is first wanted, which is after the
/// verdict. `TE: trailers` says something about the workload that the upstream must know.
pub fn strip_request(headers: &mut HeaderMap) {
    let trailers = headers
        .get_all(TE)
        .iter()
        .any(|value| tokens(value).any(|token| token.eq_ignore_ascii_case("trailers")));
    strip_response(headers);
    headers.remove(EXPECT);
    headers.remove(TE);
    if trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
}

/// Takes a response's hop-by-hop headers off.
pub fn strip_response(headers: &mut HeaderMap) {
    let mut named = Vec::new();
    for value in headers.get_all(CONNECTION) {
        named.extend(tokens(value).filter_map(|token| token.parse::<HeaderName>().ok()));
    }
    for name in named {
        headers.remove(name);
    }
    for name in HOP_BY_HOP {
        headers.remove(name);
    }
}

/// Whether the request asks to leave HTTP. `h2c` is not leaving it: it is ignored, as RFC 9113
/// section 3.1 wants of servers that do not know it.
pub fn asks_for_upgrade(headers: &HeaderMap) -> bool {
    headers.get_all(UPGRADE).iter().any(|value| tokens(value).any(|token| !token.eq_ignore_ascii_case("h2c")))
}

fn tokens(value: &HeaderValue) -> impl Iterator<Item = &str> {
    value.to_str().unwrap_or_default().split(',').map(str::trim).filter(|token| !token.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(list: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in list {
            headers.append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn what_connection_names_goes_too() {
        let mut map = headers(&[
            ("connection", "close, X-Private"),
            ("x-private", "1"),
            ("keep-alive", "timeout=5"),
            ("upgrade", "h2c"),
            ("http2-settings", "AAMAAABkAAQ"),
            ("expect", "100-continue"),
            ("te", "gzip, Trailers"),
            ("accept", "*/*"),
        ]);
        strip_request(&mut map);
        assert_eq!(map, headers(&[("accept", "*/*"), ("te", "trailers")]));
    }

    #[test]
    fn only_h2c_is_no_upgrade() {
        assert!(!asks_for_upgrade(&headers(&[])));
        assert!(!asks_for_upgrade(&headers(&[("upgrade", "h2c")])));
        assert!(asks_for_upgrade(&headers(&[("upgrade", "websocket")])));
        assert!(asks_for_upgrade(&headers(&[("upgrade", "h2c, websocket")])));
    }
}
