"""A gate in memory, in place of the modules that componentize-py makes of ``policy.wit``."""

from __future__ import annotations

import hashlib
import hmac
import sys
from dataclasses import dataclass, field
from enum import Enum
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

UPSTREAM_BODY = b"from upstream"


@dataclass(frozen=True)
class Err(Exception):
    value: Any


@dataclass
class Error_Denied:
    value: str


@dataclass
class Error_TimedOut:
    pass


@dataclass
class Error_Invalid:
    value: str


@dataclass
class Error_Failed:
    value: str


@dataclass
class Flow:
    host: str = "pinned.test"
    port: int = 443
    original_destination: str = "198.18.0.2:443"
    tls: bool = True
    sni: str | None = "pinned.test"
    alpn: list[str] = field(default_factory=lambda: ["h2", "http/1.1"])


class Decision(Enum):
    JUDGE = 0
    PASS = 1


class Owned:
    """A handle: gone once it was given to the gate."""

    gone = False

    def give(self):
        assert not self.gone, "a handle was used after it was given away"
        self.gone = True
        return self


class Body(Owned):
    def __init__(self, content: bytes):
        assert isinstance(content, bytes)
        self.content, self.begun = content, False

    def read(self, limit):
        assert not self.gone
        if self.begun or len(self.content) > limit:
            raise Err(Error_Invalid("too long, or begun"))
        return self.content

    def peek(self, limit):
        assert not self.gone
        return self.content[:limit]

    def next_chunk(self):
        assert not self.gone
        self.begun = True
        chunk, self.content = self.content[:4], self.content[4:]
        return chunk or None

    def tee(self):
        return Body(self.content)


class Message(Owned):
    def __init__(self):
        self.pairs, self.own_body, self.tap = [], None, None

    def headers(self):
        assert not self.gone
        return list(self.pairs)

    def header(self, name):
        assert not self.gone
        return [value for known, value in self.pairs if known == name.lower()]

    def set_headers(self, headers):
        self.pairs = [(name.lower(), value) for name, value in headers]

    def set_header(self, name, value):
        self.delete_header(name)
        self.append_header(name, value)

    def append_header(self, name, value):
        assert not self.gone
        if not isinstance(value, str) or "\n" in value:
            raise Err(Error_Invalid("bad header"))
        self.pairs.append((name.lower(), value))

    def delete_header(self, name):
        assert not self.gone
        self.pairs = [pair for pair in self.pairs if pair[0] != name.lower()]

    def has_body(self):
        assert not self.gone
        return self.own_body is not None

    def take_body(self):
        assert not self.gone
        body, self.own_body = self.own_body, None
        return body

    def set_body(self, body):
        assert not self.gone
        self.own_body = None if body is None else Body(body.give().content)

    def tap_body(self, limit):
        self.tap = limit


class Request(Message):
    @classmethod
    def create(cls, method, url):
        request = cls()
        request.set_method(method)
        request.set_url(url)
        return request

    def copy(self):
        assert not self.gone
        copy = Request.create(self.verb, self.address)
        copy.pairs = list(self.pairs)
        return copy

    def method(self):
        return self.verb

    def set_method(self, method):
        if not method.isupper():
            raise Err(Error_Invalid("bad method"))
        self.verb = method

    def url(self):
        assert not self.gone
        return self.address

    def set_url(self, url):
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or "#" in url:
            raise Err(Error_Invalid("bad URL"))
        self.address = url if parts.path else f"{parts.scheme}://{parts.netloc}/" + url.partition("?")[2]

    def scheme(self):
        return urlsplit(self.address).scheme

    def host(self):
        return urlsplit(self.address).hostname

    def port(self):
        return urlsplit(self.address).port or {"http": 80, "https": 443}[self.scheme()]

    def path(self):
        return urlsplit(self.address).path

    def query(self):
        return self.address.partition("?")[2] if "?" in self.address else None


class Response(Message):
    @classmethod
    def create(cls, status, headers, body):
        response = cls()
        response.code = status
        for name, value in headers:
            response.append_header(name, value)
        response.set_body(body)
        return response

    def status(self):
        return self.code

    def set_status(self, status):
        self.code = status


@dataclass
class Binding_Secret:
    pass


@dataclass
class Binding_Kv:
    pass


@dataclass
class Binding_Objects:
    pass


@dataclass
class Binding_Constant:
    value: str


@dataclass
class RequestContext:
    container_id: str = "c-1"
    instance_id: str = "box"
    labels: list = field(default_factory=lambda: [("team", "blue")])
    request_id: str = "r-1"
    original_destination: str = "198.18.0.2:443"
    sni: str | None = "scenario.test"
    tls: str | None = "TLSv1_3"
    protocol: str = "HTTP/1.1"
    handler: str = "test"
    handler_version: str = "0123456789ab"
    params: str = '{"greeting": "hello"}'


@dataclass
class Metadata:
    length: int
    content_type: str | None
    etag: str | None


class Level(Enum):
    DEBUG = 0
    INFO = 1
    WARN = 2
    ERROR = 3


