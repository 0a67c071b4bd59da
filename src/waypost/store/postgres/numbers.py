"""Keys and ids: taken from the database in blocks, handed out in memory."""

from waypost.store.postgres.batch import Batch
from waypost.store.postgres.connection import Connection

BLOCK = 1000
"""What one step of the sequence is worth (see the migrations)."""


class Numbers:
    """Numbers that no other instance uses. Those that are left over at the end are lost, of some 10**18."""

    def __init__(self) -> None:
        self._ranges: list[range] = []
        self._left = 0

    async def ensure(self, connection: Connection, count: int) -> None:
        """Makes sure that the next `count` calls of `take`, before anybody else gets to run, succeed."""
        while self._left < count:
            first: int = await connection.fetchval("SELECT nextval('waypost.number')")
            self._ranges.append(range(first, first + BLOCK))
            self._left += BLOCK

    def take(self) -> int:
        """The next number. There must be one, see `ensure`."""
        block = self._ranges[0]
        if len(block) == 1:
            self._ranges.pop(0)
        else:
            self._ranges[0] = block[1:]
        self._left -= 1
        return block[0]


async def number_rows(connection: Connection, batch: Batch, numbers: Numbers) -> None:
    """Gives every new row of a batch its number, unless it has one from an earlier try."""
    notices = [notice for settled in batch.changes.settled for notice in settled.notices]
    messages = [message for message in (*batch.messages, *notices) if not message.key]
    deliveries = [delivery for delivery in batch.new_deliveries() if not delivery.id]
    await numbers.ensure(connection, len(messages) + len(deliveries))
    for message in messages:
        message.key = numbers.take()
    for message in (*batch.messages, *notices):
        for delivery in message.deliveries:
            delivery.message = message.key
    for delivery in deliveries:
        delivery.id = numbers.take()
