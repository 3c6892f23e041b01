"""Bodies: what a message carries, held by the gate until the handler reads it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, TypeAlias

from . import _gate

#: What a body can be made of: text as UTF-8, bytes, or a body that is passed on.
Content: TypeAlias = "str | bytes | Body"

#: As much as the document allows (``body_bytes`` of ``[handler_limits]``).
_ALL = (1 << 32) - 1


class Body:
    """A body. One that is passed on unread streams, whatever its length; it can be sent or stored once."""

    def __init__(self, content: str | bytes) -> None:
        """A body of the handler's own."""
        if isinstance(content, str):
            content = content.encode()
        elif not isinstance(content, (bytes, bytearray, memoryview)):
            raise TypeError(f"a body is text, bytes or another body, and not {type(content).__name__}")
        self._handle: _gate.http.Body | None = _gate.http.Body(bytes(content))

    @classmethod
    def _of(cls, handle: _gate.http.Body) -> Body:
        body = cls.__new__(cls)
        body._handle = handle
        return body

    def read(self, limit: int | None = None) -> bytes:
        """All of it, if it is no longer than ``limit`` bytes; the document's ``body_bytes`` counts too.

        It stays in the gate's memory and can still be sent.

        Raises:
            Invalid: It is longer, was sent, or was begun chunk by chunk.
            Failed: It did not come to its end.
        """
        return _gate.call(self._live().read, _limit(limit))

    def text(self, limit: int | None = None) -> str:
        """The same as text; raises ``UnicodeDecodeError`` where it is not UTF-8."""
        return self.read(limit).decode()

    def json(self, limit: int | None = None) -> Any:
        """The same as the value that its JSON stands for; raises ``ValueError`` where it is none."""
        return json.loads(self.read(limit))

    def peek(self, limit: int) -> bytes:
        """Its first bytes: ``limit`` of them, or all if it is shorter. It can still be sent, whole."""
        return _gate.call(self._live().peek, _limit(limit))

    def __iter__(self) -> Iterator[bytes]:
        """The bytes as they come. A body that was begun so cannot be sent."""
        handle = self._live()
        while (chunk := _gate.call(handle.next_chunk)) is not None:
            yield chunk

    def tee(self) -> Body:
        """A second body that gets the same bytes while the first one is sent or read.

        The first waits for the second once it is a few hundred kilobytes ahead, and goes on alone when
        the second is dropped.
        """
        return Body._of(_gate.call(self._live().tee))

    def _live(self) -> _gate.http.Body:
        if self._handle is None:
            raise _gate.Invalid("this body was sent, stored or put into another message before")
        return self._handle

    def _give(self) -> _gate.http.Body:
        handle = self._live()
        self._handle = None
        return handle


def given(content: Content) -> _gate.http.Body:
    """The gate's handle of a body, which is spent by that."""
    return content._give() if isinstance(content, Body) else Body(content)._give()


def _limit(limit: int | None) -> int:
    return _ALL if limit is None else _gate.u32(limit, "limit")
