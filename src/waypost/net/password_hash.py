"""Making what is stored of a password: for `waypost hash-password`."""

import secrets
from collections.abc import Callable

from waypost.net import crypt_sha
from waypost.net.passwords import MAX_PASSWORD, PasswordError
from waypost.smtp.sasl import SaslError
from waypost.smtp.scram_server import Verifier

_ROUNDS = 100_000  # of sha512-crypt and sha256-crypt: a tenth of a second
_COST = 12  # of bcrypt: a quarter of a second
_BCRYPT_LOOKS_AT = 72  # octets
_LETTERS = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def make(scheme: str, password: str) -> str:
    """The text to store, by one of `SCHEMES`. Raises `PasswordError` for a password that the scheme cannot take."""
    if not password:
        raise PasswordError("the password is empty")
    if len(password.encode("utf-8", "surrogateescape")) > MAX_PASSWORD:
        raise PasswordError(f"the password has more than {MAX_PASSWORD} octets")
    return SCHEMES[scheme](password)


def _argon2(password: str) -> str:
    from argon2 import PasswordHasher

    return PasswordHasher().hash(_octets(password))


def _bcrypt(password: str) -> str:
    octets = _octets(password)
    if len(octets) > _BCRYPT_LOOKS_AT:
        raise PasswordError(f"bcrypt looks at {_BCRYPT_LOOKS_AT} octets of a password, and this one has {len(octets)}")
    try:
        import bcrypt
    except ImportError:
        raise PasswordError("bcrypt needs the Python package bcrypt: pip install 'waypost[htpasswd]'") from None
    return bcrypt.hashpw(octets, bcrypt.gensalt(_COST)).decode("ascii")


def _scram(password: str) -> str:
    try:
        return Verifier.derive(password, secrets.token_bytes(16)).text()
    except SaslError as error:
        raise PasswordError(f"SCRAM cannot carry the password: {error}") from None


def _crypt(number: str) -> Callable[[str], str]:
    def made(password: str) -> str:
        salt = "".join(secrets.choice(_LETTERS) for _ in range(16))
        return crypt_sha.hashed(number, _octets(password), salt, _ROUNDS)

    return made


def _octets(password: str) -> bytes:
    return password.encode("utf-8", "surrogateescape")


SCHEMES: dict[str, Callable[[str], str]] = {
    "argon2id": _argon2,
    "scram-sha-256": _scram,
    "bcrypt": _bcrypt,
    "sha512-crypt": _crypt("6"),
    "sha256-crypt": _crypt("5"),
}
"""What can be made, the default first."""