class Gate:
    """What the fake gate was asked, and how it answers."""

    def __init__(self):
        self.sent: list[Request] = []
        self.timeouts: list[int | None] = []
        self.answered: list[Response] = []
        self.asked: list[tuple[str, int]] = []
        self.log: list[tuple[Level, str, str]] = []
        self.values: dict[str, bytes] = {}
        self.stored: dict[str, tuple[bytes, str | None]] = {}
        self.fail: Any = None
        self.draws = 0

    def fetch(self, request, timeout_ms):
        request.give()
        self.sent.append(request)
        self.timeouts.append(timeout_ms)
        if self.fail is not None:
            raise Err(self.fail)
        return Response.create(200, [("content-type", "text/plain")], Body(UPSTREAM_BODY))

    def respond(self, response):
        self.answered.append(response.give())

    def placeholder(self, name):
        if name != "TOKEN":
            raise Err(Error_Invalid(f"there is no secret {name}"))
        return "sluicegate_secret_00ff_0_"

    def hmac(self, name, data):
        return hmac.digest(b"key of " + name.encode(), data, "sha256")

    def environment(self):
        return [
            ("TOKEN", Binding_Secret()),
            ("kv", Binding_Kv()),
            ("objects", Binding_Objects()),
            ("LIMITS", Binding_Constant('{"a": [1, 2]}')),
            ("TOKEN", Binding_Constant('"a constant of the same name"')),
        ]

    def put(self, binding, key, value, ttl):
        assert isinstance(value, bytes)
        self.values[key] = value

    def increment(self, binding, key, by, ttl):
        self.values[key] = str(int(self.values.get(key, b"0")) + by).encode()
        return int(self.values[key])

    def get_object(self, binding, key):
        if key not in self.stored:
            return None
        return self.head_object(binding, key), Body(self.stored[key][0])

    def head_object(self, binding, key):
        if key not in self.stored:
            return None
        content, content_type = self.stored[key]
        return Metadata(len(content), content_type, None)

    def put_object(self, binding, key, content, content_type):
        self.stored[key] = (content.give().content, content_type)

    def bytes(self, count):
        assert 0 < count <= 65_536
        self.draws += 1
        return hashlib.shake_128(str(self.draws).encode()).digest(count)


gate = Gate()


def reset() -> Gate:
    """A gate that was asked nothing yet."""
    gate.__init__()
    return gate


class Direction(Enum):
    SENT = 0
    RECEIVED = 1


@dataclass
class Content_Text:
    value: str


@dataclass
class Content_Binary:
    value: bytes


@dataclass
class Message:
    direction: Direction = Direction.SENT
    content: Content_Text | Content_Binary = field(default_factory=lambda: Content_Text("hello"))
    url: str = "https://a.test/chat?room=1"
    host: str = "a.test"
    port: int = 443
    path: str = "/chat"
    subprotocol: str | None = None


@dataclass
class Verdict_Pass:
    pass


@dataclass
class Verdict_Drop:
    pass


@dataclass
class Verdict_Replace:
    value: Content_Text | Content_Binary


def install() -> None:
    """Makes the modules of the component."""
    interfaces = {
        "http": {
            "Body": Body,
            "Request": Request,
            "Response": Response,
            "Error_Denied": Error_Denied,
            "Error_TimedOut": Error_TimedOut,
            "Error_Invalid": Error_Invalid,
            "Error_Failed": Error_Failed,
            "fetch": lambda request, timeout_ms: gate.fetch(request, timeout_ms),
            "respond": lambda response: gate.respond(response),
        },
        "context": {
            "RequestContext": RequestContext,
            "Binding_Secret": Binding_Secret,
            "Binding_Kv": Binding_Kv,
            "Binding_Objects": Binding_Objects,
            "Binding_Constant": Binding_Constant,
            "current": RequestContext,
            "environment": lambda: gate.environment(),
        },
        "secrets": {
            "placeholder": lambda name: gate.placeholder(name),
            "hmac_sha256": lambda name, data: gate.hmac(name, data),
        },
        "kv": {
            "get": lambda binding, key: gate.values.get(key),
            "put": lambda *arguments: gate.put(*arguments),
            "delete": lambda binding, key: gate.values.pop(key, None) and None,
            "list_keys": lambda binding, prefix: sorted(key for key in gate.values if key.startswith(prefix)),
            "increment": lambda *arguments: gate.increment(*arguments),
        },
        "objects": {
            "get": lambda *arguments: gate.get_object(*arguments),
            "head": lambda *arguments: gate.head_object(*arguments),
            "put": lambda *arguments: gate.put_object(*arguments),
            "delete": lambda binding, key: gate.stored.pop(key, None) and None,
            "list_keys": lambda binding, prefix: sorted(key for key in gate.stored if key.startswith(prefix)),
        },
        "approval": {"ask": lambda reason, seconds: gate.asked.append((reason, seconds))},
        "log": {"Level": Level, "write": lambda *arguments: gate.log.append(arguments)},
        "clock": {
            "now_ms": lambda: 1_795_000_000_123,
            "elapsed_ns": lambda: 5_000_000,
            "sleep_ms": lambda duration: gate.asked.append(("sleep", duration)),
        },
        "random": {"bytes": lambda count: gate.bytes(count)},
        "connection": {"Flow": Flow, "Decision": Decision},
        "websocket": {
            "Direction": Direction,
            "Content_Text": Content_Text,
            "Content_Binary": Content_Binary,
            "Message": Message,
            "Verdict_Pass": Verdict_Pass,
            "Verdict_Drop": Verdict_Drop,
            "Verdict_Replace": Verdict_Replace,
        },
    }
    types = module("componentize_py_types", {"Err": Err})
    # A world of requests alone; tests put `on_connect` beside it.
    world = module("wit_world", {"WitWorld": type("WitWorld", (), {"outbound": None})})
    imports = module("wit_world.imports", {})
    sys.modules |= {"componentize_py_types": types, "wit_world": world, "wit_world.imports": imports}
    for name, items in interfaces.items():
        made = module(f"wit_world.imports.{name}", items)
        setattr(imports, name, made)
        sys.modules[made.__name__] = made


def module(name: str, items: dict[str, Any]) -> ModuleType:
    made = ModuleType(name)
    vars(made).update(items)
    return made


install()
