"""Questions to the database: what is due, what is oldest, one message, one delivery."""

import sqlite3
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any

from waypost.delivery.spool import Delivery
from waypost.mail.message import Message
from waypost.store.database import Database
from waypost.store.rows import DEAD, DeliveryRow, decode_message, message_key

MESSAGE = "m.key, m.id, m.received_at, CAST(m.record AS BLOB), m.content, m.file_size, m.file_start, m.is_ascii"
"""The columns of a `MessageRow`. What is no text any more is no error of the whole question but of one record."""

UNREADABLE = (ValueError, TypeError, LookupError, AttributeError)
"""What is raised by reading a row that holds something else than was written."""


class DamagedError(ValueError):
    """A row does not hold what was written."""


@dataclass(frozen=True, slots=True)
class Due:
    """What a claim has found."""

    deliveries: Sequence[Delivery]
    dead: Sequence[tuple[int, str]]
    """Deliveries that could not be read and are dead letters now, and why."""
    next_at: float
    """When the next row is due that is in neither and is not in flight."""


def due(database: Database, lane: str, now: float, limit: int, claimed: Collection[int], died_at: float) -> Due:
    """Up to `limit` rows that are due and not among `claimed`, which are those in flight."""
    # Rows in flight are due as well, so they may come first: ask for as many more.
    rows = database.query(
        "SELECT id, next_at FROM delivery WHERE lane = ? AND next_at IS NOT NULL ORDER BY next_at LIMIT ?",
        (lane, limit + len(claimed) + 1),
    )
    free = [(id_, at) for id_, at in rows if id_ not in claimed]
    taken = [id_ for id_, at in free[:limit] if at <= now]
    rest = free[len(taken) :]
    deliveries, dead = [], []
    for id_ in taken:
        try:
            row = find_row(database, id_)
            if row is not None:
                deliveries.append(read_delivery(database, row))
        except UNREADABLE as error:
            reason = f"what is recorded of it cannot be read: {error}"
            database.query(
                "UPDATE delivery SET state = ?, next_at = NULL, reason = ?, died_at = ? WHERE id = ?",
                (DEAD, reason, died_at, id_),
            )
            dead.append((id_, reason))
    return Due(deliveries, dead, rest[0][1] if rest else inf)


def find_row(database: Database, id_: int) -> DeliveryRow | None:
    """The row of one delivery. Raises one of `UNREADABLE`."""
    rows = _read(database, "SELECT * FROM delivery WHERE id = ?", id_)
    return DeliveryRow(*rows[0]) if rows else None


def find_rows(database: Database, ids: Sequence[int]) -> list[DeliveryRow]:
    """The rows of several deliveries, as far as there are any."""
    return [DeliveryRow(*row) for row in database.select("SELECT * FROM delivery WHERE id IN", ids)]


def read_delivery(database: Database, row: DeliveryRow) -> Delivery:
    """The delivery with its message. Raises one of `UNREADABLE`."""
    message = read_message(database, message_key(row.id), row.recipients)
    return Delivery(
        row.id, message, row.lane, row.route, row.attempts, row.expires_at, row.doubt, bool(row.warned), row.reason
    )


def read_message(database: Database, key: int, recipients: str | None = None) -> Message:
    """One message, owed to `recipients` or to all. Raises one of `UNREADABLE`."""
    rows = _read(database, f"SELECT {MESSAGE} FROM message m WHERE m.key = ?", key)  # noqa: S608
    if not rows:
        raise DamagedError("its message is missing")
    return decode_message(rows[0], database.folder.content_path(key), recipients)


def oldest(database: Database, lanes: Sequence[str]) -> list[float | None]:
    """When the oldest message with a row for each of `lanes` was received, dead letters apart."""
    found = []
    for lane in lanes:
        rows = database.query(
            "SELECT min(received_at) FROM delivery WHERE id IN"
            " ((SELECT min(id) FROM delivery WHERE lane = :lane AND state = 0),"
            " (SELECT min(id) FROM delivery WHERE lane = :lane AND state = 1))",
            {"lane": lane},
        )
        found.append(rows[0][0])
    return found


def _read(database: Database, sql: str, key: int) -> list[Any]:
    try:
        return database.query(sql, (key,))
    except sqlite3.OperationalError as error:
        if getattr(error, "sqlite_errorcode", None) is None:  # the module's own: text that is not UTF-8
            raise DamagedError(str(error)) from error
        raise
