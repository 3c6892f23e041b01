//! Requests of HTTP/1 that readers are known to read differently, each with a second one hidden in it where it can
//! have one.
//!
//! What is collected here are kinds of differences as the http-garden project and the reports on request smuggling
//! find them between servers; each case is written for this test.

/// What a case has to come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// It is refused, and none of it arrives.
    Refused,
    /// It arrives as this one request, with this body.
    Body(&'static str),
    /// Its head is right, and its body is found wrong behind it: it never arrives whole.
    Cut,
}

use End::{Body, Cut, Refused};

/// A kind of difference, what is sent, and what it comes to. `@` stands for a path of the case's own, `^` for the
/// rest of a good head, and `~` for a request that nobody may take for one.
type Case = (&'static str, &'static str, End);

const HEAD: &str = "HTTP/1.1\r\nHost: api.test\r\n";
const HIDDEN: &str = "GET /hidden HTTP/1.1\r\nHost: api.test\r\n\r\n";

const TRANSFER_ENCODINGS: &[Case] = &[
    ("with a length", "POST @ ^Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n~", Refused),
    ("before a length", "POST @ ^Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n~", Refused),
    (
        "with a length of 0",
        "POST @ ^Content-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n~",
        Refused,
    ),
    ("twice", "POST @ ^Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n~", Refused),
    (
        "two of them",
        "POST @ ^Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n~",
        Refused,
    ),
    ("chunked twice", "POST @ ^Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n~", Refused),
    ("gzip before chunked", "POST @ ^Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n~", Refused),
    ("chunked before identity", "POST @ ^Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n~", Refused),
    ("identity", "POST @ ^Transfer-Encoding: identity\r\nContent-Length: 5\r\n\r\nhello~", Refused),
    ("a name that begins otherwise", "POST @ ^Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n~", Refused),
    ("a name that goes on", "POST @ ^Transfer-Encoding: chunkedx\r\n\r\n0\r\n\r\n~", Refused),
    ("a parameter", "POST @ ^Transfer-Encoding: chunked;q=1\r\n\r\n0\r\n\r\n~", Refused),
    ("in quotes", "POST @ ^Transfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n~", Refused),
    ("a comma behind", "POST @ ^Transfer-Encoding: chunked,\r\n\r\n0\r\n\r\n~", Refused),
    ("a comma before", "POST @ ^Transfer-Encoding: ,chunked\r\n\r\n0\r\n\r\n~", Refused),
    ("a vertical tab before", "POST @ ^Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n~", Refused),
    ("a form feed behind", "POST @ ^Transfer-Encoding: chunked\x0c\r\n\r\n0\r\n\r\n~", Refused),
    ("a NUL behind", "POST @ ^Transfer-Encoding: chunked\0\r\n\r\n0\r\n\r\n~", Refused),
    ("nothing", "POST @ ^Transfer-Encoding:\r\nContent-Length: 5\r\n\r\nhello~", Refused),
    ("a space before the colon", "POST @ ^Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n~", Refused),
    ("a tab before the colon", "POST @ ^Transfer-Encoding\t: chunked\r\n\r\n0\r\n\r\n~", Refused),
    ("a space before the name", "POST @ ^ Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n~", Refused),
    ("on a second line", "POST @ ^Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n~", Refused),
    ("behind a bare CR", "POST @ ^X: y\rTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n~", Refused),
    ("behind a bare LF", "POST @ ^X: y\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n~", Refused),
    (
        "of HTTP/1.0",
        "POST @ HTTP/1.0\r\nHost: api.test\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n~",
        Refused,
    ),
    (
        "of an upgrade",
        "POST @ ^Connection: upgrade\r\nUpgrade: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n~",
        Refused,
    ),
    ("in capitals", "POST @ ^TRANSFER-ENCODING: CHUNKED\r\n\r\n5\r\nhello\r\n0\r\n\r\n", Body("hello")),
    ("a tab before it", "POST @ ^Transfer-Encoding:\tchunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", Body("hello")),
    (
        "with an underscore",
        "POST @ ^Transfer_Encoding: chunked\r\nContent-Length: 5\r\n\r\nhello",
        Body("hello"),
    ),
    ("with a name that TE has", "POST @ ^TE: chunked\r\nContent-Length: 5\r\n\r\nhello", Body("hello")),
    (
        "that Connection names",
        "POST @ ^Connection: transfer-encoding\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        Body("hello"),
    ),
];

