"""What is stored of passwords, in all the forms that are read, and whether a password fits.

The schemes are those of an htpasswd file, of a Dovecot passwd-file, and those that the configuration takes. Each
form is parsed once, when it is read, so that what cannot be used is known before somebody logs in.
"""

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Callable
from dataclasses import dataclass, field

from waypost.net import crypt_md5
from waypost.net.crypt_sha import ShaCrypt
from waypost.smtp import scram_server
from waypost.smtp.scram_server import Verifier

MAX_PASSWORD = 1024
"""Octets. A longer one is wrong: some schemes take time that grows with its square."""

_BCRYPT = re.compile(r"\$2[aby]\$([0-9]{2})\$[./0-9A-Za-z]{53}", re.ASCII)
_UNKNOWN = re.compile(r"\$(?:y|gy|7|2x|md5|sha1)[$,]", re.ASCII)
_DES = re.compile(r"[./0-9A-Za-z]{13}", re.ASCII)
_MOST_COST = 20  # of bcrypt: a minute
_MOST_ROUNDS = 10_000_000  # of sha512-crypt and the like: some ten seconds
_MOST_MEMORY = 1024 * 1024  # of argon2, in KiB; two passwords may be checked at once
_MOST_PASSES = 100
_CURLY = re.compile(r"\{([A-Za-z0-9\-]+)(?:\.(b64|base64|hex))?\}(.*)", re.ASCII | re.IGNORECASE | re.DOTALL)


class PasswordError(ValueError):
    """What is stored cannot be used. The message says why, and has nothing of the secret in it."""


@dataclass(frozen=True, slots=True)
class Stored:
    """What is stored of one password. `scheme` is its name for people.

    `is_slow` says that a check takes long enough to be kept out of the event loop, and `is_weak` that whoever gets
    hold of what is stored soon has the password.
    """

    scheme: str
    fits: Callable[[bytes], bool] = field(repr=False, compare=False)
    identity: str = field(repr=False)
    """The stored text: what was known about it holds no longer when this changes."""
    is_slow: bool = True
    is_weak: bool = False
    verifier: Verifier | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    """The password itself, where it is stored as it is."""

    @property
    def takes_scram(self) -> bool:
        """Whether SCRAM-SHA-256 is possible with it."""
        return self.verifier is not None or self.password is not None


def from_configuration(text: str) -> Stored:
    """Of `accounts.NAME.password`: a hash that begins with `$`, or the password itself. Raises `PasswordError`."""
    if text.startswith("$argon2"):
        return _argon2(text)
    if text.startswith(("$2a$", "$2b$", "$2y$", "$5$", "$6$", scram_server.PREFIX)):
        return _crypt(text)
    return _plain(text, is_weak=False)


def looks_like(text: str) -> str | None:
    """What scheme of a file `text` seems to be of, when the configuration takes it for the password itself."""
    if _UNKNOWN.match(text):
        return "crypt"
    if not text.startswith(("{", "$1$", "$apr1$")):
        return None
    try:
        scheme = from_dovecot(text).scheme
    except PasswordError:
        return None
    return None if scheme == "PLAIN" else scheme


def from_htpasswd(text: str) -> Stored:
    """The second field of an htpasswd file. Raises `PasswordError`."""
    if text.startswith("{SHA}"):
        return _digest("{SHA}", "sha1", text, _base64(text[5:]), salted=False)
    return _crypt(text)


