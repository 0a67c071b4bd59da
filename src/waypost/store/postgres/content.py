"""Content in the database: small content in the message's row, large content in chunks.

Large content crosses this process piece by piece. Whoever is to deliver it gets it in a temporary file, for
`Content` is read without waiting: so it costs disk space as long as the delivery runs, and hardly any memory.
"""

import asyncio
import os
import tempfile
from pathlib import Path
from typing import Any

from waypost.delivery.spool import SpoolError
from waypost.mail.content import Content, MemoryContent
from waypost.store.files import FileContent, write_all
from waypost.store.postgres.connection import Pool, in_task
from waypost.store.postgres.numbers import Numbers

INLINE = 64 * 1024
"""Octets of content that are kept in the message's row."""

_AT_ONCE = 2  # transfers, so that connections are left for everybody else
_SLOWEST = 512 * 1024  # octets a second: what is slower is given up


class ContentStore:
    """Puts large content into the database and gets it out. `directory` is where temporary files are made."""

    def __init__(self, pool: Pool, numbers: Numbers, directory: Path | None) -> None:
        self._pool = pool
        self._numbers = numbers
        self._directory = directory
        self._transfers = asyncio.Semaphore(_AT_ONCE)

    async def upload(self, content: Content, owner: int) -> int:
        """Stores the chunks; the key of the message that will own them. Raises `SpoolError`.

        They are durable as soon as the message is, and until then marked as belonging to `owner`.
        """
        return await in_task(self._upload(content, owner))

    async def _upload(self, content: Content, owner: int) -> int:
        async with self._transfers, self._pool.connection(_patience(content.size)) as connection:
            await self._numbers.ensure(connection, 1)
            key = self._numbers.take()
            async with connection.transaction():
                await connection.execute("INSERT INTO waypost.upload VALUES ($1, $2)", key, owner)
                pieces = content.chunks()
                number = 0
                while piece := await asyncio.to_thread(next, pieces, None):
                    await connection.execute("INSERT INTO waypost.chunk VALUES ($1, $2, $3)", key, number, piece)
                    number += 1
        return key

    async def download(self, row: Any) -> Content:
        """The content of a message, of which `row` has key, size, is_ascii and content. Raises `SpoolError`.

        When chunks are missing, reading what is returned raises OSError: that is known no earlier with files either.
        """
        if row["content"] is not None:
            return MemoryContent(row["content"])
        try:
            fd = await asyncio.to_thread(_temporary_file, self._directory)
        except OSError as error:
            where = self._directory or tempfile.gettempdir()
            raise SpoolError(f"content cannot be fetched to {where}: {error.strerror or error}") from error
        try:
            async with self._transfers, self._pool.connection(_patience(row["size"])) as connection:
                number = 0
                while piece := await connection.fetchval(
                    "SELECT data FROM waypost.chunk WHERE message = $1 AND number = $2", row["key"], number
                ):
                    await asyncio.to_thread(write_all, fd, [piece])
                    number += 1
        except BaseException:
            os.close(fd)
            raise
        return FileContent(None, row["size"], row["is_ascii"], fd, temporary=True)


def _temporary_file(directory: Path | None) -> int:
    fd, name = tempfile.mkstemp(prefix="waypost-", dir=directory)
    os.unlink(name)
    return fd


def _patience(size: int) -> float:
    return 10 + size / _SLOWEST