const CONTENT_LENGTHS: &[Case] = &[
    ("two that are alike", "POST @ ^Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello~", Refused),
    ("two that are not", "POST @ ^Content-Length: 5\r\nContent-Length: 0\r\n\r\nhello~", Refused),
    ("two in one", "POST @ ^Content-Length: 5, 5\r\n\r\nhello~", Refused),
    ("two in one without a comma", "POST @ ^Content-Length: 5 5\r\n\r\nhello~", Refused),
    ("a plus", "POST @ ^Content-Length: +5\r\n\r\nhello~", Refused),
    ("a minus", "POST @ ^Content-Length: -5\r\n\r\nhello~", Refused),
    ("hexadecimal", "POST @ ^Content-Length: 0x5\r\n\r\nhello~", Refused),
    ("an underscore in it", "POST @ ^Content-Length: 0_5\r\n\r\nhello~", Refused),
    ("a point", "POST @ ^Content-Length: 5.0\r\n\r\nhello~", Refused),
    ("an exponent", "POST @ ^Content-Length: 5e0\r\n\r\nhello~", Refused),
    ("nothing", "POST @ ^Content-Length:\r\n\r\nhello~", Refused),
    ("2^64", "POST @ ^Content-Length: 18446744073709551616\r\n\r\nhello~", Refused),
    ("2^64 and 5", "POST @ ^Content-Length: 18446744073709551621\r\n\r\nhello~", Refused),
    ("another alphabet's 5", "POST @ ^Content-Length: \u{ff15}\r\n\r\nhello~", Refused),
    ("a semicolon", "POST @ ^Content-Length: 5;\r\n\r\nhello~", Refused),
    ("a NUL", "POST @ ^Content-Length: 5\0\r\n\r\nhello~", Refused),
    ("a vertical tab", "POST @ ^Content-Length: 5\x0b\r\n\r\nhello~", Refused),
    ("a space before the colon", "POST @ ^Content-Length : 5\r\n\r\nhello~", Refused),
    ("on a second line", "POST @ ^Content-Length:\r\n 5\r\n\r\nhello~", Refused),
    ("that goes on on a second line", "POST @ ^Content-Length: 5\r\n 0\r\n\r\nhello~", Refused),
    (
        "of an upgrade",
        "POST @ ^Connection: upgrade\r\nUpgrade: x\r\nContent-Length: 5\r\n\r\nhello~",
        Refused,
    ),
    ("spaces around", "POST @ ^Content-Length: \t 5 \t\r\n\r\nhello", Body("hello")),
    ("zeros before", "POST @ ^Content-Length: 0005\r\n\r\nhello", Body("hello")),
    ("with an underscore", "POST @ ^Content_Length: 0\r\nContent-Length: 5\r\n\r\nhello", Body("hello")),
    (
        "that Connection names",
        "POST @ ^Connection: content-length\r\nContent-Length: 5\r\n\r\nhello",
        Body("hello"),
    ),
    ("of a GET", "GET @ ^Content-Length: 5\r\n\r\nhello", Body("hello")),
    ("of a request in a body", "GET @ ^Content-Length: 40\r\n\r\n~", Body(HIDDEN)),
    ("of a HEAD", "HEAD @ ^Content-Length: 5\r\n\r\nhello", Body("hello")),
    ("of HTTP/1.0", "POST @ HTTP/1.0\r\nHost: api.test\r\nContent-Length: 5\r\n\r\nhello", Body("hello")),
];

