"""Sinks of ours, for clients that block."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from rig.running_sink import RunningSink


@pytest.fixture
def start_sink() -> Iterator[Callable[..., RunningSink]]:
    """Starts sinks, `start_sink("dot=close", keep=3)`, and stops them at the end."""
    with ExitStack() as stack:
        yield lambda *faults, **settings: stack.enter_context(RunningSink(*faults, **settings))