def from_dovecot(text: str) -> Stored:
    """The second field of a Dovecot passwd-file; without a scheme it is one of crypt's. Raises `PasswordError`."""
    match = _CURLY.fullmatch(text)
    if match is None:
        if text.startswith("{"):
            raise PasswordError("the scheme in front has no end, or is none")
        return _crypt(text)
    name, encoding, rest = match[1].upper(), (match[2] or "").lower(), match[3]
    if name in ("PLAIN", "CLEAR", "CLEARTEXT"):
        return _plain(_encoded_plain(rest, encoding), is_weak=True)
    if name == "MD5":  # of md5-crypt, or a bare digest
        name = "MD5-CRYPT" if rest.startswith("$1$") else "LDAP-MD5"
    if name in _DIGESTS:
        algorithm, salted = _DIGESTS[name]
        size = hashlib.new(algorithm, usedforsecurity=False).digest_size
        is_hex = encoding == "hex" or (not encoding and not salted and len(rest) == 2 * size)
        return _digest(f"{{{name}}}", algorithm, text, _hex(rest) if is_hex else _base64(rest), salted=salted)
    if encoding:
        raise PasswordError(f"the scheme {name} has no .{encoding} form")
    if name == "SCRAM-SHA-256":
        fields = rest.split(",")
        if len(fields) != 4:
            raise PasswordError("{SCRAM-SHA-256} is followed by iterations, salt and two keys, with commas between")
        try:
            return _scram(Verifier.from_fields(*fields), text)
        except ValueError as error:
            raise PasswordError(str(error)) from None
    if name == "PBKDF2":
        return _pbkdf2(rest)
    prefixes = _CRYPTS.get(name)
    if prefixes is None:
        raise PasswordError(f"the scheme {name} is not known here")
    if not rest.startswith(prefixes):
        raise PasswordError(f"what follows {{{name}}} is no such hash")
    return _crypt(rest)


_DIGESTS = {
    "PLAIN-MD5": ("md5", False),
    "LDAP-MD5": ("md5", False),
    "SMD5": ("md5", True),
    "SHA": ("sha1", False),
    "SHA1": ("sha1", False),
    "SHA256": ("sha256", False),
    "SHA512": ("sha512", False),
    "SSHA": ("sha1", True),
    "SSHA256": ("sha256", True),
    "SSHA512": ("sha512", True),
}
_CRYPTS: dict[str, tuple[str, ...] | str] = {
    "ARGON2I": "$argon2i$",
    "ARGON2ID": "$argon2id$",
    "BLF-CRYPT": ("$2a$", "$2b$", "$2y$"),
    "SHA256-CRYPT": "$5$",
    "SHA512-CRYPT": "$6$",
    "MD5-CRYPT": "$1$",
    "DES-CRYPT": "",
    "CRYPT": "",
}


def _crypt(text: str) -> Stored:
    """A hash that says by its beginning what it is."""
    if text.startswith("$argon2"):
        return _argon2(text)
    if text.startswith(scram_server.PREFIX):
        try:
            return _scram(Verifier.parse(text), text)
        except ValueError as error:
            raise PasswordError(str(error)) from None
    if text.startswith("$2"):
        return _bcrypt(text)
    if text.startswith(("$5$", "$6$")):
        try:
            found = ShaCrypt.parse(text)
        except ValueError as error:
            raise PasswordError(str(error)) from None
        _check_rounds(found.rounds)
        return Stored("sha256-crypt" if found.number == "5" else "sha512-crypt", found.fits, text)
    if text.startswith(("$1$", "$apr1$")):
        if not crypt_md5.is_hash(text):
            raise PasswordError("begins like a hash of md5-crypt but is none")
        name = "apr1" if text.startswith("$apr1$") else "md5-crypt"
        return Stored(name, lambda password: crypt_md5.fits(text, password), text, is_weak=True)
    if _DES.fullmatch(text):
        return _des(text)
    raise PasswordError("is a hash of no scheme that is known here")


def _argon2(text: str) -> Stored:
    from argon2 import extract_parameters  # loads a compiled library, which most starts need not wait for
    from argon2.exceptions import InvalidHashError

    try:
        parameters = extract_parameters(text)
    except (InvalidHashError, ValueError):
        raise PasswordError("begins like an argon2 hash but is none") from None
    if parameters.memory_cost > _MOST_MEMORY or parameters.time_cost > _MOST_PASSES:
        raise PasswordError(f"asks for more than {_MOST_MEMORY >> 10} MiB or {_MOST_PASSES} passes for each login")
    return Stored("argon2", lambda password: _argon2_fits(text, password), text)