const LINES: &[Case] = &[
    ("all end in LF", "GET @ HTTP/1.1\nHost: api.test\n\n~", Refused),
    ("one ends in LF", "GET @ ^X: a\nY: b\r\n\r\n~", Refused),
    ("the last ends in LF", "GET @ ^X: a\r\n\n~", Refused),
    ("one ends in CR", "GET @ ^X: a\rY: b\r\n\r\n~", Refused),
    ("one ends in CR CR LF", "GET @ ^X: a\r\r\n\r\n~", Refused),
    ("the last ends in CR CR LF", "GET @ ^\r\r\n~", Refused),
    ("one goes on behind a space", "GET @ ^X: a\r\n b\r\n\r\n~", Refused),
    ("one goes on behind a tab", "GET @ ^X: a\r\n\tb\r\n\r\n~", Refused),
    ("one of spaces", "GET @ ^ \r\n\r\n~", Refused),
    ("the first begins with a space", "GET @ HTTP/1.1\r\n Host: api.test\r\n\r\n~", Refused),
    ("one without a colon", "GET @ ^X\r\n\r\n~", Refused),
    ("one without a name", "GET @ ^: x\r\n\r\n~", Refused),
    ("a name of two words", "GET @ ^X Y: z\r\n\r\n~", Refused),
    ("a name in brackets", "GET @ ^(X): z\r\n\r\n~", Refused),
    ("a name with a slash", "GET @ ^X/Y: z\r\n\r\n~", Refused),
    ("a name with a NUL", "GET @ ^X\0: z\r\n\r\n~", Refused),
    ("a name that is not ASCII", "GET @ ^\u{e9}: z\r\n\r\n~", Refused),
    ("a value with a NUL", "GET @ ^X: a\0b\r\n\r\n~", Refused),
    ("a value with a control", "GET @ ^X: a\x01b\r\n\r\n~", Refused),
    ("a value with DEL", "GET @ ^X: a\x7fb\r\n\r\n~", Refused),
    ("an LF before it", "\nGET @ ^\r\n~", Refused),
    ("a space before it", " GET @ ^\r\n~", Refused),
    ("a NUL before it", "\0GET @ ^\r\n~", Refused),
    ("a value that is not ASCII", "GET @ ^X: \u{e9}\r\n\r\n", Body("")),
    ("a value of nothing", "GET @ ^X:\r\n\r\n", Body("")),
];

const REQUEST_LINES: &[Case] = &[
    ("two spaces before the target", "GET  @ ^\r\n~", Refused),
    ("two spaces behind the target", "GET @  ^\r\n~", Refused),
    ("a tab before the target", "GET\t@ ^\r\n~", Refused),
    ("a tab behind the target", "GET @\tHTTP/1.1\r\nHost: api.test\r\n\r\n~", Refused),
    ("a space at its end", "GET @ HTTP/1.1 \r\nHost: api.test\r\n\r\n~", Refused),
    ("two versions", "GET @ HTTP/1.1 HTTP/1.0\r\nHost: api.test\r\n\r\n~", Refused),
    ("no version", "GET @\r\nHost: api.test\r\n\r\n~", Refused),
    ("no target", "GET HTTP/1.1\r\nHost: api.test\r\n\r\n~", Refused),
    ("no method", " @ ^\r\n~", Refused),
    ("HTTP/0.9", "GET @ HTTP/0.9\r\nHost: api.test\r\n\r\n~", Refused),
    ("HTTP/1.2", "GET @ HTTP/1.2\r\nHost: api.test\r\n\r\n~", Refused),
    ("HTTP/2.0", "GET @ HTTP/2.0\r\nHost: api.test\r\n\r\n~", Refused),
    ("HTTP/1.10", "GET @ HTTP/1.10\r\nHost: api.test\r\n\r\n~", Refused),
    ("HTTP/01.1", "GET @ HTTP/01.1\r\nHost: api.test\r\n\r\n~", Refused),
    ("HTTP/+1.1", "GET @ HTTP/+1.1\r\nHost: api.test\r\n\r\n~", Refused),
    ("HTTP/1,1", "GET @ HTTP/1,1\r\nHost: api.test\r\n\r\n~", Refused),
    ("http/1.1", "GET @ http/1.1\r\nHost: api.test\r\n\r\n~", Refused),
    ("HTP/1.1", "GET @ HTP/1.1\r\nHost: api.test\r\n\r\n~", Refused),
    ("a method with a colon", "GE:T @ ^\r\n~", Refused),
    ("a method in brackets", "(GET) @ ^\r\n~", Refused),
    ("a target without a slash", "GET a@ ^\r\n~", Refused),
    ("a target with a fragment", "GET @#x ^\r\n~", Refused),
    ("a target with a control", "GET @\x01 ^\r\n~", Refused),
    ("a target with a NUL", "GET @\0 ^\r\n~", Refused),
    ("a target with DEL", "GET @\x7f ^\r\n~", Refused),
    ("a target with a bare CR", "GET @\rx ^\r\n~", Refused),
    ("a target of `*`", "GET * ^X: @\r\n\r\n~", Refused),
    ("an authority", "GET api.test:80 ^X: @\r\n\r\n~", Refused),
    ("CONNECT", "CONNECT api.test:80 ^X: @\r\n\r\n", Refused),
];

