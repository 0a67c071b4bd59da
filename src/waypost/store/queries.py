"""Questions to the database: what an earlier run left, what is due, what is oldest."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from math import inf

from waypost.delivery.spool import Delivery, Prepared
from waypost.store.database import Database
from waypost.store.rows import (
    DeliveryRow,
    MessageRow,
    decode_message,
    decode_record,
    delivery_id,
    message_key,
)

_MESSAGE = "m.key, m.id, m.received_at, m.record, m.content, m.file_size, m.file_start, m.is_ascii"


@dataclass(frozen=True, slots=True)
class Left:
    """What was there at start. The keys of `prepared` stand beside them, and whether they have a file."""

    next_key: int
    prepared: Sequence[tuple[MessageRow, Prepared]]
    queued: Sequence[tuple[str, int, float, float]]
    """lane, deliveries, when the first is due, when the oldest was received"""
    dead: Sequence[tuple[str, int]]


def left(database: Database) -> Left:
    """Makes everything that is owed a row, and counts it."""
    query = database.query
    query("BEGIN IMMEDIATE")
    query(
        "UPDATE delivery SET next_at = (SELECT received_at FROM message WHERE key = delivery.id >> 16)"
        " WHERE next_at IS NULL"
    )
    for key, received_at, record in query(
        "SELECT m.key, m.received_at, m.record FROM live l JOIN message m ON m.key = l.message WHERE l.split = 0"
    ):
        for number, plan in enumerate(decode_record(record)[2]):
            row: DeliveryRow = (
                delivery_id(key, number),
                plan.lane,
                plan.route,
                0,
                received_at,
                plan.expires_at,
                None,
            )
            query("INSERT INTO delivery VALUES (?, ?, ?, ?, ?, ?, ?)", row)
    query("UPDATE live SET split = 1 WHERE split = 0")
    query("COMMIT")
    unknown = query(f"SELECT {_MESSAGE} FROM message m WHERE key NOT IN (SELECT message FROM live) ORDER BY key")  # noqa: S608
    return Left(
        query("SELECT coalesce(max(key), 0) + 1 FROM message")[0][0],
        [
            (row, Prepared(decode_message(row, database.folder.content_path(row[0])), decode_record(row[3])[2]))
            for row in unknown
        ],
        query(
            "SELECT lane, queued, due, (SELECT received_at FROM message WHERE key = first >> 16) FROM"
            " (SELECT lane, count(*) AS queued, min(next_at) AS due, min(id) AS first FROM delivery GROUP BY lane)"
        ),
        query("SELECT lane, count(*) FROM dead_letter GROUP BY lane"),
    )


def due(
    database: Database, lane: str, now: float, limit: int, claimed: Collection[int]
) -> tuple[list[Delivery], float]:
    """Up to `limit` rows that are due and not among `claimed`; and when the next one is due that is in neither."""
    # Rows in flight are due as well, so they may come first: ask for as many more.
    rows = database.query(
        "SELECT id, next_at FROM delivery WHERE lane = ? AND next_at IS NOT NULL ORDER BY next_at LIMIT ?",
        (lane, limit + len(claimed) + 1),
    )
    free = [(id_, at) for id_, at in rows if id_ not in claimed]
    taken = [id_ for id_, at in free[:limit] if at <= now]
    rest = free[len(taken) :]
    return [_delivery(database, id_) for id_ in taken], rest[0][1] if rest else inf


def oldest(database: Database, lanes: Sequence[str]) -> list[float | None]:
    """When the oldest message with a row for each of `lanes` was received."""
    found = []
    for lane in lanes:
        rows = database.query(
            "SELECT received_at FROM message WHERE key = (SELECT min(id) >> 16 FROM delivery WHERE lane = ?)",
            (lane,),
        )
        found.append(rows[0][0] if rows else None)
    return found


def _delivery(database: Database, id_: int) -> Delivery:
    lane, route, attempts, expires_at, recipients, *message = database.query(
        f"SELECT d.lane, d.route, d.attempts, d.expires_at, d.recipients, {_MESSAGE}"  # noqa: S608
        " FROM delivery d JOIN message m ON m.key = d.id >> 16 WHERE d.id = ?",
        (id_,),
    )[0]
    row: MessageRow = tuple(message)
    path = database.folder.content_path(message_key(id_))
    return Delivery(id_, decode_message(row, path, recipients), lane, route, attempts, expires_at)
