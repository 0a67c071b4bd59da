"""What is to be written next, as net effects: what was added and removed again in the meantime is not written."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from waypost.store.rows import DeliveryRow, MessageRow

if TYPE_CHECKING:
    from waypost.store.database import Database

DeadRow = tuple[int, str, str, int, str, str, float]
"""message, lane, route, attempts, recipients, reason, died_at."""


@dataclass(slots=True)
class Changes:
    """Writes that nobody waits for, and that must not be lost. Their order among each other does not matter."""

    live: dict[int, int] = field(default_factory=dict)
    """Messages that become live, and whether their deliveries have rows."""
    deliveries: dict[int, DeliveryRow | None] = field(default_factory=dict)
    """Rows of deliveries by id; None removes the row."""
    dead: list[DeadRow] = field(default_factory=list)
    gone: dict[int, bool] = field(default_factory=dict)
    """Messages that nothing needs any more, and whether they have a file."""
    check: set[int] = field(default_factory=set)
    """Messages that may not be needed any more: the database knows."""

    def __len__(self) -> int:
        return len(self.live) + len(self.deliveries) + len(self.dead) + len(self.gone) + len(self.check)

    def forget(self, key: int, has_file: bool) -> None:
        """The message goes, with all of its deliveries."""
        self.live.pop(key, None)
        self.gone[key] = has_file

    def followed_by(self, later: "Changes") -> "Changes":
        """Both, in one."""
        gone = self.gone | later.gone
        return Changes(
            {key: split for key, split in (self.live | later.live).items() if key not in gone},
            self.deliveries | later.deliveries,
            self.dead + later.dead,
            gone,
            self.check | later.check,
        )


Read = Callable[["Database"], Any]


@dataclass(slots=True)
class Batch:
    """One transaction: changes, and what somebody waits for."""

    changes: Changes = field(default_factory=Changes)
    messages: list[tuple[MessageRow, "asyncio.Future[None]"]] = field(default_factory=list)
    waiting: list["asyncio.Future[None]"] = field(default_factory=list)
    """Who waits for the changes to be durable."""
    probe: bool = False
    reads: list[tuple[Read, "asyncio.Future[Any]"]] = field(default_factory=list)
    """Questions, answered after the changes."""


@dataclass(slots=True)
class Written:
    """What became of a batch: an error for new messages, one for the changes; answers or errors to the questions."""

    messages: Exception | None = None
    changes: Exception | None = None
    answers: list[Any] = field(default_factory=list)