const HOSTS: &[Case] = &[
    ("none", "GET @ HTTP/1.1\r\nX: y\r\n\r\n~", Refused),
    ("two that are alike", "GET @ ^Host: api.test\r\n\r\n~", Refused),
    ("two that are not", "GET @ ^Host: evil.test\r\n\r\n~", Refused),
    ("two in one", "GET @ HTTP/1.1\r\nHost: api.test, evil.test\r\n\r\n~", Refused),
    ("two without a comma", "GET @ HTTP/1.1\r\nHost: api.test evil.test\r\n\r\n~", Refused),
    ("nothing", "GET @ HTTP/1.1\r\nHost:\r\n\r\n~", Refused),
    ("a space before the colon", "GET @ HTTP/1.1\r\nHost : api.test\r\n\r\n~", Refused),
    ("on a second line", "GET @ HTTP/1.1\r\nHost:\r\n api.test\r\n\r\n~", Refused),
    ("with a user", "GET @ HTTP/1.1\r\nHost: api.test@@evil.test\r\n\r\n~", Refused),
    ("with a path", "GET @ HTTP/1.1\r\nHost: api.test/x\r\n\r\n~", Refused),
    ("with a scheme", "GET @ HTTP/1.1\r\nHost: http://api.test\r\n\r\n~", Refused),
    ("with a port that is none", "GET @ HTTP/1.1\r\nHost: api.test:80x\r\n\r\n~", Refused),
    ("with a port beyond all", "GET @ HTTP/1.1\r\nHost: api.test:65616\r\n\r\n~", Refused),
    ("with two ports", "GET @ HTTP/1.1\r\nHost: api.test:80:80\r\n\r\n~", Refused),
    ("with a control", "GET @ HTTP/1.1\r\nHost: api.test\x01\r\n\r\n~", Refused),
    ("with a percent", "GET @ HTTP/1.1\r\nHost: api%2etest\r\n\r\n~", Refused),
    ("another than the target's", "GET http://api.test@ HTTP/1.1\r\nHost: evil.test\r\n\r\n~", Refused),
    ("the target's another", "GET http://evil.test@ ^\r\n~", Refused),
    ("the target's with a user", "GET http://api.test@@evil.test/ ^X: @\r\n\r\n~", Refused),
    ("the target's without slashes", "GET http:@ ^\r\n~", Refused),
    ("the target's with a backslash", "GET http:\\\\api.test@ ^\r\n~", Refused),
    ("the target's of another scheme", "GET https://api.test@ ^\r\n~", Refused),
    ("the target's of a strange scheme", "GET ftp://api.test@ ^\r\n~", Refused),
    ("the target's, and the same", "GET http://api.test@ ^\r\n", Body("")),
    ("with its port", "GET @ HTTP/1.1\r\nHost: api.test:80\r\n\r\n", Body("")),
    ("in capitals", "GET @ HTTP/1.1\r\nHOST: API.TEST\r\n\r\n", Body("")),
    ("that Connection names", "GET @ ^Connection: host\r\n\r\n", Body("")),
];

