"""Changes to a header section, by the place of each, and the content that results. Nothing else is touched."""

from collections.abc import Sequence
from typing import NamedTuple

from waypost.mail.content import Content, JoinedContent
from waypost.mail.header import Field, Header

_TRACE = frozenset({b"received", b"return-path", b"dkim-signature", b"authentication-results"})


class Edit(NamedTuple):
    """What stands from `start` up to `end` is replaced by `new`: whole fields, or nothing at all."""

    start: int
    end: int
    new: bytes


def edited(content: Content, header: Header, edits: Sequence[Edit]) -> Content:
    """`content`, whose header is `header`, with these changes; they do not overlap."""
    if not edits:
        return content
    front = []
    at = 0
    for edit in sorted(edits):
        front += [header.head[at : edit.start], edit.new]
        at = edit.end
    return JoinedContent(b"".join(front), content, at)


def below_trace(header: Header, fields: Sequence[Field]) -> int | None:
    """Where a field may be added: behind what servers wrote on the way, before what the author did.

    None when there is no header section, so that a text must not get one. `fields` are those of the header.
    """
    if not fields:
        return 0 if header.head.startswith(b"\r\n") else None
    for field in fields:
        if field.name.lower() not in _TRACE and not field.name.lower().startswith(b"arc-"):
            return field.start
    end = fields[-1].end
    return end if header.head.endswith(b"\r\n", 0, end) else fields[-1].start
