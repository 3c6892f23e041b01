"""Texts that may hold secrets, and values as JSON."""

from __future__ import annotations

import json
from typing import Any, TypeAlias

from .secret import Secret

#: A text, or a secret in its place.
Text: TypeAlias = "str | Secret"


def text(value: Text, what: str) -> str:
    """The text itself. Nothing else is turned into one: what ``str()`` makes of it is seldom meant."""
    if isinstance(value, (str, Secret)):
        return str(value)
    raise TypeError(f"{what} is text, and not {type(value).__name__}")


def to_json(value: Any) -> bytes:
    """JSON; a secret in it is written as a string."""
    return json.dumps(value, default=_secret, separators=(",", ":")).encode()


def _secret(value: Any) -> str:
    if isinstance(value, Secret):
        return str(value)
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")