/// Behind `POST @ ^Transfer-Encoding: chunked\r\n\r\n`.
const CHUNKS: &[Case] = &[
    ("an extension", "5;x=y\r\nhello\r\n0\r\n\r\n", Body("hello")),
    ("an extension of nothing", "5;\r\nhello\r\n0;\r\n\r\n", Body("hello")),
    ("an extension in quotes", "5;x=\"a;b\"\r\nhello\r\n0\r\n\r\n", Body("hello")),
    ("spaces behind a size", "5 \t\r\nhello\r\n0\r\n\r\n", Body("hello")),
    ("zeros before a size", "0005\r\nhello\r\n0\r\n\r\n", Body("hello")),
    ("a last size of many zeros", "5\r\nhello\r\n0000\r\n\r\n", Body("hello")),
    ("a large letter", "A\r\nhellohello\r\n0\r\n\r\n", Body("hellohello")),
    ("a request in a chunk", "28\r\n~\r\n0\r\n\r\n", Body(HIDDEN)),
    ("a length in the trailers", "5\r\nhello\r\n0\r\nContent-Length: 50\r\n\r\n", Body("hello")),
    ("an encoding in the trailers", "5\r\nhello\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n", Body("hello")),
    ("a host in the trailers", "5\r\nhello\r\n0\r\nHost: evil.test\r\n\r\n", Body("hello")),
    ("an LF in an extension", "5;x\ny\r\nhello\r\n0\r\n\r\n~", Cut),
    ("an LF in quotes in an extension", "5;x=\"\n\"\r\nhello\r\n0\r\n\r\n~", Cut),
    ("a bare CR in an extension", "5;x\ry\r\nhello\r\n0\r\n\r\n~", Cut),
    ("an LF behind a size", "5\nhello\r\n0\r\n\r\n~", Cut),
    ("a CR behind a size", "5\rhello\r\n0\r\n\r\n~", Cut),
    ("two CR behind a size", "5\r\r\nhello\r\n0\r\n\r\n~", Cut),
    ("a size with 0x", "0x5\r\nhello\r\n0\r\n\r\n~", Cut),
    ("a size with a plus", "+5\r\nhello\r\n0\r\n\r\n~", Cut),
    ("a size with a minus", "-5\r\nhello\r\n0\r\n\r\n~", Cut),
    ("a size with an underscore", "0_5\r\nhello\r\n0\r\n\r\n~", Cut),
    ("a size with a comma", "5,5\r\nhello\r\n0\r\n\r\n~", Cut),
    ("a size with a NUL", "5\0\r\nhello\r\n0\r\n\r\n~", Cut),
    ("a space before a size", " 5\r\nhello\r\n0\r\n\r\n~", Cut),
    ("no size", "\r\nhello\r\n0\r\n\r\n~", Cut),
    ("an extension without a size", ";x\r\nhello\r\n0\r\n\r\n~", Cut),
    ("a size of 2^64 and 5", "10000000000000005\r\nhello\r\n0\r\n\r\n~", Cut),
    ("a size of more digits than there are", "00000000000000000005\r\nhello\r\n0\r\n\r\n~", Cut),
    ("nothing behind a chunk", "5\r\nhello0\r\n\r\n~", Cut),
    ("an LF behind a chunk", "5\r\nhello\n0\r\n\r\n~", Cut),
    ("a CR behind a chunk", "5\r\nhello\r0\r\n\r\n~", Cut),
    ("a chunk that is too long", "5\r\nhello!\r\n0\r\n\r\n~", Cut),
    ("a chunk that is too short", "6\r\nhello\r\n0\r\n\r\n~", Cut),
    ("a trailer that ends in LF", "5\r\nhello\r\n0\r\nX: y\n\r\n~", Cut),
    ("an LF behind the last chunk", "5\r\nhello\r\n0\n\r\n~", Cut),
    ("an end in LF", "5\r\nhello\r\n0\r\n\n~", Cut),
    ("an end in CR", "5\r\nhello\r\n0\r\n\r~", Cut),
    ("a request in place of trailers", "5\r\nhello\r\n0\r\n~", Cut),
    ("a trailer without a colon", "5\r\nhello\r\n0\r\nX\r\n\r\n~", Cut),
    ("a trailer with a space before the colon", "5\r\nhello\r\n0\r\nX : y\r\n\r\n~", Cut),
    ("a trailer that goes on", "5\r\nhello\r\n0\r\nX: y\r\n z\r\n\r\n~", Cut),
    ("no end", "5\r\nhello\r\n", Cut),
];

pub(crate) fn cases() -> Vec<(String, String, End)> {
    let all = [
        ("Transfer-Encoding", TRANSFER_ENCODINGS),
        ("Content-Length", CONTENT_LENGTHS),
        ("lines", LINES),
        ("request lines", REQUEST_LINES),
        ("Host", HOSTS),
    ];
    let mut cases: Vec<_> = all
        .iter()
        .flat_map(|(of, cases)| {
            cases.iter().map(move |(what, sent, end)| (*of, *what, (*sent).to_owned(), *end))
        })
        .collect();
    let chunked = |sent: &str| format!("POST @ ^Transfer-Encoding: chunked\r\n\r\n{sent}");
    cases.extend(CHUNKS.iter().map(|(what, sent, end)| ("chunks", *what, chunked(sent), *end)));
    let written = |number: usize, sent: &str| {
        // What stands for a path twice is none but the first time.
        sent.replace("@@", "\u{e000}")
            .replace('@', &path(number))
            .replace('\u{e000}', "@")
            .replace('^', HEAD)
            .replace('~', HIDDEN)
    };
    let numbered = cases.into_iter().enumerate();
    numbered
        .map(|(number, (of, what, sent, end))| (format!("{of}: {what}"), written(number, &sent), end))
        .collect()
}

pub(crate) fn path(number: usize) -> String {
    format!("/case-{number}.")
}
