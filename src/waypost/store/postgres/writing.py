"""One batch, written as one transaction: the statements, each for all rows of a kind."""

from collections.abc import Iterable, Sequence
from typing import Any

from waypost.store.postgres.batch import Batch, Commit, Intent, NewDelivery, NewMessage, Written
from waypost.store.postgres.connection import Connection
from waypost.store.postgres.finishing import finish_messages, remove_chunks
from waypost.store.postgres.notes import tell, write_notes
from waypost.store.postgres.rows import encode_some
from waypost.store.postgres.settling import settle

_MESSAGES = """
INSERT INTO waypost.message (key, id, received_at, reverse_path, record, size, is_ascii, content)
SELECT * FROM unnest($1::bigint[], $2::text[], $3::float8[], $4::text[], $5::text[], $6::bigint[], $7::boolean[],
                     $8::bytea[])
"""

_PREPARED = "INSERT INTO waypost.prepared SELECT * FROM unnest($1::bigint[], $2::integer[], $3::text[])"

_DELIVERIES = """
INSERT INTO waypost.delivery (id, message, received_at, next_at, expires_at, owner, alone, state, lane, route, doubt,
                              recipients, attempts, reason, died_at)
SELECT s.id, s.message, s.received_at, s.received_at, s.expires_at, s.owner, s.alone, s.state, s.lane, s.route, s.doubt,
       s.recipients, s.attempts, s.reason, s.died_at
FROM unnest($1::bigint[], $2::bigint[], $3::float8[], $4::float8[], $5::integer[], $6::boolean[], $7::text[],
            $8::text[], $9::text[], $10::text[], $11::text[], $12::integer[], $13::text[], $14::float8[])
  AS s(id, message, received_at, expires_at, owner, alone, state, lane, route, doubt, recipients, attempts, reason,
       died_at)
"""

_UNPREPARE = """
DELETE FROM waypost.prepared p USING unnest($1::bigint[], $2::integer[]) AS s(message, owner)
WHERE p.message = s.message AND p.owner = s.owner RETURNING p.message
"""

_INTENTS = """
UPDATE waypost.delivery d SET intent = s.upstream FROM unnest($1::bigint[], $2::integer[], $3::text[])
  AS s(id, owner, upstream) WHERE d.id = s.id AND d.owner = s.owner RETURNING d.id
"""

_WITHDRAW_DELIVERIES = """
DELETE FROM waypost.delivery d USING unnest($1::bigint[], $2::integer[]) AS s(message, owner)
WHERE d.message = s.message AND (d.owner = s.owner OR d.state = 'queued' AND d.attempts = 0)
"""


async def write(connection: Connection, batch: Batch, instance: int, sender: str | None) -> Written:
    """Writes `batch`; every new row in it has its number. Raises the driver's errors.

    Other instances are told of it as coming from `sender`, in one notification; None: they are not.
    """
    written = Written()
    changes = batch.changes
    await connection.execute("BEGIN")
    if changes.withdrawn:
        await _withdraw(connection, changes.withdrawn)
    messages = list(batch.messages)
    new: list[NewDelivery] = [delivery for message in messages for delivery in message.deliveries]
    if commits := [*changes.commits, *batch.commits]:
        new += await _commit(connection, commits, written)
    if batch.intents:
        await _intend(connection, batch.intents, written)
    unneeded: set[int] = set()
    if changes.settled:
        notices, born, unneeded = await settle(connection, changes.settled, written)
        messages += notices
        new += born
    if batch.aborts:
        unneeded |= await _abort(connection, batch.aborts, written)
    if messages:
        await _insert_messages(connection, messages)
    if new:
        await _insert_deliveries(connection, new)
        written.lanes.update(delivery.planned.lane for delivery in new if not (delivery.owner or delivery.dead))
    if unneeded:
        await finish_messages(connection, unneeded)
    if changes.notes:
        await write_notes(connection, changes.notes)
    if batch.probe:
        await connection.execute("UPDATE waypost.instance SET seen_at = clock_timestamp() WHERE number = $1", instance)
    if sender is not None and (written.lanes or changes.told or changes.notes):
        await tell(connection, sender, written.lanes | changes.told, changes.notes)
    await connection.execute("COMMIT")
    return written


def _columns(rows: Sequence[Sequence[Any]]) -> Iterable[Sequence[Any]]:
    return zip(*rows, strict=True)


async def _insert_messages(connection: Connection, messages: Sequence[NewMessage]) -> None:
    rows = [(m.key, m.id, m.received_at, m.reverse_path, m.record, m.size, m.is_ascii, m.content) for m in messages]
    await connection.execute(_MESSAGES, *_columns(rows))
    prepared = [(message.key, message.owner, message.planned) for message in messages if message.planned is not None]
    if prepared:
        await connection.execute(_PREPARED, *_columns(prepared))
    uploaded = [message.key for message in messages if message.content is None]
    if uploaded:
        await connection.execute("DELETE FROM waypost.upload WHERE message = ANY($1::bigint[])", uploaded)


async def _insert_deliveries(connection: Connection, deliveries: Sequence[NewDelivery]) -> None:
    await connection.execute(_DELIVERIES, *_columns([_delivery_row(delivery) for delivery in deliveries]))


def _delivery_row(delivery: NewDelivery) -> tuple[Any, ...]:
    plan, dead, owner = delivery.planned, delivery.dead, delivery.owner
    return (
        delivery.id,
        delivery.message,
        delivery.received_at,
        plan.expires_at,
        owner,
        delivery.alone,
        "dead" if dead else "running" if owner else "queued",
        plan.lane,
        plan.route,
        plan.doubt,
        encode_some(plan.recipients),
        *(dead or (0, "", None)),
    )


async def _commit(connection: Connection, commits: Sequence[Commit], written: Written) -> list[NewDelivery]:
    """Ends the prepared state of messages; the deliveries they get."""
    rows = await connection.fetch(_UNPREPARE, *_columns([(commit.key, commit.owner) for commit in commits]))
    ours = {row["message"] for row in rows}
    written.lost_commits.update(commit.key for commit in commits if commit.key not in ours)
    return [delivery for commit in commits if commit.key in ours for delivery in commit.deliveries]


async def _abort(connection: Connection, aborts: Sequence[Commit], written: Written) -> set[int]:
    """Ends the prepared state of messages that are discarded; the keys of those that can go."""
    await _commit(connection, aborts, written)
    return {abort.key for abort in aborts} - written.lost_commits


async def _intend(connection: Connection, intents: Sequence[Intent], written: Written) -> None:
    intents = sorted(intents, key=lambda intent: intent.id)  # in one order everywhere: no deadlock
    rows = await connection.fetch(_INTENTS, *_columns([(i.id, i.owner, i.upstream) for i in intents]))
    written.lost_intents = {intent.id for intent in intents} - {row["id"] for row in rows}


async def _withdraw(connection: Connection, withdrawn: dict[int, int]) -> None:
    """Removes what was stored although nobody was told so, unless another instance works on it already."""
    pairs = list(withdrawn.items())
    await connection.execute(_WITHDRAW_DELIVERIES, *_columns(pairs))
    await connection.execute(_UNPREPARE, *_columns(pairs))
    await finish_messages(connection, withdrawn)
    await remove_chunks(connection, withdrawn)
