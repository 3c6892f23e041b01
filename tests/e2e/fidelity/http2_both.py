"""What the HTTP/2 origin and client of these tests share: cases, and heads that are neither checked nor changed.

Texts are Latin-1, so that every byte is one character.
"""

import h2.config
import h2.connection
import h2.events
import hpack

LARGE = "x" * 60000


def connection(client_side):
    unchecked = {
        f"{what}_{way}_headers": False for what in ("validate", "normalize") for way in ("inbound", "outbound")
    }
    config = h2.config.H2Configuration(client_side=client_side, header_encoding=None, **unchecked)
    http = h2.connection.H2Connection(config)
    http.initiate_connection()
    return http


def encoded(fields):
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in fields]


def shown(fields):
    def kind(field):
        return ["never indexed"] if isinstance(field, hpack.NeverIndexedHeaderTuple) else []

    return [[field[0].decode("latin-1"), field[1].decode("latin-1"), *kind(field)] for field in fields]


def send(http, stream, message):
    """A message is a list of `[headers, fields]`, `[data, text]` and `[reset, code]`; the last one ends the stream."""
    for number, (kind, what) in enumerate(message):
        end = number + 1 == len(message)
        if kind == "headers":
            http.send_headers(stream, encoded(what), end_stream=end)
        elif kind == "sensitive":
            fields = [hpack.NeverIndexedHeaderTuple(*field) for field in encoded(what)]
            http.send_headers(stream, fields, end_stream=end)
        elif kind == "data":
            http.send_data(stream, what.encode("latin-1"), end_stream=end)
        elif kind == "reset":
            http.reset_stream(stream, what)


class Seen:
    """What came on a stream, as a list of the same kinds; neighbouring DATA is one."""

    def __init__(self):
        self.message = []
        self.is_over = False

    def take(self, http, event):
        kinds = (
            h2.events.RequestReceived,
            h2.events.ResponseReceived,
            h2.events.InformationalResponseReceived,
            h2.events.TrailersReceived,
        )
        if isinstance(event, kinds):
            self.message.append(["headers", shown(event.headers)])
        elif isinstance(event, h2.events.DataReceived):
            text = event.data.decode("latin-1")
            if event.flow_controlled_length:
                http.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            is_empty = not text and event.stream_ended is None
            if is_empty:
                self.message.append(["empty data", ""])
            elif self.message[-1][0] == "data":
                self.message[-1][1] += text
            elif text or self.message[-1][0] == "headers":
                self.message.append(["data", text])
        elif isinstance(event, h2.events.StreamReset):
            self.message.append(["reset", int(event.error_code)])
            self.is_over = True
        elif isinstance(event, h2.events.StreamEnded):
            self.is_over = True


def head(path, *fields, method="GET", authority="api.test"):
    # The order of curl and of browsers differ; this is curl's.
    return [(":method", method), (":path", path), (":scheme", "https"), (":authority", authority), *fields]


