"""What is to be written next, as net effects: what was added and removed again in the meantime is not written."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from waypost.delivery.spool import Note
from waypost.store.rows import DeliveryRow, MessageRow, WholeRow

if TYPE_CHECKING:
    from waypost.store.database import Database


@dataclass(slots=True)
class Changes:
    """Writes that nobody waits for, and that must not be lost. Their order among each other does not matter."""

    messages: dict[int, MessageRow] = field(default_factory=dict)
    """New messages of our own, by key."""
    whole: dict[int, WholeRow | None] = field(default_factory=dict)
    """Rows of `whole` by message; None removes the row."""
    deliveries: dict[int, DeliveryRow | None] = field(default_factory=dict)
    """Rows of deliveries by id; None removes the row."""
    further: list[DeliveryRow] = field(default_factory=list)
    """Rows of deliveries that get a number of their own: their ids name the delivery that they came from."""
    intents: dict[int, str | None] = field(default_factory=dict)
    """Upstreams by delivery; None removes the row."""
    notes: dict[tuple[str, str], Note | None] = field(default_factory=dict)
    gone: dict[int, bool] = field(default_factory=dict)
    """Messages that nothing needs any more, and whether they have a file."""
    check: set[int] = field(default_factory=set)
    """Messages that may not be needed any more: the database knows."""

    def __len__(self) -> int:
        return (
            len(self.messages)
            + len(self.whole)
            + len(self.deliveries)
            + len(self.further)
            + len(self.intents)
            + len(self.notes)
            + len(self.gone)
            + len(self.check)
        )

    def forget(self, key: int, has_file: bool) -> None:
        """The message goes, with all of its deliveries."""
        self.whole.pop(key, None)
        if self.messages.pop(key, None) is None:
            self.gone[key] = has_file

    def followed_by(self, later: "Changes") -> "Changes":
        """Both, in one."""
        gone = self.gone | later.gone
        return Changes(
            {key: row for key, row in (self.messages | later.messages).items() if key not in gone},
            {key: row for key, row in (self.whole | later.whole).items() if key not in gone},
            self.deliveries | later.deliveries,
            self.further + later.further,
            self.intents | later.intents,
            self.notes | later.notes,
            gone,
            self.check | later.check,
        )


@dataclass(frozen=True, slots=True)
class Awaited:
    """Rows that somebody waits for: written as one with the others, or not at all."""

    message: MessageRow | None
    whole: WholeRow
    waiting: "asyncio.Future[None]"


Read = Callable[["Database"], Any]


@dataclass(slots=True)
class Batch:
    """One transaction: changes, and what somebody waits for."""

    changes: Changes = field(default_factory=Changes)
    awaited: list[Awaited] = field(default_factory=list)
    waiting: list["asyncio.Future[None]"] = field(default_factory=list)
    """Who waits for the changes to be durable."""
    probe: bool = False
    reads: list[tuple[Read, "asyncio.Future[Any]"]] = field(default_factory=list)
    """Questions, answered after the changes."""


@dataclass(slots=True)
class Written:
    """What became of a batch: an error for what is awaited, one for the changes; answers or errors to the questions."""

    awaited: Exception | None = None
    changes: Exception | None = None
    committed: bool = False
    answers: list[Any] = field(default_factory=list)
