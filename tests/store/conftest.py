"""A spool of each kind, for the conformance suite."""

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from store.implementations import IMPLEMENTATIONS, SqliteStore, Store
from waypost.delivery.spool import Spool
from waypost.store.sqlite import SqliteSpool


@pytest.fixture(params=list(IMPLEMENTATIONS))
async def store(request: pytest.FixtureRequest) -> AsyncIterator[Store]:
    """Where a spool can be started, killed and started again."""
    made = IMPLEMENTATIONS[request.param](request)
    yield made
    await made.end()


@pytest.fixture
async def spool(store: Store) -> Spool:
    """A spool that is open, and empty."""
    return await store.start()


@pytest.fixture
async def start(request: pytest.FixtureRequest) -> AsyncIterator[Callable[[], Awaitable[SqliteSpool]]]:
    """Starts the spool on SQLite, after the one that was started before has died without `close`."""
    store = SqliteStore(request)

    async def begin() -> SqliteSpool:
        await store.kill()
        return await store.start()

    yield begin
    await store.kill()
