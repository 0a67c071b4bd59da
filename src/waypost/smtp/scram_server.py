"""SCRAM-SHA-256 (RFC 5802, RFC 7677), the server's side: what is stored of a password, and the exchange over it.

The exchange is a generator without a clock or chance: it asks for what is stored with `Sought`, and is given that
with a fresh nonce. Channel binding (-PLUS) is not offered here, so a client that could do it says `y`, and is right.
"""

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Generator
from dataclasses import dataclass, field

from waypost.smtp.sasl import SaslError, decode
from waypost.smtp.saslprep import saslprep

ITERATIONS = 4096
"""What RFC 7677 section 4 asks for, and what a verifier that is made from a password in plain text gets."""

PREFIX = "$scram-sha-256$"

_MAX_ITERATIONS = 10_000_000
_MAX_NAME = 256  # characters: to prepare thousands of them takes a tenth of a second
_NONCE = re.compile(r"[\x21-\x2b\x2d-\x7e]{1,512}", re.ASCII)
_COUNT = re.compile(r"[1-9][0-9]{0,7}", re.ASCII)
_ESCAPE = re.compile(r"=(2C|3D)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Verifier:
    """What is stored of a password: enough to check a proof, not enough to make one (RFC 5802 section 3)."""

    salt: bytes = field(repr=False)
    iterations: int
    stored_key: bytes = field(repr=False)
    server_key: bytes = field(repr=False)

    @classmethod
    def derive(cls, password: str, salt: bytes, iterations: int = ITERATIONS) -> "Verifier":
        """From the password itself, which takes about a millisecond for each 1,500 iterations.

        Raises `SaslError` for a password that SASLprep forbids.
        """
        salted = hashlib.pbkdf2_hmac("sha256", saslprep(password).encode(), salt, iterations)
        stored_key = hashlib.sha256(_hmac(salted, b"Client Key")).digest()
        return cls(salt, iterations, stored_key, _hmac(salted, b"Server Key"))

    @classmethod
    def from_fields(cls, iterations: str, salt: str, stored_key: str, server_key: str) -> "Verifier":
        """From a number and three texts in base64. Raises `ValueError`."""
        if _COUNT.fullmatch(iterations) is None or int(iterations) > _MAX_ITERATIONS:
            raise ValueError(f"the iteration count must be a number up to {_MAX_ITERATIONS}")
        try:
            octets = [base64.b64decode(text, validate=True) for text in (salt, stored_key, server_key)]
        except (binascii.Error, ValueError):
            raise ValueError("salt and keys must be base64") from None
        if not octets[0] or len(octets[1]) != 32 or len(octets[2]) != 32:
            raise ValueError("the keys must have 32 octets, and the salt some")
        return cls(octets[0], int(iterations), octets[1], octets[2])

    @classmethod
    def parse(cls, text: str) -> "Verifier":
        """From `$scram-sha-256$ITERATIONS$SALT$STORED_KEY$SERVER_KEY`. Raises `ValueError`."""
        fields = text.removeprefix(PREFIX).split("$")
        if not text.startswith(PREFIX) or len(fields) != 4:
            raise ValueError("a SCRAM verifier is $scram-sha-256$ITERATIONS$SALT$STORED_KEY$SERVER_KEY")
        return cls.from_fields(*fields)

    def text(self) -> str:
        """What `parse` reads."""
        keys = (self.salt, self.stored_key, self.server_key)
        return f"{PREFIX}{self.iterations}$" + "$".join(map(_encoded, keys))

    def fits(self, password: str) -> bool:
        """Whether it was made from this password, for mechanisms that say it openly."""
        try:
            again = Verifier.derive(password, self.salt, self.iterations)
        except SaslError:
            return False
        return hmac.compare_digest(again.stored_key, self.stored_key)


@dataclass(frozen=True, slots=True)
class Sought:
    """The exchange goes on when it is given what is stored for this account, and a nonce."""

    username: str


@dataclass(frozen=True, slots=True)
class Proven:
    """A client has shown that it knows the password of this account, or `valid` says that it has not."""

    username: str
    valid: bool


Supplied = tuple[Verifier, str]
"""A verifier and a nonce: fresh and random, printable ASCII without a comma."""


def serve_scram(initial: str | None) -> Generator["str | Sought", "str | Supplied", Proven]:
    """Challenges and responses in base64, and once `Sought`, which is answered with `Supplied`.

    Raises `SaslError` for messages that are none. A wrong proof is `Proven` without being valid; a right one only
    after the client has been shown ours.
    """
    first = decode(_text((yield "") if initial is None else initial))
    header, username, bare = _client_first(first)
    supplied = yield Sought(username)
    assert isinstance(supplied, tuple)  # noqa: S101  # the answer to Sought
    verifier, nonce = supplied
    theirs = bare.split(",")[1].removeprefix("r=")
    combined = f"{theirs}{nonce}"
    challenge = f"r={combined},s={_encoded(verifier.salt)},i={verifier.iterations}"
    final = decode(_text((yield _encoded(challenge.encode()))))
    without_proof, proof = _client_final(final, header, combined)
    message = f"{bare},{challenge},{without_proof}".encode()
    signature = _hmac(verifier.stored_key, message)
    client_key = bytes(one ^ other for one, other in zip(proof, signature, strict=True))
    if not hmac.compare_digest(hashlib.sha256(client_key).digest(), verifier.stored_key):
        return Proven(username, False)
    # SMTP's success has no room for ours (RFC 4954 section 4), so it is one more challenge, answered with nothing.
    if decode(_text((yield _encoded(f"v={_encoded(_hmac(verifier.server_key, message))}".encode())))):
        raise SaslError("nothing was left to say")
    return Proven(username, True)


def _client_first(text: str) -> tuple[str, str, str]:
    """The GS2 header, the user name, and the rest that is signed."""
    parts = text.split(",", 2)
    if len(parts) != 3 or parts[0] not in ("n", "y"):
        bound = parts[0].startswith("p=")
        raise SaslError("channel binding is not offered" if bound else "that is no first message of SCRAM")
    flag, authzid, bare = parts
    fields = bare.split(",")
    if len(fields) < 2 or fields[0][:2] != "n=" or fields[1][:2] != "r=":
        raise SaslError("n= and r= are missing")
    if _NONCE.fullmatch(fields[1][2:]) is None:
        raise SaslError("the nonce is not printable ASCII")
    username = _name(fields[0][2:])
    if authzid and (authzid[:2] != "a=" or _name(authzid[2:]) != username):
        raise SaslError("acting for another identity is not supported")
    return f"{flag},{authzid},", username, bare


def _client_final(text: str, header: str, nonce: str) -> tuple[str, bytes]:
    """What is signed of it, and the proof."""
    without_proof, found, proof = text.rpartition(",p=")
    fields = without_proof.split(",")
    if not found or len(fields) < 2:
        raise SaslError("c=, r= and p= are missing")
    if fields[0] != f"c={_encoded(header.encode())}":
        raise SaslError("c= is not what the exchange began with")
    if fields[1] != f"r={nonce}":
        raise SaslError("the nonce is not ours")
    try:
        octets = base64.b64decode(proof, validate=True)
    except (binascii.Error, ValueError):
        raise SaslError("the proof is not base64") from None
    if len(octets) != 32:
        raise SaslError("the proof must have 32 octets")
    return without_proof, octets


def _name(escaped: str) -> str:
    """A user name out of `=2C` and `=3D` (RFC 5802 section 5.1)."""
    if len(escaped) > _MAX_NAME:
        raise SaslError("the user name is too long")

    def meant(match: re.Match[str]) -> str:
        if match[1] is None:
            raise SaslError("= in a user name is written =3D")
        return "," if match[1] == "2C" else "="

    name = saslprep(_ESCAPE.sub(meant, escaped))
    if not name:
        raise SaslError("the user name is empty")
    return name


def _text(response: "str | Supplied") -> str:
    assert isinstance(response, str)  # noqa: S101  # the answer to a challenge
    return response


def _encoded(octets: bytes) -> str:
    return base64.b64encode(octets).decode("ascii")


def _hmac(key: bytes, message: bytes) -> bytes:
    return hmac.digest(key, message, "sha256")
