"""The stream of a client: it says when it is connected, and when the client ends it while nobody reads."""

import asyncio
from collections.abc import Callable

from waypost.net.stream import Stream


class Accepted(Stream):
    """A connection that a client has opened."""

    def __init__(self, connected: "Callable[[Accepted], None]") -> None:
        super().__init__()
        self._connected = connected
        self.on_end: Callable[[], None] | None = None
        """Called when the client has ended its side: perhaps twice, and also by a reset."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._connected(self)

    def eof_received(self) -> bool:
        stays = super().eof_received()
        if self.on_end is not None:
            self.on_end()
        return stays

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self.on_end is not None:
            self.on_end()
