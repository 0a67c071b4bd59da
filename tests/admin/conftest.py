"""A control API for each test that wants one."""

import pytest

from rig.control import Asker, Parts


@pytest.fixture
def parts(tmp_path):
    return Parts(tmp_path)


@pytest.fixture
async def control(parts):
    """The parts, with the API running."""
    running = parts.control()
    running.start()
    yield running
    await running.stop()


@pytest.fixture
def ask(parts, control):
    return Asker(parts.path)
