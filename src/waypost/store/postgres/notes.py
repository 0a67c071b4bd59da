"""Notes, and the notifications by which instances tell each other of notes and of lanes with something due.

A notification may be lost, so none carries a fact: it says where to look.
"""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from waypost.delivery.spool import Note
from waypost.store.postgres.connection import Connection
from waypost.store.postgres.rows import plain

CHANNEL = "waypost"

_LONGEST = 7900  # octets of a notification; PostgreSQL allows just under 8000

Key = tuple[str, str]
"""Kind and key of a note."""


@dataclass(frozen=True, slots=True)
class News:
    """What another instance says has changed. Everything may have, when `all` is set."""

    sender: str
    lanes: tuple[str, ...] = ()
    notes: tuple[Key, ...] = ()
    all: bool = False


async def write_notes(connection: Connection, notes: Mapping[Key, Note | None]) -> None:
    """Puts notes, and drops those that are None. Part of a transaction."""
    put = [
        (plain(note.kind), plain(note.key), plain(note.value), note.until)
        for _, note in sorted(notes.items())
        if note is not None
    ]
    if put:
        await connection.execute(
            "INSERT INTO waypost.note SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::float8[])"
            " ON CONFLICT (kind, key) DO UPDATE SET value = excluded.value, until = excluded.until",
            *zip(*put, strict=True),
        )
    dropped = [(plain(kind), plain(key)) for (kind, key), note in sorted(notes.items()) if note is None]
    if dropped:
        await connection.execute(
            "DELETE FROM waypost.note n USING unnest($1::text[], $2::text[]) AS s(kind, key)"
            " WHERE n.kind = s.kind AND n.key = s.key",
            *zip(*dropped, strict=True),
        )


async def read_notes(connection: Connection, now: float, keys: Collection[Key] | None = None) -> list[Note]:
    """Those with these keys, or all (None), whose time is not over."""
    select = "SELECT n.kind, n.key, n.value, n.until FROM waypost.note n"
    if keys is None:
        rows = await connection.fetch(f"{select} WHERE n.until > $1 ORDER BY n.kind, n.key", now)
    else:
        rows = await connection.fetch(
            f"{select} JOIN unnest($2::text[], $3::text[]) AS s(kind, key) USING (kind, key) WHERE n.until > $1",
            now,
            [kind for kind, _ in keys],
            [key for _, key in keys],
        )
    return [Note(*row) for row in rows]


async def forget_notes(connection: Connection, now: float) -> None:
    """Removes those whose time is over."""
    await connection.execute("DELETE FROM waypost.note WHERE until <= $1", now)


async def tell(connection: Connection, sender: str, lanes: Collection[str], notes: Collection[Key]) -> None:
    """Tells every instance that listens; heard when the transaction is committed."""
    text = json.dumps({"from": sender, "lanes": sorted(lanes), "notes": sorted(notes)}, separators=(",", ":"))
    if len(text) > _LONGEST:
        text = json.dumps({"from": sender, "all": True})
    await connection.execute("SELECT pg_notify($1, $2)", CHANNEL, text)


async def announce(connection: Connection) -> None:
    """Tells every instance that there is a new one, so that it is told of things from now on."""
    await connection.execute("SELECT pg_notify($1, $2)", CHANNEL, json.dumps({"from": "", "all": True}))


def understand(text: str) -> News:
    """What `tell` said. What is not understood, from a newer version perhaps, means that all may have changed."""
    try:
        said = json.loads(text)
        return News(
            str(said["from"]),
            tuple(map(str, said.get("lanes", ()))),
            tuple((str(kind), str(key)) for kind, key in said.get("notes", ())),
            bool(said.get("all", False)),
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return News("", all=True)
