"""AUTH: PLAIN (RFC 4616) and LOGIN, the server's side, as a pure exchange of challenges and responses.

The client's side is in `mechanisms`.
"""

import base64
import binascii
from collections.abc import Generator
from dataclasses import dataclass

MECHANISMS = ("PLAIN", "LOGIN")
"""What is offered to clients, in order of preference."""


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


_Steps = Generator[str, str, Credentials]  # challenges and responses in base64


class Exchange:
    """The server's side of one exchange."""

    __slots__ = ("_steps", "mechanism")

    def __init__(self, mechanism: str, steps: _Steps) -> None:
        self.mechanism = mechanism
        self._steps = steps

    def advance(self, response: str | None) -> str | Credentials | SaslError:
        """The next challenge in base64, what the client claims to be, or why that was no valid response.

        `response` is in base64, and None at the start.
        """
        try:
            return next(self._steps) if response is None else self._steps.send(response)
        except StopIteration as done:
            claimed: Credentials = done.value
            return claimed
        except SaslError as error:
            return error


def serve(mechanism: str, initial: str | None) -> Exchange:
    """A new exchange. `initial` is the initial response; `=` stands for an empty one.

    An unknown mechanism is the caller's to refuse.
    """
    return Exchange(mechanism, _serve_plain(initial) if mechanism.upper() == "PLAIN" else _serve_login(initial))


def _serve_plain(initial: str | None) -> _Steps:
    response = decode((yield "") if initial is None else initial)
    parts = response.split("\0")
    if len(parts) != 3 or not parts[1]:
        raise SaslError("PLAIN takes authzid NUL authcid NUL password")
    authzid, authcid, password = parts
    if authzid not in ("", authcid):
        raise SaslError("acting for another identity is not supported")
    return Credentials(authcid, Secret(password))


def _serve_login(initial: str | None) -> _Steps:
    username = decode((yield "VXNlcm5hbWU6") if initial is None else initial)
    password = decode((yield "UGFzc3dvcmQ6"))
    if not username:
        raise SaslError("the user name is empty")
    return Credentials(username, Secret(password))


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
