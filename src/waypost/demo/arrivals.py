"""Shows mail arriving at the servers, once the tour is over."""

import time
from collections.abc import Callable

from waypost.sink.answers import Watcher
from waypost.sink.stored import StoredMessage
from waypost.sink.terminal import summary


class Arrivals:
    """Writes a line for each message, from `begin` on."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write
        self._begun = False

    def begin(self) -> None:
        """What arrives from now on is shown."""
        self._begun = True

    def at(self, name: str) -> Watcher:
        """The watcher of one server."""
        return _At(self, name)

    def show(self, name: str, message: StoredMessage) -> None:
        """One message has arrived."""
        if self._begun:
            at = time.strftime("%H:%M:%S", time.localtime(message.received_at))
            self._write(f"{at}  {name:<10}  {summary(message)}\n")


class _At(Watcher):
    def __init__(self, arrivals: Arrivals, name: str) -> None:
        self._arrivals = arrivals
        self._name = name

    def kept(self, message: StoredMessage) -> None:
        self._arrivals.show(self._name, message)
