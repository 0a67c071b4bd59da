"""Collects content while it arrives: in memory as long as it is small, then in a temporary file.

`write` is called for every piece of content that comes off a socket. In memory it only appends to a list; on
file it gathers about a megabyte and hands that to a thread. So a large message costs memory for two such
batches, whatever its size.
"""

import asyncio
import os
import tempfile
import threading
from collections.abc import Awaitable
from pathlib import Path

from waypost.delivery.spool import SpoolError
from waypost.mail.content import Content, MemoryContent
from waypost.store.files import FileContent, write_all

BATCH = 1024 * 1024
"""Octets that are written at once."""

_LEAST_BATCH = 64 * 1024
_LOOSE = 1024
"""Pieces that are kept apart: a client that sends an octet at a time must not cost a list entry for each."""


class Spill:
    """The content of one transaction on its way in.

    `directory` is where a file is made, so that the spool can keep it by renaming it; None means the system's
    folder for temporary files, and no name. Content over `spill_size` octets goes to a file, and so does
    content over `keep_above`, which is given when the spool will need the file anyway.
    """

    __slots__ = ("_ascii", "_batch", "_directory", "_file", "_limit", "_loose", "_pieces", "_waiting", "size")

    def __init__(self, directory: Path | None, spill_size: int, keep_above: int | None = None) -> None:
        self._directory = directory
        self._limit = spill_size if keep_above is None else min(spill_size, keep_above)
        self._batch = min(BATCH, max(spill_size, _LEAST_BATCH))
        self._pieces: list[bytes] = []
        self._loose = 0
        self._waiting = 0  # octets in `_pieces`
        self._ascii = True
        self._file: _SpillFile | None = None
        self.size = 0
        """Octets written so far."""

    def write(self, data: bytes) -> Awaitable[None] | None:
        """Takes the next piece. What is returned must be awaited before the next call; None is nothing to await.

        Awaiting raises `SpoolError` when the file cannot be written.
        """
        self._pieces.append(data)
        self._waiting += len(data)
        self.size += len(data)
        if self._waiting >= self._batch and self.size > self._limit:
            return self._flush()
        self._loose += 1
        if self._loose == _LOOSE:
            self._pieces[-_LOOSE:] = [b"".join(self._pieces[-_LOOSE:])]
            self._loose = 0
        return None

    async def finish(self) -> Content:
        """The content, once all of it has been written. Raises `SpoolError`."""
        if self._file is None and self.size <= self._limit:
            pieces, self._pieces = self._pieces, []
            return MemoryContent(pieces[0] if len(pieces) == 1 else b"".join(pieces))
        if self._pieces:
            await self._flush()
        assert self._file is not None  # noqa: S101  # there was something to flush, now or before
        file, self._file = self._file, None
        return file.release(self.size, self._ascii)

    def close(self) -> None:
        """Discards everything. Idempotent; what `finish` has returned is not touched."""
        self._pieces = []
        file, self._file = self._file, None
        if file is not None:
            file.close()

    async def _flush(self) -> None:
        pieces, self._pieces = self._pieces, []
        self._waiting = self._loose = 0
        if self._file is None:
            self._file = _SpillFile(self._directory)
        try:
            self._ascii &= await asyncio.get_running_loop().run_in_executor(None, self._file.write, pieces)
        except OSError as error:
            where = self._directory or tempfile.gettempdir()
            raise SpoolError(f"content cannot be written to {where}: {error.strerror or error}") from error


class _SpillFile:
    """A temporary file that one thread writes while another may close it.

    A cancelled session closes its spill while a batch is being written. The file is closed under a lock, by
    the writing thread if it has it: otherwise its descriptor could be somebody else's socket by then.
    """

    def __init__(self, directory: Path | None) -> None:
        self._directory = directory
        self._fd = -1
        self._path: Path | None = None
        self._closed = False
        self._lock = threading.Lock()

    def write(self, pieces: list[bytes]) -> bool:
        """Appends `pieces`; whether all of them are ASCII. Blocks; raises OSError."""
        with self._lock:
            if not self._closed:
                if self._fd < 0:
                    self._create()
                write_all(self._fd, pieces)
        if self._closed:
            self.close()
        return all(piece.isascii() for piece in pieces)

    def release(self, size: int, is_ascii: bool) -> FileContent:
        """Hands the file over."""
        fd, self._fd = self._fd, -1
        path, self._path = self._path, None
        return FileContent(path, size, is_ascii, fd, temporary=True)

    def close(self) -> None:
        """Closes and removes the file, at once or when the running write has ended."""
        self._closed = True
        if self._lock.acquire(blocking=False):
            try:
                self.release(0, True).close()
            finally:
                self._lock.release()

    def _create(self) -> None:
        fd, name = tempfile.mkstemp(dir=self._directory)
        self._fd = fd
        if self._directory is None:
            os.unlink(name)
        else:
            self._path = Path(name)
