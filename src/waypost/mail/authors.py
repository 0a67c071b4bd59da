"""The names and addresses in the value of a From field (RFC 5322 section 3.4), on octets.

A reader for what real and hostile messages have, not a validator: where the grammar ends, what is left is taken
for a name or an address by its looks. Folds may be in it; they count as white space.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

from waypost.mail.header import unfolded

MAX_VALUE = 4096
"""Octets of a value that are read. No person writes more authors than that, and reading stays cheap."""

_TOKEN = re.compile(
    rb'"(?:[^"\\]|\\.)*"'  # a quoted string
    rb"|\[(?:[^\]\\]|\\.)*\]"  # a domain literal
    rb'|[^"(\[<>,:;]+|.',  # anything up to the next octet that means something
    re.DOTALL,
)
_ENCODED_WORD = re.compile(rb"=\?[^?\s]+\?[BbQq]\?[^?\s]*\?=")
_SPECIALS = re.compile(rb'[()<>\[\]:;@\\,"]')
_PARENTHESIS = re.compile(rb"\\.|[()]", re.DOTALL)
_MAX_QUOTED = 800  # octets of a name that has to be quoted anew, in one line
_SPACE = b" \t\r\n"


class Author(NamedTuple):
    """One mailbox, or the name of a group, which has no address. `name` is a phrase or one comment."""

    name: bytes
    address: bytes

    @property
    def is_comment(self) -> bool:
        """Whether the name is a comment: `bob@example.com (Bob)`."""
        return self.name.startswith(b"(") and not _without_comments(self.name).strip(_SPACE)


def read_authors(value: bytes) -> list[Author]:
    """The mailboxes and group names in `value`, in their order; none when it is longer than `MAX_VALUE`."""
    if len(value) > MAX_VALUE:
        return []
    found = []
    phrase: list[bytes] = []  # outside of angle brackets
    angle: list[bytes] = []  # inside
    comment = b""
    where = "phrase"  # then "angle", then "after"
    at = 0
    for part in (*_tokens(value), b","):
        at += len(part)
        if (part in (b",", b";") and where != "angle") or (at > len(value)):
            text = b"".join(phrase).strip(_SPACE)
            if where != "phrase":
                found.append(Author(text or comment, b"".join(angle).strip(_SPACE)))
            elif text:
                found.append(Author(comment, _without_comments(text).strip(_SPACE)))
            phrase, angle, comment, where = [], [], b"", "phrase"
        elif part.startswith(b"(") and len(part) > 1:
            comment = comment or part
            if where == "phrase":
                phrase.append(part)
        elif where == "angle":
            if part == b">":
                where = "after"
            else:
                angle.append(part)
        elif where == "phrase":
            if part == b"<":
                where = "angle"
            elif part == b":" and b";" in value[at:]:
                found.append(Author(b"".join(phrase).strip(_SPACE), b""))
                phrase, comment = [], b""
            else:
                phrase.append(part)
    return found


def display_name(author: Author) -> bytes:
    """The name as it may stand before an address.

    As it was written, but quoted anew where an unquoted `@` or bracket would be read for something else.
    """
    name = author.name
    parts = _tokens(_ENCODED_WORD.sub(b"", _without_comments(name)))
    if not any(_SPECIALS.search(part) for part in parts if len(part) == 1 or not part.startswith(b'"')):
        return name
    text = re.sub(rb'["\\]', b"", unfolded(name))
    return b'"%b"' % text if len(text) <= _MAX_QUOTED else b""


def _tokens(value: bytes) -> Iterator[bytes]:
    """`value` in pieces: comments, quoted strings, literals, single separators, and the text between them."""
    closing = _comments(value)
    unclosed = b""
    at = 0
    while at < len(value):
        end = closing.get(at)
        if end is None:
            first = value[at : at + 1]
            # Where one is not closed none behind it is: each would be looked for up to the end.
            token = None if first in unclosed else _TOKEN.match(value, at)
            end = at + 1 if token is None else token.end()
            if end == at + 1 and first in (b'"', b"["):
                unclosed += first
        yield value[at:end]
        at = end


def _comments(value: bytes) -> dict[int, int]:
    """Where each parenthesis that closes again begins, and the offset behind its end; comments may nest."""
    pairs: dict[int, int] = {}
    if b"(" in value:
        opened: list[int] = []
        for found in _PARENTHESIS.finditer(value):
            if found[0] == b"(":
                opened.append(found.start())
            elif found[0] == b")" and opened:
                pairs[opened.pop()] = found.end()
    return pairs


def _without_comments(text: bytes) -> bytes:
    """`text` without its comments; parentheses in quoted strings are none."""
    if b"(" not in text:
        return text
    return b"".join(part for part in _tokens(text) if not (part.startswith(b"(") and len(part) > 1))
