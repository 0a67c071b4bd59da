"""Questions about what is owed, and what people do to it by hand."""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from waypost.delivery.spool import Action, Entry, Filter, LaneCount
from waypost.routing.patterns import NamePatterns
from waypost.store.postgres.connection import Connection
from waypost.store.postgres.finishing import finish_messages
from waypost.store.postgres.rows import ENTRY, decode_entry

_DUE_LANES = """
WITH RECURSIVE found(lane) AS (
    SELECT min(lane) FROM waypost.delivery WHERE state = 'queued'
    UNION ALL
    SELECT (SELECT min(d.lane) FROM waypost.delivery d WHERE d.state = 'queued' AND d.lane > found.lane)
    FROM found WHERE found.lane IS NOT NULL)
SELECT lane FROM found WHERE lane IS NOT NULL
AND (SELECT min(d.next_at) FROM waypost.delivery d WHERE d.state = 'queued' AND d.lane = found.lane) <= $1
"""
# From lane to lane by the index: what it costs does not depend on how much is queued.

_LANES = """
SELECT lane, sum(queued)::bigint, sum(held)::bigint, sum(dead)::bigint, min(oldest) FROM (
    SELECT lane, count(*) AS queued, 0 AS held, 0 AS dead, min(received_at) AS oldest
    FROM waypost.delivery WHERE state = 'queued' GROUP BY lane
    UNION ALL
    SELECT lane, count(*) FILTER (WHERE state = 'running'), count(*) FILTER (WHERE state = 'held'),
           count(*) FILTER (WHERE state = 'dead'), min(received_at) FILTER (WHERE state <> 'dead')
    FROM waypost.delivery WHERE state <> 'queued' GROUP BY lane) AS counted
GROUP BY lane ORDER BY lane
"""

_ACTIONS: dict[Action, str] = {
    "retry": """
        UPDATE waypost.delivery SET state = 'queued', next_at = $2, died_at = NULL,
            expires_at = greatest(expires_at, $3)
        WHERE id = ANY($1::bigint[]) AND state <> 'running' RETURNING id, lane, message""",
    "hold": """
        UPDATE waypost.delivery SET state = 'held'
        WHERE id = ANY($1::bigint[]) AND state = 'queued' RETURNING id, lane, message""",
    "release": """
        UPDATE waypost.delivery SET state = 'queued', next_at = $2
        WHERE id = ANY($1::bigint[]) AND state = 'held' RETURNING id, lane, message""",
    "delete": """
        DELETE FROM waypost.delivery
        WHERE id = ANY($1::bigint[]) AND state <> 'running' RETURNING id, lane, message""",
}

_PURGE = """
DELETE FROM waypost.delivery WHERE id IN (
    SELECT id FROM waypost.delivery WHERE state = 'dead' AND died_at < $1 LIMIT 500 FOR UPDATE SKIP LOCKED)
RETURNING message
"""

_WORDS = re.compile(r"[a-z0-9._+-]+", re.ASCII)
_LOOKED_AT = 500  # deliveries, of which those are picked that match by a glob or a text

_ENTRIES = f"SELECT {ENTRY} FROM waypost.delivery d JOIN waypost.message m ON m.key = d.message WHERE "  # noqa: S608


async def due_lanes(connection: Connection, now: float) -> list[str]:
    """The lanes that have something due at `now`."""
    return [row["lane"] for row in await connection.fetch(_DUE_LANES, now)]


async def next_due(connection: Connection, lane: str) -> float | None:
    """When the next delivery of a lane is due."""
    at: float | None = await connection.fetchval(
        "SELECT min(next_at) FROM waypost.delivery WHERE state = 'queued' AND lane = $1", lane
    )
    return at


async def count_lanes(connection: Connection) -> list[LaneCount]:
    """What stands in each lane, by name."""
    return [LaneCount(*row) for row in await connection.fetch(_LANES, timeout=30)]


async def find(connection: Connection, where: Filter, after: int, limit: int) -> list[Entry]:
    """Some deliveries that match, all that do up to the last one; none only when there are no more."""
    conditions, values = _conditions(where)
    exact = where.sender is None and where.recipient is None and where.reason is None
    while True:
        rows = await connection.fetch(
            f"{_ENTRIES}d.id > $1{conditions} ORDER BY d.id LIMIT $2",
            after,
            limit if exact else max(limit, _LOOKED_AT),
            *values,
            timeout=30,
        )
        entries = [decode_entry(row) for row in rows]
        matching = entries if exact else [entry for entry in entries if where.admits(entry)]
        if matching or not entries:
            return matching[:limit]
        after = entries[-1].id


async def read_entry(connection: Connection, id_: int) -> Entry | None:
    """One delivery."""
    row = await connection.fetchrow(f"{_ENTRIES}d.id = $1", id_)
    return None if row is None else decode_entry(row)


async def alter(
    connection: Connection, ids: Sequence[int], action: Action, now: float, expires_at: float
) -> dict[int, str]:
    """Does something to deliveries, durably: the ids for which it was done, and their lanes."""
    values = {"retry": (now, expires_at), "release": (now,)}.get(action, ())
    async with connection.transaction():
        await connection.execute("SET LOCAL synchronous_commit TO on")
        rows = await connection.fetch(_ACTIONS[action], sorted(ids), *values, timeout=30)
        if action == "delete" and rows:
            await finish_messages(connection, {row["message"] for row in rows})
    return {row["id"]: row["lane"] for row in rows}


async def purge(connection: Connection, died_before: float) -> int:
    """Removes some dead letters; how many. None are left when it is 0."""
    async with connection.transaction():
        rows = await connection.fetch(_PURGE, died_before)
        if rows:
            await finish_messages(connection, {row["message"] for row in rows})
    return len(rows)


def _conditions(where: Filter) -> tuple[str, list[Any]]:
    """What the database can judge, as SQL with parameters from $3 on; of texts no more than narrows them down."""
    chosen: list[tuple[str, Any]] = []
    for column, allowed, kind in (
        ("d.id", where.ids, "bigint"),
        ("m.id", where.message_ids, "text"),
        ("d.lane", where.lanes, "text"),
        ("d.route", where.routes, "text"),
        ("d.state", where.states, "text"),
    ):
        if allowed is not None:
            chosen.append((f"{column} = ANY({{}}::{kind}[])", list(allowed)))
    if where.received_before is not None:
        chosen.append(("d.received_at < {}", where.received_before))
    if where.received_after is not None:
        chosen.append(("d.received_at > {}", where.received_after))
    if where.sender is not None and where.sender.isascii():
        null = " OR m.reverse_path = ''" if NamePatterns([[where.sender]]).mask("<>") else ""
        chosen.append((f"(lower(m.reverse_path) LIKE {{}}{null})", _like(where.sender)))
    if where.recipient is not None:
        # In the JSON text the parts of an address stand apart, and some characters are escaped.
        words = _WORDS.findall(where.recipient.lower())
        chosen += [("position({} IN lower(coalesce(d.recipients, m.record))) > 0", word) for word in words]
    if where.reason is not None and where.reason.isascii():
        chosen.append(("position({} IN lower(d.reason)) > 0", where.reason.lower()))
    text = "".join(f" AND {sql.format(f'${number}')}" for number, (sql, _) in enumerate(chosen, 3))
    return text, [value for _, value in chosen]


@lru_cache(maxsize=16)
def _like(glob: str) -> str:
    """A glob as a pattern of LIKE, in lower case."""
    escaped = glob.lower().replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return escaped.replace("*", "%").replace("?", "_")
