"""Asks every upstream whether it is there: resolves, connects, and reads the greeting. For `check --online`."""

import socket
import ssl
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from waypost.net.certificates import client_context
from waypost.routing.route import Upstream

_MAX_GREETING = 4096
_TIMEOUT = 10.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of one upstream. `text` is its greeting, or why there is none."""

    upstream: str
    reached: bool
    text: str


def probe(upstreams: Iterable[Upstream]) -> list[Answer]:
    """One answer for each upstream, in order; all are asked at once, and each has ten seconds for a step."""
    asked = list(upstreams)
    with ThreadPoolExecutor(max_workers=max(1, min(16, len(asked)))) as threads:
        return list(threads.map(_ask, asked))
