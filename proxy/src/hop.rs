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
/// `Expect` is put on again where the upstream is to answer it ([`crate::interim`]); a handler that wants the
/// body answers it by that. `TE: trailers` says something about the workload that the upstream must know.
pub fn strip_request(headers: &mut HeaderMap) {
    let trailers = headers
        .get_all(TE)
        .iter()
        .any(|value| tokens(value.as_bytes()).any(|token| token.eq_ignore_ascii_case(b"trailers")));
    strip(headers, |name| *name == EXPECT || (*name == TE && !trailers));
    if trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
}

/// Takes a response's hop-by-hop headers off.
pub fn strip_response(headers: &mut HeaderMap) {
    strip(headers, |_| false);
}

fn strip(headers: &mut HeaderMap, is_besides: impl Fn(&HeaderName) -> bool) {
    let mut named = Vec::new();
    for value in headers.get_all(CONNECTION) {
        named.extend(tokens(value.as_bytes()).filter_map(|token| HeaderName::from_bytes(token).ok()));
    }
    let is_off = |name: &HeaderName| HOP_BY_HOP.contains(name) || named.contains(name) || is_besides(name);
    if !headers.keys().any(is_off) {
        return;
    }
    // `HeaderMap::remove` moves the last header into the gap; the order of the others is to stay.
    let mut name = None;
    let mut kept = HeaderMap::with_capacity(headers.len());
    for (next, value) in std::mem::take(headers) {
        name = next.or(name);
        if let Some(name) = name.as_ref().filter(|name| !is_off(name)) {
            kept.append(name, value);
        }
    }
    *headers = kept;
}

/// Whether a request of HTTP/1.1 with these values of `Connection` and `Upgrade` asks to leave HTTP (RFC
/// 9110 section 7.8). `h2c` is not leaving it: it is ignored, as RFC 9113 section 3.1 wants of servers
/// that do not know it.
pub fn asks_for_upgrade<'a>(
    connection: impl Iterator<Item = &'a [u8]>,
    upgrade: impl Iterator<Item = &'a [u8]>,
) -> bool {
    upgrade.flat_map(tokens).any(|token| !is_h2c(token))
        && connection.flat_map(tokens).any(|token| token.eq_ignore_ascii_case(b"upgrade"))
}

/// Whether a token of `Upgrade` is the one that stays within HTTP.
pub fn is_h2c(token: &[u8]) -> bool {
    token.eq_ignore_ascii_case(b"h2c")
}

/// The parts of a header's value that is a list.
pub fn tokens(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|token| !token.is_empty())
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
    fn the_order_of_what_stays_is_kept() {
        let list = [
            ("x-a", "1"),
            ("te", "trailers"),
            ("set-cookie", "a"),
            ("set-cookie", "b"),
            ("x-b", "2"),
            ("x-c", "3"),
        ];
        let off = [("connection", "x-d"), ("x-d", "4"), ("upgrade", "h2c")];
        let mut map = headers(&[&list[..2], &off, &list[2..]].concat());
        strip_request(&mut map);
        let order: Vec<_> =
            map.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        assert_eq!(order, list);
    }

    #[test]
    fn only_h2c_is_no_upgrade() {
        fn asks(connection: &'static str, upgrade: &'static str) -> bool {
            let one = |text: &'static str| std::iter::once(text.as_bytes());
            asks_for_upgrade(one(connection), one(upgrade))
        }
        assert!(!asks("upgrade", ""));
        assert!(!asks("upgrade", "h2c"));
        assert!(!asks("", "websocket"));
        assert!(!asks("keep-alive", "websocket"));
        assert!(asks("Upgrade", "websocket"));
        assert!(asks("keep-alive ,\tUPGRADE", "h2c,websocket"));
    }
}
