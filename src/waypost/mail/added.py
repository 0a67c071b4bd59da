"""A header field of our own, as it goes on the wire: folded, and in encoded words where it is not ASCII (RFC 2047)."""

import base64

_WIDTH = 76
_OCTETS = 42  # of text in one encoded word, which has 75 octets at most

LONGEST = 900
"""Octets of one word in the value: with the name in front of it a line stays under 998."""


def added_field(name: str, text: str) -> bytes:
    """The field. `name` and `text` have been checked: no control characters, no word over `LONGEST` octets."""
    words = text.split(" ") if text.isascii() else _encoded(text)
    lines = [f"{name}:"]
    for word in words:
        if len(lines[-1]) + 1 + len(word) > _WIDTH and word and lines[-1].strip():
            lines.append("")
        lines[-1] += f" {word}"
    return "\r\n".join(lines).encode("ascii") + b"\r\n"


def _encoded(text: str) -> list[str]:
    """Encoded words, none of which ends in the middle of a character."""
    words = []
    piece = b""
    for character in text:
        octets = character.encode()
        if len(piece) + len(octets) > _OCTETS:
            words.append(piece)
            piece = b""
        piece += octets
    return [f"=?utf-8?b?{base64.b64encode(word).decode('ascii')}?=" for word in (*words, piece)]
