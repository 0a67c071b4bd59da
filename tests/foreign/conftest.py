"""Every test here needs a program that is not Waypost's, and Waypost as a process."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from rig.certificates import Certificates
from rig.ports import free_port
from rig.settings import relaying, submitting
from rig.sink import StoringSink
from rig.waypost import WaypostProcess


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.foreign)


@pytest.fixture
def port() -> int:
    """Where Waypost listens."""
    return free_port()


@pytest.fixture
def start(tmp_path: Path, port: int) -> Iterator[Callable[[dict[str, Any]], WaypostProcess]]:
    """Starts Waypost with these settings, and stops it at the end; its exit code must then be 0."""
    with ExitStack() as stack:
        yield lambda settings: stack.enter_context(WaypostProcess(tmp_path / "waypost", settings, ports=[port]))


@pytest.fixture
def relay(start: Callable[[dict[str, Any]], WaypostProcess], port: int, sink: StoringSink) -> WaypostProcess:
    """Waypost as a relay in front of `sink`."""
    return start(relaying(port, sink.address))


@pytest.fixture
def submission(
    start: Callable[[dict[str, Any]], WaypostProcess], port: int, sink: StoringSink, certificates: Certificates
) -> WaypostProcess:
    """Waypost for applications, with STARTTLS and AUTH, in front of `sink`."""
    return start(submitting(port, sink.address, certificates))
