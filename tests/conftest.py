"""Fixtures that any test may ask for; what they are made of is in `rig`."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
import structlog

from rig.certificates import Certificates, make_certificates
from rig.sink import StoringSink


@pytest.fixture(autouse=True)
def log_as_before() -> Iterator[None]:
    """What a command makes of the log must not outlast the test that calls it."""
    before = structlog.get_config()
    yield
    structlog.configure(**before)


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """An authority and a certificate for localhost, made once."""
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def sink() -> Iterator[StoringSink]:
    """One storing upstream, listening."""
    with StoringSink() as started:
        yield started


@pytest.fixture
def make_sink() -> Iterator[Callable[[StoringSink], StoringSink]]:
    """Starts the sinks it is given and stops them at the end: `old = make_sink(StoringSink(name="old"))`."""
    with ExitStack() as stack:
        yield stack.enter_context