def _argon2_fits(text: str, password: bytes) -> bool:
    from argon2 import PasswordHasher
    from argon2.exceptions import Argon2Error, InvalidHashError

    try:
        return PasswordHasher().verify(text, password)
    except (Argon2Error, InvalidHashError):
        return False


def _bcrypt(text: str) -> Stored:
    match = _BCRYPT.fullmatch(text)
    if match is None or not 4 <= int(match[1]) <= _MOST_COST:
        raise PasswordError("begins like a bcrypt hash but is none")
    try:
        import bcrypt
    except ImportError:
        raise PasswordError("bcrypt needs the Python package bcrypt: pip install 'waypost[htpasswd]'") from None
    stored = text.encode()

    def fits(password: bytes) -> bool:
        try:
            return bcrypt.checkpw(password[:72], stored)  # all that bcrypt ever looks at
        except ValueError:
            return False

    return Stored("bcrypt", fits, text)


def _des(text: str) -> Stored:
    try:
        from passlib.handlers.des_crypt import des_crypt
    except ImportError:
        raise PasswordError("old crypt needs the Python package libpass: pip install 'waypost[htpasswd]'") from None

    def fits(password: bytes) -> bool:
        try:
            return bool(des_crypt.verify(password, text))
        except ValueError:
            return False

    return Stored("crypt", fits, text, is_weak=True)


def _plain(text: str, *, is_weak: bool) -> Stored:
    if not text:
        raise PasswordError("there is no password")
    octets = text.encode("utf-8", "surrogateescape")
    return Stored(
        "PLAIN",
        lambda password: hmac.compare_digest(octets, password),
        text,
        is_slow=False,
        is_weak=is_weak,
        password=text,
    )


def _scram(verifier: Verifier, text: str) -> Stored:
    def fits(password: bytes) -> bool:
        return verifier.fits(password.decode("utf-8", "surrogateescape"))

    return Stored("SCRAM-SHA-256", fits, text, verifier=verifier)


def _digest(scheme: str, algorithm: str, text: str, octets: bytes, *, salted: bool) -> Stored:
    size = hashlib.new(algorithm, usedforsecurity=False).digest_size
    digest, salt = octets[:size], octets[size:]
    if len(digest) != size or bool(salt) != salted:
        raise PasswordError(f"what follows {scheme} has not the length of one")

    def fits(password: bytes) -> bool:
        found = hashlib.new(algorithm, password + salt, usedforsecurity=False).digest()
        return hmac.compare_digest(found, digest)

    return Stored(scheme, fits, text, is_slow=False, is_weak=True)


def _pbkdf2(rest: str) -> Stored:
    """As Dovecot writes it: `$1$SALT$ROUNDS$HEX`, with SHA-1 and the salt as it stands."""
    match = re.fullmatch(r"\$1\$([^$]{1,64})\$([1-9][0-9]{0,7})\$([0-9a-fA-F]{40})", rest, re.ASCII)
    if match is None:
        raise PasswordError("what follows {PBKDF2} is no such hash")
    salt, rounds, digest = match[1].encode(), int(match[2]), bytes.fromhex(match[3])
    _check_rounds(rounds)

    def fits(password: bytes) -> bool:
        return hmac.compare_digest(hashlib.pbkdf2_hmac("sha1", password, salt, rounds), digest)

    return Stored("PBKDF2", fits, rest)


def _check_rounds(rounds: int) -> None:
    if rounds > _MOST_ROUNDS:
        raise PasswordError(f"asks for {rounds} rounds for each login, and {_MOST_ROUNDS} are the most")


def _encoded_plain(text: str, encoding: str) -> str:
    if not encoding:
        return text
    try:
        return (_hex(text) if encoding == "hex" else _base64(text)).decode("utf-8")
    except UnicodeDecodeError:
        raise PasswordError("the password is not UTF-8") from None


def _base64(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise PasswordError("the hash is not base64") from None


def _hex(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise PasswordError("the hash is not hexadecimal") from None
