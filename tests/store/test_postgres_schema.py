"""Opening: the schema is made once, brought up to date by one, and refused with a reason."""

import asyncio
import sys
from typing import Any, NamedTuple

import asyncpg
import pytest

from rig.postgres import new_database
from waypost.delivery.spool import SpoolError
from waypost.observe.journal import JournalError
from waypost.store.postgres import PostgresJournal, PostgresSpool
from waypost.store.postgres.connection import Server
from waypost.store.postgres.schema import prepare_schema


@pytest.fixture
def url() -> str:
    return new_database(empty=True)


async def run(url: str, *statements: str) -> Any:
    connection = await asyncpg.connect(url)
    try:
        for statement in statements:
            value = await connection.fetchval(statement)
        return value
    finally:
        await connection.close()


async def test_several_that_start_together_make_the_schema_once(url: str) -> None:
    spools = [PostgresSpool(url, instance=f"mx{n}") for n in range(4)]
    journal = PostgresJournal(url)
    await asyncio.gather(journal.open(), *(spool.open() for spool in spools))
    assert await run(url, "SELECT count(*) FROM waypost.schema_version") == 1
    assert [instance.name for instance in await spools[0].instances()] == ["mx0", "mx1", "mx2", "mx3"]
    await asyncio.gather(journal.close(), *(spool.close() for spool in spools))


async def test_a_newer_schema_is_refused_with_both_versions(url: str) -> None:
    spool = PostgresSpool(url, instance="mx1")
    await spool.open()
    await spool.close()
    await run(url, "UPDATE waypost.schema_version SET version = 4711")
    with pytest.raises(SpoolError, match=r"newer Waypost: its schema has version 4711, .* up to 2\. Install"):
        await PostgresSpool(url, instance="mx1").open()
    with pytest.raises(JournalError, match="newer Waypost"):
        await PostgresJournal(url).open()


async def test_a_failed_update_leaves_nothing_behind(url: str) -> None:
    await run(url, "CREATE SCHEMA waypost", "CREATE TABLE waypost.note (something integer)")
    with pytest.raises(SpoolError, match='relation "note" already exists'):
        await PostgresSpool(url, instance="mx1").open()
    assert await run(url, "SELECT count(*) FROM pg_tables WHERE schemaname = 'waypost'") == 1


async def test_a_role_that_may_not_make_a_schema_is_told_what_is_needed(url: str) -> None:
    name = url.rpartition("/")[2]
    await run(url, f"CREATE ROLE r{name} LOGIN")
    theirs = url.replace("waypost@", f"r{name}@")
    with pytest.raises(SpoolError, match=r"permission denied .* CREATE SCHEMA waypost AUTHORIZATION"):
        await PostgresSpool(theirs, instance="mx1").open()
    await run(url, f"CREATE SCHEMA waypost AUTHORIZATION r{name}")
    spool = PostgresSpool(theirs, instance="mx1")
    await spool.open()
    await spool.check()
    await spool.close()


async def test_an_old_server_is_refused() -> None:
    class Version(NamedTuple):
        major: int = 14
        minor: int = 9

    class OldServer:
        """All that is asked of a connection before the version is known."""

        def get_server_version(self) -> Version:
            return Version()

    with pytest.raises(SpoolError, match=r"is on PostgreSQL 14\.9; Waypost needs version 15 or later"):
        await prepare_schema(Server("postgresql://db.example/mail"), OldServer())


async def test_without_the_driver_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "asyncpg", None)
    with pytest.raises(SpoolError, match=r"pip install 'waypost\[postgres\]'"):
        await PostgresSpool("postgresql://db.example/mail", instance="mx1").open()


async def test_a_password_is_in_no_error() -> None:
    url = "postgresql://waypost:s3cret@127.0.0.1:1/mail?password=s3cret"
    with pytest.raises(SpoolError, match=r"postgresql://127\.0\.0\.1:1/mail cannot be reached") as caught:
        await PostgresSpool(url, instance="mx1").open()
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://[::1/mail",
        "postgresql://db:s3cret/mail",
        "postgresql://waypost:s3c#ret@db/mail",
        "mysql://waypost:s3cret@db/mail",
    ],
)
async def test_a_url_that_makes_no_sense_is_refused(url: str) -> None:
    with pytest.raises(SpoolError) as caught:
        await PostgresSpool(url, instance="mx1").open()
    assert "s3c" not in str(caught.value)


async def test_a_server_that_keeps_commits_to_itself_is_asked_not_to(url: str) -> None:
    await run(url, f"ALTER DATABASE {url.rpartition('/')[2]} SET synchronous_commit = off")
    connection = await Server(url).connect(durable=True)
    assert await connection.fetchval("SHOW synchronous_commit") == "on"
    await connection.close()
