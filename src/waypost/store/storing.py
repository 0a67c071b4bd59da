"""Gives new messages their keys and rows, and puts large content into files."""

import asyncio
from collections.abc import Sequence

from waypost.delivery.spool import Planned, SpoolError, SpoolFullError
from waypost.mail.content import Content
from waypost.mail.message import Message
from waypost.store.files import FileContent, SharedContent, SpoolFolder, is_full
from waypost.store.held import OVERHEAD, HeldMessage
from waypost.store.rows import MessageRow, encode_record
from waypost.store.writer import Writer

INLINE = 64 * 1024
"""Octets of content that are kept in the database: beyond that a file is faster."""


class Storing:
    """The way of new messages into the database. Raises `SpoolError`."""

    def __init__(self, folder: SpoolFolder, writer: Writer) -> None:
        self.next_key = 1
        self.stored = 0
        """Messages stored so far."""
        self._folder = folder
        self._writer = writer

    async def store(self, message: Message, planned: Sequence[Planned], *, live: bool) -> HeldMessage:
        """Writes the message; it is durable when this returns. Cancelled, it has stored nothing."""
        key = self._new_key()
        content = message.content
        record = encode_record(message, planned)
        file = None
        kept: Content
        row: MessageRow
        if content.size <= INLINE:
            data = content.head(INLINE)
            kept = SharedContent(data)
            row = (key, message.id, message.received_at, record, data, None, 0, True)
        else:
            file = await self._store_file(key, content)
            data, kept, start = file
            row = (key, message.id, message.received_at, record, data, kept.size, start, kept.is_ascii)
        try:
            await self._writer.store(row, (key, live, None))
        except asyncio.CancelledError:
            self._forget(key, has_file=file is not None)  # nobody is left who could want it
            raise
        except SpoolError:
            if file is not None:
                asyncio.get_running_loop().run_in_executor(None, self._folder.remove, [key])
            raise
        self.stored += 1
        return _held(key, message, kept, file, len(data), planned)

    def add(self, message: Message, planned: Sequence[Planned]) -> HeldMessage:
        """Adds a message of our own to the pending changes, with all of its content."""
        key = self._new_key()
        data = b"".join(message.content.chunks())
        changes = self._writer.pending.changes
        record = encode_record(message, planned)
        changes.messages[key] = (key, message.id, message.received_at, record, data, None, 0, True)
        changes.whole[key] = (key, 1, None)
        self.stored += 1
        return _held(key, message, SharedContent(data), None, len(data), planned)

    def _new_key(self) -> int:
        key, self.next_key = self.next_key, self.next_key + 1
        return key

    def _forget(self, key: int, *, has_file: bool) -> None:
        self._writer.pending.changes.forget(key, has_file)
        self._writer.changed()

    async def _store_file(self, key: int, content: Content) -> tuple[bytes, FileContent, int]:
        """Puts large content into its file, in a thread."""
        self._writer.raise_unless_writable()
        storing = asyncio.get_running_loop().run_in_executor(None, self._folder.store, key, content)
        try:
            return await asyncio.shield(storing)
        except asyncio.CancelledError:
            storing.add_done_callback(lambda _: self._forget(key, has_file=True))
            raise
        except OSError as error:
            text = f"content cannot be stored in {self._folder.path}: {error.strerror or error}"
            raise SpoolFullError(text) if is_full(error) else SpoolError(text) from error


def _held(
    key: int,
    message: Message,
    kept: Content,
    file: tuple[bytes, FileContent, int] | None,
    octets: int,
    planned: Sequence[Planned],
) -> HeldMessage:
    mine = Message(message.id, message.received_at, message.client, message.envelope, kept, message.digest)
    owed = (1 << len(planned)) - 1
    return HeldMessage(key, message.id, message.received_at, mine, file, octets + OVERHEAD, list(planned), owed)
