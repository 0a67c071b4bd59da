"""What the store keeps in memory: fresh messages, and one account for each lane.

Most copies are delivered moments after their message was committed. Such a message never gets rows for its
deliveries; they are owed because the message is live. It is *split* into rows as soon as one of them has a fate
of its own: deferred, dead, done long before the others, or pushed out of memory.
"""

import asyncio
from collections import deque
from dataclasses import dataclass, field
from math import inf

from waypost.delivery.spool import Delivery, Planned
from waypost.mail.message import Message
from waypost.store.files import FileContent
from waypost.store.rows import DeliveryRow, delivery_id, stored_content

FRESH = 1000
"""Deliveries of one lane that are kept in memory."""

HELD_OCTETS = 32 * 1024 * 1024
"""Octets of messages that are kept in memory, in all."""

OVERHEAD = 1024
"""Octets that a message costs besides its content, roughly."""


@dataclass(slots=True, eq=False)
class HeldMessage:
    """A message that was prepared by this process and has deliveries in memory."""

    key: int
    message: Message | None
    """With content of the store's own; None when there was no room."""
    received_at: float
    planned: tuple[Planned, ...]
    file: tuple[bytes, FileContent, int] | None
    """What comes before the file, the file, where in the file it goes on; None when all is in the row."""
    weight: int
    owed: int
    """A bit for each delivery that is not done: the truth until the message is split."""
    held: int = 0
    """A bit for each delivery that is fresh or in flight."""
    split: bool = False

    def delivery(self, number: int) -> Delivery:
        """One of the deliveries, with content that its owner may close."""
        message, plan = self.message, self.planned[number]
        assert message is not None  # noqa: S101  # otherwise it would have no delivery in memory
        if self.file is not None:
            front, file, start = self.file
            content = stored_content(front, FileContent(file.path, file.size, file.is_ascii), start)
            message = Message(message.id, message.received_at, message.client, message.envelope, content)
        return Delivery(delivery_id(self.key, number), message, plan.lane, plan.route, 0, plan.expires_at)

    def row(self, number: int) -> DeliveryRow:
        """The row of one delivery that was not tried yet."""
        plan = self.planned[number]
        next_at = None if self.held >> number & 1 else self.received_at
        return (delivery_id(self.key, number), plan.lane, plan.route, 0, next_at, plan.expires_at, None)


@dataclass(slots=True, eq=False)
class LaneAccount:
    """What one lane is owed: its fresh deliveries, and what is known about its rows."""

    name: str
    queued: int = 0
    dead: int = 0
    fresh: deque[tuple[HeldMessage, int]] = field(default_factory=deque)
    next_at: float = inf
    """When the earliest row that nobody has claimed is due. May be too early, never too late."""
    arrived: float = inf
    """The same for rows that came while a claim was reading."""
    claimed: set[int] = field(default_factory=set)
    """Rows in flight."""
    rows_next: bool = False
    """Whose turn it is when fresh deliveries and rows are due: neither starves the other."""
    reading: asyncio.Lock = field(default_factory=asyncio.Lock)
    oldest_row: float | None = None
    oldest_known: bool = True

    def row_waits(self, at: float) -> None:
        """A row that nobody has claimed is due at `at`."""
        self.next_at = min(self.next_at, at)
        self.arrived = min(self.arrived, at)

    def row_added(self, received_at: float) -> None:
        """A delivery has got a row."""
        if self.oldest_row is None or received_at < self.oldest_row:
            self.oldest_row = received_at

    def row_removed(self, received_at: float) -> None:
        """A delivery has lost its row."""
        if self.oldest_row is not None and received_at <= self.oldest_row:
            self.oldest_known = False
