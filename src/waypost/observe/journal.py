"""The port to the journal: what happened to each message, kept for a time and found again.

The journal keeps the very records of the mail log (`waypost.observe.events` lists them), by the id of their
message. So what a person reads in the log and what `waypost trace` prints are the same facts.
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
    since: float | None = None
    until: float | None = None


class Journal(Protocol):
    """Remembers mail events. Writing never blocks, never waits and never raises; reading raises `JournalError`."""

    async def open(self) -> None:
        """Opens it. Raises `JournalError`."""

    async def close(self) -> None:
        """Writes what is pending and closes."""

    def write(self, record: Record) -> None:
        """Remembers a record that has an `id`; others are ignored. Written soon, together with others."""

    async def events(self, message_id: str) -> Sequence[Record]:
        """All that is known of one message, in the order in which it happened."""

    async def find(self, search: Search, *, limit: int = 100) -> Sequence[str]:
        """The ids of messages that match, the youngest first."""

    async def prune(self, before: float) -> int:
        """Forgets what happened before this time, little by little; how many records."""
