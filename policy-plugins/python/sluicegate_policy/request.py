"""Requests: the workload's, and those of the handler's own."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any, cast
from urllib.parse import quote, quote_plus, unquote_plus

from . import _gate
from ._text import Text, text, to_json
from .body import Content
from .message import HeaderPairs, Message, pairs
from .response import Response

_FORM = "application/x-www-form-urlencoded"


class Request(Message):
    """A request. What a rule of the document puts on goes onto the workload's only."""

    def __init__(
        self,
        method: str,
        url: str,
        *,
        headers: HeaderPairs | None = None,
        body: Content | None = None,
    ) -> None:
        """A request of the handler's own.

        Raises:
            Invalid: The method, the URL or a header is not well-formed.
        """
        super().__init__(_gate.call(_gate.http.Request.create, method, url))
        for name, value in pairs(headers):
            self.headers.add(name, value)
        if body is not None:
            self.body = body

    @classmethod
    def _of(cls, handle: _gate.http.Request) -> Request:
        request = cls.__new__(cls)
        Message.__init__(request, handle)
        return request

    def copy(self) -> Request:
        """Another request with the same head, without a body."""
        return Request._of(self._live().copy())

    @property
    def method(self) -> str:
        """The method, in upper case. Can be set."""
        return self._live().method()

    @method.setter
    def method(self, method: str) -> None:
        _gate.call(self._live().set_method, method)

    @property
    def url(self) -> str:
        """The whole URL, without the port that its scheme means anyway. Can be set."""
        return self._live().url()

    @url.setter
    def url(self, url: str) -> None:
        _gate.call(self._live().set_url, url)

    @property
    def scheme(self) -> str:
        """``https`` or ``http``."""
        return self._live().scheme()

    @property
    def host(self) -> str:
        """The host in its one normal form: compare this, and not text cut from the URL. Can be set, with
        or without a port.
        """
        return self._live().host()

    @host.setter
    def host(self, host: str) -> None:
        if any(character in host for character in "/?#@\\"):
            raise _gate.Invalid("a host has no path, query or user")
        self.url = f"{self.scheme}://{host}{self._target()}"

    @property
    def port(self) -> int:
        """The port."""
        return self._live().port()

    @property
    def path(self) -> str:
        """The path as it is written, without the query. Can be set."""
        return self._live().path()

    @path.setter
    def path(self, path: str) -> None:
        if not path.startswith("/") or "?" in path or "#" in path:
            raise _gate.Invalid("a path begins with / and has no query: quote what stands in it")
        query = self.query
        self.url = f"{self._origin()}{path}" + ("" if query is None else f"?{query}")

    @property
    def query(self) -> str | None:
        """What stands after ``?``. Can be set; ``None`` removes it."""
        return self._live().query()

    @query.setter
    def query(self, query: str | None) -> None:
        if query is not None and "#" in query:
            raise _gate.Invalid("a query has no fragment: quote what stands in it")
        self.url = f"{self._origin()}{self.path}" + ("" if query is None else f"?{query}")

    def query_param(self, name: str) -> str | None:
        """The first value of a parameter of the query, decoded."""
        for part in self._parameters():
            if _name(part) == name:
                return unquote_plus(part.partition("=")[2])
        return None

    def set_query(self, name: str, value: Text) -> None:
        """Puts one parameter in place of all of that name; the value, which may hold a secret, is encoded."""
        others = [part for part in self._parameters() if _name(part) != name]
        others.append(f"{quote(name, safe='')}={quote(text(value, f'parameter {name}'), safe='')}")
        self.query = "&".join(others)

    def remove_query(self, name: str) -> None:
        """Removes every parameter of that name."""
        others = [part for part in self._parameters() if _name(part) != name]
        self.query = "&".join(others) or None

    def set_bearer(self, token: Text) -> None:
        """The header ``authorization: Bearer …``."""
        self.headers["authorization"] = f"Bearer {text(token, 'a token')}"

    def set_basic_auth(self, user: str, password: Text) -> None:
        """The header ``authorization: Basic …`` (RFC 7617)."""
        if ":" in user:
            raise _gate.Invalid("a user's name has no colon in Basic authentication")
        credentials = f"{user}:{text(password, 'a password')}".encode()
        self.headers["authorization"] = f"Basic {base64.b64encode(credentials).decode()}"

    def set_json(self, value: Any) -> None:
        """Puts a value as JSON in place of the body; strings in it may be secrets."""
        self.body = to_json(value)
        self.headers["content-type"] = "application/json"

    def set_form(self, fields: Mapping[str, Text]) -> None:
        """Puts the fields of a form in place of the body; values may be secrets."""
        self.body = "&".join(
            f"{quote_plus(name)}={quote_plus(text(value, f'field {name}'))}" for name, value in fields.items()
        )
        self.headers["content-type"] = _FORM

    def _live(self) -> _gate.http.Request:
        return cast("_gate.http.Request", super()._live())

    def _origin(self) -> str:
        """Scheme, host and port, as they stand in the URL."""
        url = self.url
        return url[: url.index("/", url.index("://") + 3)]

    def _target(self) -> str:
        """Path and query."""
        return self.url[len(self._origin()) :]

    def _parameters(self) -> list[str]:
        return (self.query or "").split("&") if self.query else []

    def _send(self, timeout: float | None) -> Response:
        if self._body_is_sent:
            raise _gate.Invalid("the body was sent already: read it before it is sent, and set it again")
        milliseconds = (
            None if timeout is None else _gate.u32(round(timeout * 1000), "the timeout in milliseconds")
        )
        self._put_back()
        handle = self._live()
        # The gate takes what is sent; the handler may still ask for its URL, or send it again.
        self._body_is_sent = handle.has_body()
        self._handle = handle.copy()
        return Response._of(_gate.call(_gate.http.fetch, handle, milliseconds))


def _name(parameter: str) -> str:
    return unquote_plus(parameter.partition("=")[0])
