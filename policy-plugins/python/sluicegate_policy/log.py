"""The audit log: ``log.info("passed", host=request.host)``. Secrets are shown by their names."""

from __future__ import annotations

import json
from typing import Any

from . import _gate

_Level = _gate.log.Level


def debug(message: str, /, **fields: Any) -> None:
    """For whoever writes the handler."""
    _write(_Level.DEBUG, message, fields)


def info(message: str, /, **fields: Any) -> None:
    """What happens."""
    _write(_Level.INFO, message, fields)


def warn(message: str, /, **fields: Any) -> None:
    """What should not."""
    _write(_Level.WARN, message, fields)


def error(message: str, /, **fields: Any) -> None:
    """What must not."""
    _write(_Level.ERROR, message, fields)


def _write(level: _gate.log.Level, message: str, fields: dict[str, Any]) -> None:
    _gate.log.write(level, str(message), json.dumps(fields, default=str) if fields else "")
