"""The spool and the journal on PostgreSQL 15 and later, for several instances on one database."""
