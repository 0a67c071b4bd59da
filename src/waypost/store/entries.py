"""Questions of people to the database, each of which looks at a bounded number of rows: mail must not wait for it."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from waypost.delivery.spool import Entry, Filter, State
from waypost.store.database import Database
from waypost.store.queries import UNREADABLE
from waypost.store.rows import DEAD, HELD, QUEUED, DeliveryRow, decode_recipients, decode_record

LOOKED_AT = 2000
"""Rows that one question looks at."""

_CODES = {State.QUEUED: QUEUED, State.RUNNING: QUEUED, State.HELD: HELD, State.DEAD: DEAD}
_STATES = {QUEUED: State.QUEUED, HELD: State.HELD, DEAD: State.DEAD}
_NAMED_AT_ONCE = 500  # values of one kind that a question names: SQLite's limit is some thousands

_SELECT = (
    "SELECT d.*, CAST(m.record AS BLOB), length(m.content) + coalesce(m.file_size - m.file_start, 0)"
    " FROM delivery d LEFT JOIN message m ON m.key = d.id >> 16 WHERE "
)


@dataclass(frozen=True, slots=True)
class Page:
    """What was found among the deliveries with an id up to `upto`; None: among all."""

    entries: Sequence[Entry]
    upto: int | None


def find(database: Database, where: Filter, lanes: Sequence[str], after: int, limit: int) -> Page:
    """Rows with an id above `after` that `where` admits. `lanes` are all that there are. What runs counts as queued."""
    exact = replace(where, states=None)
    terms, values = _terms(where)
    entries: list[Entry] = []
    if where.ids is not None:
        ids = sorted(id_ for id_ in where.ids if id_ > after)
        some, upto = ids[:_NAMED_AT_ONCE], ids[_NAMED_AT_ONCE - 1] if len(ids) > _NAMED_AT_ONCE else None
        sql = f"{_SELECT} d.id IN ({', '.join('?' * len(some))}) {terms} ORDER BY d.id"
        entries = [_entry(row) for row in database.query(sql, [*some, *values])]
    else:
        places = _places(where, lanes)
        upto = _bound(database, places, after)
        sql = f"{_SELECT} d.lane = ? AND d.state = ? AND d.id > ? AND d.id <= ? {terms} ORDER BY d.id LIMIT ?"
        for place in places:
            last = (1 << 63) - 1 if upto is None else upto
            rows = database.query(sql, [*place, after, last, *values, limit])
            if len(rows) == limit:
                upto = rows[-1][0]
            entries += map(_entry, rows)
    return Page([entry for entry in entries if exact.admits(entry)], upto)


def find_entry(database: Database, id_: int) -> Entry | None:
    """One delivery."""
    rows = database.query(f"{_SELECT} d.id = ?", (id_,))
    return _entry(rows[0]) if rows else None


def _places(where: Filter, lanes: Sequence[str]) -> list[tuple[str, int]]:
    """The lanes and states to look at."""
    states = {_CODES[state] for state in (State if where.states is None else where.states)}
    return [(lane, state) for lane in lanes if where.lanes is None or lane in where.lanes for state in states]


def _bound(database: Database, places: Sequence[tuple[str, int]], after: int) -> int | None:
    """Up to which id the rows of all these places are few enough; None when all of them are."""
    each = max(32, LOOKED_AT // max(1, len(places)))
    upto: int | None = None
    for place in places:
        rows = database.query(
            "SELECT id FROM delivery WHERE lane = ? AND state = ? AND id > ? ORDER BY id LIMIT 1 OFFSET ?",
            (*place, after, each - 1),
        )
        if rows and (upto is None or rows[0][0] < upto):
            upto = rows[0][0]
    return upto


def _terms(where: Filter) -> tuple[str, list[Any]]:
    """What of `where` the database can check by itself: it may let pass what is not wanted, never the reverse."""
    terms: list[str] = []
    values: list[Any] = []
    for column, names in (("d.message_id", where.message_ids), ("d.route", where.routes)):
        if names is not None and len(names) <= _NAMED_AT_ONCE:
            terms.append(f"AND {column} IN ({', '.join('?' * len(names))})")
            values += names
    for operator, at in (("<", where.received_before), (">", where.received_after)):
        if at is not None:
            terms.append(f"AND d.received_at {operator} ?")
            values.append(at)
    texts = [("d.reason", where.reason), ("m.record", where.recipient)]
    if where.sender != "<>":
        texts.append(("m.record", where.sender))
    for column, text in texts:
        # The pieces of a text or glob that look the same however they are written down.
        for piece in re.findall(r"[A-Za-z0-9.-]+", text or "", re.ASCII):
            terms.append(f"AND {column} LIKE ?")
            values.append(f"%{piece}%")
    return " ".join(terms), values


def _entry(columns: Sequence[Any]) -> Entry:
    row, record, size = DeliveryRow(*columns[:-2]), columns[-2], columns[-1]
    reverse_path = ""
    recipients: tuple[str, ...] = ()
    try:
        envelope = decode_record(record).envelope
        owed = envelope.recipients if row.recipients is None else decode_recipients(row.recipients)
        reverse_path, recipients = str(envelope.reverse_path), tuple(str(recipient.address) for recipient in owed)
    except UNREADABLE:
        pass  # it can be seen and deleted all the same; a claim makes it a dead letter that says why
    next_at = row.next_at
    if row.state == QUEUED and next_at is None:
        next_at = row.received_at  # it waits in memory for its turn
    return Entry(
        row.id,
        row.message_id,
        row.lane,
        row.route,
        _STATES[row.state],
        row.attempts,
        row.received_at,
        next_at,
        row.expires_at,
        reverse_path,
        recipients,
        size or 0,
        row.reason,
        row.doubt,
    )
