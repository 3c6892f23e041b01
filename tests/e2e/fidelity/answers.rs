//! Answers on HTTP/1: the workload is given what the origin sent.

use e2e::World;

use crate::support::{Answer, Message, RawOrigin, ask, dial, dial_directly};

const GET: &str = "GET";

/// `(path, method, answer)`.
type Case = (&'static str, &'static str, Answer);

/// Heads of every kind.
fn heads() -> Vec<Case> {
    let large = format!("HTTP/1.1 200 OK\r\nX-Large: {}\r\nContent-Length: 2\r\n\r\nok", "x".repeat(60_000));
    let many: String = (0..250).map(|number| format!("X-{number}: {number}\r\n")).collect();
    let many = format!("HTTP/1.1 200 OK\r\n{many}Content-Length: 2\r\n\r\nok");
    let packed = [
        &b"HTTP/1.1 200 OK\r\nContent-Encoding: zstd\r\nContent-Length: 11\r\n\r\n"[..],
        &[0x28, 0xb5, 0x2f, 0xfd, 0x04, 0, 0x11, 0, 0, 0xff, 0],
    ]
    .concat();
    let latin = b"HTTP/1.1 200 OK\r\nX-Latin: caf\xe9\r\nContent-Length: 0\r\n\r\n";
    vec![
        ("/plain", GET, Answer::new("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")),
        ("/reason", GET, Answer::new("HTTP/1.1 200 Very Fine\r\nContent-Length: 0\r\n\r\n")),
        ("/no-reason", GET, Answer::new("HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n")),
        ("/status", GET, Answer::new("HTTP/1.1 299 Odd\r\nContent-Length: 0\r\n\r\n")),
        ("/latin", GET, Answer::new(latin)),
        (
            "/order",
            GET,
            Answer::new(
                "HTTP/1.1 200 OK\r\nServer: raw\r\nConnection: keep-alive\r\nX-b: 1\r\nKeep-Alive: timeout=5\r\n\
                 X-A: 2\r\nDATE: Sat, 21 Nov 2026 00:00:00 GMT\r\nx-C: 3\r\nContent-Length: 2\r\nX-Last: 4\r\n\r\nok",
            ),
        ),
        (
            "/twice",
            GET,
            Answer::new(
                "HTTP/1.1 200 OK\r\nSet-Cookie: a=1; Path=/\r\nset-cookie: b=2\r\nSet-Cookie: a=1; Path=/\r\n\
                 X-Empty:\r\nX-Odd: a, b;  c=\"d\"\r\nContent-Length: 0\r\n\r\n",
            ),
        ),
        ("/packed", GET, Answer::new(packed)),
        ("/large", GET, Answer::new(large)),
        ("/many", GET, Answer::new(many)),
    ]
}

/// Bodies in every framing, and what comes before and behind them.
fn bodies() -> Vec<Case> {
    vec![
        (
            "/chunked",
            GET,
            Answer::new(
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX: y\r\n\r\n3;ext=\"1\"\r\nabc\r\nA\r\n0123456789\r\n0\r\n\r\n",
            ),
        ),
        (
            "/trailers",
            GET,
            Answer::new(
                "HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nx-sum: 6\r\n\r\n",
            ),
        ),
        ("/until-closed", GET, Answer::new("HTTP/1.1 200 OK\r\nX: y\r\n\r\nto the end").closing()),
        ("/old", GET, Answer::new("HTTP/1.0 200 OK\r\nX: y\r\n\r\nto the end").closing()),
        ("/no-content", GET, Answer::new("HTTP/1.1 204 No Content\r\nX: y\r\n\r\n")),
        ("/unchanged", GET, Answer::new("HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\n\r\n")),
        (
            "/part",
            GET,
            Answer::new(
                "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-1/9\r\nContent-Length: 2\r\n\r\nab",
            ),
        ),
        (
            "/moved",
            GET,
            Answer::new("HTTP/1.1 302 Found\r\nLocation: http://other.test/\r\nContent-Length: 0\r\n\r\n"),
        ),
        ("/length", "HEAD", Answer::new("HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n")),
        (
            "/length-unknown",
            "HEAD",
            Answer::new("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX: y\r\n\r\n"),
        ),
        ("/failing", "POST", Answer::new("HTTP/1.1 500 No\r\nContent-Length: 3\r\n\r\nbad")),
        (
            "/early-hints",
            GET,
            Answer::new(
                "HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\nlink: </b.js>\r\n\r\n\
                 HTTP/1.1 103 Early Hints\r\nLink: </c>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
            ),
        ),
    ]
}

#[test]
fn w09_answers_are_those_of_the_origin() {
    let world = World::new("w09-raw-answers");
    let cases = [heads(), bodies()].concat();
    let answers: Vec<_> = cases.iter().map(|(path, _, answer)| (*path, answer.clone())).collect();
    let origin = RawOrigin::start(&world, &answers);
    let gate = world.gate(&origin.policy(&world)).attach();
    for (path, method, _) in &cases {
        // Without TE hyper's server sends no trailers, as is allowed (RFC 9110 section 6.5.1).
        let request = format!("{method} {path} HTTP/1.1\r\nHost: api.test\r\nTE: trailers\r\n\r\n");
        let direct = ask(dial_directly(&world, &origin), request.as_bytes());
        let through = ask(dial(&gate), request.as_bytes());
        assert_eq!(Message::parse(&through), Message::parse(&direct), "{method} {path}");
    }
}
