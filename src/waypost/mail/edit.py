"""Changes to a header section, by the place of each, and the content that results. Nothing else is touched."""

from collections.abc import Sequence
from typing import NamedTuple

from waypost.mail.content import Content, JoinedContent
from waypost.mail.header import ANY_OCTET, Header

_NO_TRACE = rb"(?!(?:received|return-path|dkim-signature|authentication-results|arc-%b*)[ \t]*:)%b+" % (
    ANY_OCTET,
    ANY_OCTET,
)


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


def below_trace(header: Header) -> int | None:
    """Where a field may be added: behind what servers wrote on the way, before what the author did.

    None when there is no header section, so that a text must not get one.
    """
    end = header.fields_end
    if not end:
        return 0 if header.head.startswith(b"\r\n") else None
    field = next(header.matching(_NO_TRACE), None)
    if field is not None:
        return field.start
    if header.complete and header.head.endswith(b"\r\n", 0, end):
        return end
    last = None
    for last in header.fields():  # noqa: B007
        pass
    if last is None:
        return None
    return last.end if header.head.endswith(b"\r\n", 0, last.end) else last.start
