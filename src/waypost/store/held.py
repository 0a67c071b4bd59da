"""What the store keeps in memory: messages some of whose deliveries are delivered from there, and lanes.

Most deliveries succeed moments after their message was committed. Such a message never gets rows for its
deliveries: they are owed because the message is live. It is *split* into rows as soon as one of them has a fate
of its own: deferred, dead, done long before the others, or pushed out of memory.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf

from waypost.delivery.spool import Delivery, Planned
from waypost.mail.message import Envelope, Message
from waypost.store.files import FileContent
from waypost.store.rows import DeliveryRow, delivery_id, planned_row, stored_content

FRESH = 1000
"""Deliveries of one lane that are kept in memory."""

HELD_OCTETS = 32 * 1024 * 1024
"""Octets of messages that are kept in memory, in all."""

OVERHEAD = 1024
"""Octets that a message costs besides its content, roughly."""


@dataclass(slots=True, eq=False)
class HeldMessage:
    """A message that was stored by this process and has deliveries in memory."""

    key: int
    id: str
    received_at: float
    message: Message | None
    """With content of the store's own; None when there was no room."""
    file: tuple[bytes, FileContent, int] | None
    """What comes before the file, the file, where in the file it goes on; None when all is in the row."""
    weight: int
    """Octets that are counted for it in memory."""
    plans: list[Planned]
    """The deliveries, by number."""
    owed: int = 0
    """A bit for each delivery that is not done: the truth until the message is split."""
    held: int = 0
    """A bit for each delivery that is fresh or in flight."""
    intended: int = 0
    """A bit for each delivery with an intent on record."""
    grown: bool = False
    """Whether deliveries were added that only rows can put on record."""
    split: bool = False

    def plan(self, planned: Sequence[Planned]) -> None:
        """These are what is owed, and nothing else."""
        self.plans = list(planned)
        self.owed = (1 << len(planned)) - 1

    def drop_content(self) -> None:
        """There is no room for the content; its deliveries are read back from rows."""
        self.message = None
        self.weight = 0

    def delivery(self, number: int) -> Delivery:
        """One of the deliveries, with content that its owner may close."""
        message, plan = self.message, self.plans[number]
        assert message is not None  # noqa: S101  # otherwise it would have no delivery in memory
        if self.file is not None or plan.recipients is not None:
            content, envelope = message.content, message.envelope
            if self.file is not None:
                front, file, start = self.file
                content = stored_content(front, FileContent(file.path, file.size, file.is_ascii), start)
            if plan.recipients is not None:
                envelope = Envelope(envelope.reverse_path, plan.recipients, envelope.parameters)
            message = Message(message.id, message.received_at, message.client, envelope, content, message.digest)
        return Delivery(delivery_id(self.key, number), message, plan.lane, plan.route, 0, plan.expires_at, plan.doubt)

    def row(self, number: int) -> DeliveryRow:
        """The row of one delivery that was not tried yet."""
        next_at = None if self.held >> number & 1 else self.received_at
        return planned_row(delivery_id(self.key, number), self.id, self.received_at, self.plans[number], next_at)

    def is_held(self, number: int) -> bool:
        """Whether this delivery is fresh or in flight."""
        return bool(self.held >> number & 1)


@dataclass(slots=True, eq=False)
class Lane:
    """What stands in one lane: its fresh deliveries, and what is known about its rows."""

    name: str
    queued: int = 0
    held: int = 0
    dead: int = 0
    fresh: deque[tuple[HeldMessage, int]] = field(default_factory=deque)
    """Some may have been pushed out of memory since."""
    next_at: float = inf
    """When the earliest row that nobody has claimed is due. May be too early, never too late."""
    arrived: float = inf
    """The same for rows that came while a claim was reading."""
    claimed: set[int] = field(default_factory=set)
    """Rows in flight."""
    rows_next: bool = False
    """Whose turn it is when fresh deliveries and rows are due: neither starves the other."""
    reading: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while rows are claimed, or changed by hand."""
    oldest_row: float | None = None
    oldest_known: bool = True

    def first_fresh(self) -> HeldMessage | None:
        """The message whose turn is next of those in memory."""
        fresh = self.fresh
        while fresh and not fresh[0][0].is_held(fresh[0][1]):
            fresh.popleft()
        return fresh[0][0] if fresh else None

    def row_waits(self, at: float) -> None:
        """A row that nobody has claimed is due at `at`."""
        self.next_at = min(self.next_at, at)
        self.arrived = min(self.arrived, at)

    def row_added(self, received_at: float) -> None:
        """A delivery has got a row, queued or held."""
        if self.oldest_row is None or received_at < self.oldest_row:
            self.oldest_row = received_at

    def row_removed(self, received_at: float) -> None:
        """A delivery has lost its row, or died."""
        if self.oldest_row is not None and received_at <= self.oldest_row:
            self.oldest_known = False
