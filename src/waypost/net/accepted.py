"""The stream of a client: it says when it is connected, and when the client ends it while nobody reads."""

import asyncio
from collections.abc import Callable

from waypost.net.stream import Stream


class Accepted(Stream):
    """A connection that a client has opened."""

    def __init__(self, connected: "Callable[[Accepted], None]") -> None:
        super().__init__()
        self._connected = connected
        self.announced: tuple[str, int] | None = None
        """The client's address and port as a proxy in front announced them."""
        self.on_end: Callable[[], None] | None = None
        """Called when the client has ended its side: perhaps twice, and also by a reset."""

    @property
    def peer(self) -> tuple[str, int]:
        """The client's address and port: those that were announced, or those of the connection."""
        return self.announced or super().peer

    @property
    def proxy(self) -> str | None:
        """The address of the proxy that announced the client, or None."""
        return None if self.announced is None else super().peer[0]

    @property
    def facts(self) -> dict[str, str]:
        """For the log: the proxy, if there is one."""
        return {} if self.proxy is None else {"proxy": self.proxy}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._connected(self)

    def unread(self, data: bytes) -> None:
        """Puts octets back that were read, in front of all others."""
        if data:
            self._received.insert(0, data)
            self._size += len(data)

    def eof_received(self) -> bool:
        stays = super().eof_received()
        if self.on_end is not None:
            self.on_end()
        return stays

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self.on_end is not None:
            self.on_end()
