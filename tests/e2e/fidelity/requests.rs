//! Requests on HTTP/1: the origin is given what the workload sent.

use e2e::World;

use crate::support::{Message, RawOrigin, ask, dial, dial_directly};

/// `(what it is, the request)`.
fn cases() -> Vec<(&'static str, Vec<u8>)> {
    let large = format!("GET /large HTTP/1.1\r\nHost: api.test\r\nX-Large: {}\r\n\r\n", "x".repeat(64_000));
    let many: String = (0..250).map(|number| format!("x-{number}: {number}\r\n")).collect();
    let many = format!("GET /many HTTP/1.1\r\nHost: api.test\r\n{many}\r\n");
    let texts = [
        ("plain", "GET / HTTP/1.1\r\nHost: api.test\r\n\r\n"),
        (
            "case and order",
            "GET / HTTP/1.1\r\nAccept: */*\r\nConnection: keep-alive\r\nHost: api.test\r\nX-b: 1\r\nKeep-Alive: 5\r\n\
             x-A: 2\r\nProxy-Connection: x\r\nUSER-AGENT: odd\r\nX-Last: 3\r\n\r\n",
        ),
        (
            "duplicates and odd values",
            "GET / HTTP/1.1\r\nHost: api.test\r\nCookie: a=1\r\ncookie: b=2\r\nX-Empty:\r\nX-Odd: a, b;  c=\"d\"\r\n\
             Accept-Encoding: br;q=1.0, gzip\r\n\r\n",
        ),
        ("target", "GET /a%2Fb/../c;p=1//d?q=1&q=2&r=%zz&?[] HTTP/1.1\r\nHost: api.test\r\n\r\n"),
        ("asterisk", "OPTIONS * HTTP/1.1\r\nHost: api.test\r\n\r\n"),
        ("other methods", "M-SEARCH /x HTTP/1.1\r\nHost: api.test\r\n\r\n"),
        ("lower case", "get /x HTTP/1.1\r\nHost: api.test\r\n\r\n"),
        ("range", "GET /x HTTP/1.1\r\nHost: api.test\r\nRange: bytes=0-1,5-\r\nIf-Range: \"a\"\r\n\r\n"),
        ("body", "POST /x HTTP/1.1\r\nHost: api.test\r\nContent-Length: 5\r\nX: y\r\n\r\nhello"),
        ("empty body", "POST /x HTTP/1.1\r\nHost: api.test\r\nContent-Length: 0\r\n\r\n"),
        ("body of a GET", "GET /x HTTP/1.1\r\nHost: api.test\r\nContent-Length: 5\r\n\r\nhello"),
        ("body of a DELETE", "DELETE /x HTTP/1.1\r\nHost: api.test\r\nContent-Length: 5\r\n\r\nhello"),
        (
            "chunked",
            "PUT /x HTTP/1.1\r\nHost: api.test\r\nTransfer-Encoding: chunked\r\nX: y\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n",
        ),
        (
            "chunked GET",
            "GET /x HTTP/1.1\r\nHost: api.test\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        ),
        (
            "trailers",
            "PUT /x HTTP/1.1\r\nHost: api.test\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n\
             5\r\nhello\r\n0\r\nx-sum: 6\r\n\r\n",
        ),
        ("nothing but a host", "GET /x HTTP/1.1\r\nhost: api.test\r\n\r\n"),
    ];
    let mut cases: Vec<_> = texts.iter().map(|(what, text)| (*what, text.as_bytes().to_vec())).collect();
    cases.push(("large", large.into_bytes()));
    cases.push(("many", many.into_bytes()));
    cases.push(("latin", b"GET /x HTTP/1.1\r\nHost: api.test\r\nX-Latin: caf\xe9\r\n\r\n".to_vec()));
    cases
}

#[test]
fn w09_requests_are_those_of_the_workload() {
    let world = World::new("w09-raw-requests");
    let origin = RawOrigin::start(&world, &[]);
    let gate = world.gate(&origin.policy(&world)).attach();
    for (what, request) in cases() {
        ask(dial_directly(&world, &origin), &request);
        let direct = origin.take();
        ask(dial(&gate), &request);
        let through = origin.take();
        let [direct, through] =
            [direct, through].map(|seen| seen.iter().map(|one| Message::parse(one)).collect::<Vec<_>>());
        assert_eq!(direct.len(), 1, "{what}");
        assert_eq!(through, direct, "{what}");
    }
}
