"""Claims: deliveries are taken from the queue by one instance, and none waits for another."""

from collections.abc import Collection, Sequence

from waypost.delivery.spool import Delivery
from waypost.store.postgres.connection import Pool
from waypost.store.postgres.content import ContentStore
from waypost.store.postgres.rows import DELIVERY, MESSAGE, decode_delivery

_CLAIM = f"""
WITH picked AS MATERIALIZED (
    SELECT id, message, next_at FROM waypost.delivery
    WHERE lane = $1 AND state = 'queued' AND next_at <= $2 AND id <> ALL($5::bigint[])
    ORDER BY next_at LIMIT $3 FOR UPDATE SKIP LOCKED),
sized AS (
    SELECT p.id, p.next_at AS due_at, {MESSAGE}, m.content,
           count(*) FILTER (WHERE m.content IS NULL) OVER (ORDER BY p.next_at, p.id ROWS UNBOUNDED PRECEDING)
           - (m.content IS NULL)::integer AS large_before
    FROM picked p JOIN waypost.message m ON m.key = p.message)
UPDATE waypost.delivery d SET state = 'running', owner = $4 FROM sized m WHERE d.id = m.id AND m.large_before = 0
RETURNING {DELIVERY}, m.due_at, {MESSAGE.replace("m.id AS ", "m.")}, m.content
"""  # noqa: S608  # columns, named in this package

_SOME = f"""
SELECT {DELIVERY}, {MESSAGE}, m.content FROM waypost.delivery d JOIN waypost.message m ON m.key = d.message
WHERE d.id = ANY($1::bigint[])
"""  # noqa: S608  # likewise

_GIVE_BACK = """
UPDATE waypost.delivery SET state = 'queued', owner = NULL, doubt = coalesce(intent, doubt), intent = NULL
WHERE owner = $1 AND id = ANY($2::bigint[]) RETURNING lane
"""


class Claims:
    """What this process runs, and under which of its numbers it was claimed."""

    def __init__(self, pool: Pool, contents: ContentStore) -> None:
        self._pool = pool
        self._contents = contents
        self._owners: dict[int, int] = {}

    def owner(self, id_: int) -> int:
        """The number under which a delivery runs. Raises ValueError when it does not."""
        try:
            return self._owners[id_]
        except KeyError:
            raise ValueError(f"delivery {id_} is not in flight") from None

    def end(self, id_: int) -> int:
        """The same, and it runs no longer."""
        owner = self.owner(id_)
        del self._owners[id_]
        return owner

    def knows(self, id_: int) -> bool:
        """Whether it runs."""
        return id_ in self._owners

    async def claim(self, lane: str, now: float, limit: int, owner: int) -> Sequence[Delivery]:
        """Up to `limit` deliveries that are due. At most one of them, the last, is large.

        So however many large messages are due, they are fetched as they are delivered and not all at once. What
        runs here is not claimed again although it is queued, because others have taken it over and given it up,
        or a crash of the database has undone the claim: its attempt ends first.
        """
        running = list(self._owners)
        async with self._pool.connection() as connection:
            rows = await connection.fetch(_CLAIM, lane, now, limit, owner, running)
        # The claim is not awaited on disk. If it is lost, so is everything after it: no intent can be recorded.
        rows.sort(key=lambda row: (row["due_at"], row["id"]))
        return await self._hand_out(rows, owner)

    async def adopt(self, ids: Sequence[int], owner: int) -> Sequence[Delivery]:
        """Deliveries that were stored as running from the start, in the order of `ids`."""
        if not ids:
            return ()
        async with self._pool.connection() as connection:
            rows = {row["id"]: row for row in await connection.fetch(_SOME, ids)}
        return await self._hand_out([rows[id_] for id_ in ids if id_ in rows], owner)

    async def read(self, id_: int) -> Delivery | None:
        """A delivery as it is, without claiming it."""
        async with self._pool.connection() as connection:
            row = await connection.fetchrow(_SOME, [id_])
        return None if row is None else decode_delivery(row, await self._contents.download(row))

    async def give_back(self, owner: int, ids: Collection[int]) -> set[str]:
        """Queues deliveries that were claimed without anybody's knowing it; their lanes."""
        async with self._pool.connection() as connection:
            return {row["lane"] for row in await connection.fetch(_GIVE_BACK, owner, list(ids))}

    async def _hand_out(self, rows: Sequence[object], owner: int) -> list[Delivery]:
        deliveries: list[Delivery] = []
        ids = [row["id"] for row in rows]  # type: ignore[index]  # asyncpg's record
        self._owners.update(dict.fromkeys(ids, owner))
        try:
            for row in rows:
                content = await self._contents.download(row)
                deliveries.append(decode_delivery(row, content))
        except BaseException:
            # Nobody will settle them: they are given back when that is noticed.
            for id_ in ids:
                self._owners.pop(id_, None)
            for delivery in deliveries:
                delivery.message.content.close()
            raise
        return deliveries
