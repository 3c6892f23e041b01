"""The functions of the gate, with what they refuse as exceptions of Python.

``wit_world`` and ``componentize_py_types`` are what componentize-py makes of ``policy.wit`` when it builds
a component; nothing but this package needs to know them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn, ParamSpec, TypeVar

from componentize_py_types import Err
from wit_world.imports import approval, clock, context, http, kv, log, objects, random, secrets

try:
    from wit_world.imports import reveal
except ImportError:
    # The component is built for a world without it, and provably cannot have the bytes of secrets.
    reveal = None  # type: ignore[assignment]

try:
    from wit_world.imports import connection
except ImportError:
    # The component is built for a world without it, and is not asked about connections.
    connection = None  # type: ignore[assignment]

try:
    from wit_world.imports import websocket
except ImportError:
    # Likewise, and is not asked about messages.
    websocket = None  # type: ignore[assignment]

__all__ = [
    "Denied",
    "Err",
    "Failed",
    "GateError",
    "Invalid",
    "TimedOut",
    "approval",
    "call",
    "check_denied",
    "clock",
    "connection",
    "context",
    "deny",
    "http",
    "kv",
    "log",
    "objects",
    "random",
    "reveal",
    "secrets",
    "u32",
    "websocket",
]

_Parameters = ParamSpec("_Parameters")
_Result = TypeVar("_Result")

#: The reason of the first refusal. There is one request, connection or message for each instance, so one is
#: enough.
_denied: str | None = None


class GateError(Exception):
    """Something that the gate did not do. The words hold no secret."""


class TimedOut(GateError):
    """It took longer than it was given."""


class Invalid(GateError):
    """It is not well-formed, or not allowed."""


class Failed(GateError):
    """The world did not do it: no answer, no connection, a store that failed."""


class Denied(BaseException):
    """What :func:`deny` raises. Like the exceptions that end a program, it is not an ``Exception``."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        #: What the workload is told.
        self.reason = reason


def deny(reason: str) -> NoReturn:
    """Refuses the request, the connection or the message, at once. The workload is told the reason, but for a
    connection's.

    The refusal stands, whoever catches the exception: nothing is sent afterwards.
    """
    global _denied
    if _denied is None:
        _denied = str(reason)
    raise Denied(_denied)


def check_denied() -> None:
    """Raises the refusal again, if there was one."""
    if _denied is not None:
        raise Denied(_denied)


def call(
    function: Callable[_Parameters, _Result], /, *arguments: _Parameters.args, **named: _Parameters.kwargs
) -> _Result:
    """Calls a function of the gate; what it refuses is raised as a :class:`GateError`."""
    try:
        return function(*arguments, **named)
    except Err as error:
        raise _exception(error.value) from None


def _exception(error: http.Error) -> GateError:
    match error:
        case http.Error_TimedOut():
            return TimedOut("it took too long")
        case http.Error_Invalid(words):
            return Invalid(words)
        case http.Error_Failed(words):
            return Failed(words)
        case http.Error_Denied(words):
            return Failed(words)


def u32(value: int, what: str) -> int:
    """A number that fits into 32 bits, as the gate takes it."""
    if not isinstance(value, int) or not 0 <= value < 1 << 32:
        raise ValueError(f"{what} is a whole number from 0 to {(1 << 32) - 1}")
    return value
