"""Small writes, gathered until the end of the loop's turn.

A write to a peer that sleeps costs the price of waking it, and when the loop has many connections to serve in a
turn, a peer that is woken by the first write is awake for the others. So small writes of all streams leave
together, which halves what they cost when there is much to do, and costs nothing when there is little.
"""

import asyncio
from typing import Protocol
from weakref import WeakKeyDictionary


class Waiting(Protocol):
    """Somebody with octets to write."""

    def flush(self) -> None:
        """Writes them."""


class Batch:
    """The streams of one loop that have something to write at the end of this turn."""

    __slots__ = ("__weakref__", "_loop", "_streams")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._streams: list[Waiting] = []

    def add(self, stream: Waiting) -> None:
        """Has `stream` flushed at the end of this turn."""
        if not self._streams:
            self._loop.call_soon(self._flush)
        self._streams.append(stream)

    def _flush(self) -> None:
        streams, self._streams = self._streams, []
        for stream in streams:
            stream.flush()


_batches: "WeakKeyDictionary[asyncio.AbstractEventLoop, Batch]" = WeakKeyDictionary()


def batch_of(loop: asyncio.AbstractEventLoop) -> Batch:
    """The batch of a loop."""
    batch = _batches.get(loop)
    if batch is None:
        batch = _batches[loop] = Batch(loop)
    return batch
