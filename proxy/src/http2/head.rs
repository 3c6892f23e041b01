//! Headers that HTTP/2 does not have, and the length of a body that it need not have. Pure.

use http::header::{
    CONNECTION, CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue, TE, TRANSFER_ENCODING, UPGRADE,
};

use crate::hop;

/// RFC 9113 section 8.2.2.
static CONNECTION_SPECIFIC: [HeaderName; 4] = [
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    TRANSFER_ENCODING,
    UPGRADE,
];

/// Takes the headers off that are about a connection of HTTP/1. `TE` may say `trailers` in requests.
pub fn strip(headers: &mut HeaderMap, is_request: bool) {
    if headers.contains_key(CONNECTION) {
        // What it names goes with it.
        hop::strip_response(headers);
    }
    for name in &CONNECTION_SPECIFIC {
        headers.remove(name);
    }
    if headers.get(TE).is_some_and(|value| !is_request || value != "trailers") {
        headers.remove(TE);
    }
}

/// The one length that all `Content-Length` headers state, in bytes; `None` where there is none, or more
/// than one.
pub fn content_length(headers: &HeaderMap) -> Option<u64> {
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter().map(HeaderValue::as_bytes).flat_map(hop::tokens);
    let first = number(lengths.next()?)?;
    lengths.all(|other| number(other) == Some(first)).then_some(first)
}

/// States the length of a body, in bytes, where nothing does.
pub fn state_length(headers: &mut HeaderMap, length: u64) {
    headers.entry(CONTENT_LENGTH).or_insert_with(|| HeaderValue::from(length));
}

/// Digits alone: no sign.
fn number(digits: &[u8]) -> Option<u64> {
    let digits = std::str::from_utf8(digits).ok().filter(|text| text.bytes().all(|b| b.is_ascii_digit()))?;
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(list: &[(&'static str, &'static str)]) -> HeaderMap {
        let header = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        let mut headers = HeaderMap::new();
        for (name, value) in list.iter().map(header) {
            headers.append(name, value);
        }
        headers
    }

    #[test]
    fn what_is_about_a_connection_goes() {
        let all = [
            ("connection", "x-private"),
            ("x-private", "1"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "close"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "websocket"),
            ("te", "gzip"),
            ("x-kept", "1"),
        ];
        for is_request in [true, false] {
            let mut map = headers(&all);
            strip(&mut map, is_request);
            assert_eq!(map, headers(&[("x-kept", "1")]));
            let mut map = headers(&all[1..]);
            strip(&mut map, is_request);
            assert_eq!(map, headers(&[("x-private", "1"), ("x-kept", "1")]));
            let mut map = headers(&[("te", "trailers")]);
            strip(&mut map, is_request);
            assert_eq!(map.contains_key(TE), is_request);
        }
    }

    #[test]
    fn a_length_is_one_number() {
        for (values, length) in [
            (&["5"][..], Some(5)),
            (&["5", "5, 5"], Some(5)),
            (&["5", "6"], None),
            (&["+5"], None),
            (&[""], None),
            (&["18446744073709551616"], None),
            (&[], None),
        ] {
            let list: Vec<_> = values.iter().map(|value| ("content-length", *value)).collect();
            assert_eq!(content_length(&headers(&list)), length, "{values:?}");
        }
    }
}
