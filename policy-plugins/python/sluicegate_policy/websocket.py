"""Messages of WebSockets, as a handler is asked about them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from . import _gate

#: What a handler says of a message: True or None lets it go on, False leaves it out, and a text or bytes go on in
#: its place.
MessageVerdict = bool | str | bytes | bytearray | memoryview | None


@dataclass(frozen=True)
class Message:
    """A message, whole, of a WebSocket that ``outbound`` let through."""

    #: ``"sent"`` by the workload, or by the upstream, to be ``"received"`` by the workload.
    direction: Literal["sent", "received"]
    #: Its text; None where it is binary.
    text: str | None
    #: Its bytes; None where it is text.
    bytes: bytes | None
    #: The URL of the request that opened the WebSocket, with ``https`` or ``http``.
    url: str
    #: Whom that was for, in the one normal form.
    host: str
    #: The port.
    port: int
    #: Its path as it is written, without the query.
    path: str
    #: The subprotocol that the two sides agreed on.
    subprotocol: str | None

    @classmethod
    def _of(cls, message: _gate.websocket.Message) -> Message:
        sent = message.direction == _gate.websocket.Direction.SENT
        is_text = isinstance(message.content, _gate.websocket.Content_Text)
        return cls(
            "sent" if sent else "received",
            message.content.value if is_text else None,
            None if is_text else message.content.value,
            message.url,
            message.host,
            message.port,
            message.path,
            message.subprotocol,
        )


def judged(verdict: object) -> _gate.websocket.Verdict:
    """What the gate is told for what a handler returned."""
    _gate.check_denied()
    if verdict is None or verdict is True:
        return _gate.websocket.Verdict_Pass()
    if verdict is False:
        return _gate.websocket.Verdict_Drop()
    if isinstance(verdict, str):
        return _gate.websocket.Verdict_Replace(_gate.websocket.Content_Text(verdict))
    if isinstance(verdict, (bytes, bytearray, memoryview)):
        return _gate.websocket.Verdict_Replace(_gate.websocket.Content_Binary(bytes(verdict)))
    what = f"a {type(verdict).__name__}"
    raise TypeError(f"on_message returned {what}: return True, False, a text or bytes, or call deny(..)")
