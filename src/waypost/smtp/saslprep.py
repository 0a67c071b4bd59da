"""SASLprep (RFC 4013): user names and passwords, brought into the one form in which both sides compare them."""

import stringprep
import unicodedata

from waypost.smtp.sasl import SaslError

_PROHIBITED = (
    stringprep.in_table_c12,
    stringprep.in_table_c21_c22,
    stringprep.in_table_c3,
    stringprep.in_table_c4,
    stringprep.in_table_c5,
    stringprep.in_table_c6,
    stringprep.in_table_c7,
    stringprep.in_table_c8,
    stringprep.in_table_c9,
    stringprep.in_table_a1,  # unassigned in Unicode 3.2: what is stored may not have them (RFC 3454 section 7)
)


def saslprep(text: str) -> str:
    """The prepared form. Raises `SaslError` for what may not be in a user name or password."""
    if text.isascii() and text.isprintable():
        return text  # nothing to be done, for nearly everybody
    mapped = "".join(
        " " if stringprep.in_table_c12(character) else character
        for character in text
        if not stringprep.in_table_b1(character)
    )
    prepared = unicodedata.ucd_3_2_0.normalize("NFKC", mapped)
    for character in prepared:
        if any(prohibits(character) for prohibits in _PROHIBITED):
            raise SaslError("a character that no user name or password may have (RFC 4013)")
    _check_direction(prepared)
    return prepared


def _check_direction(text: str) -> None:
    """Text that runs from right to left does so from its first to its last character (RFC 3454 section 6)."""
    if not any(map(stringprep.in_table_d1, text)):
        return
    if any(map(stringprep.in_table_d2, text)):
        raise SaslError("letters of both directions in one user name or password (RFC 4013)")
    if not (stringprep.in_table_d1(text[0]) and stringprep.in_table_d1(text[-1])):
        raise SaslError("text from right to left has to begin and end with such a letter (RFC 4013)")
