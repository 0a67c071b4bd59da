"""The header section of a message as plugins see it: text, decoded field by field when somebody looks."""

from collections.abc import Callable, Iterable, Iterator
from itertools import islice

from waypost.mail.content import Content
from waypost.mail.field_values import as_text, with_words_decoded
from waypost.mail.header import Header, read_header, unfolded

MOST = 1000
"""Fields that are looked at: a header of a MiB may have a quarter of a million, and every other client would wait."""


class HeaderFields:
    """Header fields by name, in any case. Values are unfolded; octets that are not UTF-8 are taken for Latin-1.

    Encoded words (RFC 2047) stay as they are until they are asked for with `decoded`.
    """

    __slots__ = ("_fields", "_read")

    def __init__(self, read: Callable[[], Iterable[tuple[str, str]]]) -> None:
        self._read = read
        self._fields: tuple[tuple[str, str], ...] | None = None

    @classmethod
    def of(cls, content: Content) -> "HeaderFields":
        """Those of a message. Nothing is read before somebody looks."""
        return cls(lambda: _fields(read_header(content)))

    def get(self, name: str) -> str | None:
        """The value of the first field with this name; None when there is none."""
        wanted = name.lower()
        return next((value for field, value in self if field.lower() == wanted), None)

    def all(self, name: str) -> list[str]:
        """The values of all fields with this name, in their order."""
        wanted = name.lower()
        return [value for field, value in self if field.lower() == wanted]

    def decoded(self, name: str) -> str | None:
        """The value of the first field with this name, encoded words decoded as far as they make sense."""
        value = self.get(name)
        return None if value is None else with_words_decoded(value)

    def __iter__(self) -> Iterator[tuple[str, str]]:
        """Names as written and values, in their order."""
        if self._fields is None:
            self._fields = tuple(self._read())
        return iter(self._fields)


def _fields(header: Header) -> Iterator[tuple[str, str]]:
    for field in islice(header.fields(), MOST):
        yield field.name.decode("ascii"), as_text(unfolded(header.head[field.value : field.end]))
