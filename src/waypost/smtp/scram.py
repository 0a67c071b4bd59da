"""SCRAM-SHA-256 (RFC 5802, RFC 7677), the client's side: the password stays here, and the server proves itself too."""

import base64
import binascii
import hashlib
import hmac
import re
from dataclasses import dataclass

from waypost.smtp.sasl import SaslError, Secret
from waypost.smtp.saslprep import saslprep

MIN_ITERATIONS = 4096
"""What RFC 7677 section 4 asks for: with fewer, whoever listens or pretends guesses the password faster."""

MAX_ITERATIONS = 1_000_000
"""A third of a second of one core. A server that asks for more wants to keep us busy."""

_NONCE = re.compile(rb"[\x21-\x2b\x2d-\x7e]{1,512}")
_COUNT = re.compile(rb"[1-9][0-9]{0,8}")


@dataclass(frozen=True, slots=True)
class Binding:
    """What ties the exchange to the TLS connection (RFC 5929): a type such as `tls-server-end-point`, and its data."""

    type: str
    data: bytes


class Scram:
    """One exchange. `nonce` is fresh and random, and printable ASCII without a comma.

    `binding` is what this side knows of the TLS connection, and `bound` says whether it is used (the mechanism is
    then SCRAM-SHA-256-PLUS). Known and not used tells the server so: one that does offer it sees that somebody in
    between has cut it from the list (RFC 5802 section 6).
    """

    def __init__(
        self,
        username: str,
        password: Secret,
        nonce: str,
        *,
        authorize_as: str | None = None,
        binding: Binding | None = None,
        bound: bool = False,
    ) -> None:
        if bound and binding is None:
            raise SaslError("there is nothing to bind the exchange to")
        self._password = saslprep(password.reveal()).encode()
        flag = "n" if binding is None else f"p={binding.type}" if bound else "y"
        authzid = "" if authorize_as is None else f"a={_escaped(authorize_as)}"
        self._header = f"{flag},{authzid},".encode()
        self._bound = binding.data if binding is not None and bound else b""
        self._nonce = nonce.encode("ascii")
        self._first_bare = f"n={_escaped(username)},r={nonce}".encode()
        self._signature = b""
        self._steps = 0
        self.proven = False
        """Whether the server has shown that it knows the password as well."""

    def first(self) -> bytes:
        """The client's first message."""
        return self._header + self._first_bare

    def step(self, challenge: bytes) -> bytes:
        """The answer to the server's next message. Raises `SaslError` for what is none, or is not from our server."""
        self._steps += 1
        if self._steps == 1:
            return self._prove(challenge)
        if self._steps == 2:
            self._verify(challenge)
            return b""
        raise SaslError("the exchange was over, and it goes on")

    def _prove(self, challenge: bytes) -> bytes:
        fields = challenge.split(b",")
        if len(fields) < 3 or not fields[0].startswith(b"r="):
            raise SaslError(f"this is no first message of SCRAM: {challenge[:60]!r}")
        nonce, salt, count = (_value(field, name) for field, name in zip(fields, b"rsi", strict=False))
        if not nonce.startswith(self._nonce) or len(nonce) == len(self._nonce) or not _NONCE.fullmatch(nonce):
            raise SaslError("the nonce is not ours with more behind it")
        if not _COUNT.fullmatch(count):
            raise SaslError("the iteration count is no number")
        iterations = int(count)
        if not MIN_ITERATIONS <= iterations <= MAX_ITERATIONS:
            raise SaslError(f"{iterations} iterations, which must be {MIN_ITERATIONS} to {MAX_ITERATIONS}")
        salted = hashlib.pbkdf2_hmac("sha256", self._password, _decoded(salt), iterations)
        client_key = _hmac(salted, b"Client Key")
        without_proof = b"c=" + base64.b64encode(self._header + self._bound) + b",r=" + nonce
        message = b",".join((self._first_bare, challenge, without_proof))
        signed = _hmac(hashlib.sha256(client_key).digest(), message)
        self._signature = _hmac(_hmac(salted, b"Server Key"), message)
        proof = bytes(ours ^ theirs for ours, theirs in zip(client_key, signed, strict=True))
        return without_proof + b",p=" + base64.b64encode(proof)

    def _verify(self, challenge: bytes) -> None:
        final = challenge.split(b",")[0]
        if final.startswith(b"e="):
            raise SaslError(f"the upstream says {final[2:62].decode('ascii', 'backslashreplace')}")
        if not hmac.compare_digest(_decoded(_value(final, ord("v"))), self._signature):
            raise SaslError("the upstream does not know the password itself: its signature is wrong")
        self.proven = True


def _escaped(name: str) -> str:
    """A user name as SCRAM writes it (RFC 5802 section 5.1)."""
    prepared = saslprep(name)
    if not prepared:
        raise SaslError("the user name is empty")
    return prepared.replace("=", "=3D").replace(",", "=2C")


def _value(field: bytes, name: int) -> bytes:
    if field[:2] != bytes((name, 0x3D)):
        raise SaslError(f"{chr(name)}= is missing")
    return field[2:]


def _decoded(text: bytes) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise SaslError("a field is not base64") from None


def _hmac(key: bytes, message: bytes) -> bytes:
    return hmac.digest(key, message, "sha256")
