"""The spool and the journal on PostgreSQL 15 and later, for several instances on one database."""

from waypost.store.postgres.journal import PostgresJournal
from waypost.store.postgres.spool import PostgresSpool

__all__ = ["PostgresJournal", "PostgresSpool"]
