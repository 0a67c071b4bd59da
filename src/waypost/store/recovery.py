"""What an earlier process left: counted, and made claimable again.

The time that it takes depends on what that process had in memory, which is bounded, and hardly on the backlog: the
backlog is only counted, on an index that holds little else.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

from waypost.delivery.spool import Planned, Prepared, copy_lane
from waypost.store.database import Database
from waypost.store.queries import MESSAGE, UNREADABLE
from waypost.store.rows import (
    DEAD,
    HELD,
    QUEUED,
    DeliveryRow,
    MessageRow,
    decode_message,
    decode_planned,
    decode_record,
    delivery_id,
    planned_of,
    planned_row,
)

_LOST = copy_lane("unreadable")
"""Where a message stands of which not even the lanes can be read."""


@dataclass(frozen=True, slots=True)
class LaneLeft:
    """What stands in one lane. `next_at` and `oldest` are as in `waypost.store.held.Lane`."""

    name: str
    queued: int
    held: int
    dead: int
    next_at: float
    oldest: float | None


@dataclass(frozen=True, slots=True)
class Left:
    """What was there at start."""

    next_key: int
    prepared: Sequence[tuple[MessageRow, Prepared]]
    lanes: Sequence[LaneLeft]


def recover(database: Database, now: float) -> Left:
    """Makes everything that is owed a row that can be claimed, and counts it."""
    query = database.query
    query("BEGIN IMMEDIATE")
    # Not later than now: mail that came in while the clock was ahead is due as well.
    query(
        "UPDATE delivery INDEXED BY delivery_in_memory SET next_at = min(received_at, ?)"
        " WHERE state = 0 AND next_at IS NULL",
        (now,),
    )
    _split(database, now)
    # An attempt without an outcome: the upstream may have the content.
    query(
        "UPDATE delivery SET doubt = (SELECT upstream FROM intent WHERE delivery = id)"
        " WHERE id IN (SELECT delivery FROM intent)"
    )
    query("DELETE FROM intent")
    query("DELETE FROM note WHERE until <= ?", (now,))
    prepared = _prepared(database, now)
    query("COMMIT")
    return Left(query("SELECT coalesce(max(key), 0) + 1 FROM message")[0][0], prepared, _lanes(database))


def _split(database: Database, now: float) -> None:
    """Gives the deliveries of whole messages their rows."""
    rows: list[DeliveryRow] = []
    for key, id_, received_at, record, planned in database.query(
        "SELECT m.key, m.id, m.received_at, CAST(m.record AS BLOB), w.planned"
        " FROM whole w JOIN message m ON m.key = w.message WHERE w.live = 1"
    ):
        try:
            plans = planned_of(record) if planned is None else decode_planned(planned)
        except UNREADABLE as error:
            rows.append(_unreadable(key, id_, received_at, error, now))
        else:
            rows += (
                planned_row(delivery_id(key, number), id_, received_at, plan, min(received_at, now))
                for number, plan in enumerate(plans)
            )
    database.insert("delivery", rows)
    database.query("DELETE FROM whole WHERE live = 1")


def _prepared(database: Database, now: float) -> list[tuple[MessageRow, Prepared]]:
    prepared = []
    for row in database.query(
        f"SELECT {MESSAGE} FROM message m JOIN whole w ON w.message = m.key WHERE w.live = 0 ORDER BY m.key"  # noqa: S608
    ):
        key, id_, received_at = row[:3]
        try:
            planned = decode_record(row[3]).planned
            prepared.append((row, Prepared(decode_message(row, database.folder.content_path(key)), planned)))
        except UNREADABLE as error:
            database.insert("delivery", [_unreadable(key, id_, received_at, error, now)])
            database.delete("whole", "message", [key])
    return prepared


def _unreadable(key: int, id_: str, received_at: float, error: Exception, now: float) -> DeliveryRow:
    reason = f"what is recorded of the message cannot be read: {error}"
    row = planned_row(delivery_id(key, 0), id_, received_at, Planned(_LOST, "", now), None)
    return row._replace(state=DEAD, reason=reason, died_at=now)


def _lanes(database: Database) -> list[LaneLeft]:
    counts: dict[str, dict[int, tuple[int, int]]] = {}
    for lane, state, count, first in database.query(
        "SELECT lane, state, count(*), min(id) FROM delivery GROUP BY lane, state"
    ):
        counts.setdefault(lane, {})[state] = (count, first)
    lanes = []
    for lane, states in counts.items():
        firsts = [first for state, (_, first) in states.items() if state != DEAD]
        oldest = database.select("SELECT received_at FROM delivery WHERE id IN", firsts)
        due = database.query("SELECT min(next_at) FROM delivery WHERE lane = ? AND next_at IS NOT NULL", (lane,))[0][0]
        queued, held, dead = (states.get(state, (0, 0))[0] for state in (QUEUED, HELD, DEAD))
        lanes.append(
            LaneLeft(lane, queued, held, dead, inf if due is None else due, min((at for (at,) in oldest), default=None))
        )
    return lanes
