"""Message ids: 16 characters of Crockford's base 32 that sort by time and survive being read aloud.

48 bits of milliseconds since the epoch, then 32 random bits: `06F2K8QW3M0A7XZB`. An id is written in `Received`,
so 2**32 ids a millisecond are plenty and nothing about it has to be secret.
"""

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_PAIRS = tuple(high + low for high in _ALPHABET for low in _ALPHABET)
_VALUES = {character: value for value, character in enumerate(_ALPHABET)} | {"O": 0, "I": 1, "L": 1}

LENGTH = 16
"""Characters of an id."""


def make_id(milliseconds: int, random_bits: int) -> str:
    """The id for a moment, in milliseconds since the epoch, and 32 random bits; higher bits are ignored."""
    number = (milliseconds & 0xFFFF_FFFF_FFFF) << 32 | random_bits & 0xFFFF_FFFF
    return (
        _PAIRS[number >> 70]
        + _PAIRS[number >> 60 & 1023]
        + _PAIRS[number >> 50 & 1023]
        + _PAIRS[number >> 40 & 1023]
        + _PAIRS[number >> 30 & 1023]
        + _PAIRS[number >> 20 & 1023]
        + _PAIRS[number >> 10 & 1023]
        + _PAIRS[number & 1023]
    )


def read_id(text: str) -> tuple[int, int]:
    """Milliseconds since the epoch and the random bits of an id that a person may have typed.

    Small letters are welcome, and so are `o`, `i` and `l` for the digits they look like. Raises `ValueError`.
    """
    number = 0
    for character in text.upper():
        value = _VALUES.get(character)
        if value is None:
            raise ValueError(f"{character!r} does not occur in message ids, which are 16 digits and letters")
        number = number << 5 | value
    if len(text) != LENGTH:
        raise ValueError(f"a message id has {LENGTH} characters, not {len(text)}")
    return number >> 32, number & 0xFFFF_FFFF
