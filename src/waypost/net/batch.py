"""Small writes, gathered until the end of the loop's turn.

A write to a peer that sleeps costs the price of waking it, and when the loop has many connections to serve in a
turn, a peer that is woken by the first write is awake for the others. So small writes of all streams leave
together, which halves what they cost when there is much to do.

When there is little to do, waiting for the end of the turn is in vain and costs an entry in the loop's queue. A batch
that has found nobody to wait for several times running has streams write at once, and looks again now and then.
"""

import asyncio
from typing import Protocol
from weakref import WeakKeyDictionary

_LONELY = 8  # turns in which one stream wrote alone, after which waiting for others is given up
_AGAIN = 32  # writes at once after which it is tried again


class Waiting(Protocol):
    """Somebody with octets to write."""

    def flush(self) -> None:
        """Writes them."""


class Batch:
    """The streams of one loop that have something to write at the end of this turn."""

    __slots__ = ("__weakref__", "_alone", "_at_once", "_loop", "_streams")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._streams: list[Waiting] = []
        self._alone = 0  # turns running in which a stream waited for others in vain
        self._at_once = 0  # writes since then

    def add(self, stream: Waiting) -> bool:
        """Has `stream` flushed at the end of this turn; or says no, and it is to write at once."""
        if not self._streams:
            if self._alone >= _LONELY:
                self._at_once += 1
                if self._at_once < _AGAIN:
                    return False
                self._at_once = 0
            self._loop.call_soon(self._flush)
        self._streams.append(stream)
        return True

    def _flush(self) -> None:
        streams, self._streams = self._streams, []
        self._alone = self._alone + 1 if len(streams) == 1 else 0
        for stream in streams:
            stream.flush()


_batches: "WeakKeyDictionary[asyncio.AbstractEventLoop, Batch]" = WeakKeyDictionary()


def batch_of(loop: asyncio.AbstractEventLoop) -> Batch:
    """The batch of a loop."""
    batch = _batches.get(loop)
    if batch is None:
        batch = _batches[loop] = Batch(loop)
    return batch
