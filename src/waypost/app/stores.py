"""The stores that the settings name: a spool and its journal, in a folder or in a PostgreSQL database."""

import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from waypost.clock import Clock
from waypost.config.settings import Settings
from waypost.delivery.quota_store import QuotaStore
from waypost.delivery.spool import Note, Spool
from waypost.observe.journal import Journal
from waypost.store.journal import SqliteJournal
from waypost.store.sqlite import SqliteSpool


@dataclass(frozen=True, slots=True)
class Stores:
    """What is remembered, and where. None of it is open yet."""

    spool: Spool | None = None
    journal: Journal | None = None
    incoming: Path | None = None
    """Where content should be collected, so that the spool can keep it by renaming."""
    quotas: QuotaStore | None = None
    """Where instances count together what upstreams were given; None: this one counts for itself."""


def stores_of(
    settings: Settings, clock: Clock, on_due: Callable[[str], None], on_note: Callable[[Note], None]
) -> Stores:
    """Makes the stores. Raises `SpoolError` when a database is named that nothing here can speak to."""
    where = settings.spool
    if where is None:
        return Stores()
    keeps_journal = settings.journal.keep > 0
    if where.url is not None:
        from waypost.store.postgres import PostgresJournal, PostgresSpool

        database = PostgresSpool(
            where.url, instance=_instance(settings), on_due=on_due, on_note=on_note, now=clock.time
        )
        journal = PostgresJournal(where.url) if keeps_journal else None
        return Stores(database, journal, quotas=database.quotas)
    if where.path is None:
        return Stores()
    folder = Path(where.path)
    spool = SqliteSpool(folder, on_due=on_due, now=clock.time, allow_temporary=where.allow_temporary)
    return Stores(spool, SqliteJournal(folder) if keeps_journal else None, spool.incoming)


def _instance(settings: Settings) -> str:
    """A name for this Waypost among all that share a database; the same after a restart, which takes over at once."""
    return f"{socket.gethostname()} {settings.listeners[0].name}"
