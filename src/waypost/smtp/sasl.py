"""AUTH: what both sides share. The server's side is in `sasl_server`, the client's in `mechanisms`."""

import base64
import binascii
from dataclasses import dataclass


class Secret:
    """A text without a printable form: it cannot get into a log by accident."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The text itself, for the one place that sends or checks it."""
        return self._value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __repr__(self) -> str:
        return "Secret(...)"


@dataclass(frozen=True, slots=True)
class Credentials:
    """A name and a password."""

    username: str
    password: Secret


class SaslError(ValueError):
    """The response is not base64, or not what the mechanism asks for."""


class CancelledError(SaslError):
    """The client answered `*` (RFC 4954 section 4)."""


def decode(text: str) -> str:
    """A response, out of base64. Raises `CancelledError` for `*`, `SaslError` for what is not base64."""
    if text == "*":
        raise CancelledError("cancelled by the client")
    if text == "=":
        return ""
    try:
        return base64.b64decode(text, validate=True).decode("utf-8")
    except (binascii.Error, ValueError):
        raise SaslError("the response is not base64") from None
