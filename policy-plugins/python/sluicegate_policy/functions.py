"""What a handler does."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from . import _gate
from .request import Request
from .response import Response

_BYTES_MAX = 65_536
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

#: Whether the workload was answered by :func:`respond`.
_responded = False


def fetch(request: Request | str, *, timeout: float | None = None) -> Response:
    """Sends a request and waits for the head of its response. A URL will do for a ``GET``.

    Redirects are not followed. The lists of the policy, the checks of addresses and the bounds of secrets
    apply; what they refuse ends the handler. ``timeout`` is in seconds.

    Raises:
        Failed: No answer came.
        TimedOut: None came in time.
        Invalid: A secret stands where none can be put, or the body was sent before.
    """
    _gate.check_denied()
    if isinstance(request, str):
        request = Request("GET", request)
    return request._send(timeout)


def respond(response: Response) -> None:
    """Answers the workload now, and lets the handler go on: to read a copy of the body that is being sent,
    for one. What ``outbound`` returns afterwards counts for nothing. Once only.
    """
    global _responded
    _gate.check_denied()
    _gate.call(_gate.http.respond, response._give())
    _responded = True


def has_responded() -> bool:
    """Whether the workload was answered by :func:`respond`."""
    return _responded


def ask(reason: str, seconds: int = 60) -> None:
    """Holds the request until a person agrees, 1 to 600 seconds. Without a yes the request is refused, and
    this does not return.
    """
    _gate.check_denied()
    _gate.call(_gate.approval.ask, reason, _gate.u32(seconds, "seconds"))


def now() -> datetime:
    """The time, in UTC, to the millisecond."""
    return _EPOCH + timedelta(milliseconds=_gate.clock.now_ms())


def random_bytes(count: int) -> bytes:
    """Random bytes of the operating system's."""
    if count < 0:
        raise ValueError("count is not negative")
    parts = []
    while count > 0:
        part = min(count, _BYTES_MAX)
        parts.append(_gate.random.bytes(part))
        count -= part
    return b"".join(parts)


def uuid4() -> str:
    """A random UUID (RFC 9562, version 4)."""
    octets = bytearray(random_bytes(16))
    octets[6] = octets[6] & 0x0F | 0x40
    octets[8] = octets[8] & 0x3F | 0x80
    digits = octets.hex()
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))
