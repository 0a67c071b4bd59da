"""The port to what is owed: `Spool` and its records.

Two ways lead into the spool. A message whose primary answers the client is *prepared* before its content goes
there, and *committed* with its copies when the primary has accepted it, or *aborted*. A message that is ours from the
start is *accepted*, with its deliveries, in one go.

    prepare --commit--> queued --claim--> (running) --settle--> gone | queued again | dead
       \\--abort--> gone   ^  \\--hold--> held --release--/             dead --retry--> queued
    accept ---------------/

A delivery stands in a *lane*: one for each route's primary deliveries, one for the copies of each pool. Before content
goes to an upstream an *intent* is recorded. A delivery that comes back from a process that died, with an intent and
without an outcome, is in doubt: `Delivery.doubt` names the upstream that may have it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Literal, Protocol

from waypost.mail.message import Message, Recipient
from waypost.mail.outcome import Role as Role
from waypost.routing.patterns import NamePatterns
from waypost.smtp.values import quick


class SpoolError(Exception):
    """Nothing can be stored or recorded now: the disk is full, or the store is broken. The message says why."""


class SpoolFullError(SpoolError):
    """There is no room for this message; the store as such is well."""


def primary_lane(route: str) -> str:
    """The lane of a route's primary deliveries: its pool is looked up at each attempt."""
    return f"primary:{route}"


def copy_lane(pool: str) -> str:
    """The lane of the copies for a pool."""
    return f"copy:{pool}"


def read_lane(lane: str) -> tuple[Role, str]:
    """The role, and the name of the route (primary) or pool (copy)."""
    role, _, name = lane.partition(":")
    return Role(role), name


_PRIMARY, _COPY = Role.PRIMARY, Role.COPY


@quick
@dataclass(frozen=True, slots=True)
class Planned:
    """One delivery to store. Times are seconds since the epoch."""

    lane: str
    route: str  # name of the route: queued mail follows the configuration of the next attempt
    expires_at: float
    recipients: tuple[Recipient, ...] | None = None  # None: all of the message
    running: bool = False
    """An attempt is under way already: the delivery is claimed from the start, and settled when that ends.

    Only for `accept` and `commit_as`, which give the delivery to their caller."""
    doubt: str | None = None  # as in `Delivery`


@quick
@dataclass(frozen=True, slots=True)
class Delivery:
    """One message owed to one lane. `message.envelope` names just the recipients that are still owed."""

    id: int
    message: Message
    lane: str
    route: str
    attempts: int  # made so far
    expires_at: float
    doubt: str | None = None
    """The upstream that was handed the content and is not known to have answered."""
    warned: bool = False
    """Whether the sender was told of the delay."""
    reason: str = ""
    """The last answer, for people; empty before the first attempt, or when nobody remembers."""

    @property
    def role(self) -> Role:
        """What it is to its message."""
        return _PRIMARY if self.lane.startswith("primary:") else _COPY


@quick
@dataclass(frozen=True, slots=True)
class Settlement:
    """How a claim ended. Recipients in neither `again` nor `dead` are done.

    `again` are tried again at `at`. `dead` become a dead letter, kept with the content and not tried again by
    themselves. `reason` is the answer that decided, for people. `attempted` is False when no upstream was asked,
    so that it does not count. All of it is recorded as one: `copies`, further deliveries of the same message, due
    now; and `notices`, new messages (notifications to the sender), each with its delivery.
    """

    delivery: Delivery
    again: tuple[Recipient, ...] = ()
    at: float = 0
    doubt: str | None = None  # of `again`
    warned: bool = False  # of `again`
    dead: tuple[Recipient, ...] = ()
    reason: str = ""
    attempted: bool = True
    copies: tuple[Planned, ...] = ()
    notices: tuple[tuple[Message, Planned], ...] = ()


@dataclass(frozen=True, slots=True)
class Prepared:
    """A message found prepared: whether the primary took it is not known, for the process that knew has died."""

    message: Message
    planned: tuple[Planned, ...]


@dataclass(frozen=True, slots=True)
class LaneCount:
    """What stands in one lane. `oldest` is the earliest `received_at` of what is queued or held, or None."""

    lane: str
    queued: int  # due, waiting for its time, or running
    held: int
    dead: int
    oldest: float | None


class State(StrEnum):
    """What a delivery is waiting for."""

    QUEUED = "queued"
    RUNNING = "running"
    HELD = "held"  # for somebody to release it
    DEAD = "dead"  # for somebody to look at it


@dataclass(frozen=True, slots=True)
class Entry:
    """One delivery as people look at it. Times are seconds since the epoch."""

    id: int
    message_id: str
    lane: str
    route: str
    state: State
    attempts: int
    received_at: float
    next_at: float | None  # None unless queued
    expires_at: float
    reverse_path: str  # empty for the null one
    recipients: tuple[str, ...]  # those that are still owed
    size: int  # octets of content
    reason: str  # the last answer, or why it died; empty before the first attempt
    doubt: str | None


