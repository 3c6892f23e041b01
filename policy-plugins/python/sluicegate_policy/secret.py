"""Secrets, usable and not readable."""

from __future__ import annotations

from . import _gate


class Secret:
    """A secret of the document.

    As text (``str(secret)``, ``f"Bearer {secret}"``) it is a placeholder: another one for each request,
    worth nothing anywhere else. The gate puts the value in its place when a request is sent, in a header,
    the query or a body that the handler wrote, and only towards a host that the secret is bound to.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._placeholder: str | None = None

    @property
    def name(self) -> str:
        """Its name in the document."""
        return self._name

    def hmac_sha256(self, data: bytes | str) -> bytes:
        """HMAC-SHA-256 (RFC 2104) with the secret as its key, over bytes or the UTF-8 of a text."""
        content = data.encode() if isinstance(data, str) else bytes(data)
        return _gate.call(_gate.secrets.hmac_sha256, self._name, content)

    def reveal(self) -> bytes:
        """The value, for a handler that the document grants it (``reveal = ["NAME"]``).

        Raises:
            Invalid: It is not granted, or the component is not built for it (``policy build --reveal``).
        """
        if _gate.reveal is None:
            raise _gate.Invalid(
                f"this component cannot have the value of secret {self._name}: build it with --reveal, and say "
                f'`reveal = ["{self._name}"]` where the document names the handler'
            )
        return _gate.call(_gate.reveal.reveal, self._name)

    def __str__(self) -> str:
        if self._placeholder is None:
            self._placeholder = _gate.call(_gate.secrets.placeholder, self._name)
        return self._placeholder

    def __format__(self, specification: str) -> str:
        if specification:
            raise ValueError("a secret cannot be formatted: its length is not known here")
        return str(self)

    def __repr__(self) -> str:
        return f"<secret {self._name}>"
