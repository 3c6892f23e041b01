//! A request in the form that the upstream's HTTP version wants. Pure.

use bytes::Bytes;
use http::header::{COOKIE, HOST, HeaderValue, TRAILER, TRANSFER_ENCODING};
use http::uri::{PathAndQuery, Scheme as UriScheme};
use http::{Request, Uri, Version};
use http_body::Body;
use sluicegate_policy::Scheme;

use super::pool::Origin;

/// Origin-form target, one Host header, one Cookie header (RFC 9112 section 3.2.1, RFC 9113
/// section 8.2.3).
///
/// A body of unknown length is announced as chunked whatever the method: hyper does so itself only
/// for methods that usually have a body, and would drop that of a GET. So is one of HTTP/2 that trailers
/// are announced for: behind a stated length there is no place for them on HTTP/1.1.
pub(super) fn for_http1<B: Body>(request: Request<B>, origin: &Origin) -> Request<B> {
    let (mut parts, body) = request.into_parts();
    let has_trailers = parts.version == Version::HTTP_2 && parts.headers.contains_key(TRAILER);
    if !body.is_end_stream() && (has_trailers || body.size_hint().exact().is_none()) {
        parts.headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
    parts.uri = Uri::from(path_of(&parts.uri));
    if parts.version == Version::HTTP_2 {
        join_cookies(&mut parts.headers);
    }
    parts.version = Version::HTTP_11;
    if let Ok(host) = HeaderValue::from_maybe_shared(Bytes::from(host_and_port(origin))) {
        parts.headers.insert(HOST, host);
    }
    Request::from_parts(parts, body)
}

/// `:authority` instead of Host (RFC 9113 section 8.3.1).
pub(super) fn for_http2<B>(request: Request<B>, origin: &Origin) -> Request<B> {
    let (mut parts, body) = request.into_parts();
    let path = path_of(&parts.uri);
    let mut uri = http::uri::Parts::default();
    uri.scheme = Some(match origin.scheme {
        Scheme::Http => UriScheme::HTTP,
        Scheme::Https => UriScheme::HTTPS,
    });
    uri.authority = http::uri::Authority::from_maybe_shared(Bytes::from(host_and_port(origin))).ok();
    uri.path_and_query = Some(path);
    if let Ok(uri) = Uri::from_parts(uri) {
        parts.uri = uri;
    }
    parts.headers.remove(HOST);
    parts.version = Version::HTTP_2;
    Request::from_parts(parts, body)
}

fn path_of(uri: &Uri) -> PathAndQuery {
    uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"))
}

/// The authority as clients write it: without the scheme's own port.
fn host_and_port(origin: &Origin) -> String {
    if origin.authority.port == origin.scheme.default_port() {
        match &origin.authority.host {
            sluicegate_policy::Host::Ip(std::net::IpAddr::V6(ip)) => format!("[{ip}]"),
            host => host.to_string(),
        }
    } else {
        origin.authority.to_string()
    }
}

fn join_cookies(headers: &mut http::HeaderMap) {
    if headers.get_all(COOKIE).iter().nth(1).is_none() {
        return;
    }
    let parts: Vec<&[u8]> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if let Ok(mut joined) = HeaderValue::from_bytes(&parts.join(&b"; "[..])) {
        joined.set_sensitive(true);
        headers.insert(COOKIE, joined);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::Empty;
    use sluicegate_policy::{Authority, Host};

    /// A body that does not say how long it is.
    struct Unknown;

    impl Body for Unknown {
        type Data = Bytes;
        type Error = std::convert::Infallible;

        fn poll_frame(
            self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, Self::Error>>> {
            std::task::Poll::Ready(None)
        }
    }

    fn origin(scheme: Scheme, host: &str, port: u16) -> Origin {
        let authority = Authority { host: Host::parse(host).unwrap(), port };
        Origin { scheme, authority, multiplexed: true, credentials: Vec::new() }
    }

    fn request(uri: &str) -> Request<Empty<Bytes>> {
        let request = Request::builder().uri(uri).header(HOST, "elsewhere");
        request.header(COOKIE, "a=1").header(COOKIE, "b=2").body(Empty::new()).unwrap()
    }

    #[test]
    fn http1_has_an_origin_form_target_and_the_judged_host() {
        let mut incoming = request("https://a.test/x?y=1");
        *incoming.version_mut() = Version::HTTP_2;
        let shaped = for_http1(incoming, &origin(Scheme::Https, "a.test", 443));
        assert_eq!(shaped.uri(), "/x?y=1");
        assert_eq!(shaped.headers().get(HOST).unwrap(), "a.test");
        assert_eq!(shaped.headers().get(COOKIE).unwrap(), "a=1; b=2");
    }

    #[test]
    fn an_odd_port_and_an_ipv6_address_are_written_out() {
        let shaped = for_http1(request("/"), &origin(Scheme::Https, "2001:db8::1", 8443));
        assert_eq!(shaped.headers().get(HOST).unwrap(), "[2001:db8::1]:8443");
        let shaped = for_http1(request("/"), &origin(Scheme::Http, "2001:db8::1", 80));
        assert_eq!(shaped.headers().get(HOST).unwrap(), "[2001:db8::1]");
    }

    #[test]
    fn http2_has_an_absolute_target_and_no_host() {
        let shaped = for_http2(request("/x"), &origin(Scheme::Http, "a.test", 80));
        assert_eq!(shaped.uri(), "http://a.test/x");
        assert!(shaped.headers().get(HOST).is_none());
    }

    #[test]
    fn a_body_of_unknown_length_is_chunked_whatever_the_method() {
        let unknown = request("/x").map(|_| Unknown);
        let shaped = for_http1(unknown, &origin(Scheme::Http, "a.test", 80));
        assert_eq!(shaped.headers().get(TRANSFER_ENCODING).unwrap(), "chunked");
        let shaped = for_http1(request("/x"), &origin(Scheme::Http, "a.test", 80));
        assert!(shaped.headers().get(TRANSFER_ENCODING).is_none());
        for (trailer, framing) in [(None, None), (Some("x-sum"), Some("chunked"))] {
            let mut stated = request("/x").map(|_| http_body_util::Full::new(Bytes::from_static(b"abc")));
            *stated.version_mut() = Version::HTTP_2;
            stated.headers_mut().extend(trailer.map(|names| (TRAILER, HeaderValue::from_static(names))));
            let shaped = for_http1(stated, &origin(Scheme::Http, "a.test", 80));
            let found = shaped.headers().get(TRANSFER_ENCODING).map(|value| value.to_str().unwrap());
            assert_eq!(found, framing);
        }
    }
}