@dataclass(frozen=True, slots=True)
class Filter:
    """Which deliveries: all that is given must hold. Globs (`*`, `?`) and text ignore case."""

    ids: frozenset[int] | None = None
    message_ids: frozenset[str] | None = None
    lanes: frozenset[str] | None = None
    routes: frozenset[str] | None = None
    states: frozenset[State] | None = None
    received_before: float | None = None
    received_after: float | None = None
    sender: str | None = None  # glob over the reverse-path; `<>` is the null one
    recipient: str | None = None  # glob over each recipient
    reason: str | None = None  # a part of the text

    def admits(self, entry: Entry) -> bool:
        """Whether the delivery is one of these."""
        return (
            (self.ids is None or entry.id in self.ids)
            and (self.message_ids is None or entry.message_id in self.message_ids)
            and (self.lanes is None or entry.lane in self.lanes)
            and (self.routes is None or entry.route in self.routes)
            and (self.states is None or entry.state in self.states)
            and (self.received_before is None or entry.received_at < self.received_before)
            and (self.received_after is None or entry.received_at > self.received_after)
            and (self.reason is None or self.reason.lower() in entry.reason.lower())
            and (self.sender is None or _matches(self.sender, entry.reverse_path or "<>"))
            and (self.recipient is None or any(_matches(self.recipient, name) for name in entry.recipients))
        )


@lru_cache(maxsize=64)
def _compiled(glob: str) -> NamePatterns:
    return NamePatterns([[glob]])


def _matches(glob: str, text: str) -> bool:
    return _compiled(glob).mask(text) != 0


Action = Literal["retry", "hold", "release", "delete"]
"""What can be done by hand. `retry` makes a delivery due now, a dead one too. Nothing happens to one that runs."""


@dataclass(frozen=True, slots=True)
class Note:
    """Something small to be remembered over a restart, and known to all instances. At most one per kind and key."""

    kind: str
    key: str
    value: str
    until: float  # seconds since the epoch; afterwards it may be forgotten


@dataclass(frozen=True, slots=True)
class Instance:
    """A Waypost that works on this spool."""

    name: str
    started_at: float
    seen_at: float


class Spool(Protocol):
    """What is owed, remembered. Methods raise `SpoolError`; none blocks the loop.

    The implementation is given two callbacks: `on_due(lane)`, for a lane that may have something newly due, and
    `on_note(note)`, for a note that another instance has put (`until` 0 when it was dropped).
    """

    @property
    def stored(self) -> int:
        """Messages made durable since the start."""

    @property
    def commits(self) -> int:
        """Transactions made durable since the start: with group commit they are fewer than messages."""

    async def open(self) -> None:
        """Opens the store."""

    async def close(self) -> None:
        """Writes what is pending and closes."""

    async def orphans(self) -> Sequence[Prepared]:
        """What processes that have died left prepared; they are ours now. Each is returned once."""

    # -- in

    async def prepare(self, message: Message, planned: Sequence[Planned]) -> None:
        """Stores the message and what is planned. Durable when it returns; cancelled, it has stored nothing.

        The content must stay open until then, and may be closed or read on afterwards.
        """

    def commit(self, message_id: str) -> None:
        """Makes the planned deliveries of a prepared message due now. Recorded soon, in order, without waiting."""

    async def commit_as(self, message_id: str, planned: Sequence[Planned]) -> Sequence[Delivery]:
        """The same with these deliveries instead of those that were planned. Durable when it returns.

        Returns those that are `running`, in their order; whoever gets them closes their content.
        """

    async def abort(self, message_id: str) -> None:
        """Discards a prepared message. Durable when it returns."""

    async def accept(self, message: Message, planned: Sequence[Planned]) -> Sequence[Delivery]:
        """Stores the message with its deliveries, due now. Durable when it returns; cancelled, it has stored nothing.

        Content and result are as in `prepare` and `commit_as`.
        """

    # -- out

    async def claim(self, lane: str, now: float, limit: int) -> Sequence[Delivery]:
        """Up to `limit` deliveries of `lane` that are due at `now` and not running; now they are.

        Whoever claims closes their content.
        """

    async def intend(self, delivery: Delivery, upstream: str) -> None:
        """Records that the content of a claimed delivery is about to go to `upstream`. Durable when it returns."""

    def settle(self, settlement: Settlement) -> None:
        """Ends a claim with an outcome. Recorded soon, in order, without waiting."""

    async def next_due(self, lane: str) -> float | None:
        """When the next delivery of `lane` that is not running is due, or None when there is none."""

    async def lanes(self) -> Sequence[LaneCount]:
        """Every lane with anything in it, by name."""

    async def check(self) -> None:
        """One durable write, to know that the next one would succeed."""

    # -- by hand

    async def find(self, where: Filter, *, after: int = 0, limit: int = 100) -> Sequence[Entry]:
        """Up to `limit` deliveries with an id above `after`, in the order of their ids.

        It may stop earlier, with fewer: `after` the last one returned there may be more, until none is returned.
        """

    async def read(self, id_: int) -> tuple[Entry, Delivery] | None:
        """One delivery with its content, which the caller closes; None when there is none with this id."""

    async def alter(self, ids: Sequence[int], action: Action, now: float, expires_at: float) -> Sequence[int]:
        """Does something to deliveries; returns the ids for which it was done, durably.

        A retried delivery expires at `expires_at` when that is later than its own time.
        """

    async def purge(self, died_before: float) -> int:
        """Removes dead letters that died before this time; how many. Forgets the notes whose time is over, too."""

    # -- notes

    async def notes(self) -> Sequence[Note]:
        """All that are remembered and whose time is not over."""

    def put(self, note: Note) -> None:
        """Remembers it, in place of one with the same kind and key. Recorded soon, without waiting."""

    def drop(self, kind: str, key: str) -> None:
        """Forgets it. Recorded soon, without waiting."""

    async def instances(self) -> Sequence[Instance]:
        """Who works on this spool, this process included."""
