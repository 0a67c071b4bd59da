"""A spool of each kind, for the conformance suite."""

from collections.abc import AsyncIterator

import pytest

from store.implementations import IMPLEMENTATIONS, Store
from waypost.delivery.spool import Spool


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
