"""What is to be written next: the values that the writer gathers and `waypost.store.postgres.writing` writes.

An operation that somebody waits for has a future. The others are *changes*: they must not be lost, so they are
kept until they are recorded, and each of them can be written twice without harm, for it says what must be true
before it applies.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from waypost.delivery.spool import Note, Planned, Settlement, SpoolError


@dataclass(slots=True, eq=False)
class NewDelivery:
    """A delivery that gets a row. `id` is 0 until the writer has given it one."""

    planned: Planned
    message: int
    received_at: float
    alone: bool
    owner: int | None = None  # who runs it from the start
    dead: tuple[int, str, float] | None = None  # attempts, reason, when: born dead, the rest of a settlement
    id: int = 0


@dataclass(slots=True, eq=False)
class NewMessage:
    """A message that gets a row, prepared (`planned` is JSON) or with its deliveries."""

    id: str
    received_at: float
    reverse_path: str
    record: str
    size: int
    is_ascii: bool
    content: bytes | None  # None: it was uploaded before, under `key`
    planned: str | None
    deliveries: list[NewDelivery]
    owner: int
    key: int = 0
    recorded: "asyncio.Future[None] | None" = None  # None for a notice, which goes with its settlement

    @property
    def weight(self) -> int:
        """Octets that go over the wire, roughly."""
        return 1024 + (0 if self.content is None else len(self.content))


@dataclass(slots=True, eq=False)
class Commit:
    """A prepared message gets its deliveries, unless another instance has taken it over meanwhile."""

    message_id: str
    key: int
    owner: int
    deliveries: list[NewDelivery]
    recorded: "asyncio.Future[bool] | None" = None  # whether it was still ours


@dataclass(slots=True, eq=False)
class Intent:
    """Content is about to go to an upstream."""

    id: int
    owner: int
    upstream: str
    recorded: "asyncio.Future[bool]"


@dataclass(slots=True, eq=False)
class Settled:
    """A settlement of the claim of `owner`, with the messages that go with it."""

    settlement: Settlement
    owner: int
    at: float
    notices: Sequence[NewMessage] = ()
    copies: list[NewDelivery] = field(default_factory=list)
    rest: NewDelivery | None = None  # the dead part, when there is a part that is tried again


@dataclass(slots=True)
class Changes:
    """Writes that nobody waits for."""

    withdrawn: dict[int, int] = field(default_factory=dict)
    """Keys of messages whose storing was given up, or may have failed; and the owner of what they left."""
    commits: list[Commit] = field(default_factory=list)
    settled: list[Settled] = field(default_factory=list)
    notes: dict[tuple[str, str], Note | None] = field(default_factory=dict)  # None: dropped
    told: set[str] = field(default_factory=set)
    """Lanes that other instances should be told of."""

    def __len__(self) -> int:
        return len(self.withdrawn) + len(self.commits) + len(self.settled) + len(self.notes)

    def followed_by(self, later: "Changes") -> "Changes":
        """Both, in order."""
        return Changes(
            self.withdrawn | later.withdrawn,
            self.commits + later.commits,
            self.settled + later.settled,
            self.notes | later.notes,
            self.told | later.told,
        )


@dataclass(slots=True)
class Written:
    """What a transaction found: the ids for which intents, settlements and commits no longer applied; lanes."""

    lost_intents: set[int] = field(default_factory=set)
    lost_settlements: list[Settled] = field(default_factory=list)
    lost_commits: set[int] = field(default_factory=set)  # keys
    lanes: set[str] = field(default_factory=set)
    """Lanes that have something newly due."""


@dataclass(slots=True)
class Batch:
    """One transaction."""

    changes: Changes = field(default_factory=Changes)
    messages: list[NewMessage] = field(default_factory=list)
    intents: list[Intent] = field(default_factory=list)
    commits: list[Commit] = field(default_factory=list)  # those that somebody waits for
    aborts: list[Commit] = field(default_factory=list)  # likewise; they have no deliveries
    waiting: list["asyncio.Future[None]"] = field(default_factory=list)
    """Who waits for the changes."""
    probe: bool = False

    def __len__(self) -> int:
        return (
            len(self.changes)
            + len(self.messages)
            + len(self.intents)
            + len(self.commits)
            + len(self.aborts)
            + len(self.waiting)
        )

    def new_deliveries(self) -> list[NewDelivery]:
        """Every delivery that may get a row."""
        found: list[NewDelivery] = []
        for message in self.messages:
            found += message.deliveries
        for commit in (*self.commits, *self.changes.commits):
            found += commit.deliveries
        for settled in self.changes.settled:
            found += settled.copies
            if settled.rest is not None:
                found.append(settled.rest)
            for notice in settled.notices:
                found += notice.deliveries
        return found

    def resolve(self, written: Written) -> None:
        """Tells everybody who waits that it is recorded, or that it did not apply any more."""
        for message in self.messages:
            _set(message.recorded, None)
        for intent in self.intents:
            _set(intent.recorded, intent.id not in written.lost_intents)
        for commit in (*self.commits, *self.aborts):
            _set(commit.recorded, commit.key not in written.lost_commits)
        for waiting in self.waiting:
            _set(waiting, None)

    def refuse(self, error: SpoolError) -> None:
        """Tells everybody who waits that it failed."""
        futures: list[asyncio.Future[Any] | None] = [message.recorded for message in self.messages]
        futures += [intent.recorded for intent in self.intents]
        futures += [commit.recorded for commit in (*self.commits, *self.aborts)]
        for future in (*futures, *self.waiting):
            if future is not None and not future.done():
                future.set_exception(type(error)(str(error)))


def _set(future: "asyncio.Future[Any] | None", value: bool | None) -> None:
    if future is not None and not future.done():
        future.set_result(value)
