"""Connections, as a handler is asked about them before there is a request."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from . import _gate

#: What a handler says of a connection; None means the first.
Decision = Literal["judge", "pass"]


@dataclass(frozen=True)
class Flow:
    """A connection that the workload has opened."""

    #: Whom it is for, in the one normal form: the server name in its TLS, else the name that its address
    #: was given out for, else the address.
    host: str
    #: The port.
    port: int
    #: Where the workload dialled, such as ``198.18.0.2:443``.
    original_destination: str
    #: Whether it begins with TLS.
    tls: bool
    #: The server name in its TLS. The workload wrote it.
    sni: str | None
    #: The protocols that its TLS offers, in the order of the workload's.
    alpn: tuple[str, ...]

    @classmethod
    def _of(cls, flow: _gate.connection.Flow) -> Flow:
        return cls(flow.host, flow.port, flow.original_destination, flow.tls, flow.sni, tuple(flow.alpn))


def decided(decision: object) -> _gate.connection.Decision:
    """What the gate is told for what a handler returned."""
    _gate.check_denied()
    if decision is None or decision == "judge":
        return _gate.connection.Decision.JUDGE
    if decision == "pass":
        return _gate.connection.Decision.PASS
    what = "another text" if isinstance(decision, str) else f"a {type(decision).__name__}"
    raise TypeError(f'on_connect returned {what}: return "judge" or "pass", or call deny(..)')
