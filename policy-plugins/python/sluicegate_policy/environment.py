"""``env``: what the document gives to handlers, by name."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from . import _gate
from .body import Body, Content, given
from .secret import Secret

_I64 = 1 << 63


class Env:
    """``env.NAME`` (or ``env["NAME"]``) is a :class:`Secret`, a :class:`Kv`, an :class:`Objects`, or the
    value of a constant of ``[env]``.

    There is nothing in it while a component is built: use it in ``outbound``.
    """

    def __init__(self) -> None:
        self._bindings: dict[str, Any] | None = None
        self._values: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._values:
            self._values[name] = _value(name, self._known()[name])
        return self._values[name]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        try:
            return self[name]
        except KeyError:
            raise AttributeError(
                f"env has no {name}: say [secrets.{name}], [bindings.{name}] or put it under [env] in the document"
            ) from None

    def __contains__(self, name: object) -> bool:
        return name in self._known()

    def __iter__(self) -> Iterator[str]:
        return iter(self._known())

    def _known(self) -> dict[str, Any]:
        if self._bindings is None:
            self._bindings = {}
            for name, binding in _gate.context.environment():
                # A secret comes first, and is never taken for something that can be shown.
                self._bindings.setdefault(name, binding)
        return self._bindings


def _value(name: str, binding: Any) -> Any:
    match binding:
        case _gate.context.Binding_Secret():
            return Secret(name)
        case _gate.context.Binding_Kv():
            return Kv(name)
        case _gate.context.Binding_Objects():
            return Objects(name)
        case _gate.context.Binding_Constant(value):
            return json.loads(value)
    raise _gate.Invalid(f"env.{name} is of a kind that this version of the package does not know")


class Kv:
    """Values by key: a binding of kind ``kv``. Keys and values hold no secrets."""

    def __init__(self, name: str) -> None:
        self._name = name

    def get(self, key: str) -> bytes | None:
        """The value, or ``None``."""
        return _gate.call(_gate.kv.get, self._name, key)

    def get_text(self, key: str) -> str | None:
        """The same as text; raises ``UnicodeDecodeError`` where it is not UTF-8."""
        value = self.get(key)
        return None if value is None else value.decode()

    def get_json(self, key: str) -> Any:
        """The value that its JSON stands for, or ``None``; raises ``ValueError`` where it is none."""
        value = self.get(key)
        return None if value is None else json.loads(value)

    def put(self, key: str, value: str | bytes, seconds: int | None = None) -> None:
        """Writes a value, for so many seconds or for good."""
        content = value.encode() if isinstance(value, str) else bytes(memoryview(value))
        _gate.call(_gate.kv.put, self._name, key, content, _seconds(seconds))

    def put_json(self, key: str, value: Any, seconds: int | None = None) -> None:
        """Writes a value as JSON."""
        self.put(key, json.dumps(value, separators=(",", ":")), seconds)

    def delete(self, key: str) -> None:
        """Removes a value, there or not."""
        _gate.call(_gate.kv.delete, self._name, key)

    def list(self, prefix: str = "") -> list[str]:
        """The keys that begin with this, in order."""
        return _gate.call(_gate.kv.list_keys, self._name, prefix)

    def increment(self, key: str, by: int = 1, seconds: int | None = None) -> int:
        """Adds to a number, which begins at 0, and gives the sum; nothing comes between. With ``seconds``
        the number is kept that long from its first increment.
        """
        if not -_I64 <= by < _I64:
            raise ValueError("by is a number of 64 bits")
        return _gate.call(_gate.kv.increment, self._name, key, by, _seconds(seconds))


@dataclass(frozen=True)
class Metadata:
    """What is known of an object."""

    #: In bytes.
    length: int
    content_type: str | None
    etag: str | None


@dataclass(frozen=True)
class StoredObject(Metadata):
    """An object with its content, unread."""

    body: Body


class Objects:
    """Streams by key: a binding of kind ``objects``."""

    def __init__(self, name: str) -> None:
        self._name = name

    def get(self, key: str) -> StoredObject | None:
        """An object, or ``None``."""
        found = _gate.call(_gate.objects.get, self._name, key)
        if found is None:
            return None
        known, body = found
        return StoredObject(known.length, known.content_type, known.etag, Body._of(body))

    def head(self, key: str) -> Metadata | None:
        """What is known of an object, or ``None``."""
        known = _gate.call(_gate.objects.head, self._name, key)
        return None if known is None else Metadata(known.length, known.content_type, known.etag)

    def put(self, key: str, content: Content, content_type: str | None = None) -> None:
        """Writes an object; a body that is passed on streams into it."""
        _gate.call(_gate.objects.put, self._name, key, given(content), content_type)

    def delete(self, key: str) -> None:
        """Removes an object, there or not."""
        _gate.call(_gate.objects.delete, self._name, key)

    def list(self, prefix: str = "") -> list[str]:
        """The keys that begin with this, in order."""
        return _gate.call(_gate.objects.list_keys, self._name, prefix)


def _seconds(seconds: int | None) -> int | None:
    return None if seconds is None else _gate.u32(seconds, "seconds")
