"""Responses: an upstream's, and those of the handler's own."""

from __future__ import annotations

from typing import Any, cast

from . import _gate
from ._text import to_json
from .body import Body, Content, given
from .message import HeaderPairs, Message, pairs


class Response(Message):
    """A response. No secret can be put into one."""

    def __init__(
        self,
        body: Content | None = None,
        status: int = 200,
        *,
        headers: HeaderPairs | None = None,
    ) -> None:
        """A response of the handler's own, with a status of 200 to 599.

        Without a ``content-type`` among the headers text is ``text/plain; charset=utf-8`` and bytes are
        ``application/octet-stream``; a body that is passed on has none.

        Raises:
            Invalid: The status or a header is not well-formed.
        """
        written = pairs(headers)
        kind = _media_type(body)
        if kind is not None and all(name.lower() != "content-type" for name, _ in written):
            written.append(("content-type", kind))
        handle = None if body is None else given(body)
        super().__init__(_gate.call(_gate.http.Response.create, _status(status), written, handle))

    @classmethod
    def json(cls, value: Any, status: int = 200, *, headers: HeaderPairs | None = None) -> Response:
        """A response with a value as JSON."""
        written = [(name, text) for name, text in pairs(headers) if name.lower() != "content-type"]
        return cls(to_json(value), status, headers=[*written, ("content-type", "application/json")])

    @classmethod
    def _of(cls, handle: _gate.http.Response) -> Response:
        response = cls.__new__(cls)
        Message.__init__(response, handle)
        return response

    @property
    def status(self) -> int:
        """The status. Can be set."""
        return self._live().status()

    @status.setter
    def status(self, status: int) -> None:
        _gate.call(self._live().set_status, _status(status))

    def _live(self) -> _gate.http.Response:
        return cast("_gate.http.Response", super()._live())

    def _give(self) -> _gate.http.Response:
        self._put_back()
        handle = self._live()
        self._handle = None
        return handle


def _media_type(body: Content | None) -> str | None:
    if body is None or isinstance(body, Body):
        return None
    return "text/plain; charset=utf-8" if isinstance(body, str) else "application/octet-stream"


def _status(status: int) -> int:
    if not isinstance(status, int) or not 200 <= status <= 599:
        raise _gate.Invalid("a status is 200 to 599")
    return int(status)
