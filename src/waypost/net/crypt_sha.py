"""sha256-crypt and sha512-crypt, `$5$` and `$6$`, after Ulrich Drepper's "Unix crypt using SHA-256 and SHA-512".

Written here because Python has lost its `crypt` module, which only said what the machine's library could do.
"""

import hashlib
import hmac
import re
from dataclasses import dataclass

ROUNDS = 5000
"""What is meant when none are written."""

_HASH = re.compile(r"\$([56])\$(?:rounds=([0-9]{1,9})\$)?([^$:\n]{0,16})\$([./0-9A-Za-z]+)", re.ASCII)
_LEAST, _MOST = 1000, 999_999_999
_DIGITS = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True, slots=True)
class _Variant:
    digest: str
    order: tuple[int, ...]
    """Which octets of the result make the text, three to four digits, the last of each three the lowest."""


def _turning(first: tuple[int, int, int], count: int, step: tuple[int, int, int], last: tuple[int, ...]) -> _Variant:
    order: list[int] = []
    at = first
    for _ in range(count):
        order += at
        at = (at[step[0]] + 1, at[step[1]] + 1, at[step[2]] + 1)
    return _Variant("sha512" if count == 21 else "sha256", (*order, *last))


_VARIANTS = {
    "5": _turning((0, 10, 20), 10, (2, 0, 1), (31, 30)),
    "6": _turning((0, 21, 42), 21, (1, 2, 0), (63,)),
}


@dataclass(frozen=True, slots=True)
class ShaCrypt:
    """One hash."""

    number: str
    rounds: int
    is_explicit: bool  # whether the rounds are written
    salt: str
    checksum: str

    @classmethod
    def parse(cls, text: str) -> "ShaCrypt":
        """From `$6$SALT$CHECKSUM` or `$6$rounds=N$SALT$CHECKSUM`. Raises `ValueError`."""
        match = _HASH.fullmatch(text)
        if match is None or len(match[4]) != (43 if match[1] == "5" else 86):
            raise ValueError("a hash of crypt is $5$ or $6$, the salt, $ and 43 or 86 characters")
        rounds = int(match[2]) if match[2] else ROUNDS
        if not _LEAST <= rounds <= _MOST:
            raise ValueError(f"the rounds must be {_LEAST} to {_MOST}")
        return cls(match[1], rounds, match[2] is not None, match[3], match[4])

    def fits(self, password: bytes) -> bool:
        """Whether the hash is this password's. 5,000 rounds take some milliseconds."""
        found = checksum(self.number, password, self.salt.encode(), self.rounds)
        return hmac.compare_digest(found.encode(), self.checksum.encode())


def hashed(number: str, password: bytes, salt: str, rounds: int = ROUNDS) -> str:
    """The hash as text; `number` is 5 or 6, `salt` up to 16 letters and digits."""
    explicit = "" if rounds == ROUNDS else f"rounds={rounds}$"
    return f"${number}${explicit}{salt}${checksum(number, password, salt.encode(), rounds)}"


def checksum(number: str, password: bytes, salt: bytes, rounds: int) -> str:
    """The last part of a hash."""
    variant = _VARIANTS[number]
    new = getattr(hashlib, variant.digest)
    length = len(password)
    alternate = new(password + salt + password).digest()
    start = new(password + salt + _repeated(alternate, length))
    left = length
    while left:
        start.update(alternate if left & 1 else password)
        left >>= 1
    result = start.digest()
    p = _repeated(new(password * length).digest(), length)
    s = _repeated(new(salt * (16 + result[0])).digest(), len(salt))
    # Which of p, s and the last result come in which order depends on the round modulo 2, 3 and 7.
    middles = [(s if n % 3 else b"") + (p if n % 7 else b"") for n in range(42)]
    around = [p + middle if n & 1 else middle + p for n, middle in enumerate(middles)]
    for n in range(rounds):
        result = new(around[n % 42] + result if n & 1 else result + around[n % 42]).digest()
    return _digits(result, variant.order)


def _repeated(octets: bytes, length: int) -> bytes:
    return (octets * (length // len(octets) + 1))[:length]


def _digits(octets: bytes, order: tuple[int, ...]) -> str:
    """Base 64 as crypt has it: the digit for the lowest six bits comes first."""
    text = []
    for index in range(0, len(order), 3):
        group = order[index : index + 3]
        value = int.from_bytes(bytes(octets[place] for place in group), "big")
        for _ in range(len(group) + 1):
            text.append(_DIGITS[value & 63])
            value >>= 6
    return "".join(text)
