"""The port to what is owed: `Spool`, its records, and a spool in memory.

A message whose route has copies is *prepared* before its content goes to the primary: envelope, content and
one delivery for each copy are durable from then on. It is *committed* when the primary has accepted it,
*aborted* when not. Committed deliveries are claimed when they are due and settled with an outcome.

    prepared --commit--> queued --claim--> (in flight) --settle--> gone | queued again | dead
        \\--abort--> gone

A claim is not recorded: after a crash every queued delivery is due again, which is what "at least once per
message and target" means.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from waypost.mail.message import Message, Recipient


class SpoolError(Exception):
    """Nothing can be stored or recorded now: the disk is full, or the store is broken. The message says why."""


@dataclass(frozen=True, slots=True)
class Planned:
    """One copy to prepare. Times are seconds since the epoch."""

    target: str  # name of the pool
    route: str  # name of the route: queued mail follows the configuration of the next attempt
    expires_at: float


@dataclass(frozen=True, slots=True)
class Delivery:
    """One message owed to one pool. `message.envelope` names just the recipients that are still owed."""

    id: int
    message: Message
    target: str
    route: str
    attempts: int  # made so far
    expires_at: float


@dataclass(frozen=True, slots=True)
class Settlement:
    """How a claim ended. Recipients in neither `again` nor `dead` are done.

    `again` are tried again at `at`. `dead` become a dead letter, kept with the content and not tried again by
    themselves. `reason` is the answer that decided, for people. `attempted` is False when no upstream was asked,
    so that it does not count.
    """

    delivery: Delivery
    again: tuple[Recipient, ...] = ()
    at: float = 0
    dead: tuple[Recipient, ...] = ()
    reason: str = ""
    attempted: bool = True


@dataclass(frozen=True, slots=True)
class Prepared:
    """A message found prepared at start: whether the primary took it is not known."""

    message: Message


@dataclass(frozen=True, slots=True)
class TargetCount:
    """What one target is owed. `oldest` is the earliest `received_at`, or None."""

    target: str
    queued: int
    dead: int
    oldest: float | None


class Spool(Protocol):
    """What is owed, remembered. Methods raise `SpoolError`; none blocks the loop."""

    async def open(self) -> Sequence[Prepared]:
        """Opens the store and returns what an earlier run left prepared."""

    async def close(self) -> None:
        """Writes what is pending and closes."""

    async def prepare(self, message: Message, planned: Sequence[Planned]) -> None:
        """Stores the message for each planned copy. Durable when it returns; cancelled, it has stored nothing.

        The content must stay open until then, and may be closed or read on afterwards.
        """

    def commit(self, message_id: str) -> None:
        """Makes the prepared copies due now. Recorded soon, in order, without waiting."""

    async def abort(self, message_id: str) -> None:
        """Discards the prepared copies. Durable when it returns."""

    async def claim(self, target: str, now: float, limit: int) -> Sequence[Delivery]:
        """Up to `limit` deliveries of `target` that are due at `now` and not in flight; now they are.

        Whoever claims closes their content.
        """

    def settle(self, settlement: Settlement) -> None:
        """Ends a claim with an outcome. Recorded soon, in order, without waiting."""

    async def next_due(self, target: str) -> float | None:
        """When the next delivery of `target` that is not in flight is due, or None when there is none."""

    async def targets(self) -> Sequence[TargetCount]:
        """What every target with anything queued or dead is owed, by name."""

    async def check(self) -> None:
        """One durable write, to know that the next one would succeed."""
