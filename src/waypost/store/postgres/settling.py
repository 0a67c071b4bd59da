"""Settlements, many at once: what is done goes, what is tried again or dead is written down.

Each holds only for the claim that it ends. A claim that another instance has taken over is not touched.
"""

from collections.abc import Sequence

from waypost.store.postgres.batch import NewDelivery, NewMessage, Settled, Written
from waypost.store.postgres.connection import Connection
from waypost.store.postgres.rows import plain
from waypost.store.rows import encode_recipients

_DONE = """
WITH gone AS (
    DELETE FROM waypost.delivery d USING unnest($1::bigint[], $2::integer[], $3::boolean[]) AS s(id, owner, kept)
    WHERE d.id = s.id AND d.owner = s.owner RETURNING d.id, d.message, d.alone, s.kept),
finished AS (
    DELETE FROM waypost.message m USING gone WHERE m.key = gone.message AND gone.alone AND NOT gone.kept
    RETURNING m.key, m.content IS NULL AS chunked),
emptied AS (DELETE FROM waypost.chunk c USING finished f WHERE f.chunked AND c.message = f.key)
SELECT id, message, alone FROM gone
"""

_KEPT = """
UPDATE waypost.delivery d SET owner = NULL, state = s.state, next_at = s.next_at, recipients = s.recipients,
    attempts = d.attempts + s.attempted, reason = s.reason, doubt = s.doubt, intent = NULL,
    warned = d.warned OR s.warned, died_at = s.died_at, alone = d.alone AND s.alone
FROM unnest($1::bigint[], $2::integer[], $3::text[], $4::float8[], $5::text[], $6::integer[], $7::text[],
            $8::text[], $9::boolean[], $10::float8[], $11::boolean[])
  AS s(id, owner, state, next_at, recipients, attempted, reason, doubt, warned, died_at, alone)
WHERE d.id = s.id AND d.owner = s.owner RETURNING d.id, d.message, d.alone
"""


async def settle(
    connection: Connection, all_settled: Sequence[Settled], written: Written
) -> tuple[list[NewMessage], list[NewDelivery], set[int]]:
    """Writes settlements; the messages and deliveries that they bring forth, and messages that may be unneeded."""
    ordered = sorted(all_settled, key=lambda settled: settled.settlement.delivery.id)
    found: dict[int, tuple[int, bool]] = {}  # message and alone, by delivery
    done = [s for s in ordered if not (s.settlement.again or s.settlement.dead)]
    kept = [s for s in ordered if s.settlement.again or s.settlement.dead]
    if done:
        ids, owners = [s.settlement.delivery.id for s in done], [s.owner for s in done]
        for row in await connection.fetch(_DONE, ids, owners, [bool(s.copies) for s in done]):
            found[row["id"]] = (row["message"], row["alone"])
    if kept:
        columns = zip(*map(_kept_row, kept), strict=True)
        for row in await connection.fetch(_KEPT, *columns):
            found[row["id"]] = (row["message"], row["alone"])
    messages: list[NewMessage] = []
    deliveries: list[NewDelivery] = []
    for settled in ordered:
        place = found.get(settled.settlement.delivery.id)
        if place is None:
            written.lost_settlements.append(settled)
            continue
        for delivery in _born(settled):
            delivery.message, delivery.alone = place[0], False
            deliveries.append(delivery)
        for notice in settled.notices:
            messages.append(notice)
            deliveries += notice.deliveries
        if settled.settlement.again and settled.settlement.at <= settled.at:
            written.lanes.add(settled.settlement.delivery.lane)
    unneeded = {
        found[id_][0]
        for id_ in (s.settlement.delivery.id for s in done if not s.copies)
        if id_ in found and not found[id_][1]
    }
    return messages, deliveries, unneeded


def _born(settled: Settled) -> list[NewDelivery]:
    return settled.copies if settled.rest is None else [*settled.copies, settled.rest]


def _kept_row(settled: Settled) -> tuple[object, ...]:
    settlement = settled.settlement
    again = bool(settlement.again)
    return (
        settlement.delivery.id,
        settled.owner,
        "queued" if again else "dead",
        settlement.at,
        encode_recipients(settlement.again or settlement.dead),
        int(settlement.attempted),
        plain(settlement.reason),
        settlement.doubt if again else None,
        again and settlement.warned,
        None if again else settled.at,
        not (settled.copies or settled.rest),
    )
