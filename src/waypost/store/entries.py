"""Questions of people to the database, each of which looks at a bounded number of rows: mail must not wait for it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from waypost.delivery.spool import Entry, Filter, State
from waypost.store.database import Database
from waypost.store.queries import UNREADABLE, find_rows
from waypost.store.rows import DEAD, HELD, QUEUED, DeliveryRow, decode_recipients, decode_record, message_key

LOOKED_AT = 1000
"""Rows that one question looks at."""

_CODES = {State.QUEUED: QUEUED, State.RUNNING: QUEUED, State.HELD: HELD, State.DEAD: DEAD}
_STATES = {QUEUED: State.QUEUED, HELD: State.HELD, DEAD: State.DEAD}


@dataclass(frozen=True, slots=True)
class Page:
    """What was found among the deliveries with an id up to `upto`; None: among all."""

    entries: Sequence[Entry]
    upto: int | None


def find(database: Database, where: Filter, lanes: Sequence[str], after: int, limit: int) -> Page:
    """Rows with an id above `after` that `where` admits. `lanes` are all that there are. What runs counts as queued."""
    ids, upto = _candidates(database, where, lanes, after)
    # What the row itself can say comes first; the message is read for the rest only.
    rough = replace(where, ids=None, lanes=None, states=None, sender=None, recipient=None)
    plain = [row for row in find_rows(database, ids) if rough.admits(_entry(row))]
    plain.sort(key=lambda row: row.id)
    found: list[Entry] = []
    exact = replace(where, states=None)
    for first in range(0, len(plain), limit):
        some = plain[first : first + limit]
        found += [entry for entry in complete(database, some) if exact.admits(entry)]
        if len(found) >= limit:
            return Page(found, some[-1].id)
    return Page(found, upto)


def complete(database: Database, rows: Sequence[DeliveryRow]) -> list[Entry]:
    """The rows as people look at them, with what their messages say."""
    keys = list({message_key(row.id) for row in rows})
    messages = {
        key: more
        for key, *more in database.select(
            "SELECT key, record, length(content) + coalesce(file_size - file_start, 0) FROM message WHERE key IN", keys
        )
    }
    entries = []
    for row in rows:
        entry = _entry(row)
        try:
            record, size = messages[message_key(row.id)]
            envelope = decode_record(record).envelope
            recipients = envelope.recipients if row.recipients is None else decode_recipients(row.recipients)
            addresses = tuple(str(recipient.address) for recipient in recipients)
            entry = replace(entry, reverse_path=str(envelope.reverse_path), recipients=addresses, size=size)
        except UNREADABLE:
            pass  # it can be seen and deleted all the same; a claim makes it a dead letter that says why
        entries.append(entry)
    return entries


def _candidates(database: Database, where: Filter, lanes: Sequence[str], after: int) -> tuple[list[int], int | None]:
    """Ids in the order in which they are to be looked at, and up to where these are all."""
    if where.ids is not None:
        ids = sorted(id_ for id_ in where.ids if id_ > after)
        return ids[:LOOKED_AT], ids[LOOKED_AT - 1] if len(ids) > LOOKED_AT else None
    states = {_CODES[state] for state in (State if where.states is None else where.states)}
    some = [(lane, state) for lane in lanes if where.lanes is None or lane in where.lanes for state in states]
    if not some:
        return [], None
    each = max(32, LOOKED_AT // len(some))
    ids, upto = [], None
    for lane, state in some:
        rows = database.query(
            "SELECT id FROM delivery WHERE lane = ? AND state = ? AND id > ? ORDER BY id LIMIT ?",
            (lane, state, after, each),
        )
        ids += [id_ for (id_,) in rows]
        if len(rows) == each:
            upto = min(rows[-1][0], upto or rows[-1][0])
    if upto is not None:
        ids = [id_ for id_ in ids if id_ <= upto]
    return sorted(ids), upto


def _entry(row: DeliveryRow) -> Entry:
    """What the row alone can say."""
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
        "",
        (),
        0,
        row.reason,
        row.doubt,
    )
