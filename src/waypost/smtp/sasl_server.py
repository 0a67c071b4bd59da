"""AUTH, the server's side, as a pure exchange of challenges and responses.

PLAIN (RFC 4616) and LOGIN say a password, SCRAM-SHA-256 (`scram_server`) proves that it is known, EXTERNAL (RFC 4422
appendix A) points to the certificate that the client has shown.
"""

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

from waypost.smtp.sasl import Credentials, SaslError, Secret, decode
from waypost.smtp.scram_server import Proven, Sought, Verifier, serve_scram

WITH_PASSWORD = ("PLAIN", "LOGIN")
"""What every account with a password can use."""

SCRAM = "SCRAM-SHA-256"
EXTERNAL = "EXTERNAL"
SERVER_MECHANISMS = (*WITH_PASSWORD, SCRAM, EXTERNAL)
"""All that can be offered, in the order in which they are."""


@dataclass(frozen=True, slots=True)
class Asserted:
    """A client wants to be whom its certificate names; or says whom, which must be the same."""

    authzid: str


Claim = Credentials | Proven | Asserted
"""What a client claims to be, and how it shows that."""

_Steps = Generator[str | Sought, Any, Claim]


class Exchange:
    """One exchange, step by step."""

    __slots__ = ("_steps", "mechanism")

    def __init__(self, mechanism: str, steps: _Steps) -> None:
        self.mechanism = mechanism
        self._steps = steps

    def advance(self, response: str | None) -> str | Sought | Claim | SaslError:
        """The next challenge in base64, whose verifier is sought, what the client claims, or why that was no response.

        `response` is in base64, and None at the start.
        """
        return self._step(response)

    def supply(self, verifier: Verifier, nonce: str) -> str:
        """The challenge that follows `Sought`."""
        challenge = self._step((verifier, nonce))
        assert isinstance(challenge, str)  # noqa: S101  # there is nothing to refuse at this point
        return challenge

    def _step(self, given: object) -> str | Sought | Claim | SaslError:
        try:
            return next(self._steps) if given is None else self._steps.send(given)
        except StopIteration as done:
            claim: Claim = done.value
            return claim
        except SaslError as error:
            return error


def serve(mechanism: str, initial: str | None) -> Exchange:
    """A new exchange. `initial` is the initial response; `=` stands for an empty one.

    An unknown mechanism is the caller's to refuse.
    """
    return Exchange(mechanism, _SERVED[mechanism](initial))


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


def _serve_external(initial: str | None) -> _Steps:
    return Asserted(decode((yield "") if initial is None else initial))


_SERVED = {"PLAIN": _serve_plain, "LOGIN": _serve_login, SCRAM: serve_scram, EXTERNAL: _serve_external}
