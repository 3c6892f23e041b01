//! HTTP/1.1 and HTTP/2, each on either side.

use std::convert::Infallible;

use bytes::Bytes;
use e2e::{Identity, Origin, OriginConfig, Reply, World};
use http::{HeaderMap, HeaderValue, Method, Request, Version};
use http_body_util::{BodyExt, Empty, Full};

use crate::client::{Body, call};

const VERSIONS: [Version; 2] = [Version::HTTP_11, Version::HTTP_2];
const ORIGINS: [(&[&str], Version); 2] = [(&["http/1.1"], Version::HTTP_11), (&["h2"], Version::HTTP_2)];

fn nothing() -> Body {
    Empty::new().boxed()
}

fn allowing(world: &World, origin: &Origin) -> String {
    let found = world.upstream(&[("api.test:443", origin.address())]);
    format!("version = 1\nallowed_hosts = [\"api.test\"]\n{found}")
}

fn summed() -> HeaderMap {
    HeaderMap::from_iter([(http::HeaderName::from_static("x-sum"), HeaderValue::from_static("6"))])
}

#[test]
fn w04_trailers_pass_both_ways_between_the_versions() {
    let world = World::new("w04-trailers");
    for (alpn, upstream) in ORIGINS {
        let origin = Origin::start_with(&world, OriginConfig { alpn, ..OriginConfig::default() }, |_| {
            Reply::text("abc").header("trailer", "x-sum").trailer("x-sum", "6")
        });
        let gate = world.gate(&allowing(&world, &origin)).attach();
        for version in VERSIONS {
            let body = Full::new(Bytes::from_static(b"hello"));
            let body = body.with_trailers(async { Some(Ok::<_, Infallible>(summed())) }).boxed();
            let mut request = Request::post("/").header("te", "trailers").header("trailer", "x-sum");
            if version == Version::HTTP_11 {
                request = request.header("transfer-encoding", "chunked");
            }
            let answer = call(&gate, version, request.body(body).unwrap());
            let received = origin.requests().pop().unwrap();
            assert_eq!(received.version, upstream);
            assert_eq!((received.body.as_slice(), received.complete), (&b"hello"[..], true));
            let pair = |name: &str| vec![(name.to_owned(), "6".to_owned())];
            assert_eq!(received.trailers, pair("x-sum"), "{version:?} to {upstream:?}");
            assert_eq!(received.header("te"), ["trailers"], "{version:?} to {upstream:?}");
            assert_eq!(
                (answer.body.as_ref(), answer.trailers),
                (&b"abc"[..], summed()),
                "{upstream:?} to {version:?}"
            );
        }
    }
}

#[test]
fn each_version_is_translated_to_the_other() {
    let world = World::new("translation");
    for (alpn, upstream) in ORIGINS {
        let config = OriginConfig { alpn, ..OriginConfig::default() };
        let origin = Origin::start_with(&world, config, |request| match request.path.as_str() {
            // hyper's server would send a body for HEAD on HTTP/2.
            _ if request.method == "HEAD" => Reply::new(200, Bytes::new()).header("content-length", "5"),
            "/empty" => Reply::new(204, Bytes::new()),
            "/unknown" => Reply::text("of unknown length").chunked(),
            _ => Reply::text("hello").header("set-cookie", "a=1").header("set-cookie", "b=2"),
        });
        let mut gate = world.gate(&allowing(&world, &origin)).attach();
        for version in VERSIONS {
            let ask = |method: Method, path: &str, body: Body| {
                let cookies = Request::builder().header("cookie", "a=1").header("cookie", "b=2");
                let request = cookies.method(method).uri(path).header("x-empty", "").body(body).unwrap();
                let answer = call(&gate, version, request);
                assert_eq!(answer.head.version, version);
                let received = origin.requests().pop().unwrap();
                assert_eq!((received.version, received.authority.as_str()), (upstream, "api.test"));
                assert_eq!(received.header("x-empty"), [""]);
                let cookies = received.header("cookie").join("; ");
                assert_eq!(cookies, "a=1; b=2", "{version:?} to {upstream:?}");
                assert_eq!(
                    received.header("transfer-encoding").len() + received.header("connection").len(),
                    usize::from(
                        upstream == Version::HTTP_11
                            && received.header("content-length").is_empty()
                            && received.body_length > 0
                    )
                );
                (answer, received)
            };
            let (answer, _) = ask(Method::GET, "/", nothing());
            assert_eq!(answer.body, "hello");
            assert_eq!(answer.head.headers["content-length"], "5");
            let cookies: Vec<_> = answer.head.headers.get_all("set-cookie").iter().collect();
            assert_eq!(cookies, ["a=1", "b=2"]);
            let (answer, _) = ask(Method::HEAD, "/", nothing());
            assert_eq!(
                (answer.body.len(), &answer.head.headers["content-length"]),
                (0, &HeaderValue::from_static("5"))
            );
            let (answer, _) = ask(Method::GET, "/empty", nothing());
            assert_eq!((answer.head.status.as_u16(), answer.body.len()), (204, 0));
            let (answer, _) = ask(Method::GET, "/unknown", nothing());
            assert_eq!(
                (answer.body.as_ref(), answer.head.headers.get("content-length")),
                (&b"of unknown length"[..], None)
            );
            let (_, received) = ask(Method::PUT, "/", Full::new(Bytes::from_static(b"stated")).boxed());
            assert_eq!(
                (received.body.as_slice(), received.header("content-length")),
                (&b"stated"[..], vec!["6"])
            );
        }
        let line = gate.wait_for_log(|line| line["path"] == "/unknown" && line["client_version"] == "HTTP/2");
        let upstream = if upstream == Version::HTTP_2 { "HTTP/2" } else { "HTTP/1.1" };
        assert_eq!(line["upstream_version"], upstream);
    }
}

#[test]
fn http2_without_tls_goes_on_as_such() {
    let world = World::new("prior-knowledge");
    let alpn: &[&str] = &["h2"];
    let config = OriginConfig { alpn, identity: Identity::Plain, ..OriginConfig::default() };
    let origin = Origin::start_with(&world, config, |_| Reply::text("hello"));
    let found = world.upstream(&[("api.test:80", origin.address())]);
    let gate = world.gate(&format!("version = 1\nallowed_hosts = [\"http://api.test\"]\n{found}")).attach();
    let curl = ["curl", "-sS", "--http2-prior-knowledge", "-w", " %{http_version}", "http://api.test/"];
    gate.run(curl).assert_success().assert_stdout("hello 2");
    assert_eq!(origin.only_request().version, Version::HTTP_2);
}
