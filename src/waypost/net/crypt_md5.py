"""md5-crypt, `$1$`, and Apache's form of it, `$apr1$`: Poul-Henning Kamp's algorithm. To be read, not to be made.

It is weak today: a thousand rounds of MD5 are tried by the ten millions in a second.
"""

import hashlib
import hmac
import re

_HASH = re.compile(r"(\$1\$|\$apr1\$)([^$:\n]{0,8})\$([./0-9A-Za-z]{22})", re.ASCII)
_DIGITS = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_GROUPS = ((0, 6, 12), (1, 7, 13), (2, 8, 14), (3, 9, 15), (4, 10, 5))


def is_hash(text: str) -> bool:
    """Whether this is a whole hash."""
    return _HASH.fullmatch(text) is not None


def fits(text: str, password: bytes) -> bool:
    """Whether the hash is this password's."""
    match = _HASH.fullmatch(text)
    return match is not None and hmac.compare_digest(checksum(match[1], password, match[2].encode()), match[3])


def checksum(magic: str, password: bytes, salt: bytes) -> str:
    """The last part of a hash."""
    length = len(password)
    alternate = _md5(password + salt + password)
    start = password + magic.encode() + salt + (alternate * (length // 16 + 1))[:length]
    left = length
    while left:
        start += b"\0" if left & 1 else password[:1]
        left >>= 1
    result = _md5(start)
    for n in range(1000):
        turn = password if n & 1 else result
        if n % 3:
            turn += salt
        if n % 7:
            turn += password
        result = _md5(turn + (result if n & 1 else password))
    text = "".join(_digits((result[a] << 16) | (result[b] << 8) | result[c], 4) for a, b, c in _GROUPS)
    return text + _digits(result[11], 2)


def _digits(value: int, count: int) -> str:
    return "".join(_DIGITS[value >> 6 * place & 63] for place in range(count))


def _md5(octets: bytes) -> bytes:
    return hashlib.md5(octets, usedforsecurity=False).digest()
