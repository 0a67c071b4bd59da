"""The notes as this instance knows them: what it has put itself, and what it was told of or found."""

from collections.abc import Callable, Collection

from waypost.delivery.spool import Note
from waypost.store.postgres.connection import Connection
from waypost.store.postgres.notes import Key, forget_notes, read_notes
from waypost.store.postgres.writer import Writer


class NoticeBoard:
    """Notes are written by the writer; `on_note` is told of those that others have put or dropped."""

    def __init__(self, writer: Writer, now: Callable[[], float]) -> None:
        self.on_note: Callable[[Note], None] = lambda note: None
        self._writer = writer
        self._now = now
        self._known: dict[Key, Note] = {}

    def put(self, note: Note) -> None:
        """Remembers it for all."""
        key = (note.kind, note.key)
        self._known[key] = note
        self._writer.pending.changes.notes[key] = note
        self._writer.changed()

    def drop(self, kind: str, key: str) -> None:
        """Forgets it for all."""
        self._known.pop((kind, key), None)
        self._writer.pending.changes.notes[kind, key] = None
        self._writer.changed()

    async def learn(self, connection: Connection) -> None:
        """Takes note of what is there already: `Spool.notes` tells of it."""
        self._known = {(note.kind, note.key): note for note in await read_notes(connection, self._now())}

    async def compare(self, connection: Connection, keys: Collection[Key] | None) -> None:
        """Finds out what others have changed: of the notes with these keys, or of all of them (None)."""
        there = {(note.kind, note.key): note for note in await read_notes(connection, self._now(), keys)}
        mine = self._writer.unwritten_notes()
        for key in list(self._known.keys() | there.keys()) if keys is None else keys:
            note, known = there.get(key), self._known.get(key)
            if note == known or key in mine:
                continue
            if note is not None:
                self._known[key] = note
                self.on_note(note)
            elif known is not None:
                del self._known[key]
                if known.until > self._now():
                    self.on_note(Note(known.kind, known.key, known.value, 0))

    async def tidy(self, connection: Connection) -> None:
        """Forgets what is out of date."""
        now = self._now()
        for key in [key for key, note in self._known.items() if note.until <= now]:
            del self._known[key]
        await forget_notes(connection, now)
