"""``ctx``: who asks, and by which handler. All of it comes from the gate, and nothing from the workload."""

from __future__ import annotations

import json
from functools import cached_property
from typing import Any

from . import _gate


class Context:
    """What is known of the request and who sent it."""

    @property
    def container_id(self) -> str:
        """The container, or what stands for it."""
        return self._current.container_id

    @property
    def instance_id(self) -> str:
        """The instance's name."""
        return self._current.instance_id

    @cached_property
    def labels(self) -> dict[str, str]:
        """Labels that the operator gave."""
        return dict(self._current.labels)

    @cached_property
    def params(self) -> dict[str, Any]:
        """What the document or the command that set the handler gave it."""
        return json.loads(self._current.params) or {}

    @property
    def request_id(self) -> str:
        """The request's id in the log."""
        return self._current.request_id

    @property
    def original_destination(self) -> str:
        """Where the workload dialled, such as ``198.18.0.2:443``."""
        return self._current.original_destination

    @property
    def sni(self) -> str | None:
        """The server name in its TLS."""
        return self._current.sni

    @property
    def tls(self) -> str | None:
        """Its TLS version, such as ``TLSv1_3``."""
        return self._current.tls

    @property
    def protocol(self) -> str:
        """``HTTP/1.1`` or ``HTTP/2``."""
        return self._current.protocol

    @property
    def handler(self) -> str:
        """The handler's name."""
        return self._current.handler

    @property
    def handler_version(self) -> str:
        """The first 12 hexadecimal digits of the SHA-256 of the component."""
        return self._current.handler_version

    @cached_property
    def _current(self) -> _gate.context.RequestContext:
        return _gate.context.current()
