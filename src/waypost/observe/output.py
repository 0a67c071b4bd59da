"""Lines on their way to standard output: collected for a hundredth of a second, and written together.

Mail comes before its log. A reader that has stopped reading, or gone, costs log lines and never a message:
nothing here raises, and a full pipe is noticed before a write could block.
"""

import asyncio
import json
import os
import select
import stat
import threading
import time
from collections.abc import Callable

from waypost.observe.record import Record, json_line, timestamp

CAPACITY = 8 * 1024 * 1024
"""Octets that wait for a reader who has stopped. What comes on top is counted and dropped."""

_GATHER = 0.01  # seconds; a write for each message would cost as much as writing the record
_PIECE = 4096  # what a pipe takes without blocking when it says that it is writable (PIPE_BUF)
_RETRY = 0.1  # seconds until a full pipe is tried again
_PARTING = 1.0  # seconds that `close` waits for a full pipe


class Output:
    """Writes records to a file descriptor. May be used from any thread."""

    def __init__(self, fd: int, render: Callable[[Record], str], *, capacity: int = CAPACITY) -> None:
        self._fd = fd
        self._render = render
        self._capacity = capacity
        self._lines: list[str] = []
        self._pending = bytearray()
        self._lost = 0
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None  # the one that will flush
        self._poll = _poll(fd)

    @property
    def lost(self) -> int:
        """Lines dropped that no later line has told of."""
        return self._lost

    def emit(self, record: Record | str) -> None:
        """Takes one record, or what it is as JSON. It is written very soon; at once when no loop runs."""
        if isinstance(record, str):
            self._lines.append(f"{record}\n" if self._render is json_line else self._rendered(json.loads(record)))
        else:
            self._lines.append(self._rendered(record))
        if self._loop is not None and not self._loop.is_closed():
            return
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self.flush()
        else:
            self._loop = loop
            loop.call_later(_GATHER, self._flush_in, loop)

    def flush(self) -> bool:
        """Writes what the descriptor takes now. Returns whether nothing is left waiting."""
        with self._lock:
            count = len(self._lines)  # another thread may append meanwhile: never take more than is counted
            if count:
                data = "".join(self._lines[:count]).encode("utf-8", "backslashreplace")
                del self._lines[:count]
                if len(self._pending) + len(data) > self._capacity:
                    self._lost += count
                else:
                    self._pending += data
            if self._write() and self._lost:
                self._pending += self._render(_told(self._lost)).encode()
                self._lost = 0
                self._write()
            return not self._pending

    def close(self) -> None:
        """Writes what is left, waiting a moment for a reader that is slow."""
        deadline = time.monotonic() + _PARTING
        while not self.flush() and (left := deadline - time.monotonic()) > 0:
            if self._poll is not None:
                self._poll.poll(left * 1000)

    def _rendered(self, record: Record) -> str:
        try:
            return self._render(record)
        except (TypeError, ValueError, RecursionError) as error:  # keys that are no texts, lists within themselves
            why = {"time": timestamp(time.time()), "level": "error", "event": "a record could not be written"}
            return self._render(why | {"record": str(record.get("event")), "error": str(error)})

    def _flush_in(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = None
        if not self.flush():
            self._loop = loop
            loop.call_later(_RETRY, self._flush_in, loop)

    def _write(self) -> bool:
        """Writes from `_pending`. Returns whether all of it has been written."""
        while self._pending:
            if self._poll is not None and not self._poll.poll(0):
                return False
            try:
                written = os.write(self._fd, self._pending if self._poll is None else self._pending[:_PIECE])
            except BlockingIOError:
                return False
            except OSError:  # nobody reads, the disk is full, the terminal has gone
                self._lost += self._pending.count(b"\n")
                self._pending.clear()
                return False
            del self._pending[:written]
        return True


def _poll(fd: int) -> "select.poll | None":
    """What tells whether a write would block, or None for a file, which never does."""
    try:
        mode = os.fstat(fd).st_mode
    except OSError:
        return None
    if not hasattr(select, "poll") or stat.S_ISREG(mode):
        return None
    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    return poll


def _told(lost: int) -> Record:
    return {"time": timestamp(time.time()), "level": "error", "event": "log lines were lost", "count": lost}
