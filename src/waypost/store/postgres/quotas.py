"""What upstreams were given, counted by all instances on one database together.

A lease takes the row of its quota, and with it the turn of all who want one: so two instances are never over, and the
arithmetic is that of `waypost.routing.quota`, by the clock of the database, which is one for all.
"""

from collections.abc import Mapping

from waypost.routing.quota import Lease, Quota, Tally, lease, read_tally
from waypost.store.postgres.connection import Pool
from waypost.store.postgres.rows import plain

_TAKE = """
INSERT INTO waypost.quota (upstream, quota) VALUES ($1, $2)
ON CONFLICT (upstream, quota) DO UPDATE SET tally = quota.tally
RETURNING tally, extract(epoch FROM clock_timestamp())::float8
"""
_WRITE = "UPDATE waypost.quota SET tally = $3 WHERE upstream = $1 AND quota = $2"


class PostgresQuotas:
    """The `QuotaStore` of instances that share a database."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def lease(self, upstream: str, quota: Quota, least: int, returns: Mapping[float, int], debt: int) -> Lease:
        """See `waypost.delivery.quota_store`. Waits while another instance leases of the same quota."""
        key = (plain(upstream), plain(quota.key))
        async with self._pool.connection() as connection, connection.transaction():
            # A count that is lost in a crash of the database would let more be sent than is allowed.
            await connection.execute("SET LOCAL synchronous_commit = on")
            [(text, now)] = await connection.fetch(_TAKE, *key)
            try:
                before = read_tally(text)
            except ValueError:  # of another version: nothing is known of what it counted
                before = Tally()
            tally, leased = lease(before, quota, now, least, returns, debt)
            if tally.slots != before.slots:
                await connection.execute(_WRITE, *key, tally.written())
        return leased
