"""Waiting for a condition that somebody else brings about."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def wait_until(condition: Callable[[], T], what: str, seconds: float = 15) -> T:
    """The first true value of `condition`. Fails the test, naming `what`, when none comes within `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds} seconds in vain for {what}")
        time.sleep(0.02)  # the pace of asking, not a guess at how long it takes
