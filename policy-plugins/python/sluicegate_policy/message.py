"""What requests and responses have in common: headers and a body."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TypeAlias

from . import _gate
from ._text import Text, text
from .body import Body, Content, given

_Handle: TypeAlias = "_gate.http.Request | _gate.http.Response"

#: Headers to begin with.
HeaderPairs: TypeAlias = "Mapping[str, Text] | Iterable[tuple[str, Text]]"


def pairs(headers: HeaderPairs | None) -> list[tuple[str, str]]:
    """Names and values as the gate takes them."""
    if headers is None:
        return []
    items = headers.items() if isinstance(headers, Mapping) else headers
    return [(name, text(value, f"header {name}")) for name, value in items]


class Message:
    """A request or a response. Nothing of it is copied before it is asked for."""

    def __init__(self, handle: _Handle) -> None:
        self._handle: _Handle | None = handle
        #: The body, once the handler has asked for it.
        self._body: Body | None = None
        #: Whether a body was sent with it: sent again, it would be another message.
        self._body_is_sent = False

    @property
    def headers(self) -> Headers:
        """Its headers, to be read and written."""
        return Headers(self)

    @property
    def has_body(self) -> bool:
        """Whether there is a body, or may be one."""
        return self._body is not None or self._live().has_body()

    @property
    def body(self) -> Body | None:
        """The body, unread: the message keeps it unless it is put elsewhere. Can be set; the header
        ``content-type`` stays as it is.
        """
        if self._body is None:
            handle = self._live().take_body()
            self._body = None if handle is None else Body._of(handle)
        return self._body

    @body.setter
    def body(self, content: Content | None) -> None:
        # First what can fail.
        handle = None if content is None else given(content)
        self._live().set_body(handle)
        self._body = None
        self._body_is_sent = False

    def tap_body(self, limit: int) -> None:
        """Puts the first bytes of the body, 65536 at most, into the log while it streams past."""
        self._live().tap_body(_gate.u32(limit, "limit"))

    def _live(self) -> _Handle:
        if self._handle is None:
            raise _gate.Invalid("this response was given away before")
        return self._handle

    def _put_back(self) -> None:
        """Puts the body back that the handler had a look at."""
        if self._body is not None:
            self._live().set_body(self._body._give())
            self._body = None


class Headers:
    """The headers of a message. Names are the same in any case.

    A byte above 0x7f is the Latin-1 character of that number, both ways. Headers of the connection (host,
    content-length, transfer-encoding and the like) cannot be written.
    """

    def __init__(self, message: Message) -> None:
        self._message = message

    def __getitem__(self, name: str) -> str:
        """All values of a header, joined with ``", "``; raises ``KeyError`` where there is none."""
        values = self.get_all(name)
        if not values:
            raise KeyError(name)
        return ", ".join(values)

    def get(self, name: str, default: str | None = None) -> str | None:
        """The same, or ``default``."""
        values = self.get_all(name)
        return ", ".join(values) if values else default

    def get_all(self, name: str) -> list[str]:
        """Every value of a header, in order."""
        return self._message._live().header(name)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and bool(self.get_all(name))

    def __setitem__(self, name: str, value: Text) -> None:
        """Puts one value in place of all of that name. A secret may stand in a request's."""
        _gate.call(self._message._live().set_header, name, text(value, f"header {name}"))

    def add(self, name: str, value: Text) -> None:
        """Adds a value to those of that name."""
        _gate.call(self._message._live().append_header, name, text(value, f"header {name}"))

    def __delitem__(self, name: str) -> None:
        """Removes every value of a header, there or not."""
        _gate.call(self._message._live().delete_header, name)

    def items(self) -> list[tuple[str, str]]:
        """Names in lower case and values, in order; a name for each of its values."""
        return self._message._live().headers()

    def __iter__(self) -> Iterator[str]:
        """The names, each once."""
        return iter(dict(self.items()))

    def __len__(self) -> int:
        return len(dict(self.items()))

    def __repr__(self) -> str:
        return f"Headers({list(self)})"
