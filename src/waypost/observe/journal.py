"""The port to the journal: what happened to each message, kept for a time and found again.

The journal keeps the very records of the mail log (`waypost.observe.events` lists them), by the id of their
message. So what a person reads in the log and what `waypost trace` prints are the same facts.

A record is handed over as the line of JSON that the log has made of it already, with the keys by which its message
is found: its Message-ID, in its angle brackets as it is, and the addresses of its envelope in lower case. An address
never begins with `<`, so both are of one kind.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from waypost.observe.record import Record


class JournalError(Exception):
    """The journal cannot be opened or read. The message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Search:
    """Which messages: all that is given must hold. Times are seconds since the epoch."""

    message_id_field: str | None = None  # the Message-ID, with its angle brackets
    address: str | None = None  # reverse-path or a recipient, whole, case ignored
    since: float | None = None  # when the message came in, which its id says (`waypost.mail.ids`)
    until: float | None = None  # not included

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys that a message must have."""
        address = None if self.address is None else self.address.lower()
        return tuple(key for key in (self.message_id_field, address) if key is not None)


class Journal(Protocol):
    """Remembers mail events. Writing never blocks, never waits and never raises; reading raises `JournalError`."""

    @property
    def written(self) -> int:
        """How many records were written since the start."""

    @property
    def dropped(self) -> int:
        """How many records were lost since the start, because they could not be written and memory is bounded."""

    async def open(self) -> None:
        """Opens it. Raises `JournalError`."""

    async def close(self) -> None:
        """Writes what is pending and closes."""

    def write(self, message_id: str, line: str, keys: Sequence[str] = ()) -> None:
        """Remembers one record, JSON without a line break. Written soon, together with others, in their order."""

    async def flush(self) -> None:
        """Waits until all that was written before this call is kept, or cannot be now. Raises nothing."""

    async def events(self, message_id: str) -> Sequence[Record]:
        """All that is known of one message, in the order in which it happened; what is pending is included."""

    async def find(self, search: Search, *, limit: int = 100) -> Sequence[str]:
        """The ids of messages that match, the youngest first: ids sort by time, octet for octet."""

    async def prune(self, before: float) -> int:
        """Forgets records whose `time` is before this, little by little, and keys without a record; how many records.

        Records that were written out of order, because a clock jumped, may stay until later ones go.
        """