REQUESTS = {
    "plain": [("headers", head("/"))],
    "pseudo-headers in another order": [
        ("headers", [(":authority", "api.test"), (":scheme", "https"), (":path", "/"), (":method", "GET")])
    ],
    "order": [("headers", head("/", ("x-b", "1"), ("accept", "*/*"), ("x-a", "2"), ("user-agent", "odd"), ("x-c", "")))],
    "duplicates": [("headers", head("/", ("x-a", "1"), ("x-b", "2"), ("x-a", "3"), ("x-a", "1")))],
    "cookie crumbs": [("headers", head("/", ("cookie", "a=1"), ("cookie", "b=2"), ("cookie", "c=3; d=4")))],
    "odd values": [("headers", head("/", ("x-odd", 'a, b;  c="d"'), ("x-latin", "caf\xe9"), ("x-tab", "a\tb")))],
    "trailers wanted": [("headers", head("/", ("te", "trailers"), ("priority", "u=1, i")))],
    "target": [("headers", head("/a%2Fb/../c;p=1//d?q=1&q=2&r=%zz&?[]"))],
    "asterisk": [("headers", head("*", method="OPTIONS"))],
    "method": [("headers", head("/", method="M-SEARCH"))],
    "method in lower case": [("headers", head("/", method="get"))],
    "host besides": [("headers", head("/", ("host", "api.test")))],
    "authority in capitals": [("headers", head("/", authority="API.test"))],
    "authority with its port": [("headers", head("/", authority="api.test:443"))],
    "large": [("headers", head("/", ("x-large", LARGE)))],
    "many": [("headers", head("/", *[(f"x-{number}", str(number)) for number in range(250)]))],
    "sensitive": [("sensitive", head("/", ("authorization", "Basic eDp5"), ("x-secret", "1")))],
    "length": [("headers", head("/", ("content-length", "5"), method="POST")), ("data", "hello")],
    "no length": [("headers", head("/", method="POST")), ("data", "hello")],
    "length 0": [("headers", head("/", ("content-length", "0"), method="POST"))],
    "length 0 and empty data": [("headers", head("/", ("content-length", "0"), method="POST")), ("data", "")],
    "no length and empty data": [("headers", head("/", method="POST")), ("data", "")],
    "no body": [("headers", head("/", method="POST"))],
    "body of a GET": [("headers", head("/")), ("data", "hello")],
    "body of a DELETE": [("headers", head("/", ("content-length", "5"), method="DELETE")), ("data", "hello")],
    "empty data between": [
        ("headers", head("/", method="POST")), ("data", "a"), ("data", ""), ("data", "b"), ("data", "")
    ],
    "trailers": [
        ("headers", head("/", ("trailer", "x-sum"), method="POST")),
        ("data", "hello"),
        ("headers", [("x-sum", "5"), ("x-more", "1"), ("x-sum", "6")]),
    ],
    "trailers without data": [("headers", head("/", method="POST")), ("headers", [("x-sum", "0")])],
    "trailers behind a length": [
        ("headers", head("/", ("content-length", "5"), method="POST")), ("data", "hello"), ("headers", [("x-sum", "5")])
    ],
}


def answer(status, *fields):
    return ("headers", [(":status", str(status)), *fields])


ANSWERS = {
    "/plain": [answer(200, ("content-length", "5")), ("data", "hello")],
    "/no-length": [answer(200), ("data", "hello")],
    "/nothing": [answer(200)],
    "/length-0": [answer(200, ("content-length", "0"))],
    "/empty-data": [answer(200), ("data", "")],
    "/empty-data-between": [answer(200), ("data", "a"), ("data", ""), ("data", "b"), ("data", "")],
    "/order": [answer(200, ("server", "raw"), ("x-b", "1"), ("date", "Sat, 21 Nov 2026 00:00:00 GMT"), ("x-a", "2"))],
    "/duplicates": [answer(200, ("set-cookie", "a=1; Path=/"), ("x-a", "1"), ("set-cookie", "b=2"), ("x-a", "2"))],
    "/odd": [answer(200, ("x-empty", ""), ("x-odd", 'a, b;  c="d"'), ("x-latin", "caf\xe9"), ("x-tab", "a\tb"))],
    "/sensitive": [("sensitive", [(":status", "200"), ("set-cookie", "a=1")])],
    "/status": [answer(299)],
    "/no-content": [answer(204, ("x-a", "1"))],
    "/unchanged": [answer(304, ("etag", '"a"'))],
    "/unchanged-length": [answer(304, ("etag", '"a"'), ("content-length", "9"))],
    "/part": [answer(206, ("content-range", "bytes 0-1/9"), ("content-length", "2")), ("data", "ab")],
    "/moved": [answer(302, ("location", "https://other.test/"))],
    "/failing": [answer(500), ("data", "bad")],
    "/large": [answer(200, ("x-large", LARGE)), ("data", "ok")],
    "/many": [answer(200, *[(f"x-{number}", str(number)) for number in range(250)])],
    "/trailers": [answer(200, ("trailer", "x-sum")), ("data", "abc"), ("headers", [("x-sum", "6"), ("x-more", "")])],
    "/trailers-without-data": [answer(200), ("headers", [("x-sum", "0"), ("x-sum", "1")])],
    "/trailers-behind-a-length": [answer(200, ("content-length", "3")), ("data", "abc"), ("headers", [("x-sum", "6")])],
    "/early-hints": [
        answer(103, ("link", "</a.css>; rel=preload")), answer(200, ("content-length", "2")), ("data", "ok")
    ],
    "/reset": [answer(200), ("data", "abc"), ("reset", 2)],
}
# Answered to HEAD.
HEADS = {
    "/head-length": [answer(200, ("content-length", "1234"))],
    "/head": [answer(200, ("x-a", "1"))],
}
